"""Measurements, each of which ends in a report: what methods cost, how well they answer, what a refit costs."""
