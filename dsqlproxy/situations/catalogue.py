"""Everything that can go wrong between a client and its cluster, and what mends it.

The functions of this room make the errors; the catalogue calls each with sample
arguments. The page docs/errors.md is made of it, and each row is produced and
compared with the page by a test.
"""

from typing import Final

from dsqlproxy.situations.rows_cluster import REFUSED
from dsqlproxy.situations.rows_credentials import CREDENTIALS
from dsqlproxy.situations.rows_network import NETWORK
from dsqlproxy.situations.rows_sessions import ENDED, REFUSED_BY_PROXY
from dsqlproxy.situations.rows_startup import FIRST_BYTES, START
from dsqlproxy.situations.rows_waiting import WAITING
from dsqlproxy.situations.situation import Section, Situation

SECTIONS: Final[tuple[Section, ...]] = (
    CREDENTIALS,
    REFUSED,
    NETWORK,
    WAITING,
    REFUSED_BY_PROXY,
    ENDED,
    FIRST_BYTES,
    START,
)

CATALOGUE: Final[tuple[Situation, ...]] = tuple(
    situation for section in SECTIONS for situation in section.situations
)
