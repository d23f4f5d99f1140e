"""Running experiments: fixing what they leave open, training once, resuming, many in one table."""

import errno
import hashlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib import data
from iavlib.core.errors import ExperimentError, ExperimentFailed, IavError
from iavlib.core.files import content_digests
from iavlib.core.plugins import code_digest, load_plugins
from iavlib.core.processes import OutOfTime, time_limit
from iavlib.core.project import APART_VARIABLE, NO_TRAIN_VARIABLE, not_trained
from iavlib.data.catalogue import load_shared
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import Experiment
from iavlib.experiments.store import (
    FAILED,
    FINISHED,
    LOG,
    METRICS,
    MISSING,
    MODEL,
    PREDICTIONS,
    RUNNING,
    Result,
    RunStore,
    method_source,
    read_facts,
    read_prediction_file,
    write_failure,
    write_result,
)
from iavlib.experiments.tasks import find_task
from iavlib.multiannotator.methods import METHODS

Log = Callable[[str], None]
#: Failures of the machine are no result of an experiment: it stays unfinished and can be resumed.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOLCK}


def load_cohort(name: str, **options) -> Cohort:
    """Load a cohort; the last ones are kept while their files do not change.

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
    return load_shared(name, **own)


def load_data(experiment: Experiment) -> Cohort:
    """Load the data of an experiment: its cohort, or what its task makes of the specification.

    Raises
    ------
    ExperimentError, DataError, DatasetUnavailable
        As :func:`load_cohort`.
    """
    load_plugins(experiment.plugins)
    load = find_task(experiment.task).load
    return load(experiment) if load else load_cohort(experiment.cohort, **experiment.cohort_options)


def resolve(
    experiment: Experiment, cohort: Cohort | None = None, store: RunStore | None = None
) -> Experiment:
    """Fix the cohort, the fingerprints of data and own code, the weights, and the parent.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.
    store : RunStore, optional
        Where a parent that is given by its name is looked up; the default one if not given.

    Returns
    -------
    Experiment
        With an id.

    Raises
    ------
    ExperimentError
        If the task, the cohort, or a value is unknown, or the experiment was resolved on other
        data than these.
    """
    load_plugins(experiment.plugins)
    task = find_task(experiment.task)
    if cohort is None:
        cohort = load_data(experiment)
    if task.resolve_dataset is None:
        name, own = data.choose(experiment.cohort, **experiment.cohort_options)
    else:
        name, own = task.resolve_dataset(experiment)
    # the fingerprint of data that a task makes covers the pixels themselves
    present = {"data": cohort.fingerprint, "files": "" if task.load else _files(cohort)}
    present["code"] = code_digest(*_code_of(experiment))
    for field, now in present.items():
        before = getattr(experiment, field)
        if before not in ("", now):
            raise ExperimentError(
                f"cohort {name!r}",
                f"is not what the experiment was made for: its {field} have the fingerprint {now}, "
                f"not {before}",
                f"restore them, or leave '{field}' out of the specification for a new experiment",
            )
    version = task.version_of(experiment.method.name)
    if experiment.version != version:
        raise ExperimentError(
            f"task {task.name!r}",
            f"is at version {version}, the experiment was made for {experiment.version}",
            "leave 'version' out of the specification for a new experiment",
        )
    fixed = experiment.replace(cohort=name, cohort_options=own, **present)
    parent = experiment.init_from
    if parent is not None:
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
        # training does not begin from its weights: one experiment whatever they are
        fixed = fixed.replace(init_from=parent, weights=parent.weights)
    return task.resolve(fixed)


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
    resolved = []
    for item in experiments:
        parent = item.parent
        if parent is not None and not parent.is_resolved:
            key = repr(parent)
            parents[key] = parents.get(key) or resolve(parent, store=store)
            item = item.replace(init_from=parents[key])
        key = repr((item.cohort, item.cohort_options))
        if find_task(item.task).load:  # its data depend on more
            key = repr((item.task, key, item.settings, item.split, item.size))
        if key not in loaded:
            loaded[key] = cohort or load_data(item)
        resolved.append((resolve(item, loaded[key], store), loaded[key]))
    return resolved


def _code_of(experiment: Experiment) -> list[Any]:
    """List the functions and classes that an experiment uses and that may be a user's own."""
    task, method = find_task(experiment.task), experiment.method
    used = [task.run, task.targets, task.resolve, task.load]
    used += [METHODS[method.name].method] if method.name in METHODS else []
    encoders = (method.settings.get("encoder"), getattr(experiment.settings, "encoder", None))
    if timm := sys.modules.get("timm"):  # whoever has a backbone of their own has imported it
        names = filter(None, (experiment.backbone, *encoders))
        used += [timm.model_entrypoint(name) for name in names if timm.is_model(name)]
    return [getattr(item, "func", item) for item in used if item is not None]


