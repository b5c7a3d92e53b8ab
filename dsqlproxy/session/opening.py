"""What is asked of a client before its login: who it is, and if there is a place."""

from dsqlproxy.config import ListenerConfig
from dsqlproxy.listen.admission import Admitted
from dsqlproxy.session.services import Services
from dsqlproxy.situations import sessions as situations


def choose_role(admitted: Admitted, config: ListenerConfig) -> str:
    """Say as whom a session logs in; `RoleNotAllowed` names who would do."""
    user = admitted.startup.get("user")
    if not user:
        served = (config.role,) if config.role else config.roles or ()
        raise situations.no_user(served)
    if config.role:
        return config.role
    if config.roles and user not in config.roles:
        raise situations.role_not_served(user, config.roles)
    return user


def refuse_if_full(services: Services) -> None:
    """Raise `TooManyConnections` if the listener has as many sessions as it may."""
    limit = services.config.max_sessions
    if len(services.admitted) >= limit:
        raise situations.too_many_sessions(limit)
