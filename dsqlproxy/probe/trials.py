"""A value to try for each setting that a cluster accepts (no I/O)."""

from typing import Final

from dsqlproxy.dsql import ACCEPTED_PARAMETERS

# As the server tells them back (PostgreSQL 16). Every one differs from the default,
# so that a setting that is taken and ignored shows.
_VALUES: Final = {
    "application_name": "dsqlproxy probe",
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "disable_sync_create_index": "on",
    "extra_float_digits": "2",
    "intervalstyle": "iso_8601",
    "search_path": "information_schema",
    "timezone": "Asia/Tokyo",
}

TRIALS: Final = {name: _VALUES.get(name, "off") for name in sorted(ACCEPTED_PARAMETERS)}
"""By name; what is not named above switches something off."""
