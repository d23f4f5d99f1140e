"""Runs as a tidy table, one row per experiment, and two runs compared: settings and results."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.config import PROBE, Experiment
from iavlib.experiments.store import (
    DAMAGED,
    FAILED,
    FAILURE,
    FINISHED,
    RENAMED_METRICS,
    Result,
    RunStore,
    read_facts,
    read_json,
)
from iavlib.stats import Estimate, bootstrap_mean

#: Where a row's numbers are from.
HERE, STORED, NOWHERE = "here", "stored", "nowhere"
_PART = "test"
#: Measures of a single image that are better than the error of a number; of a whole subset.
_OF_IMAGES = ("dice", "soft_dice", "dice_vote")
_OF_SUBSETS = (*_OF_IMAGES, "auroc", "mae")
ERROR = "absolute error"
#: Columns of settings whose own name is that of a measure.
_COLUMNS = {"dice": "overlap_weight", "name": "recipe"}
_NO_COLUMNS = ("cohort_options", "version", "recipe", "method", "settings", "init_from", "plugins")
_FIRST = ("id", "task", "label", "status", "origin", "reason")


def run_table(store: RunStore | None = None, task: str | None = None) -> pd.DataFrame:
    """List every run of a store.

    Parameters
    ----------
    store : RunStore, optional
        The default one if not given.
    task : str, optional
        Only runs of this task.

    Returns
    -------
    pandas.DataFrame
        One row per run directory, as :func:`row_of`; what cannot be read is ``damaged``, with the
        reason.
    """
    store = store or RunStore()
    return as_table([row_of(store, folder) for folder in store.folders(task)])


def row_of(store: RunStore, folder: Path, experiment: Experiment | None = None) -> dict[str, Any]:
    """Describe one run in a row.

    Parameters
    ----------
    store : RunStore
    folder : Path
        Its directory.
    experiment : Experiment, optional
        What it is to be; read from the directory if not given.

    Returns
    -------
    dict
        ``id``, ``task``, ``status`` and ``reason`` (why it failed), the fields of the experiment
        (those of mappings as ``split_kind``; settings by their names), and of a finished run its
        metrics on the test subset, ``val_<metric>``, ``<baseline>_<metric>``, ``n_train`` and so
        on, ``weights_source``, ``weights_random``, ``seconds``, ``finished`` and ``hardware``.
    """
    row = {"id": folder.name, "task": folder.parent.name, "label": "", "reason": ""}
    row |= {"status": store.status(folder), "origin": NOWHERE, "folder": str(folder)}
    try:
        if folder.is_dir():
            stored = store.read_spec(folder)
            experiment = experiment or stored
        if experiment is not None:
            row |= spec_columns(experiment)
        if row["status"] == FINISHED:
            facts = read_facts(folder)
            row = used_settings(facts) | row | fact_columns(facts) | {"origin": HERE}
        elif row["status"] == FAILED:
            row["reason"] = str(read_json(folder / FAILURE).get("error", ""))
    except ExperimentError as error:
        row |= {"status": DAMAGED, "reason": str(error)}
    return row


def spec_columns(experiment: Experiment) -> dict[str, Any]:
    """Return fields and settings of an experiment by column, defaults filled in."""
    row: dict[str, Any] = {}
    for name in ("recipe", "method"):
        choice = getattr(experiment, name)
        row |= {_COLUMNS.get(key, key): value for key, value in choice.settings.items()}
        row[name] = choice.name
    if experiment.recipe.name != PROBE:
        used = experiment.training_recipe().to_dict()
        row |= {key: value for key, value in used.items() if key != "name"}
    values = experiment.to_dict()
    row |= experiment.settings.with_defaults(experiment).to_dict()
    row |= {f"split_{key}": value for key, value in values.pop("split").items()}
    row = {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
    row |= {k: v for k, v in values.items() if k not in _NO_COLUMNS}
    parent = experiment.parent
    if parent is None:
        return row | {"init_from": str(experiment.init_from or "")}
    row["init_from"] = parent.name if parent.is_resolved else parent.task
    row["init_from_recipe"] = parent.recipe.name
    return row | {"init_from_task": parent.task, "init_from_cohort": parent.cohort}


def used_settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run used, also those that are defaults of its method."""
    used = facts["settings"].items()
    kinds = str | int | float | None
    return {_COLUMNS.get(name, name): value for name, value in used if isinstance(value, kinds)}


