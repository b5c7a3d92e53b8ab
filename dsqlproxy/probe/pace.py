"""How long the probe waits for what, and how much it asks for (no I/O)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Spans and sizes of the questions; the defaults are for a cluster."""

    question_seconds: float = 15.0
    """For one question, its logins included; one that waits itself adds to it."""
    silence_seconds: float = 3.0
    """When no answer counts as none."""
    sleep_seconds: float = 8.0
    """How long the query would run that is to be cancelled."""
    cancel_after_seconds: float = 0.5
    """Long enough for a query to have begun."""
    expire_seconds: float = 4.0
    """How long a token of one second is kept before it is sent."""
    statements: int = 500
    """Prepared statements in one session."""
    queries: int = 1000
    """Queries written in one go."""
    watch_seconds: float = 61 * 60.0
    """How long a session is watched: AWS documents an end at 60 minutes."""
    beat_seconds: float = 60.0
    """How often the watched session that is not idle says something."""
    transaction_after_seconds: float = 58 * 60.0
    """When the late transaction begins: it is allowed to last beyond the hour."""
    pipeline_seconds: float = 310.0
    """How long a pipeline stays open: a transaction may last 300 seconds."""
