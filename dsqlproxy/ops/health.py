"""The three health questions, answered from what is already known.

*Startup*: are the listeners bound? Once yes, always yes.

*Liveness*: does the event loop answer? That is asked by the admin listener; being
unable to reach a cluster, or draining, is no reason to be killed.

*Readiness*: listening and not draining. Nothing is dialled for it, since a probe
that logs in costs a login each time and fails with the cluster. What the clients'
own logins have shown is used with care, for a sidecar that goes unready takes its
application out of service:

* A cluster that is down, asleep or slow never makes the proxy unready. The
  application may have other work, and would be no better off.
* Once a login has worked on a listener, nothing but draining makes it unready.
  When credentials die later they die in every replica alike, and taking all
  replicas out of service only hides the errors that say why.
* Before the first login that worked, a refusal for want of usable credentials
  or rights does make it unready: this is the replica that was deployed with the
  wrong role, and unreadiness stops the roll-out while the old ones still serve.
  The verdict lapses after ``REFUSAL_SECONDS``, because an
  application that gets no traffic may never try again by itself.

Every answer carries the last login of each listener, whatever the verdict.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

REFUSAL_SECONDS: Final = 60.0
"""Six periods of a usual probe: enough to be seen, short enough to try again."""


class Phase(StrEnum):
    """Where the proxy stands between start and end."""

    STARTING = "starting"
    LISTENING = "listening"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a health question, and why."""

    ok: bool
    reason: str
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Login:
    """The last login upstream on one listener; an empty SQLSTATE is success."""

    at: float
    sqlstate: str
    message: str
    has_ever_worked: bool
    is_refusal: bool = False
    """For want of credentials or rights; a cluster has several SQLSTATEs for it."""


class Health:
    """Knows the phase and the last login of each listener.

    Notes are taken on the event loop's thread; the answers may be asked from any
    thread, since each note replaces one value as a whole.
    """

    def __init__(self, *, listeners: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase = Phase.STARTING
        self._drain_reason = ""
        self._logins: dict[str, _Login | None] = dict.fromkeys(listeners)

    def note_listening(self) -> None:
        """Note that every listener is bound."""
        self._phase = Phase.LISTENING

    def note_draining(self, reason: str) -> None:
        """Note that the proxy is about to end; there is no way back."""
        self._drain_reason = reason
        self._phase = Phase.DRAINING

    def note_login(self, listener: str) -> None:
        """Note a login that the cluster accepted."""
        self._logins[listener] = _Login(self._clock(), "", "", has_ever_worked=True)

    def note_login_failure(
        self, listener: str, *, sqlstate: str, message: str, is_refusal: bool
    ) -> None:
        """Note a login that failed, as its client was told.

        ``is_refusal``: for want of usable credentials, or of rights.
        """
        before = self._logins[listener]
        self._logins[listener] = _Login(
            self._clock(),
            sqlstate,
            message[:300],
            has_ever_worked=before is not None and before.has_ever_worked,
            is_refusal=is_refusal,
        )

    def startup(self) -> Verdict:
        """Say whether the listeners are bound."""
        if self._phase is Phase.STARTING:
            return Verdict(ok=False, reason="the listeners are not bound yet")
        return Verdict(ok=True, reason="listening")

    def readiness(self) -> Verdict:
        """Say whether clients should be sent here; the rules are above."""
        ok, reason = self._judge()
        facts: dict[str, object] = {
            "phase": str(self._phase),
            "listeners": {name: self._facts(name) for name in self._logins},
        }
        return Verdict(ok, reason, facts)

    def _judge(self) -> tuple[bool, str]:
        match self._phase:
            case Phase.STARTING:
                return False, "the listeners are not bound yet"
            case Phase.DRAINING:
                return False, f"draining: {self._drain_reason}"
            case Phase.LISTENING:
                refused = [name for name in self._logins if self._is_refused(name)]
                if refused:
                    return False, f"no login has worked yet on {', '.join(refused)}"
                return True, "listening"

    def _is_refused(self, name: str) -> bool:
        login = self._logins[name]
        return (
            login is not None
            and not login.has_ever_worked
            and login.is_refusal
            and self._clock() - login.at < REFUSAL_SECONDS
        )

    def _facts(self, name: str) -> dict[str, object]:
        login = self._logins[name]
        if login is None:
            return {"last_login": None}
        return {
            "last_login": "failed" if login.sqlstate else "ok",
            "seconds_ago": round(self._clock() - login.at, 1),
            "sqlstate": login.sqlstate,
            "message": login.message,
            "has_ever_worked": login.has_ever_worked,
        }
