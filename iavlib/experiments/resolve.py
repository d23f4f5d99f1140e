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
from iavlib.experiments.tasks import find_task

_loaded: dict[str, Any] = {"key": None, "cohort": None}


def load_cohort(name: str, **options) -> Cohort:
    """Load a cohort, or give the last one again if it is that.

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
    key = (name, tuple(sorted(own.items())), data.fingerprint(name, **own))
    if _loaded["key"] != key:
        _loaded.update(key=key, cohort=data.load(name, **own))
    return _loaded["cohort"]


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


def resolve(experiment: Experiment, cohort: Cohort | None = None) -> Experiment:
    """Fix the cohort, the fingerprints of its data, and the weights.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.

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
    return task.complete(fixed)


def resolve_all(
    experiments: Iterable[Experiment], cohort: Cohort | None = None
) -> list[tuple[Experiment, Cohort]]:
    """Resolve many experiments, loading each cohort once.

    Parameters
    ----------
    experiments : iterable of Experiment
    cohort : Cohort, optional
        The cohort that all of them name, if it is loaded already.

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
    found = []
    for item in experiments:
        key = repr((item.cohort, item.cohort_options))
        if find_task(item.task).load is not None:
            key = repr((item.task, key, item.overrides, item.split, item.size))
        if key not in loaded:
            loaded[key] = cohort or load_data(item)
        found.append((resolve(item, loaded[key]), loaded[key]))
    return found


def _files(cohort: Cohort) -> str:
    """Digest the sizes of a cohort's image files; invented ones follow from the tables."""
    if cohort.synthetic:
        return ""
    digest = hashlib.sha256()
    for image_id, path in cohort.images["path"].dropna().items():
        digest.update(f"{image_id}|{os.stat(path).st_size}\n".encode())
    return digest.hexdigest()[:12]
