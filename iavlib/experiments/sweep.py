"""Many experiments, one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pandas as pd

from iavlib.data.cohort import Cohort
from iavlib.execution.experiments import NO_TRAIN_VARIABLE
from iavlib.experiments.errors import ExperimentError, ExperimentFailed
from iavlib.experiments.resolve import resolve_all
from iavlib.experiments.run import run
from iavlib.experiments.spec import Experiment
from iavlib.experiments.store import FINISHED, RunStore
from iavlib.experiments.table import as_table, row_of


def _line(text: str) -> None:
    print(text, flush=True)


def sweep(
    experiments: Iterable[Experiment],
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    train: bool | None = None,
    say: Callable[[str], None] = _line,
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
    say : callable, optional
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
        say(f"{number} of {len(todo)}: {describe(item)}: {outcome}")
    return as_table([row_of(store, store.folder(item), item) for item, _ in fixed])


def describe(experiment: Experiment) -> str:
    """Name an experiment in a line."""
    split = experiment.split
    fold = f"fold {split['fold'] + 1} of {split['folds']}" if split["kind"] == "kfold" else ""
    share = f"{experiment.train_share:.0%} of the patients" if experiment.train_share < 1 else ""
    learns = experiment.method or experiment.recipe
    parts = (experiment.name, experiment.label, experiment.backbone, learns)
    return ", ".join(filter(None, (*parts, f"seed {experiment.seed}", fold, share)))


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
        path = os.path.join(row["folder"], "predictions.csv")
        if not os.path.isfile(path):
            raise ExperimentError(path, "is missing", "remove the run and do it again")
        found = pd.read_csv(path, dtype={"image_id": str})
        named = {name: row.get(name) for name in ("id", "label", "backbone", "seed")}
        frames.append(found.assign(**named)[[*named, *found.columns]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
