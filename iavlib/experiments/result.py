"""What a finished run holds, written once and read ever after."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import ExperimentError
from iavlib.core.files import write_json, write_text
from iavlib.core.versions import hardware, loaded_versions
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import Experiment
from iavlib.experiments.store import (
    CHECKPOINT,
    FAILURE,
    HISTORY,
    METRICS,
    PREDICTIONS,
    read_json,
    read_prediction_file,
)
from iavlib.experiments.tasks.task import Outcome, check_finite

SCHEMA_VERSION = 1
_NEEDED = {
    "schema_version": int,
    "metrics": dict,
    "baselines": dict,
    "weights": dict,
    "weights_random": bool,
    "hardware": dict,
    "seconds": (int, float),
    "data": str,
    "cohort": str,
    "synthetic": bool,
    "n": dict,
    "finished": str,
}
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


@dataclass(frozen=True)
class Result:
    """A finished run.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Its run directory, or that of a stored result.
    facts : dict
        What ``metrics.json`` holds: ``metrics`` and ``baselines`` by part, ``weights``,
        ``weights_random``, ``settings``, ``cohort``, ``synthetic``, ``data``, ``n`` (images of
        each part), ``seconds``, ``hardware``, ``versions``, ``finished``.
    """

    experiment: Experiment
    folder: Path
    facts: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test part."""
        return self.facts["metrics"].get("test", {})

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row an image: ``image_id``, ``subset``, ``true``, ``predicted`` and others."""
        return read_prediction_file(self.folder / PREDICTIONS)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch; empty where nothing was trained by epochs."""
        path = self.folder / HISTORY
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()


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


def write_result(
    folder: Path, experiment: Experiment, cohort: Cohort, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    """Write what a task found; the run is finished by the last file.

    Parameters
    ----------
    folder : Path
        Run directory, held by this process.
    experiment : Experiment
    cohort : Cohort
    outcome : Outcome
    seconds : float
        Of this attempt.

    Returns
    -------
    dict
        What was written to ``metrics.json``.

    Raises
    ------
    ExperimentError
        If predictions lack a column, or hold what is no number.
    """
    predictions = outcome.predictions
    lacking = [name for name in _COLUMNS if name not in predictions]
    if lacking:
        raise ExperimentError(
            f"task {experiment.task!r}", f"predictions lack {', '.join(lacking)}", "add them"
        )
    check_finite(predictions.set_index("image_id")["predicted"])
    write_text(folder / PREDICTIONS, predictions.to_csv(index=False, float_format="%.7g"))
    if len(outcome.history):
        write_text(folder / HISTORY, outcome.history.to_csv(index=False))
    facts = _facts(experiment, cohort, outcome, seconds)
    write_json(folder / METRICS, facts)
    for left in (FAILURE, CHECKPOINT):
        (folder / left).unlink(missing_ok=True)
    return facts


def write_failure(folder: Path, experiment: Experiment, error: Exception, started: float) -> str:
    """Write why an attempt failed, and give it in a line."""
    reason = f"{type(error).__name__}: {error}"
    write_json(
        folder / FAILURE,
        {
            "id": experiment.id,
            "task": experiment.task,
            "error": reason,
            "traceback": "".join(traceback.format_exception(error)),
            "seconds": round(time.time() - started, 2),
            "failed": _now(),
        },
    )
    return reason


def _facts(
    experiment: Experiment, cohort: Cohort, outcome: Outcome, seconds: float
) -> dict[str, Any]:
    weights = dict(outcome.weights)
    return {
        "schema_version": SCHEMA_VERSION,
        "id": experiment.id,
        "task": experiment.task,
        "metrics": _finite(outcome.metrics),
        "baselines": _finite(outcome.baselines),
        "backbone": experiment.backbone,
        "weights": weights,
        "weights_random": bool(weights.get("is_random", False)),
        "settings": _finite(outcome.settings),
        "cohort": cohort.name,
        "synthetic": bool(cohort.synthetic),
        "simulated_annotators": bool(getattr(cohort, "simulated_annotators", False)),
        "citation": cohort.citation,
        "data": experiment.data,
        "n": {str(k): int(v) for k, v in outcome.predictions["subset"].value_counts().items()},
        "seconds": round(seconds, 2),
        "hardware": hardware(),
        "versions": loaded_versions(),
        "finished": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(value: Any) -> Any:
    """Write what does not exist (a correlation of constants) as nothing, which JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
