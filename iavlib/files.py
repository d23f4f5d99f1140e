"""Writing files so that a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
