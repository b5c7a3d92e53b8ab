from collections.abc import Callable
from itertools import count

import pytest

from dsqlproxy.listen.cancel import CancelKeys
from dsqlproxy.pgproto.messages import BackendKeyData
from dsqlproxy.pgproto.startup import CancelRequest


def counting() -> Callable[[int], bytes]:
    """Random bytes that are 1, 2, 3, …"""
    numbers = count(1)
    return lambda size: next(numbers).to_bytes(size)


def request(key: BackendKeyData) -> CancelRequest:
    return CancelRequest(key.process_id, key.secret_key)


def test_a_minted_key_finds_its_session() -> None:
    keys = CancelKeys[str](counting())
    first = keys.mint("first", process_id=41, key_bytes=4)
    second = keys.mint("second", process_id=42, key_bytes=4)
    assert keys.find(request(first)) == "first"
    assert keys.find(request(second)) == "second"


def test_a_key_has_the_upstream_s_process_id_and_a_secret_of_ours() -> None:
    keys = CancelKeys[str](lambda size: b"x" * size)
    assert keys.mint("a", process_id=4711, key_bytes=4) == BackendKeyData(4711, b"xxxx")


@pytest.mark.parametrize("size", [4, 32, 256])
def test_the_secret_has_the_length_asked_for(size: int) -> None:
    keys = CancelKeys[str](counting())
    key = keys.mint("a", process_id=1, key_bytes=size)
    assert len(key.secret_key) == size
    assert keys.find(request(key)) == "a"


def test_a_process_id_in_use_is_not_given_twice() -> None:
    keys = CancelKeys[str](counting())
    first = keys.mint("first", process_id=7, key_bytes=4)
    second = keys.mint("second", process_id=7, key_bytes=4)
    assert second.process_id != first.process_id
    assert keys.find(request(first)) == "first"
    assert keys.find(request(second)) == "second"


@pytest.mark.parametrize("process_id", [None, 0])
def test_without_a_process_id_one_is_drawn(process_id: int | None) -> None:
    keys = CancelKeys[str](lambda size: b"\xff" * size)
    assert keys.mint("a", process_id=process_id, key_bytes=4).process_id == 0x7FFFFFFF


def test_a_drawn_process_id_that_is_taken_or_zero_is_drawn_again() -> None:
    drawn = iter([b"\0\0\0\x05", b"\x80\0\0\0", b"\0\0\0\x06", b"key2"])
    keys = CancelKeys[str](lambda _size: b"key1")
    keys.mint("a", process_id=5, key_bytes=4)
    keys.random_bytes = lambda _size: next(drawn)
    assert keys.mint("b", process_id=None, key_bytes=4) == BackendKeyData(6, b"key2")


@pytest.mark.parametrize(
    "secret", [b"", b"\0\0\0", b"\0\0\0\2", b"\0\0\0\1\0", bytes(300)]
)
def test_another_secret_finds_nothing(secret: bytes) -> None:
    keys = CancelKeys[str](counting())
    key = keys.mint("a", process_id=7, key_bytes=4)
    assert key.secret_key == b"\0\0\0\1"
    assert keys.find(CancelRequest(7, secret)) is None


def test_an_unknown_process_id_finds_nothing_whatever_its_secret() -> None:
    keys = CancelKeys[str](counting())
    key = keys.mint("a", process_id=7, key_bytes=4)
    assert keys.find(CancelRequest(8, key.secret_key)) is None
    assert keys.find(CancelRequest(8, b"")) is None


def test_a_forgotten_key_finds_nothing_and_frees_its_process_id() -> None:
    keys = CancelKeys[str](counting())
    key = keys.mint("a", process_id=7, key_bytes=4)
    keys.forget(key)
    keys.forget(key)
    assert keys.find(request(key)) is None
    assert keys.mint("b", process_id=7, key_bytes=4).process_id == 7


def test_no_secret_is_shown() -> None:
    keys = CancelKeys[str](lambda _size: b"hush")
    keys.mint("a", process_id=7, key_bytes=4)
    assert "hush" not in repr(keys)
