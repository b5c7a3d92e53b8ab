"""A stand-in for an Aurora DSQL cluster, for demos and tests."""
