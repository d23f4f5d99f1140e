"""Fixing what a specification leaves open: the data that are here, and the weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from iavlib import data
from iavlib.data.cohort import Cohort
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.spec import Experiment
from iavlib.experiments.store import RunStore
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
    if task.choose is None:
        name, own = data.choose(experiment.cohort, **experiment.cohort_options)
    else:
        name, own = task.choose(experiment)
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
    if experiment.version not in (1, task.version):
        raise ExperimentError(
            f"task {task.name!r}",
            f"is at version {task.version}, the experiment was made for {experiment.version}",
            "leave 'version' out of the specification for a new experiment",
        )
    fixed = replace(experiment, cohort=name, cohort_options=own, version=task.version, **found)
    begun = _resolve_start(experiment, store)
    if begun is not None:
        # nothing begins from its weights: one experiment whatever they are said to be
        fixed = replace(fixed, start=begun.to_json(), weights=begun.weights)
    return task.complete(fixed)


def _resolve_start(experiment: Experiment, store: RunStore | None) -> Experiment | None:
    """Resolve the experiment that another starts from."""
    if not experiment.start:
        return None
    if isinstance(experiment.start, str):
        store = store or RunStore()
        begun = store.read_spec(store.find(experiment.start))
    else:
        begun = experiment.begun_from
        begun = begun if begun.is_resolved else resolve(begun, store=store)
    if begun.backbone != experiment.backbone:
        raise ExperimentError(
            f"backbone = {experiment.backbone!r}",
            f"but it starts from {begun.name}, which has {begun.backbone}",
            "give both the same backbone",
        )
    return begun


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
    starts: dict[str, Experiment] = {}
    found = []
    for item in experiments:
        begun = item.begun_from
        if begun is not None and not begun.is_resolved:
            key = repr(begun)
            starts[key] = starts.get(key) or resolve(begun, store=store)
            item = replace(item, start=starts[key].to_json())
        key = repr((item.cohort, item.cohort_options))
        if find_task(item.task).load is not None:
            key = repr((item.task, key, item.overrides, item.split, item.size))
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
