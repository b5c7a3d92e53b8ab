"""Sessions of botocore, as any program makes them."""

from functools import cache
from typing import Any

import botocore.loaders
import botocore.session


def new_session() -> Any:
    """Give a session that reads everything anew, but for AWS's own description.

    To read that takes 50 ms, and a tenth of a gigabyte for ten sessions that stay.
    """
    session = botocore.session.Session()
    session.register_component("data_loader", _models())
    return session


@cache
def _models() -> Any:
    return botocore.loaders.create_loader()
