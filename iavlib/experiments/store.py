"""The directories of runs: their location, their status and the content of a finished one.

``runs/<task>/<id>/`` holds

- ``spec.json``: the experiment, all of it; its hash is the directory's name;
- ``log.txt``: when the run was started and resumed, and its progress;
- ``checkpoint.pt``: the state from which an unfinished run continues;
- ``model.safetensors`` with ``model.json``, ``history.csv``, ``predictions.csv``: the result;
- ``metrics.json``: written last and at once. A run is finished when it is there, and only then;
- ``failed.json``: why the last attempt failed.

Runs that are no longer needed can be removed, a finished one only if it is named.
"""

from __future__ import annotations

import io
import math
import os
import re
import secrets
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.files import is_held, load_json, only_one, write_json, write_text
from iavlib.core.plugins import source_digest
from iavlib.core.project import Project, working_project
from iavlib.core.versions import hardware, loaded_versions
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import Experiment, from_mapping, map_leaves
from iavlib.experiments.stored import is_stored, read_stored, read_stored_predictions
from iavlib.experiments.tasks import Outcome, check_finite, task_names
from iavlib.multiannotator.methods import METHODS

ENVIRONMENT_VARIABLE = "IAV_RUNS"
FINISHED, FAILED, RUNNING = "finished", "failed", "running"
UNFINISHED, MISSING, DAMAGED = "unfinished", "missing", "damaged"
SPEC, METRICS, FAILURE = "spec.json", "metrics.json", "failed.json"
PREDICTIONS, HISTORY, LOG = "predictions.csv", "history.csv", "log.txt"
CHECKPOINT, MODEL = "checkpoint.pt", "model.safetensors"
_LOCKS = ".locks"
SCHEMA_VERSION = 1
_NEEDED: dict[str, Any] = {"schema_version": int, "weights_random": bool, "synthetic": bool}
_NEEDED |= dict.fromkeys(("metrics", "baselines", "weights", "hardware", "n"), dict)
_NEEDED |= dict.fromkeys(("data", "cohort", "finished"), str) | {"seconds": int | float}
#: By task, prefixes of metrics in version 1 and what they are called now.
RENAMED_METRICS: dict[str, dict[str, str]] = {
    "diagnosis-first": {
        "clinic_": "image_only_",
        "given_": "with_mask_",
        "own_": "trained_",
        "others_": "heldout_nets_",
        "source_": "optimised_net_",
    }
}
_COLUMNS = ("image_id", "subset", "true", "predicted")
_LEFT_OVER = "left over"
_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"(?:[\w-]+/)?[0-9a-f]{1,12}")
#: What :meth:`RunStore.remove` calls a run while it removes it.
_REMAINS = re.compile(r"\.[0-9a-f]{12}\.[0-9a-f]{8}")


