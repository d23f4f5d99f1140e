"""Digests of files by their content, each computed once while the file stays as it is.

Names, sizes and times do not tell files apart: two folders of uncompressed photographs may agree in
all of them. What is kept under the name of some files is therefore kept under their content.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from iavlib.core.project import cache_home

_DIGITS = 32
_WAIT_SECONDS = 60
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, digest TEXT) "
    "WITHOUT ROWID"
)


def content_digests(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Hash the content of files.

    A digest is remembered in the cache home for as long as the file's size, inode and times (of
    its content and of its entry, which programs cannot set back) stay the same.

    Parameters
    ----------
    paths : iterable of path
        Files.

    Returns
    -------
    list of str
        32 hexadecimal digits of SHA-256 per file, in the order of `paths`.

    Raises
    ------
    OSError
        If a file is missing or cannot be read; its ``filename`` is the path.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b"x"), (folder / "b").write_bytes(b"x")
    >>> a, b = content_digests([folder / "a", folder / "b"])
    >>> a == b
    True
    """
    files = [os.path.abspath(path) for path in paths]
    states = [_state(path) for path in files]
    with _database() as database:
        known = _read(database, files)
        new = {}
        for path, state in zip(files, states, strict=True):
            if known.get(path, ("", ""))[0] != state:
                known[path] = new[path] = state, _hash(path)
        if database is not None and new:
            rows = [(path, *entry) for path, entry in new.items() if _state(path) == entry[0]]
            with suppress(sqlite3.Error), database:  # a full disk: hashed again next time
                database.executemany("REPLACE INTO digests VALUES (?, ?, ?)", rows)
    return [known[path][1] for path in files]


def _state(path: str) -> str:
    facts = os.stat(path)
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_dev} {facts.st_ino}"


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    """Open the table of digests; None where the cache cannot be used."""
    path: Path = cache_home() / "digests.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
        connection.execute(_TABLE)
    except (OSError, sqlite3.Error):
        yield None
        return
    with closing(connection):
        yield connection


def _read(database: sqlite3.Connection | None, files: list[str]) -> dict[str, tuple[str, str]]:
    known: dict[str, tuple[str, str]] = {}
    if database is None:
        return known
    with suppress(sqlite3.Error):
        for start in range(0, len(files), 500):
            some = files[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT path, state, digest FROM digests WHERE path IN ({marks})"
            known |= {
                path: (state, digest) for path, state, digest in database.execute(query, some)
            }
    return known
