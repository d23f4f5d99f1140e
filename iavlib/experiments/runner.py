"""Many experiments, one table.

Fixing what a specification leaves open: the data that are here, and the weights.

Doing an experiment once: reading it if it is done, going on where it was left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib import data
from iavlib.core.errors import ExperimentError, ExperimentFailed
from iavlib.core.project import NO_TRAIN_VARIABLE
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import Experiment
from iavlib.experiments.store import (
    FINISHED,
    LOG,
    METRICS,
    MODEL,
    PREDICTIONS,
    Result,
    RunStore,
    read_facts,
    read_prediction_file,
    write_failure,
    write_result,
)
from iavlib.experiments.tasks import find_task

#: What fine-tuning needs in turns: the cohort of an experiment, and of the one it starts from.
_KEPT = 3
_loaded: dict[Any, Cohort] = {}


def load_cohort(name: str, **options) -> Cohort:
    """Load a cohort, or give one of the last again if it is that.

    Parameters
    ----------
    name, **options
        As for :func:`iavlib.data.load`.

    Raises
    ------
    ExperimentError
        If there is no such cohort or option.
    DataError, DatasetUnavailable
        As :func:`iavlib.data.load`.
    """
    try:
        name, own = data.choose(name, **options)
    except (KeyError, TypeError) as error:
        raise ExperimentError("cohort", str(error.args[0]), "name one of these") from error
    key = (name, repr(sorted(own.items())), data.fingerprint(name, **own))
    _loaded[key] = _loaded.pop(key, None) or data.load(name, **own)  # the last one used
    for oldest in list(_loaded)[:-_KEPT]:
        del _loaded[oldest]
    return _loaded[key]


def load_data(experiment: Experiment) -> Cohort:
    """Load what an experiment works on: its cohort, or what its task makes of the specification.

    Raises
    ------
    ExperimentError, DataError, DatasetUnavailable
        As :func:`load_cohort`.
    """
    task = find_task(experiment.task)
    if task.load is not None:
        return task.load(experiment)
    return load_cohort(experiment.cohort, **experiment.cohort_options)


def resolve(
    experiment: Experiment, cohort: Cohort | None = None, store: RunStore | None = None
) -> Experiment:
    """Fix the cohort, the fingerprints of its data, the weights, and where it starts.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.
    store : RunStore, optional
        Where a start that is given by its name is looked up; the default one if not given.

    Returns
    -------
    Experiment
        With an id.

    Raises
    ------
    ExperimentError
        If the task, the cohort, or a value is unknown, or the experiment was resolved on other
        data than are here.
    """
    task = find_task(experiment.task)
    if cohort is None:
        cohort = load_data(experiment)
    if task.resolve_dataset is None:
        name, own = data.choose(experiment.cohort, **experiment.cohort_options)
    else:
        name, own = task.resolve_dataset(experiment)
    # The fingerprint of data that a task makes covers the pixels themselves.
    files = _files(cohort) if task.load is None else ""
    found = {"data": cohort.fingerprint, "files": files}
    for field, now in found.items():
        if getattr(experiment, field) not in ("", now):
            raise ExperimentError(
                f"cohort {name!r}",
                f"is not what the experiment was made for: its {field} have the fingerprint {now}, "
                f"not {getattr(experiment, field)}",
                f"restore the data, or leave '{field}' out of the specification for a new "
                "experiment on these",
            )
    if experiment.version != task.version:
        raise ExperimentError(
            f"task {task.name!r}",
            f"is at version {task.version}, the experiment was made for {experiment.version}",
            "leave 'version' out of the specification for a new experiment",
        )
    fixed = experiment.replace(cohort=name, cohort_options=own, **found)
    parent = _resolve_parent(experiment, store)
    if parent is not None:
        # training does not begin from its weights: one experiment whatever they are
        fixed = fixed.replace(init_from=parent, weights=parent.weights)
    return task.resolve(fixed)


def _resolve_parent(experiment: Experiment, store: RunStore | None) -> Experiment | None:
    """Resolve the experiment that another starts from."""
    parent = experiment.init_from
    if parent is None:
        return None
    if isinstance(parent, str):
        store = store or RunStore()
        parent = store.read_spec(store.find(parent))
    elif not parent.is_resolved:
        parent = resolve(parent, store=store)
    if parent.backbone != experiment.backbone:
        raise ExperimentError(
            f"backbone = {experiment.backbone!r}",
            f"but it starts from {parent.name}, which has {parent.backbone}",
            "give both the same backbone",
        )
    return parent


def resolve_all(
    experiments: Iterable[Experiment], cohort: Cohort | None = None, store: RunStore | None = None
) -> list[tuple[Experiment, Cohort]]:
    """Resolve many experiments, loading each cohort once.

    Parameters
    ----------
    experiments : iterable of Experiment
    cohort : Cohort, optional
        The cohort that all of them name, if it is loaded already.
    store : RunStore, optional
        As for :func:`resolve`.

    Returns
    -------
    list of tuple of Experiment and Cohort
        In the order given.

    Raises
    ------
    ExperimentError
        As :func:`resolve`.
    """
    loaded: dict[str, Cohort] = {}
    parents: dict[str, Experiment] = {}
    found = []
    for item in experiments:
        parent = item.parent
        if parent is not None and not parent.is_resolved:
            key = repr(parent)
            parents[key] = parents.get(key) or resolve(parent, store=store)
            item = item.replace(init_from=parents[key])
        key = repr((item.cohort, item.cohort_options))
        if find_task(item.task).load is not None:
            key = repr((item.task, key, item.settings, item.split, item.size))
        if key not in loaded:
            loaded[key] = cohort or load_data(item)
        found.append((resolve(item, loaded[key], store), loaded[key]))
    return found


def _files(cohort: Cohort) -> str:
    """Digest the sizes of a cohort's image files; invented ones follow from the tables."""
    if cohort.synthetic:
        return ""
    digest = hashlib.sha256()
    for image_id, path in cohort.images["path"].dropna().items():
        digest.update(f"{image_id}|{os.stat(path).st_size}\n".encode())
    return digest.hexdigest()[:12]


