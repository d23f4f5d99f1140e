"""Writing files so that a reader sees the old one or the new one, never a half.

One process at a time: the others wait, and say for whom.

The system frees a lock when the last process that holds it ends, however it
ends, so that no lock is ever left behind to be removed by hand.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and move it into place at the end.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed. It stays as it was if anything fails.

    Yields
    ------
    Path
        What is to be written.

    Raises
    ------
    OSError
        If the disk is full or not writable; its ``filename`` is `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a file, atomically, and see it on the disk before it is in place.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed.
    content : bytes
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` to a file as UTF-8 with Unix line ends, atomically.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed.
    text : str
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as strict JSON (no NaN, no infinity), atomically.

    Parameters
    ----------
    path : Path
        File to write.
    content : object
        Anything :mod:`json` can write.

    Raises
    ------
    ValueError
        If `content` holds a number that JSON cannot hold.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def only_one(lock: Path, task: str, log: Callable[[str], None] = _to_stderr) -> Iterator[IO[str]]:
    """Do something while no other process does it.

    Parameters
    ----------
    lock : Path
        File that stands for the right to do it; it is made and stays.
    task : str
        What is done, for those who have to wait.
    log : callable, optional
        Gets one line, if we have to wait ourselves.

    Yields
    ------
    file object
        The locked file. A child that inherits its descriptor holds the lock too.

    Raises
    ------
    OSError
        If the file cannot be written, or its file system knows no locks.
    """
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            log(f"waiting for {stream.read() or 'another process'} to end; Ctrl-C stops waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        _sign(stream, task)
        yield stream


def is_held(lock: Path) -> bool:
    """Tell whether a process holds a lock, without waiting for it.

    Parameters
    ----------
    lock : Path
        As for :func:`only_one`.

    Returns
    -------
    bool
        False also if the file has never been made.
    """
    import fcntl

    if not lock.exists():
        return False
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sign(stream: IO[str], task: str) -> None:
    """Write into a lock who holds it."""
    since = f"{datetime.now():%H:%M:%S}"
    stream.truncate(0)
    try:
        stream.write(f"{task} (process {os.getpid()} on {platform.node()}, since {since})")
        stream.flush()
    except OSError as error:
        error.filename = stream.name  # a full disk is reported without it
        raise
