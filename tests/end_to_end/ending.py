"""What tests ask about the end of a proxy."""

from dsqlproxy.pgproto.framing import Frame
from tests.end_to_end.wire import fatal_in, until
from tests.kit.stack import RunningProxy


def ends_shutting_down(received: Frame) -> None:
    error = fatal_in(received)
    assert error.sqlstate == "57P01"
    assert error.message == "terminating connection because dsqlproxy is shutting down"
    assert error.hint


async def stopped(proxy: RunningProxy) -> None:
    await until(lambda: " INFO stopped" in proxy.log.getvalue())
