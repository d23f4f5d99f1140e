"""Removing runs that are of no use any more, never a finished one unless it is named."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.store import CHECKPOINT, FINISHED, RUNNING, RunStore


@dataclass(frozen=True)
class Leftover:
    """Something that can be removed.

    Parameters
    ----------
    path : Path
        A run directory, or what was left in or beside one.
    what : str
        What it is: the status of the run, or ``"left over"``.
    bytes : int
        Its size.
    """

    path: Path
    what: str
    bytes: int


def find_leftovers(
    store: RunStore, statuses: Sequence[str] = (), names: Sequence[str] = ()
) -> list[Leftover]:
    """List what can be removed.

    Parameters
    ----------
    store : RunStore
    statuses : sequence of str
        Remove runs of these statuses.
    names : sequence of str
        Only these runs (ids, or their beginnings); all by default, which ``finished`` refuses.

    Returns
    -------
    list of Leftover
        Runs of these statuses that no process is at work in; without names also what interrupted
        writing and removing left behind, and checkpoints of finished runs.

    Raises
    ------
    ExperimentError
        If finished runs are to be removed without being named, or a name fits no run.
    """
    if FINISHED in statuses and not names:
        raise ExperimentError(
            "--finished", "removes only runs that are named", "give their ids beside it"
        )
    folders = [store.find(name) for name in names] if names else store.folders()
    found = [(folder, store.status(folder)) for folder in folders]
    runs = [Leftover(path, what, _size(path)) for path, what in found if what in statuses]
    if names:
        return runs
    chosen = {run.path for run in runs}
    scraps = [p for p, what in found if p not in chosen and what != RUNNING for p in _scraps(p)]
    trash = [
        path for path in store.root.glob("*/.*") if path.is_dir() and path.parent.name[0] != "."
    ]
    return runs + [Leftover(path, "left over", _size(path)) for path in (*scraps, *trash)]


def remove(store: RunStore, leftover: Leftover) -> None:
    """Remove what :func:`find_leftovers` found.

    Raises
    ------
    ExperimentError
        If a process has begun to work in the run.
    """
    if leftover.path.is_file():
        leftover.path.unlink()
    elif leftover.path.name.startswith("."):
        shutil.rmtree(leftover.path)
    elif store.status(leftover.path) != leftover.what:
        raise ExperimentError(
            leftover.path, f"is {leftover.what} no more", "look at it with 'iav runs'"
        )
    else:
        store.remove(leftover.path)


def _scraps(folder: Path) -> list[Path]:
    """List half-written files of a run, and the checkpoint if it is finished."""
    left = [path for path in folder.glob(".*.tmp") if path.is_file()]
    checkpoint = folder / CHECKPOINT
    finished = (folder / "metrics.json").is_file()
    return left + ([checkpoint] if finished and checkpoint.is_file() else [])


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