class RunStore:
    """The run directories below one folder.

    Parameters
    ----------
    root : Path, optional
        The folder; by default that of ``IAV_RUNS``, else ``runs`` in the project's root or, in no
        project, in the working folder. It is made when a run is started.
    """

    def __init__(self, root: Path | None = None):
        named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
        self.root = Path(root or named or working_project().root / "runs").expanduser().resolve()

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
        """List the run directories, of one task or of all, by task and id.

        Only directories that are named by an id are runs, and of those of tasks that are not known
        here only those that hold a specification of the task that names plugins.
        """
        return sorted(path for path in self._below(task) if _ID.fullmatch(path.name))

    def _below(self, task: str | None = None) -> Iterator[Path]:
        """List the directories below those of the tasks, without links to elsewhere."""
        known = task_names()
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if task in (None, folder.name) and folder.is_dir() and not folder.is_symlink():
                own = (p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
                yield from (p for p in own if folder.name in known or _is_of_a_run(p, True))

    def remains(self) -> list[Path]:
        """List what removals that were interrupted left behind."""
        return sorted(path for path in self._below() if _REMAINS.fullmatch(path.name))

    def finished(self, task: str | None = None) -> list[Path]:
        """List the directories of finished runs."""
        return [folder for folder in self.folders(task) if (folder / METRICS).is_file()]

    def find(self, name: str) -> Path:
        """Find a run directory by its id, ``task/id``, or the first digits of an id.

        Raises
        ------
        ExperimentError
            If no run, or more than one, is called so, or it is no such name.
        """
        if not _NAME.fullmatch(name):
            hint = "name a file, or a run by up to twelve digits from 0 to f (see 'iav runs')"
            raise ExperimentError(f"run {name!r}", f"no file, and not in {self.root}", hint)
        task, _, start = name.rpartition("/")
        matches = [f for f in self.folders(task or None) if start and f.name.startswith(start)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(f"{f.parent.name}/{f.name}" for f in matches[:5])
            problem = f"{len(matches)} runs begin like this ({names})"
            raise ExperimentError(f"run {name!r}", problem, "give more digits")
        ids = [folder.name for folder in self.folders()][:50]
        raise ExperimentError(f"run {name!r}", f"not in {self.root}", suggest(start, ids))

    def status(self, experiment: Experiment | Path) -> str:
        """Return the status of a run.

        Parameters
        ----------
        experiment : Experiment or Path
            The experiment or its directory.

        Returns
        -------
        str
            ``"finished"``, ``"running"`` (somewhere, now), ``"failed"``, ``"unfinished"`` (to be
            resumed) or ``"missing"``.
        """
        folder = self.folder(experiment) if isinstance(experiment, Experiment) else experiment
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
        name = f"{folder.parent.name}/{folder.name}"
        if not experiment.is_resolved or experiment.name != name:
            raise ExperimentError(
                path,
                "does not describe the run that its directory is named for; it was changed, or "
                "made by a version of this library with other defaults",
                f"put the original back, or remove {folder}",
            )
        return experiment

    @contextmanager
    def working(self, experiment: Experiment) -> Iterator[Path]:
        """Hold a run directory, so that no other process works in it.

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
            write_json(folder / SPEC, experiment.to_dict(), durable=True)
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
    content = read_stored_predictions(path.parent) if is_stored(path) else None
    table = _read_table(path, content, {"image_id": str, "cluster": str})
    if "image_id" not in table:
        problem = "is damaged (it has no column 'image_id')"
        raise ExperimentError(path, problem, "remove the run and do it again")
    return table.rename(columns={"part": "subset"})  # its name in version 1


def _read_table(path: Path, content: bytes | None = None, dtype: Any = None) -> pd.DataFrame:
    """Read a table of a run directory, or the content of a stored one."""
    try:
        return pd.read_csv(path if content is None else io.BytesIO(content), dtype=dtype)
    except (OSError, ValueError, RecursionError) as error:  # also of pandas' parser
        missing = isinstance(error, FileNotFoundError)
        problem = "is missing" if missing else f"is damaged ({' '.join(str(error).split())})"
        raise ExperimentError(path, problem, "remove the run and do it again") from error


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
        return load_json(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "is missing" if missing else f"is damaged ({error})"
        raise ExperimentError(path, problem, f"remove {path.parent}") from error


@dataclass(frozen=True)
class Result:
    """A finished run.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Its run directory, or that of a stored result.
    facts : dict
        What ``metrics.json`` holds: ``metrics`` and ``baselines`` by subset, ``weights``,
        ``weights_random``, ``settings``, ``cohort``, ``synthetic``, ``data``, ``n`` (images of
        each subset), ``seconds``, ``hardware``, ``versions``, ``finished``.
    """

    experiment: Experiment
    folder: Path
    facts: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test subset."""
        return self.facts["metrics"].get("test", {})

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per image: ``image_id``, ``subset``, ``true``, ``predicted`` and others."""
        return read_prediction_file(self.folder / PREDICTIONS)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch; empty where nothing was trained by epochs."""
        path = self.folder / HISTORY
        return _read_table(path) if path.is_file() else pd.DataFrame()


def read_facts(folder: str | Path) -> dict[str, Any]:
    """Read ``metrics.json`` of a run, here or stored, and check that it is whole.

    Raises
    ------
    ExperimentError
        If it is missing or damaged.
    """
    path = Path(folder) / METRICS
    facts = read_json(path)
    for name, kind in _NEEDED.items():
        if not isinstance(facts, dict) or not isinstance(facts.get(name), kind):
            raise ExperimentError(path, f"{name!r} is missing", f"remove {folder}, and run again")
    return facts


def arrived(folder: Path) -> str:
    """Return when a finished run came to be here (ISO 8601, UTC): its end, or a later copy."""
    changed = datetime.fromtimestamp((folder / METRICS).stat().st_ctime, UTC)
    return max(read_facts(folder)["finished"], changed.isoformat(timespec="seconds"))


def write_result(
    folder: Path, experiment: Experiment, cohort: Cohort, outcome: Outcome, seconds: float
) -> None:
    """Write the outcome of a task; the run is finished by the last file.

    Parameters
    ----------
    folder : Path
        Run directory, held by this process.
    experiment : Experiment
    cohort : Cohort
    outcome : Outcome
    seconds : float
        Of this attempt.

    Raises
    ------
    ExperimentError
        If predictions lack a column, or hold what is no number.
    """
    predictions = outcome.predictions
    lacking = [name for name in _COLUMNS if name not in predictions]
    if lacking:
        problem = f"predictions lack {', '.join(lacking)}"
        raise ExperimentError(f"task {experiment.task!r}", problem, "add them")
    check_finite(predictions.set_index("image_id")["predicted"])
    write_text(folder / PREDICTIONS, predictions.to_csv(index=False, float_format="%.7g"), True)
    if len(outcome.history):
        write_text(folder / HISTORY, outcome.history.to_csv(index=False), True)
    weights = dict(outcome.weights)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "id": experiment.id,
        "task": experiment.task,
        "metrics": map_leaves(outcome.metrics, _finite),
        "baselines": map_leaves(outcome.baselines, _finite),
        "backbone": experiment.backbone,
        "weights": weights,
        "weights_random": bool(weights.get("is_random", False)),
        "settings": map_leaves(outcome.settings, _finite),
        "cohort": cohort.name,
        "synthetic": bool(cohort.synthetic),
        "simulated_annotators": bool(getattr(cohort, "simulated_annotators", False)),
        "citation": cohort.citation,
        "data": experiment.data,
        "n": {str(k): int(v) for k, v in predictions["subset"].value_counts().items()},
        "seconds": round(seconds, 2),
        "hardware": hardware(),
        "versions": loaded_versions(),
        "source": method_source(experiment),
        "finished": _now(),
    }
    write_json(folder / METRICS, facts, durable=True)  # what it depends on is on the disk by now
    for left in (FAILURE, CHECKPOINT):
        (folder / left).unlink(missing_ok=True)


def method_source(experiment: Experiment) -> str:
    """Digest the file of the method, also of one in this package: it is not part of the id."""
    name = experiment.method.name
    return source_digest(METHODS[name].method) if name in METHODS else ""


def write_failure(folder: Path, experiment: Experiment, error: Exception, started: float) -> str:
    """Write why an attempt failed, and return it in one line."""
    reason = f"{type(error).__name__}: {error}"
    content = {"id": experiment.id, "task": experiment.task, "error": reason}
    content["traceback"] = "".join(traceback.format_exception(error))
    content |= {"seconds": round(time.time() - started, 2), "failed": _now()}
    write_json(folder / FAILURE, content)
    return reason


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(value: Any, _: str) -> Any:
    """Write what does not exist (a correlation of constants) as nothing, which JSON can hold."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Leftover:
    """Something that can be removed.

    Parameters
    ----------
    path : Path
        A run directory, or what was left in or beside one.
    what : str
        What it is: the status of the run, or ``"left over"``.
    """

    path: Path
    what: str

    @cached_property
    def bytes(self) -> int:
        """Its size when it is first read; it stays known after the removal."""
        files = (self.path, *self.path.rglob("*"))
        return sum(file.stat().st_size for file in files if file.is_file())


def find_leftovers(
    store: RunStore,
    statuses: Sequence[str] = (),
    names: Sequence[str] = (),
    checkpoints: bool = False,
) -> list[Leftover]:
    """List what can be removed.

    Parameters
    ----------
    store : RunStore
    statuses : sequence of str
        Remove runs of these statuses.
    names : sequence of str
        Only these runs (ids, or their beginnings); all by default, which ``finished`` refuses.
    checkpoints : bool
        Also failed runs that hold a checkpoint, from which they could continue.

    Returns
    -------
    list of Leftover
        Runs of these statuses that no process is at work in and whose ``spec.json`` can be read;
        without names also what interrupted writing and removing left behind, and checkpoints of
        finished runs. Nothing that is not a run of this library is ever listed.

    Raises
    ------
    ExperimentError
        If finished runs are to be removed without being named, or a name fits no run.
    """
    if FINISHED in statuses and not names:
        problem = "removes only runs that are named"
        raise ExperimentError("--finished", problem, "give their ids beside it")
    leftovers: list[Leftover] = []
    for folder in [store.find(name) for name in names] if names else store.folders():
        status = store.status(folder)
        if not _is_of_a_run(folder):
            continue
        if status in statuses:
            if checkpoints or status != FAILED or not (folder / CHECKPOINT).exists():
                leftovers.append(Leftover(folder, status))
        elif not names and status != RUNNING:
            old = folder.glob(CHECKPOINT) if status == FINISHED else ()
            leftovers += [Leftover(path, _LEFT_OVER) for path in (*folder.glob(".*.tmp"), *old)]
    if not names:
        leftovers += [Leftover(path, _LEFT_OVER) for path in store.remains()]
    return leftovers


def _is_of_a_run(folder: Path, of_plugin: bool = False) -> bool:
    """Return whether a directory holds a specification of the task that it lies below."""
    try:
        spec = read_json(folder / SPEC)
        named = bool(spec.get("plugins")) or not of_plugin
        return named and spec.get("task") == folder.parent.name
    except (ExperimentError, OSError, AttributeError):
        return False


def remove(store: RunStore, leftover: Leftover) -> None:
    """Remove something that :func:`find_leftovers` lists.

    Raises
    ------
    ExperimentError
        If a process works in the run now.
    """
    if leftover.path.is_file():
        leftover.path.unlink()
    elif leftover.path.name.startswith("."):
        shutil.rmtree(leftover.path)
    elif store.status(leftover.path) != leftover.what:
        problem = f"is not {leftover.what} any more"
        raise ExperimentError(leftover.path, problem, "check it with 'iav runs'")
    else:
        store.remove(leftover.path)
