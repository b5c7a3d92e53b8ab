import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, strategies as st

from dsqlproxy.aws.date import NoDate, _date_of, seconds_ahead, sts_endpoint

NOON = 1_800_000_000.0


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def aws(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Answer one request in a thread; give where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


def says(
    date: str | None, *, status: int = 200
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response_only(status)
        if date is not None:
            handler.send_header("Date", date)
        handler.send_header("Location", "http://192.0.2.1/")  # nobody is there
        handler.end_headers()

    return answer


def ask(endpoint: str, *, here: float = NOON) -> float:
    return seconds_ahead(endpoint, wall=lambda: here, timeout_seconds=2.0)


@pytest.mark.parametrize("status", [200, 302, 403, 500])
def test_any_answer_has_the_time(status: int) -> None:
    with aws(says(formatdate(NOON, usegmt=True), status=status)) as endpoint:
        assert abs(ask(endpoint)) <= 0.5


@pytest.mark.parametrize("offset", [-1200.0, 90.0])
def test_a_clock_that_is_off_is_measured(offset: float) -> None:
    with aws(says(formatdate(NOON, usegmt=True))) as endpoint:
        assert abs(ask(endpoint, here=NOON + offset) - offset) <= 0.5


@pytest.mark.parametrize("date", [None, "at noon"])
def test_an_answer_without_a_date_tells_nothing(date: str | None) -> None:
    with aws(says(date)) as endpoint, pytest.raises(NoDate, match="no date"):
        ask(endpoint)


def test_who_is_not_there_tells_nothing() -> None:
    with pytest.raises(NoDate, match="could not be reached"):
        ask("http://127.0.0.1:1")


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "nonsense"])
def test_only_http_is_asked(endpoint: str) -> None:
    with pytest.raises(NoDate, match="not a URL"):
        ask(endpoint)


def test_who_does_not_speak_http_tells_nothing() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"220 smtp\r\n")

    with aws(answer) as endpoint, pytest.raises(NoDate, match="could not be reached"):
        ask(endpoint)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "https://sts.eu-west-3.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://a"}, "http://a"),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_STS": "http://b"},
            "http://b",
        ),
        ({"AWS_ENDPOINT_URL_STS": ""}, "https://sts.eu-west-3.amazonaws.com"),
    ],
)
def test_the_endpoint_is_the_one_that_the_sdk_would_ask(
    environ: dict[str, str], expected: str
) -> None:
    assert sts_endpoint("eu-west-3", environ) == expected


@given(st.text(max_size=40))
def test_noise_is_no_date(noise: str) -> None:
    with contextlib.suppress(NoDate):
        assert isinstance(_date_of(noise), float)
