"""Before the login: as whom, and whether there is a place."""

from dataclasses import replace
from typing import Any

import pytest

from dsqlproxy.config import Config, ListenerConfig
from dsqlproxy.errors import RoleNotAllowed, TooManyConnections
from dsqlproxy.listen.admission import Admitted
from dsqlproxy.pgproto.startup import PROTOCOL_3_0, StartupMessage
from dsqlproxy.session.opening import choose_role, refuse_if_full
from dsqlproxy.upstream.connector import UpstreamStartup
from tests.kit.keeping import CLUSTER, kept_session

STARTUP = UpstreamStartup("admin", (("user", "admin"),))


def listener(**settings: Any) -> ListenerConfig:
    one = {"name": "main", "cluster": CLUSTER, **settings}
    return Config.model_validate({"listeners": [one]}).listeners[0]


def asks_for(user: str) -> Admitted:
    parameters = (("user", user),) if user else ()
    return Admitted(StartupMessage(PROTOCOL_3_0, parameters), None)


# -- as whom ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "user", "role"),
    [
        pytest.param({}, "reader", "reader", id="whom the client names"),
        pytest.param({"role": "admin"}, "reader", "admin", id="always the same"),
        pytest.param(
            {"roles": ["admin", "reader"]}, "reader", "reader", id="one of few"
        ),
    ],
)
def test_a_session_logs_in_as(settings: dict[str, Any], user: str, role: str) -> None:
    assert choose_role(asks_for(user), listener(**settings)) == role


@pytest.mark.parametrize(
    ("settings", "user", "hint"),
    [
        pytest.param({}, "", "Set a user name, such as admin.", id="nobody"),
        pytest.param({"role": "admin"}, "", "Connect as admin.", id="nobody, one role"),
        pytest.param(
            {"roles": ["a", "b"]}, "c", "Connect as a or b.", id="none of the few"
        ),
    ],
)
def test_a_session_is_refused_with_who_would_do(
    settings: dict[str, Any], user: str, hint: str
) -> None:
    with pytest.raises(RoleNotAllowed) as caught:
        choose_role(asks_for(user), listener(**settings))
    assert caught.value.hint == hint


# -- whether there is a place ----------------------------------------------------------


async def test_a_listener_takes_no_more_sessions_than_it_may() -> None:
    async with kept_session() as stage:
        services = replace(stage.kept.services, config=listener(max_sessions=1))
        refuse_if_full(services)
        services.admitted.add(None)  # type: ignore[arg-type] # only counted
        with pytest.raises(TooManyConnections) as caught:
            refuse_if_full(services)
        assert caught.value.detail == "The limit is 1."
