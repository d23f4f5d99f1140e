"""What a notebook asks for: the experiments of its scale, and results of scales not run here."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import DatasetUnavailable, ExperimentError
from iavlib.core.project import RUN_VARIABLE, Project, find_project
from iavlib.data.catalogue import available, dataset_names
from iavlib.experiments.config import AUTO, Experiment, from_mapping
from iavlib.experiments.grid import FOLDER, listed
from iavlib.experiments.result import read_facts
from iavlib.experiments.runner import load_data, resolve_all
from iavlib.experiments.store import FINISHED, MISSING, SPEC, RunStore, read_json
from iavlib.experiments.stored import stored_runs
from iavlib.experiments.table import (
    HERE,
    NOWHERE,
    STORED,
    as_table,
    fact_columns,
    row_of,
    spec_columns,
)
from iavlib.experiments.tasks import find_task
from iavlib.experiments.tasks.task import Task

#: Parameters of a notebook that say which data it works on.
COHORT_PARAMETERS = ("path", "n_images", "seed", "size")
Known = tuple[Experiment, dict[str, Any]]


def current_profile(default: str = "smoke") -> str:
    """Return the scale at which ``iav run`` runs this notebook, or `default` outside of it."""
    facts = os.environ.get(RUN_VARIABLE)
    return json.loads(Path(facts).read_text())["profile"] if facts else default


def for_notebook(
    profile: str | None,
    stem: str,
    cohort: str = AUTO,
    project: Project | None = None,
    **options: Any,
) -> list[Experiment]:
    """List the experiments that a notebook reads at a scale, on the data it works on.

    Those that name a cohort themselves whose files are not here are left out; :func:`without_data`
    lists them.

    Parameters
    ----------
    profile : str or None
        The scale; None for that of :func:`current_profile`.
    stem : str
        Name of the notebook without ending.
    cohort : str
        Name of its cohort, for experiments that name none themselves.
    project : Project, optional
        The one of the working folder by default.
    **options
        What the cohort is loaded with: all of :data:`COHORT_PARAMETERS` that the notebook has as
        parameters, because ``iav run`` takes these to list the same experiments.

    Returns
    -------
    list of Experiment
        Resolved; give them to :func:`iavlib.experiments.runner`.

    Raises
    ------
    ExperimentError
        If the list is wrong.
    """
    wanted = listed(project or find_project(), profile or current_profile()).get(stem, [])
    known: dict[str, str | None] = {}
    present = [item for item in wanted if data_missing(item, known) is None]
    given = [_on_cohort(item, cohort, options) for item in present]
    return list(dict.fromkeys(item for item, _ in resolve_all(given)))


def _on_cohort(item: Experiment, cohort: str, options: Mapping[str, Any]) -> Experiment:
    """Fill in a notebook's cohort, also in what the experiment starts from."""
    begun = item.init_from
    if begun is not None:
        item = replace(item, start=_on_cohort(begun, cohort, options).to_json())
    if item.cohort == AUTO:
        item = replace(item, cohort=cohort, cohort_options={**options, **item.cohort_options})
    return item


def data_missing(experiment: Experiment, known: dict[str, str | None] | None = None) -> str | None:
    """Say what is missing of a cohort that an experiment, or what it starts from, names.

    Parameters
    ----------
    experiment : Experiment
        Not resolved.
    known : dict, optional
        What was found of cohorts before; it is added to.
    """
    known = {} if known is None else known
    key = repr((experiment.cohort, experiment.cohort_options))
    if key not in known:
        known[key] = _missing_of(experiment) if experiment.cohort != AUTO else None
    begun = experiment.init_from
    return known[key] or (data_missing(begun, known) if begun is not None else None)


def _missing_of(experiment: Experiment) -> str | None:
    task = find_task(experiment.task)
    if task.load is not None and not _absent_cohort(experiment, task):
        return None  # the task makes its data, or says itself what it lacks
    try:
        load_data(experiment)
    except DatasetUnavailable as error:
        return str(error)
    return None


def _absent_cohort(experiment: Experiment, task: Task) -> bool:
    """Tell whether the data that a task makes are made of a cohort that is not here."""
    name = task.choose(experiment)[0] if task.choose else experiment.cohort
    return any(name == one or name.startswith(f"{one}-") for one in set(dataset_names()) - set(available()))


def without_data(
    profile: str | None, stem: str, project: Project | None = None
) -> list[tuple[Experiment, str]]:
    """List the experiments that a notebook would read at a scale, if their data were here.

    Parameters
    ----------
    profile, stem, project
        As for :func:`for_notebook`.

    Returns
    -------
    list of tuple of Experiment and str
        Not resolved; and what is missing, with how to get it.
    """
    wanted = listed(project or find_project(), profile or current_profile()).get(stem, [])
    known: dict[str, str | None] = {}
    found = [(item, data_missing(item, known)) for item in wanted]
    return [(item, reason) for item, reason in found if reason is not None]


