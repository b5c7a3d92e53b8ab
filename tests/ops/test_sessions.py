"""The open sessions as rows."""

from dataclasses import dataclass

from dsqlproxy.ops.sessions import OpenSessions, SessionInfo, SessionState


@dataclass
class FakeSession:
    name: str
    listener_name: str = "main"
    bytes_in: int = 3
    bytes_out: int = 5

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.name,
            listener=self.listener_name,
            client="127.0.0.1:5",
            user="admin",
            database="postgres",
            application_name="psql",
            state=SessionState.IDLE,
            age_seconds=1.5,
            upstream_age_seconds=None,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )


def test_sessions_are_shown_oldest_first_while_they_are_open() -> None:
    first, second, third = map(FakeSession, "abc")
    sessions = OpenSessions()
    for session in (first, second, third):
        sessions.add(session)
    sessions.discard(second)
    sessions.discard(second)
    assert [row["id"] for row in sessions.rows()] == ["a", "c"]
    assert len(sessions) == 2


def test_a_row_has_the_promised_keys() -> None:
    sessions = OpenSessions()
    sessions.add(FakeSession("a"))
    assert sessions.rows() == [
        {
            "id": "a",
            "listener": "main",
            "client": "127.0.0.1:5",
            "user": "admin",
            "database": "postgres",
            "application_name": "psql",
            "state": "idle",
            "age_seconds": 1.5,
            "upstream_age_seconds": None,
            "bytes_in": 3,
            "bytes_out": 5,
            "swaps": 0,
            "seconds_to_swap": None,
            "pin": "",
            "held_for": "",
        }
    ]


def test_traffic_names_the_listener_of_each_session() -> None:
    sessions = OpenSessions()
    sessions.add(FakeSession("a"))
    sessions.add(FakeSession("b", listener_name="other", bytes_in=7))
    assert list(sessions.traffic()) == [("main", 3, 5), ("other", 7, 5)]