def _files(cohort: Cohort) -> str:
    """Digest the content of a cohort's image files; synthetic ones follow from the tables."""
    if cohort.synthetic:
        return ""
    paths = cohort.images["path"].dropna()
    digests = zip(paths.index, content_digests(paths), strict=True)
    lines = "".join(f"{image_id}|{digest}\n" for image_id, digest in digests)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def run(
    experiment: Experiment,
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    log: Log = lambda line: None,
    force: bool = False,
) -> Result:
    """Run an experiment, or read its result if it is finished.

    A run that was interrupted continues after its last epoch; one that failed is tried again. While
    another process runs the same experiment, this one waits and then reads its result. The
    experiment that it starts from, if any, is run first.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    store : RunStore, optional
        The default one if not given.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.
    log : callable, optional
        Receives lines of progress; they are in ``log.txt`` too.
    force : bool
        Remove what an earlier run left, and run it anew.

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
    if force and store.folder(fixed).is_dir():
        store.remove(store.folder(fixed))
    if (store.folder(fixed) / METRICS).is_file():
        result = read_run(store, fixed)
        if result.facts.get("source", "") not in ("", method_source(fixed)):
            changed = f"the file of method {fixed.method} has changed since {fixed.name} was run"
            log(f"{changed}: iav train {fixed.id} --force runs it again")
        return result
    parent = fixed.parent
    if parent is not None:
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
    with store.working(fixed) as folder:
        if not (folder / METRICS).is_file():  # another process may have finished it meanwhile
            store.begin(fixed)
            _attempt(fixed, cohort, folder, log)
    return read_run(store, fixed)


def read_run(store: RunStore, experiment: Experiment | Path) -> Result:
    """Read a finished run, given the experiment or the run directory.

    Raises
    ------
    ExperimentError
        If it is not finished, damaged, or not what its directory is named for.
    """
    folder = experiment if isinstance(experiment, Path) else store.folder(experiment)
    return Result(store.read_spec(folder), folder, read_facts(folder))


def _attempt(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> None:
    """Run the task in its directory, which this process holds, and write the result."""
    started, path = time.time(), folder / LOG

    def note(line: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")

    def log_both(line: str) -> None:
        log(line)
        note(line)

    note("started again" if path.exists() else "started")
    try:
        outcome = find_task(experiment.task).run(experiment, cohort, folder, log_both)
        write_result(folder, experiment, cohort, outcome, time.time() - started)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        reason = write_failure(folder, experiment, error, started)
        note(f"failed: {reason}")
        raise ExperimentFailed(experiment.name, reason, folder) from error
    note("finished")


def sweep(
    experiments: Iterable[Experiment],
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    log: Log = lambda line: print(line, flush=True),
) -> pd.DataFrame:
    """Run those experiments that are not finished, one after another.

    Nothing is run where ``IAV_NO_TRAIN`` is set. The manifest of the notebook then lists what was
    not run, so that the notebook is run again where training is allowed.

    Parameters
    ----------
    experiments : iterable of Experiment
        Resolved or not. All are checked before the first is run.
    store : RunStore, optional
        The default one if not given.
    cohort : Cohort, optional
        The cohort that all of them name, if it is loaded already.
    log : callable, optional
        Receives a line after each run.

    Returns
    -------
    pandas.DataFrame
        One row per experiment in the order given, as :func:`iavlib.experiments.table.row_of`. One
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
    fixed = resolve_all(experiments, cohort, store)
    todo = {item: its_cohort for item, its_cohort in fixed if store.status(item) != FINISHED}
    apart = os.environ.get(APART_VARIABLE, "").split(",")
    left = {one.name for one in todo if os.environ.get(NO_TRAIN_VARIABLE) or one.name in apart}
    not_trained.update(left)
    todo = {item: its_cohort for item, its_cohort in todo.items() if item.name not in left}
    for number, (item, its_cohort) in enumerate(todo.items(), start=1):
        try:
            result = run(item, store, its_cohort)
            outcome = f"{result.facts['seconds']:.0f} s, {summary(result.metrics)}"
        except ExperimentFailed as error:
            outcome = f"failed: {error.reason}"
        log(f"{number} of {len(todo)}: {describe(item)}: {outcome}")
    return as_table([row_of(store, store.folder(item), item) for item, _ in fixed])