def read_results(
    profile: str,
    stem: str,
    cohort: str | None = None,
    store: RunStore | None = None,
    project: Project | None = None,
) -> pd.DataFrame:
    """Read what is known of a notebook's experiments at a scale; nothing is run.

    Parameters
    ----------
    profile, stem
        As for :func:`for_notebook`.
    cohort : str, optional
        Only results on this cohort; on any by default, real images before invented ones.
    store : RunStore, optional
        The default one if not given.
    project : Project, optional
        The one of the working folder by default.

    Returns
    -------
    pandas.DataFrame
        One row a listed experiment. ``origin`` is ``here`` (finished on this machine; the latest
        if there are several on different data), ``stored`` (``hardware`` and ``finished`` say where
        and when it was made) or ``nowhere``, with status ``missing``.

    Raises
    ------
    ExperimentError
        If the list is wrong, or a stored result is damaged.
    """
    project = project or find_project()
    wanted = listed(project, profile).get(stem, [])
    if not wanted:
        return as_table([])
    store = store or RunStore.of(project)
    known: dict[str, list[Known]] = defaultdict(list)
    for experiment, row in _known(project, store):
        if cohort in (None, row["cohort_name"]):
            known[experiment.question()].append((experiment, row))
    return as_table([_best(item, known[item.question()]) for item in wanted])


def known_results(
    task: str,
    cohort: str,
    store: RunStore | None = None,
    project: Project | None = None,
) -> pd.DataFrame:
    """Read every finished run and stored result of a task on a cohort, whoever listed it.

    Parameters
    ----------
    task, cohort : str
    store, project
        As for :func:`read_results`.

    Returns
    -------
    pandas.DataFrame
        One row a run; what is both finished here and stored is here.
    """
    project = project or find_project()
    rows = [row for _, row in _known(project, store or RunStore.of(project))]
    rows = [row for row in rows if (row["task"], row["cohort_name"]) == (task, cohort)]
    return as_table(rows).drop_duplicates("id").reset_index(drop=True)


def shown_results(project: Project, stem: str, store: RunStore) -> list[Path]:
    """List the directories of results that answer an experiment of a notebook at any scale."""
    files = (project.profiles / FOLDER).glob("*.yaml")
    lists = [listed(project, path.stem).get(stem, []) for path in sorted(files)]
    asked = {experiment.question() for experiments in lists for experiment in experiments}
    found = _known(project, store)
    return [Path(row["folder"]) for experiment, row in found if experiment.question() in asked]


def _known(project: Project, store: RunStore) -> Iterator[Known]:
    """Go through every finished run that can be read, and every stored result."""
    for folder in store.finished():
        row = row_of(store, folder)
        if row["status"] == FINISHED:
            yield store.read_spec(folder), row
    yield from map(_describe_stored, stored_runs(project))


def _describe_stored(folder: Path) -> Known:
    experiment = from_mapping(read_json(folder / SPEC), folder / SPEC)
    if experiment.id != folder.name:
        raise ExperimentError(
            folder / SPEC, "does not describe this stored result", "restore it from git"
        )
    row = {"id": folder.name, "task": experiment.task, "reason": "", "folder": str(folder)}
    row |= {"status": FINISHED, "origin": STORED} | spec_columns(experiment)
    return experiment, row | fact_columns(read_facts(folder))


def _best(wanted: Experiment, known: list[Known]) -> dict[str, Any]:
    """Choose among the results of one experiment: real, of this machine, the latest."""
    fitting = [row for experiment, row in known if experiment.answers(wanted)]
    if not fitting:
        row = {"id": "", "task": wanted.task, "status": MISSING, "origin": NOWHERE, "reason": ""}
        # pages ask any table for these, also one in which nothing was run
        return row | spec_columns(wanted) | {"cohort_name": None, "folder": None}
    best = max(fitting, key=lambda r: (not r["synthetic"], r["origin"] == HERE, r["finished"]))
    return best | {"label": wanted.label}


def notebook_experiments(
    project: Project, profile: str, stem: str, parameters: Mapping[str, Any]
) -> list[Experiment]:
    """List a notebook's experiments, given its parameters; without a list nothing is loaded."""
    if not listed(project, profile).get(stem):
        return []
    options = {name: parameters[name] for name in COHORT_PARAMETERS if name in parameters}
    cohort = parameters.get("cohort", AUTO)
    return for_notebook(profile, stem, cohort, project=project, **options)
