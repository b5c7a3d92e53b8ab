import os
from pathlib import Path

import pytest

from dsqlproxy.aws.files import FileMemory, Fingerprint, Stamp, fingerprint, no_files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws/sso/cache").mkdir(parents=True)
    return tmp_path


def write(file: Path, text: str = "x") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


WATCHED = [
    ".aws/config",
    ".aws/credentials",
    ".aws/sso/cache/0123.json",
    ".aws/login/cache/0123.json",
]


@pytest.mark.parametrize("name", WATCHED)
def test_a_file_that_appears_changes_goes_or_is_replaced_is_noticed(
    home: Path, name: str
) -> None:
    file = home / name
    seen = [fingerprint({})]

    def has_changed() -> bool:
        seen.append(fingerprint({}))
        return seen[-1] != seen[-2]

    assert not has_changed()
    write(file)
    assert has_changed()
    assert not has_changed()
    write(file, "longer")
    assert has_changed()
    os.utime(file, ns=(1, 1))
    assert has_changed()
    other = file.with_name("other")
    write(other, "longer")
    os.utime(other, ns=(1, 1))
    seen.append(fingerprint({}))
    other.replace(file)  # same size, same time
    assert has_changed()
    file.unlink()
    assert has_changed()


@pytest.mark.parametrize(
    ("variable", "is_cache"),
    [
        ("AWS_CONFIG_FILE", False),
        ("AWS_SHARED_CREDENTIALS_FILE", False),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", False),
        ("AWS_LOGIN_CACHE_DIRECTORY", True),
    ],
)
@pytest.mark.usefixtures("home")
def test_files_that_the_environment_names_are_looked_at(
    tmp_path: Path, variable: str, is_cache: bool
) -> None:
    named = tmp_path / "elsewhere"
    file = named / "x.json" if is_cache else named
    write(file)
    found = fingerprint({variable: str(named)})
    stamps = dict(found.caches if is_cache else found.files)
    assert isinstance(stamps[str(file)], Stamp)


def test_an_empty_variable_names_nothing(home: Path) -> None:
    found = fingerprint({"AWS_CONFIG_FILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": ""})
    assert {path for path, _ in found.files} == {
        str(home / ".aws/config"),
        str(home / ".aws/credentials"),
    }


def test_token_files_that_profiles_name_are_looked_at(home: Path) -> None:
    write(
        home / ".aws/config",
        "[profile a]\r\n  web_identity_token_file = ~/token a\r\n"
        "[profile b]\nweb_identity_token_file=/elsewhere/token\n"
        "# web_identity_token_file = /not/this\n",
    )
    paths = {path for path, _ in fingerprint({}).files}
    assert {str(home / "token a"), "/elsewhere/token"} < paths
    assert "/not/this" not in paths


def test_what_cannot_be_read_counts_as_missing(home: Path) -> None:
    (home / ".aws/config").mkdir()
    (home / ".aws/sso/cache").rmdir()
    write(home / ".aws/sso/cache")
    found = fingerprint({"AWS_WEB_IDENTITY_TOKEN_FILE": "a\0b"})
    assert ("a\0b", None) in found.files
    assert found.caches == ()


def test_a_path_that_the_system_does_not_take_does_no_harm(home: Path) -> None:
    (home / ".aws/config").write_bytes(b"web_identity_token_file = ~a\0b/token\n")
    assert ("~a\0b/token", None) in fingerprint({}).files
    assert fingerprint({"AWS_LOGIN_CACHE_DIRECTORY": "a\0b"}).caches == ()


def test_a_config_that_is_no_text_does_no_harm(home: Path) -> None:
    (home / ".aws/config").write_bytes(b"\xff\x00web_identity_token_file = \xfe\n")
    assert fingerprint({}) == fingerprint({})


# -- what counts as new ----------------------------------------------------------------


def state(files: int, caches: int = 0) -> Fingerprint:
    return Fingerprint(
        (("config", Stamp(files, 0, 0)),), (("cache", Stamp(caches, 0, 0)),)
    )


@pytest.fixture
def memory() -> FileMemory:
    memory = FileMemory()
    memory.note_look(state(1, 1))
    return memory


def test_the_first_look_finds_nothing_new() -> None:
    assert not FileMemory().note_look(no_files())


@pytest.mark.parametrize("found", [state(2, 1), state(1, 2)], ids=["file", "cache"])
def test_a_change_is_new_once(memory: FileMemory, found: Fingerprint) -> None:
    assert not memory.note_look(state(1, 1))
    assert memory.note_look(found)
    assert not memory.note_look(found)


def test_a_fetch_takes_the_files_into_account(memory: FileMemory) -> None:
    memory.note_fetch(state(2, 2), state(2, 2), has_found=True)
    assert not memory.note_look(state(2, 2))


@pytest.mark.parametrize("has_found", [True, False])
def test_a_file_written_during_a_fetch_is_new(
    memory: FileMemory, has_found: bool
) -> None:
    memory.note_fetch(state(1, 1), state(2, 1), has_found=has_found)
    assert memory.note_look(state(2, 1))


@pytest.mark.parametrize("has_found", [True, False])
def test_a_program_that_writes_the_files_each_time_is_not_run_for_ever(
    memory: FileMemory, has_found: bool
) -> None:
    memory.note_fetch(state(1, 1), state(2, 1), has_found=has_found)
    assert memory.note_look(state(2, 1)), "it may have been somebody else"
    for written in range(3, 6):
        before, after = state(written - 1, 1), state(written, 1)
        memory.note_fetch(before, after, has_found=has_found)
        assert not memory.note_look(after)
    memory.note_fetch(state(5, 1), state(5, 1), has_found=has_found)
    memory.note_fetch(state(5, 1), state(6, 1), has_found=has_found)
    assert memory.note_look(state(6, 1))


def test_a_cache_that_a_successful_fetch_wrote_is_not(memory: FileMemory) -> None:
    memory.note_fetch(state(1, 1), state(1, 2), has_found=True)
    assert not memory.note_look(state(1, 2))


def test_a_login_during_a_fetch_that_fails_is_new(memory: FileMemory) -> None:
    memory.note_fetch(state(1, 1), state(1, 2), has_found=False)
    assert memory.note_look(state(1, 2))


def test_fetches_that_fail_and_write_each_time_follow_the_back_off(
    memory: FileMemory,
) -> None:
    memory.note_fetch(state(1, 1), state(1, 2), has_found=False)
    assert memory.note_look(state(1, 2))
    for written in range(3, 6):
        before, after = state(1, written - 1), state(1, written)
        memory.note_fetch(before, after, has_found=False)
        assert not memory.note_look(after)
    memory.note_fetch(state(1, 5), state(1, 5), has_found=False)
    memory.note_fetch(state(1, 5), state(1, 6), has_found=False)
    assert memory.note_look(state(1, 6))
