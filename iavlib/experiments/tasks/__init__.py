"""What a task is, and the tasks by name; the module of a task is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.plugins import load_plugins, outside
from iavlib.core.settings import Settings
from iavlib.data.cohort import Cohort
from iavlib.data.official_splits import official_split
from iavlib.data.splits import share_of_clusters

if TYPE_CHECKING:
    from iavlib.experiments.config import Experiment

Log = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a task; the run store writes it.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``subset`` (train, val or test), ``true``, ``predicted``, and others.
    metrics : mapping
        Subset to name of a metric to value.
    history : pandas.DataFrame
        One row per epoch; empty where nothing was trained by epochs.
    baselines : mapping
        Name of a model without images to subset to metrics, beside the task's own.
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
            "lower the learning rate, or check these images",
        )


class TaskSettings(Settings):
    """Settings of a task beside the fields that every experiment has; tasks derive their own."""

    #: Field to its name in version 1, and to version 1's values where those differ.
    VERSION_1: ClassVar[Mapping[str, tuple[str, Mapping[Any, Any]]]] = {}

    def given(self) -> dict[str, Any]:
        """Return the settings that were given, without defaults, as JSON can hold them."""
        return self.model_dump(mode="json", exclude_unset=True)

    def filled(self, defaults: Mapping[str, Any]) -> TaskSettings:
        """Return the settings with other values for those that are None."""
        missing = {name: v for name, v in defaults.items() if getattr(self, name) is None}
        return self.model_copy(update=missing)

    def with_defaults(self, experiment: Experiment) -> TaskSettings:
        """Fill in the defaults that depend on the rest of the experiment."""
        return self


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
    versions : mapping of str to int, optional
        The same for single methods of the task, by name.
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
    resolve: Callable[[Experiment], Experiment] = lambda experiment: experiment
    settings: type[TaskSettings] = TaskSettings
    version: int = 1
    versions: Mapping[str, int] = field(default_factory=dict)
    resolve_dataset: Callable[[Experiment], tuple[str, dict[str, Any]]] | None = None
    load: Callable[[Experiment], Any] | None = None
    methods: Callable[[], Sequence[str]] | None = None

    def version_of(self, method: str) -> int:
        """Return the version of one of its methods, by name; the task's own for any other."""
        return self.versions.get(method, self.version)


#: A task, or where it is in this package. Another package adds its own by an entry point of the
#: group ``iavlib.tasks`` that names a :class:`Task`.
TASKS: dict[str, Task | str] = {
    "iaa": "image:IAA_TASK",
    "diagnosis": "image:DIAGNOSIS_TASK",
    "multitask": "image:MULTITASK_TASK",
    "segmentation": "annotators:SEGMENTATION_TASK",
    "diagnosis-first": "diagnosis_first:TASK",
    "take-give": "annotators:TAKE_GIVE_TASK",
    "comparison": "annotators:COMPARISON_TASK",
    "explain": "explain:TASK",
}
GROUP = "iavlib.tasks"


def task_names() -> list[str]:
    """List the tasks that there are, those of other packages too."""
    load_plugins()
    return list(dict.fromkeys((*TASKS, *outside(GROUP))))


def find_task(name: str, plugins: Sequence[str] = ()) -> Task:
    """Find a task by its name, in these plugins too.

    Raises
    ------
    ExperimentError
        If there is none.
    """
    if name not in TASKS and name in outside(GROUP):
        TASKS[name] = outside(GROUP)[name].load()
    if name not in TASKS:
        load_plugins(plugins)
    if name not in TASKS:
        raise ExperimentError("task", f"no task {name!r}", suggest(str(name), TASKS))
    task = TASKS[name]
    if isinstance(task, str):
        task = TASKS[name] = resolve_name(f"{__name__}.{task}")
    return task


def assign_subsets(cohort: Cohort, experiment: Experiment) -> pd.Series:
    """Split a cohort as an experiment specifies.

    Parameters
    ----------
    cohort : Cohort
        Only images that can be used.
    experiment : Experiment
        Its ``split``, ``train_share`` and ``seed``.

    Returns
    -------
    pandas.Series
        ``train``, ``val`` or ``test`` for each image, indexed by ``image_id``. Training images
        that a share below 1 leaves out are not in it; shares of one seed are nested.

    Raises
    ------
    ExperimentError
        If the cohort cannot be split so.
    """
    split = experiment.split
    settings = split.model_dump(exclude={"kind"})
    try:
        if split.kind == "official":
            subsets = official_split(cohort, **settings).assignment
        else:
            divide = cohort.fold if split.kind == "kfold" else cohort.split
            subsets = divide(**settings).assignment
    except (ValueError, TypeError) as error:
        problem = getattr(error, "problem", str(error).rstrip("."))
        hint = getattr(error, "hint", "correct the experiment's split").rstrip(".")
        raise ExperimentError("split", problem, hint) from error
    if experiment.train_share < 1:
        train = subsets.index[subsets == "train"]
        clusters = cohort.clusters()[train]
        chosen = share_of_clusters(clusters, experiment.train_share, experiment.seed)
        subsets = subsets.drop(train.difference(chosen))
    return subsets