#: The machine's troubles are no result of an experiment: it stays unfinished and can go on.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOLCK}


def quiet(_: str) -> None:
    """Say nothing."""


def run(
    experiment: Experiment,
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    log: Callable[[str], None] = quiet,
) -> Result:
    """Do an experiment, or read it if it was done.

    A run that was interrupted goes on from its last epoch; one that failed is tried again. While
    another process does the same experiment, this one waits and then reads its result. The
    experiment that it starts from, if any, is done first.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    store : RunStore, optional
        The default one if not given.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.
    log : callable, optional
        Gets lines of progress; they are in ``log.txt`` too.

    Returns
    -------
    Result
        Of the finished run.

    Raises
    ------
    ExperimentError
        If the specification is wrong, or its directory holds something else.
    ExperimentFailed
        If the run ended with an error, which ``failed.json`` keeps.
    OSError
        If the disk is full or cannot be written; nothing that was finished is lost.
    """
    store = store or RunStore()
    cohort = cohort or load_data(experiment)
    fixed = resolve(experiment, cohort, store)
    if (store.folder(fixed) / METRICS).is_file():
        return read_run(store, fixed)
    if fixed.parent is not None:
        _prepare_parent(fixed.parent, store, log)
    with store.working(fixed) as folder:
        if (folder / METRICS).is_file():  # what we waited for
            return read_run(store, fixed)
        store.begin(fixed)
        _attempt(fixed, cohort, folder, log)
    return read_run(store, fixed)


def _prepare_parent(parent: Experiment, store: RunStore, log: Callable[[str], None]) -> None:
    """See that the network that another experiment starts from is there."""
    if store.status(parent) != FINISHED:
        log(f"first {parent.name}, from which it starts")
        run(parent, store, log=log)
    model = store.folder(parent) / MODEL
    if not model.is_file():
        raise ExperimentError(
            model,
            "is gone, though its run is finished; another experiment starts from it",
            f"remove the run ('iav runs gc --finished {parent.id}'), and it is trained again",
        )


def read_run(store: RunStore, experiment: Experiment | Path) -> Result:
    """Read a finished run, given the experiment or the run directory.

    Raises
    ------
    ExperimentError
        If it is not finished, damaged, or not what its directory is named for.
    """
    folder = experiment if isinstance(experiment, Path) else store.folder(experiment)
    return Result(store.read_spec(folder), folder, read_facts(folder))


