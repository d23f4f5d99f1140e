"""Writing files so that a reader sees the old one or the new one, never a half."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write `text` to a temporary name beside `path`, then move it into place.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed.
    text : str
        Content, written as UTF-8.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, then move it into place.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed.
    content : bytes
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
