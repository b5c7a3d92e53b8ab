"""Which of the user's AWS files there are, and whether one of them has changed.

What a fetch reads: configuration, credentials, the caches that ``aws sso login`` and
``aws login`` write, and the files that hold a web identity or a container's token.
To look at them blocks, so it is done on a thread.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_WEB_IDENTITY: Final = re.compile(
    r"^[ \t]*web_identity_token_file[ \t]*=[ \t]*(.+?)[ \t\r]*$", re.MULTILINE
)


class Stamp(NamedTuple):
    """What tells one version of a file from the next without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Fingerprint(NamedTuple):
    """The files as they were at one moment.

    The caches stand by themselves, since botocore writes them too: when a fetch
    renews the SSO token it saves it there, and that is nothing new.
    """

    files: tuple[tuple[str, Stamp | None], ...]
    caches: tuple[tuple[str, Stamp | None], ...]


class FileMemory:
    """How the files were when they were last taken into account (no I/O)."""

    def __init__(self) -> None:
        self._seen: Fingerprint | None = None
        self._cache_rewrites = 0
        self._file_rewrites = 0

    def note_look(self, found: Fingerprint) -> bool:
        """Take how they are now; True if that is new, and a fetch is worth while."""
        is_new = self._seen is not None and found != self._seen
        self._seen = found
        return is_new

    def note_fetch(
        self, before: Fingerprint, after: Fingerprint, *, has_found: bool
    ) -> None:
        """Take how they were when a fetch began and ended.

        What was written meanwhile may not have been read, so it is new at the next
        look. But botocore itself saves the SSO token that it renews: after a fetch
        that found credentials, the caches are as it left them. After one that did
        not, somebody may have logged in meanwhile and must not wait for the back-off;
        if that happens fetch after fetch, it is botocore again. In the same way a
        ``credential_process`` may write the user's files each time that it is run.
        """
        self._cache_rewrites = _count(self._cache_rewrites, before.caches, after.caches)
        self._file_rewrites = _count(self._file_rewrites, before.files, after.files)
        is_botocore = has_found or self._cache_rewrites > 1
        is_program = self._file_rewrites > 1
        self._seen = Fingerprint(
            after.files if is_program else before.files,
            after.caches if is_botocore else before.caches,
        )


def _count(rewrites: int, before: object, after: object) -> int:
    """Count the fetches in a row during which something was written."""
    return rewrites + 1 if before != after else 0


def no_files() -> Fingerprint:
    """Look at nothing, for credentials that were given."""
    return Fingerprint((), ())


def fingerprint(environ: Mapping[str, str] = os.environ) -> Fingerprint:
    """Look at all of them; one that is missing or unreadable counts as well."""
    config = _path(environ, "AWS_CONFIG_FILE", "~/.aws/config")
    named = {
        config,
        _path(environ, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        *(
            _expanded(environ[name])
            for name in (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            )
            if environ.get(name)
        ),
        *_web_identities(config),
    }
    caches = (
        os.path.expanduser("~/.aws/sso/cache"),
        _path(environ, "AWS_LOGIN_CACHE_DIRECTORY", "~/.aws/login/cache"),
    )
    return Fingerprint(
        tuple((path, _stamp(path)) for path in sorted(named)),
        tuple(
            (path, _stamp(path))
            for directory in caches
            for path in sorted(_entries(directory))
        ),
    )


def _path(environ: Mapping[str, str], name: str, default: str) -> str:
    return _expanded(os.path.expandvars(environ.get(name) or default))


def _expanded(path: str) -> str:
    try:
        return os.path.expanduser(path)
    except ValueError:  # a NUL in a user's name
        return path


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


def _entries(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from [entry.path for entry in entries]
    except (OSError, ValueError):
        return


def _web_identities(config: str) -> list[str]:
    """Find the token files that profiles name; the format is botocore's business."""
    try:
        text = Path(config).read_text(errors="replace")
    except (OSError, ValueError):
        return []
    return [_expanded(path) for path in _WEB_IDENTITY.findall(text)]
