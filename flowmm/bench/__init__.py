"""Measurements, each of which ends in a report: what methods cost, what a refit costs."""
