"""The cluster's id in the startup parameter ``options``. No I/O.

AWS documentation: through PrivateLink without private DNS a client names the
cluster by ``options=-c amzn-cluster-id=<id>``. That is for the cluster's front door;
PostgreSQL never sees it.
"""

import re
from typing import Final

# A word of options, spaces before it included; a backslash keeps the next character
# in its word (pg_split_opts, postinit.c).
_WORD: Final = re.compile(r"\s*(?:\\.|[^\s\\])+", re.DOTALL)
_SETTING: Final = re.compile(r"(?:-c\s*|--)amzn-cluster-id=(\S*)")


def take_cluster_id(options: str) -> tuple[str | None, str]:
    """Split ``options`` into the id, None if there is none, and all the rest."""
    cluster_id = None
    kept: list[str] = []
    words = iter(_WORD.findall(options))
    for word in words:
        switch = word
        if word.strip() == "-c":
            switch += next(words, "")
        if found := _SETTING.fullmatch(switch.strip()):
            cluster_id = found[1]
        else:
            kept.append(switch)
    return cluster_id, "".join(kept).strip()
