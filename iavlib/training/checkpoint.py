"""The whole state of a run in one file, which is always the old one or the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch

from iavlib.core.errors import CheckpointError

NAME = "checkpoint.pt"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Recorder:
    """A file that remembers what the system refused: PyTorch tells it only in its own words."""

    def __init__(self, stream):
        self._stream, self.error = stream, None

    def write(self, data) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._stream.flush()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state to a temporary name beside `path`, then move it into place.

    Raises
    ------
    CheckpointError
        If it cannot be written; the file that was there is left as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # left by a killed process, and written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            _write(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise CheckpointError(_refused(path, error)) from error
    except BaseException:
        _remove(temporary)
        raise


def _write(state, stream) -> None:
    recorder = _Recorder(stream)
    try:
        torch.save(state, recorder)
    except (OSError, RuntimeError):
        if recorder.error is not None:
            raise recorder.error from None
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # what stopped the writing is told instead


def _refused(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        what = "the disk is full or your share of it is; free some space"
    else:
        what = f"{error.strerror or error}; make its folder writable"
    kept = "the one of the epoch before is intact" if path.exists() else "there is none yet"
    return f"{path}: this checkpoint could not be written: {what} and run again ({kept})"


def load(path: Path) -> dict[str, Any] | None:
    """Read a state onto the CPU; None where there is no file.

    Raises
    ------
    CheckpointError
        If the file is no checkpoint. Nothing but tensors and plain values is ever loaded.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file leads PyTorch to raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({reason}); remove it to start this run anew"
        ) from error
