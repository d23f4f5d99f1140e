"""What a task is: a target for each image, and a way to learn it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iavlib.core.errors import ExperimentError
from iavlib.data.cohort import Cohort

if TYPE_CHECKING:
    from iavlib.experiments.config import Experiment, TaskSettings

Log = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a task found; the run store writes it.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``subset`` (train, val or test), ``true``, ``predicted``, and others.
    metrics : mapping
        Part to name of a metric to value.
    history : pandas.DataFrame
        One row an epoch; empty where nothing was trained by epochs.
    baselines : mapping
        Name of a model without images to part to metrics, beside the task's own.
    weights : mapping
        ``source`` and ``detail`` of what the backbone started from, and ``is_random``.
    settings : mapping
        Every setting of the recipe as it was used, ready for JSON.
    """

    predictions: pd.DataFrame
    metrics: Mapping[str, Mapping[str, float]]
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def check_finite(predicted: pd.Series) -> None:
    """Refuse predictions, indexed by image id, that are missing or infinite.

    Raises
    ------
    ExperimentError
        It names the first images.
    """
    bad = predicted.index[~np.isfinite(predicted.to_numpy(float))]
    if len(bad):
        raise ExperimentError(
            "predictions",
            f"{len(bad)} are no finite numbers (first: {', '.join(map(str, bad[:3]))})",
            "lower the learning rate, or look at these images",
        )


def _unchanged(experiment: Experiment) -> Experiment:
    return experiment


def _no_settings() -> type[TaskSettings]:
    from iavlib.experiments.config import TaskSettings

    return TaskSettings


@dataclass(frozen=True)
class Task:
    """One kind of experiment.

    Parameters
    ----------
    name : str
    targets : callable
        Cohort to a table indexed by ``image_id``: the images that can be used, with ``target``.
    run : callable
        Experiment (resolved), cohort, run directory and a function that takes lines of progress,
        to :class:`Outcome`. It may leave files in the directory (a checkpoint, the model) and is
        called again after an interruption, with the directory as it was.
    resolve : callable, optional
        Fixes what the experiment leaves open (``weights``) and refuses what cannot be run, before
        anything is trained.
    settings : type, optional
        Model of the experiment's ``settings``, a subclass of
        :class:`iavlib.experiments.TaskSettings`; without one the task has none.
    version : int, optional
        To be raised when the same experiment comes to give something else.
    resolve_dataset : callable, optional
        Experiment to the name of its data and those of ``cohort_options`` that have an effect; as
        :func:`iavlib.data.choose` unless given.
    load : callable, optional
        Experiment to its data: what has a ``name``, a ``fingerprint`` of its content, ``synthetic``
        and ``citation``. A :class:`iavlib.data.Cohort` unless given.
    methods : callable, optional
        Names that ``method: all`` stands for in a list of experiments.
    """

    name: str
    targets: Callable[[Cohort], pd.DataFrame]
    run: Callable[[Experiment, Cohort, Path, Log], Outcome]
    resolve: Callable[[Experiment], Experiment] = _unchanged
    settings: type[TaskSettings] = field(default_factory=_no_settings)
    version: int = 1
    resolve_dataset: Callable[[Experiment], tuple[str, dict[str, Any]]] | None = None
    load: Callable[[Experiment], Any] | None = None
    methods: Callable[[], Sequence[str]] | None = None
