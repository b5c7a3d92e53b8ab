"""The clocks of this machine; everything below is given them."""

import sys
import time
from functools import partial

from dsqlproxy.clocks import Clocks


def system_clocks() -> Clocks:
    """Give the real clocks; where none counts time asleep, monotonic stands in.

    Manual pages of clock_gettime: on Linux CLOCK_BOOTTIME counts it, and on macOS,
    which has none, CLOCK_MONOTONIC_RAW does, which on Linux does not.
    """
    is_mac = sys.platform == "darwin"
    counting = getattr(
        time, "CLOCK_MONOTONIC_RAW" if is_mac else "CLOCK_BOOTTIME", None
    )
    return Clocks(
        monotonic=time.monotonic,
        boot=partial(time.clock_gettime, counting) if counting else time.monotonic,
        wall=partial(time.clock_gettime, time.CLOCK_REALTIME),
    )
