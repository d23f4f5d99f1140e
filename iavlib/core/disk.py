"""The data home as a place to write to: who may, how much fits, and what to say when it fails."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iavlib.core.errors import FetchError

#: What is being fetched lies in a folder of this name until it is whole and verified. It is part
#: of the folder it is meant for, so that moving a file into place never crosses disks.
STAGING = ".fetching"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_ELSEWHERE = "Set IAV_DATA_HOME to a writable folder"


def megabytes(size: int) -> str:
    """Write a number of bytes as megabytes (of a million bytes)."""
    return f"{size / 1e6:,.1f} MB"


def free_space(folder: Path) -> int:
    """Return the bytes free on the disk that holds (or would hold) a folder."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`FetchError` when a folder's disk has fewer than `needed` bytes free."""
    free = free_space(folder)
    if needed > free:
        raise FetchError(
            f"{what} do not fit: they need about {megabytes(needed)}, and {megabytes(free)} are "
            f"free in {folder}. Free some space, or set IAV_DATA_HOME to a folder of another disk."
        )


def check_writable(folder: Path) -> None:
    """Make a folder, and raise :class:`FetchError` when nothing can be written into it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise FetchError(f"{folder} is read-only. {_ELSEWHERE}.")


def disk_error(place: Path, error: OSError) -> FetchError:
    """Tell a failure of the disk in one sentence: full, read-only, or what the system says."""
    if error.errno in _FULL:
        return FetchError(
            f"{place}: the disk is full. Free some space, or set IAV_DATA_HOME to a folder of "
            "another disk; the next run goes on from what is here."
        )
    if error.errno in _FORBIDDEN:
        return FetchError(f"{place}: read-only or not yours ({error.strerror}). {_ELSEWHERE}.")
    return FetchError(f"{place}: could not be written ({error.strerror or error}). {_ELSEWHERE}.")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the system says when writing fails into a :class:`FetchError`."""
    try:
        yield
    except FetchError:
        raise
    except OSError as error:
        raise disk_error(place, error) from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lock on fetching into a folder; the system frees it when its holder ends.

    Raises
    ------
    FetchError
        When another process holds it, or the folder cannot be written.
    """
    import fcntl

    check_writable(folder)
    with writing(folder):
        stream = open(folder / f"{STAGING}.lock", "w")  # noqa: SIM115
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(
                f"another 'iav data fetch' is at work in {folder}; wait for it to end."
            ) from None
        yield