def _attempt(
    experiment: Experiment, cohort: Cohort, folder: Path, log: Callable[[str], None]
) -> None:
    """Run the task in its directory, which we hold, and write what came out."""
    started = time.time()
    log = _Log(folder / LOG, log)
    log.note("started" if not (folder / LOG).exists() else "started again")
    try:
        outcome = find_task(experiment.task).run(experiment, cohort, folder, log)
        write_result(folder, experiment, cohort, outcome, time.time() - started)
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        _fail(experiment, folder, error, started, log)
    except Exception as error:
        _fail(experiment, folder, error, started, log)
    else:
        log.note("finished")


def _fail(
    experiment: Experiment, folder: Path, error: Exception, started: float, log: _Log
) -> None:
    reason = write_failure(folder, experiment, error, started)
    log.note(f"failed: {reason}")
    raise ExperimentFailed(experiment.name, reason, folder) from error


class _Log:
    """Gives lines of progress on, and keeps them with the time."""

    def __init__(self, path: Path, log: Callable[[str], None]):
        self.path, self.log = path, log

    def __call__(self, line: str) -> None:
        self.log(line)
        self.note(line)

    def note(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")


def _line(text: str) -> None:
    print(text, flush=True)


def sweep(
    experiments: Iterable[Experiment],
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    train: bool | None = None,
    log: Callable[[str], None] = _line,
) -> pd.DataFrame:
    """Do those experiments that are not done, one after another.

    Parameters
    ----------
    experiments : iterable of Experiment
        Resolved or not. All are checked before the first is run.
    store : RunStore, optional
        The default one if not given.
    cohort : Cohort, optional
        The cohort that all of them name, if it is loaded already.
    train : bool, optional
        Whether to run at all; by default unless ``IAV_NO_TRAIN`` is set.
    log : callable, optional
        Gets a line after each run.

    Returns
    -------
    pandas.DataFrame
        One row an experiment in the order given, as :func:`iavlib.experiments.table.row_of`. One
        that failed is a row with the reason, and stops no other.

    Raises
    ------
    ExperimentError
        If a specification is wrong.
    OSError
        If the disk is full or cannot be written.
    """
    from iavlib.experiments.table import as_table, row_of

    store = store or RunStore()
    if train is None:
        train = not os.environ.get(NO_TRAIN_VARIABLE)
    fixed = resolve_all(experiments, cohort, store)
    todo = {item: its_cohort for item, its_cohort in fixed if store.status(item) != FINISHED}
    for number, item in enumerate(todo if train else (), start=1):
        try:
            result = run(item, store, todo[item])
            outcome = f"{result.facts['seconds']:.0f} s, {summary(result.metrics)}"
        except ExperimentFailed as error:
            outcome = f"failed: {error.reason}"
        log(f"{number} of {len(todo)}: {describe(item)}: {outcome}")
    return as_table([row_of(store, store.folder(item), item) for item, _ in fixed])


def describe(experiment: Experiment) -> str:
    """Name an experiment in a line."""
    split = experiment.split
    fold = f"fold {split.fold + 1} of {split.folds}" if split.kind == "kfold" else ""
    share = f"{experiment.train_share:.0%} of the patients" if experiment.train_share < 1 else ""
    learns = experiment.method.name or experiment.recipe.name
    subsets = (experiment.name, experiment.label, experiment.backbone, learns)
    return ", ".join(filter(None, (*subsets, f"seed {experiment.seed}", fold, share)))


def summary(metrics) -> str:
    """Give the metrics that every task has, in a line."""
    shown = [(name, value) for name, value in metrics.items() if isinstance(value, int | float)]
    return ", ".join(f"{name} {value:.4g}" for name, value in shown[:6]) or "no metrics"


def read_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """Read the predictions of the rows that have any.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`sweep` or :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        One row a run and image: ``id``, ``label``, ``backbone``, ``seed``, and the columns of
        ``predictions.csv``.

    Raises
    ------
    ExperimentError
        If a file that should be there is not.
    """
    frames = []
    for row in table[table["status"] == FINISHED].to_dict("records"):
        found = read_prediction_file(Path(row["folder"]) / PREDICTIONS)
        named = {name: row.get(name) for name in ("id", "label", "backbone", "seed")}
        frames.append(found.assign(**named)[[*named, *found.columns]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
