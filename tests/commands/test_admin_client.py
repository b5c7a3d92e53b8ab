"""Small commands find the admin listener and tell its answers from others."""

import argparse
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsqlproxy.commands.admin_client import (
    DEFAULT_ADMIN,
    NoAnswer,
    add_admin_arguments,
    ask,
    ask_readiness,
    find_admin,
)
from dsqlproxy.config.addresses import TcpAddress
from dsqlproxy.errors import ConfigError


@contextmanager
def answering(body: bytes, status: str = "200 OK") -> Iterator[TcpAddress]:
    """Answer one request with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode() + body)

        thread = threading.Thread(target=answer)
        thread.start()
        yield TcpAddress("127.0.0.1", listening.getsockname()[1])
        thread.join()


def find(environ: dict[str, str] | None = None, *words: str) -> TcpAddress:
    parser = argparse.ArgumentParser()
    add_admin_arguments(parser)
    return find_admin(parser.parse_args(words), environ or {})


def config_file(path: Path, admin: str) -> str:
    name = path / "proxy.yaml"
    name.write_text(f"listeners: not even a list\n{admin}\n", encoding="utf-8")
    return str(name)


def ready_file(path: Path, text: str) -> str:
    name = path / "ready.json"
    name.write_text(text, encoding="utf-8")
    return str(name)


def test_the_default_is_the_default_of_the_configuration() -> None:
    from dsqlproxy.config.model import DEFAULT_ADMIN_LISTEN  # noqa: PLC0415

    assert find() == DEFAULT_ADMIN == DEFAULT_ADMIN_LISTEN


def test_flag_goes_before_environment_before_file(tmp_path: Path) -> None:
    config = config_file(tmp_path, "admin: {listen: '127.0.0.1:3'}")
    environ = {"DSQLPROXY_CONFIG": config}
    assert find(environ).port == 3
    assert find(None, "--config", config).port == 3
    environ["DSQLPROXY_ADMIN_LISTEN"] = "127.0.0.1:2"
    assert find(environ).port == 2
    assert find(environ, "--admin", "127.0.0.1:1").port == 1


def test_a_file_without_the_key_means_the_default(tmp_path: Path) -> None:
    assert find(None, "--config", config_file(tmp_path, "admin:")) == DEFAULT_ADMIN
    assert find(None, "--config", config_file(tmp_path, "log: {}")) == DEFAULT_ADMIN


def test_the_ready_file_tells_the_true_port(tmp_path: Path) -> None:
    text = json.dumps({"pid": 1, "admin": {"host": "127.0.0.1", "port": 41234}})
    found = find(None, "--ready-file", ready_file(tmp_path, text))
    assert found == TcpAddress("127.0.0.1", 41234)


def test_a_ready_file_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match="does not exist"):
        find(None, "--ready-file", str(tmp_path / "none"))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"admin": null}', '{"admin": {}}', '{"admin": {"host": 1}}'],
)
def test_a_ready_file_without_an_address_is_bad_usage(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match="--ready-file"):
        find(None, "--ready-file", ready_file(tmp_path, text))


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("db:9", "db:9")],
)
def test_every_address_is_reached_over_loopback(listen: str, asked: str) -> None:
    assert str(find(None, "--admin", listen)) == asked


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("off", "is off"),
        ("nonsense", "--admin"),
        ("127.0.0.1:0", "port 0"),
    ],
)
def test_what_cannot_be_asked_is_bad_usage(listen: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        find(None, "--admin", listen)


@pytest.mark.parametrize(
    ("admin", "why"),
    [
        ("admin: {listen: off}", "is off"),
        ("admin: {listen: 7}", "admin.listen in"),
        ("admin: {listen: '127.0.0.1:0'}", "port 0"),
    ],
)
def test_a_file_that_gives_no_address_is_bad_usage(
    tmp_path: Path, admin: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        find(None, "--config", config_file(tmp_path, admin))


def test_an_answer_is_a_json_object_with_its_status() -> None:
    with answering(b'{"ok": false, "reason": "x"}', "503 Unavailable") as address:
        answer = ask(address, "/readiness")
    assert (answer.ok, answer.reason) == (False, "x")


def test_nobody_there_is_no_answer_and_says_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = TcpAddress("127.0.0.1", listening.getsockname()[1])
    with pytest.raises(NoAnswer, match=f"nothing answers at {address}"):
        ask(address, "/readiness")


def test_silence_is_no_answer_after_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = TcpAddress("127.0.0.1", listening.getsockname()[1])
        with pytest.raises(NoAnswer, match=r"within 0\.01 s"):
            ask(address, "/readiness", timeout=0.01)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"7", b"{}", b"\xff", b""])
def test_another_program_at_the_address_is_recognised(body: bytes) -> None:
    with (
        answering(body) as address,
        pytest.raises(NoAnswer, match="is not dsqlproxy"),
    ):
        ask_readiness(address)
