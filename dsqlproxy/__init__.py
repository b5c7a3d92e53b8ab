"""A local proxy that lets any PostgreSQL client use Amazon Aurora DSQL."""

__version__ = "0.1.0"