def fact_columns(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a finished run, and weights, data and hardware they were made with."""
    row: dict[str, Any] = dict(facts["metrics"].get(_PART, {}))
    for old, new in RENAMED_METRICS.get(facts.get("task", ""), {}).items():
        row = {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in row.items()}
    row |= {f"val_{name}": value for name, value in facts["metrics"].get("val", {}).items()}
    for baseline, subsets in facts["baselines"].items():
        row |= {f"{baseline}_{name}": value for name, value in subsets.get(_PART, {}).items()}
    row |= {f"n_{subset}": n for subset, n in facts["n"].items()}
    weights = facts["weights"]
    row |= {"weights_source": weights.get("source", ""), "weights_detail": weights.get("detail")}
    row |= {name: facts[name] for name in ("weights_random", "synthetic", "seconds", "finished")}
    row["score"] = main_score(row)
    return row | {"cohort_name": facts["cohort"], "hardware": describe_hardware(facts["hardware"])}


def main_score(row: Mapping[str, Any]) -> str:
    """Write the first of Dice, AUROC and mean absolute error that a run has, by name.

    Beside the error stands by how much it is below that of the training subset's median.
    """
    name = next((key for key in _OF_SUBSETS if row.get(key) is not None), "")
    gain = row.get("reduction") if name == "mae" else None
    beside = "" if gain is None else f", reduction {gain:.0%}"
    return name and f"{name} {row[name]:.3f}{beside}"


def describe_hardware(machine: Mapping[str, Any]) -> str:
    """Describe the machine that a run was made on."""
    devices = machine.get("accelerators") or [f"{machine.get('cpus', '?')} CPUs"]
    return ", ".join([*devices, str(machine.get("system", ""))])


def as_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table of rows, with the columns that name a run first."""
    table = pd.DataFrame(list(rows))
    if table.empty:
        return pd.DataFrame(columns=[*_FIRST, "cohort_name", "folder"])
    return table[[*_FIRST, *table.columns.difference(_FIRST, sort=False)]]


def filter_rows(table: pd.DataFrame, conditions: Mapping[str, str]) -> pd.DataFrame:
    """Keep the rows whose columns have certain values, compared as text.

    Raises
    ------
    ExperimentError
        If there is no such column.
    """
    for name, value in conditions.items():
        if name not in table:
            raise ExperimentError("filter", f"no column {name!r}", suggest(name, table.columns))
        table = table[table[name].map(_as_text) == _as_text(value)]
    return table


def table_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON objects, with null where a number does not exist."""
    return json.loads(table.to_json(orient="records", double_precision=12))


def _as_text(value: Any) -> str:
    try:
        return f"{float(value):.12g}"
    except (TypeError, ValueError):
        return str(value).lower()


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`compare`.

    Parameters
    ----------
    settings : pandas.DataFrame
        Index: fields of the experiments that differ; one column per run.
    metrics : pandas.DataFrame
        Index: every number of the test subset, and of the baselines; one column per run.
    n_common : int
        Test images that both have.
    measure : str
        What is compared on each image: a column of both tables of predictions, or the absolute
        error.
    difference : iavlib.stats.Estimate or None
        Mean over these images of the first run's measure less the second's, with its 95 % interval,
        clustered by patient where these are known; None without any image, or where the absolute
        errors are of two tasks.
    """

    settings: pd.DataFrame
    metrics: pd.DataFrame
    n_common: int
    measure: str
    difference: Estimate | None


def compare(first: Result, second: Result) -> Comparison:
    """Put two finished runs beside each other.

    Parameters
    ----------
    first, second : Result

    Returns
    -------
    Comparison
        Of the overlap with masks (Dice) where both runs segment, else of the absolute error. The
        interval is over images; that of seeds takes more than two runs.
    """
    names = [first.experiment.id, second.experiment.id]
    specs = [spec_columns(result.experiment) for result in (first, second)]
    keys = dict.fromkeys([*specs[0], *specs[1]])
    settings = {key: [spec.get(key) for spec in specs] for key in keys}
    differing = {key: values for key, values in settings.items() if values[0] != values[1]}
    facts = [fact_columns(result.facts) for result in (first, second)]
    numbers = [key for key, value in facts[0].items() if isinstance(value, int | float)]
    metrics = {key: [fact.get(key) for fact in facts] for key in numbers}
    tested = [
        run.predictions.query("subset == 'test'").set_index("image_id") for run in (first, second)
    ]
    for rows in tested:
        rows[ERROR] = (rows["true"] - rows["predicted"]).abs()
    shared = [name for name in (*_OF_IMAGES, ERROR) if all(name in rows for rows in tested)]
    measure = shared[0]
    one_task = len({result.experiment.task for result in (first, second)}) == 1
    alike = all(rows.index.is_unique for rows in tested) and (measure != ERROR or one_task)
    gaps = (tested[0][measure] - tested[1][measure]).dropna() if alike else pd.Series(dtype=float)
    clusters = tested[0].get("cluster", gaps.index.to_series()).reindex(gaps.index)
    return Comparison(
        pd.DataFrame.from_dict(differing, orient="index", columns=names),
        pd.DataFrame.from_dict(metrics, orient="index", columns=names),
        len(gaps),
        measure,
        bootstrap_mean(gaps, clusters) if len(gaps) else None,
    )
