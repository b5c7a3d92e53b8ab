"""The questions of the probe, one file for each of their kinds."""
