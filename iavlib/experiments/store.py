"""Where runs are, and how far each came.

``runs/<task>/<id>/`` holds

- ``spec.json``: the experiment, all of it; its hash is the directory's name;
- ``log.txt``: when the run was started and went on, and its progress;
- ``checkpoint.pt``: what an unfinished run goes on from;
- ``model.safetensors`` with ``model.json``, ``history.csv``, ``predictions.csv``: the result;
- ``metrics.json``: written last and at once. A run is finished when it is there, and only then;
- ``failed.json``: why the last attempt failed.

Removing runs that are of no use any more, never a finished one unless it is named.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.files import is_held, only_one, write_json
from iavlib.core.project import Project, find_project
from iavlib.experiments.config import Experiment, from_mapping
from iavlib.experiments.stored import is_stored, read_stored, read_stored_predictions

ENVIRONMENT_VARIABLE = "IAV_RUNS"
FINISHED, FAILED, RUNNING = "finished", "failed", "running"
UNFINISHED, MISSING, DAMAGED = "unfinished", "missing", "damaged"
SPEC, METRICS, FAILURE = "spec.json", "metrics.json", "failed.json"
PREDICTIONS, HISTORY, LOG, CHECKPOINT = (
    "predictions.csv",
    "history.csv",
    "log.txt",
    "checkpoint.pt",
)
MODEL = "model.safetensors"
_LOCKS = ".locks"


class RunStore:
    """The run directories below one folder.

    Parameters
    ----------
    root : Path, optional
        The folder; by default that of ``IAV_RUNS``, else ``runs`` in the project's root. It is
        made when a run is started.
    """

    def __init__(self, root: Path | None = None):
        named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
        if root is None:
            root = Path(named).expanduser() if named else find_project().root / "runs"
        self.root = Path(root).resolve()

    @classmethod
    def of(cls, project: Project) -> RunStore:
        """Return the store of a project: that of ``IAV_RUNS``, else its ``runs``."""
        return cls() if os.environ.get(ENVIRONMENT_VARIABLE) else cls(project.root / "runs")

    def __repr__(self) -> str:
        return f"RunStore({str(self.root)!r})"

    def folder(self, experiment: Experiment) -> Path:
        """Return the run directory of an experiment, whether it is there or not."""
        return self.root / experiment.task / experiment.id

    def folders(self, task: str | None = None) -> list[Path]:
        """List the run directories, of one task or of all, by task and id."""
        found = self.root.glob(f"{task or '*'}/*")
        shown = (p for p in found if p.is_dir() and p.name[0] != "." and p.parent.name[0] != ".")
        return sorted(shown)

    def finished(self, task: str | None = None) -> list[Path]:
        """List the directories of finished runs."""
        return [folder for folder in self.folders(task) if (folder / METRICS).is_file()]

    def find(self, name: str) -> Path:
        """Find a run directory by its id, ``task/id``, or the beginning of an id.

        Raises
        ------
        ExperimentError
            If no run, or more than one, is called so.
        """
        task, _, start = name.rpartition("/")
        found = [f for f in self.folders(task or None) if f.name.startswith(start)]
        if len(found) == 1 and start:
            return found[0]
        known = [folder.name for folder in self.folders()]
        if found and start:
            names = ", ".join(f"{f.parent.name}/{f.name}" for f in found[:5])
            raise ExperimentError(f"run {name!r}", f"{len(found)} begin so ({names})", "say more")
        raise ExperimentError(f"run {name!r}", f"not in {self.root}", suggest(start, known[:50]))

    def status(self, experiment: Experiment | Path) -> str:
        """Say how far a run came.

        Parameters
        ----------
        experiment : Experiment or Path
            The experiment or its directory.

        Returns
        -------
        str
            ``"finished"``, ``"running"`` (somewhere, now), ``"failed"``, ``"unfinished"`` (to be
            gone on with) or ``"missing"``.
        """
        folder = self._as_folder(experiment)
        if (folder / METRICS).is_file():
            return FINISHED
        if is_held(self._lock(folder)):
            return RUNNING
        if (folder / FAILURE).is_file():
            return FAILED
        return UNFINISHED if folder.is_dir() else MISSING

    def read_spec(self, folder: Path) -> Experiment:
        """Read the experiment of a run directory.

        Raises
        ------
        ExperimentError
            If ``spec.json`` is missing, damaged, or not the one that gave the directory its name.
        """
        path = folder / SPEC
        experiment = from_mapping(read_json(path), path)
        if not experiment.is_resolved or (experiment.task, experiment.id) != (
            folder.parent.name,
            folder.name,
        ):
            raise ExperimentError(
                path,
                "does not describe the run that its directory is named for; it was changed, or "
                "made by a version of this library with other defaults",
                f"put the original back, or remove {folder}",
            )
        return experiment

    @contextmanager
    def working(self, experiment: Experiment) -> Iterator[Path]:
        """Do a run, or something with its directory, while no other process does.

        Yields
        ------
        Path
            The run directory, which need not exist.
        """
        folder = self.folder(experiment)
        with only_one(self._lock(folder), f"experiment {experiment.name}"):
            yield folder

    def begin(self, experiment: Experiment) -> Path:
        """Make the run directory with its ``spec.json``, or check the one that is there.

        Raises
        ------
        ExperimentError
            If the directory holds another experiment.
        """
        folder = self.folder(experiment)
        if (folder / SPEC).exists():
            self.read_spec(folder)
        else:
            write_json(folder / SPEC, experiment.to_dict())
        return folder

    def remove(self, folder: Path) -> None:
        """Remove a run directory: it is gone at once, not file by file.

        Raises
        ------
        ExperimentError
            If a process is at work in it.
        """
        lock = self._lock(folder)
        if is_held(lock):
            raise ExperimentError(folder, "a process is at work in it", "wait for its end")
        with only_one(lock, f"removing {folder.parent.name}/{folder.name}"):
            trash = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
            os.replace(folder, trash)
            shutil.rmtree(trash)

    def _as_folder(self, experiment: Experiment | Path) -> Path:
        return self.folder(experiment) if isinstance(experiment, Experiment) else experiment

    def _lock(self, folder: Path) -> Path:
        # beside the run, not in it: who waits for a run that is removed holds the same file
        return self.root / _LOCKS / f"{folder.parent.name}-{folder.name}.lock"


def read_prediction_file(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read ``predictions.csv`` of a run directory or of a stored run.

    Raises
    ------
    ExperimentError
        If it is missing.
    """
    path = Path(path)
    if is_stored(path):
        source: Any = io.BytesIO(read_stored_predictions(path.parent))
    elif path.is_file():
        source = path
    else:
        raise ExperimentError(path, "is missing", "remove the run and do it again")
    table = pd.read_csv(source, dtype={"image_id": str, "cluster": str})
    return table.rename(columns={"part": "subset"})  # as the column was called before


def read_json(path: Path) -> Any:
    """Read a JSON file of a run directory or of a stored run.

    Raises
    ------
    ExperimentError
        If it cannot be read.
    """
    if is_stored(path):
        return read_stored(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExperimentError(path, "is missing", f"remove {path.parent}") from error
    except ValueError as error:
        raise ExperimentError(path, f"is damaged ({error})", f"remove {path.parent}") from error


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