def work_through(
    experiments: Iterable[Experiment],
    store: RunStore | None = None,
    log: Log = lambda line: print(line, flush=True),
    budget: float | None = None,
) -> pd.DataFrame:
    """Run experiments one after another, the most important first, until the time is over.

    Whatever ended the last call, the next one goes on where it stopped: finished runs are read, an
    interrupted one continues after its last epoch. What failed before, and what another process is
    at work on, comes last.

    Parameters
    ----------
    experiments : iterable of Experiment
        Resolved or not, in the order of their priority.
    store : RunStore, optional
        The default one if not given.
    log : callable, optional
        Receives lines of progress.
    budget : float, optional
        Seconds after which the work stops, sooner if no further epoch would be completed. Only in
        the main thread.

    Returns
    -------
    pandas.DataFrame
        One row per experiment in the order given, as :func:`iavlib.experiments.table.row_of`. What
        cannot be run here is ``missing``, with the reason; so is, without one, what was not
        reached.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    from iavlib.experiments.table import NOWHERE, as_table, row_of, spec_columns

    store, wanted = store or RunStore(), list(dict.fromkeys(experiments))
    last = time.monotonic()
    end = math.inf if budget is None else last + budget

    def progress(line: str) -> None:
        nonlocal last
        took, last = time.monotonic() - last, time.monotonic()
        log(f"  {line}")
        if line.startswith("epoch") and last + took > end:
            raise OutOfTime

    fixed: dict[Experiment, Experiment] = {}
    reasons: dict[Experiment, str] = {}
    waiting = [(item, True) for item in wanted]
    try:
        with time_limit(budget):
            for item, may_wait in waiting:  # which grows
                try:
                    [(fixed[item], cohort)] = resolve_all([item], store=store)
                    status = store.status(fixed[item])
                    if may_wait and status in (FAILED, RUNNING):
                        waiting.append((item, False))
                    elif status != FINISHED:
                        log(describe(fixed[item]))
                        last = time.monotonic()
                        result = run(fixed[item], store, cohort, progress)
                        log(f"  {result.facts['seconds']:.0f} s, {summary(result.metrics)}")
                except ExperimentFailed as error:
                    log(f"  failed: {error.reason}")
                except IavError as error:
                    reasons[item] = str(error)
    except OutOfTime:
        log("the time is over; the same call goes on from here")
    log_left_out(reasons.values(), log)
    rows = []
    for item in wanted:
        if item in fixed:
            rows.append(row_of(store, store.folder(fixed[item]), fixed[item]))
        else:
            row = {"id": "", "status": MISSING, "reason": reasons.get(item, ""), "folder": None}
            rows.append(spec_columns(item) | row | {"origin": NOWHERE})
    return as_table(rows)


def log_left_out(reasons: Iterable[str], log: Log) -> None:
    """Print why experiments cannot be run here: each reason once, with their number."""
    for reason, n in Counter(reasons).items():
        log(f"{n} cannot be run here: {reason}")


def describe(experiment: Experiment) -> str:
    """Describe an experiment in one line; by its cohort where it is not resolved."""
    split = experiment.split
    fold = f"fold {split.fold + 1} of {split.folds}" if split.kind == "kfold" else ""
    share = f"{experiment.train_share:.0%} of the patients" if experiment.train_share < 1 else ""
    learns = experiment.method.name or experiment.recipe.name
    place = f"{experiment.task} on {experiment.cohort}"
    words = (
        experiment.name if experiment.is_resolved else place,
        experiment.label,
        experiment.backbone,
        learns,
    )
    return ", ".join(filter(None, (*words, f"seed {experiment.seed}", fold, share)))


def summary(metrics: dict[str, Any]) -> str:
    """Write the first six metrics in one line, what a prediction is worth among them."""
    first = {name: metrics[name] for name in ("mae", "reduction") if name in metrics}
    numbers = [(n, v) for n, v in (first | metrics).items() if isinstance(v, int | float)]
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers[:6]) or "no metrics"


def read_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """Read the predictions of the rows that have any.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of :func:`sweep` or :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        One row per run and image: ``id``, ``label``, ``backbone``, ``seed``, and the columns of
        ``predictions.csv``.

    Raises
    ------
    ExperimentError
        If a file is missing.
    """
    frames = []
    for row in table[table["status"] == FINISHED].to_dict("records"):
        predictions = read_prediction_file(Path(row["folder"]) / PREDICTIONS)
        named = {name: row.get(name) for name in ("id", "label", "backbone", "seed")}
        frames.append(predictions.assign(**named)[[*named, *predictions.columns]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
