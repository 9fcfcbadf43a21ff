"""The command line of flowmm."""
