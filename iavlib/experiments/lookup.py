"""Which runs a notebook trains, and which it shows: those of its own scale and stored ones.

A page shows the results of the full scale wherever they exist for its data, finished on this
machine or stored with the book, and trains only the first experiment of its list, as a live
example. Otherwise it trains its list. :func:`for_notebook` and :func:`select` follow one rule, so
that nothing is trained that no page shows.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import DatasetUnavailable, ExperimentError, suggest
from iavlib.core.project import RUN_VARIABLE, Project, find_project, working_project
from iavlib.data.catalogue import available, dataset_names
from iavlib.experiments.config import AUTO, FOLDER, Experiment, from_mapping, listed
from iavlib.experiments.runner import load_data, resolve_all
from iavlib.experiments.store import FINISHED, MISSING, SPEC, RunStore, read_facts, read_json
from iavlib.experiments.stored import stored_runs
from iavlib.experiments.table import (
    HERE,
    NOWHERE,
    STORED,
    as_table,
    fact_columns,
    row_of,
    spec_columns,
    used_settings,
)
from iavlib.experiments.tasks import Task, find_task

#: Parameters of a notebook that say which data it works on.
COHORT_PARAMETERS = ("path", "n_images", "seed", "size")
#: Whose results a page shows.
SOURCES = (AUTO, HERE, STORED)
FULL_SCALE = "paper"
#: A user's own masks: another folder is another cohort of the same name.
_OWN_FILES = "folder"
Known = tuple[Experiment, dict[str, Any]]


def current_profile(default: str = "smoke") -> str:
    """Return the scale at which ``iav run`` runs this notebook, or `default` outside of it."""
    facts = os.environ.get(RUN_VARIABLE)
    return json.loads(Path(facts).read_text())["profile"] if facts else default


def for_notebook(
    profile: str | None,
    stem: str,
    cohort: str = AUTO,
    source: str = HERE,
    project: Project | None = None,
    **options: Any,
) -> list[Experiment]:
    """List the experiments that a notebook trains at a scale, on the data it works on.

    Experiments that name a cohort whose files are not here are left out; :func:`without_data`
    lists them. So are those of an earlier version of their task, which are listed to be read.

    Parameters
    ----------
    profile : str or None
        The scale; None for that of :func:`current_profile`.
    stem : str
        Name of the notebook without ending.
    cohort : str
        Name of its cohort, for experiments that name none themselves.
    source : {"auto", "here", "stored"}
        As for :func:`select`. ``auto`` leaves out what results of the full scale replace, except
        for the first experiment, which the page shows as a live example; at the full scale
        nothing is left out. ``here`` leaves out nothing, ``stored`` everything.
    project : Project, optional
        The one of the working folder by default.
    **options
        What the cohort is loaded with: all of :data:`COHORT_PARAMETERS` that the notebook has as
        parameters, because ``iav run`` takes these to list the same experiments.

    Returns
    -------
    list of Experiment
        Resolved; give them to :func:`iavlib.experiments.sweep`.

    Raises
    ------
    ExperimentError
        If the list is wrong, or `source` is unknown.
    """
    _check_source(source)
    project, profile = project or find_project(), profile or current_profile()
    if source == STORED:
        return []
    entries = listed(project, profile).get(stem, [])
    known: dict[str, str | None] = {}
    tasks = [(item, find_task(item.task)) for item in entries]
    entries = [item for item, task in tasks if item.version == task.version_of(item.method.name)]
    present = [item for item in entries if data_missing(item, known) is None]
    given = [_on_cohort(item, cohort, options) for item in present]
    wanted = list(dict.fromkeys(item for item, _ in resolve_all(given)))
    if source == HERE or profile == FULL_SCALE or not wanted:
        return wanted
    full = read_results(FULL_SCALE, stem, project=project)
    about = pd.DataFrame(
        {
            "task": item.task,
            "cohort": item.cohort,
            "init_from_cohort": item.parent.cohort if item.parent else None,
            "data": item.data,
        }
        for item in wanted
    )
    named = _OWN_FILES if options.get("path") else cohort
    replaced = _replaced(about, _shown_at_full_scale(about, full, named), named)
    return [item for n, item in enumerate(wanted) if n == 0 or not replaced.iloc[n]]


def select(
    here: pd.DataFrame, full: pd.DataFrame, cohort: str = AUTO, source: str = AUTO
) -> pd.DataFrame:
    """Choose the runs that a page shows, by cohort first.

    Parameters
    ----------
    here : pandas.DataFrame
        Runs of the page's scale, from :func:`iavlib.experiments.sweep`.
    full : pandas.DataFrame
        What is known of the full scale, from :func:`read_results`.
    cohort : str
        ``auto`` for the page of the book, which shows every cohort of the full scale. A name, or
        ``folder`` for a user's own masks, is answered with runs on that cohort alone, and with
        runs on other cohorts only where `here` has runs on them too (simulated digits, say).
    source : {"auto", "here", "stored"}
        ``auto``: finished runs of the full scale, and `here` for cohorts that have none.
        ``here``: `here` alone; ``stored``: results that are stored with the book alone.

    Returns
    -------
    pandas.DataFrame
        Rows of both tables, the full scale first, with ``scale`` (``full`` or ``own``) and
        ``source``: ``here``, or ``stored`` with date and hardware. A run of `here` that is not
        among them is the page's live example.

    Raises
    ------
    ExperimentError
        If `source` is unknown, or there is no row.
    """
    _check_source(source)
    shown = _shown_at_full_scale(here, full, cohort)
    own = here
    if source == HERE:
        shown = shown.iloc[:0]
    elif source == STORED:
        shown, own = shown[shown["origin"] == STORED], here.iloc[:0]
    else:
        own = here[~_replaced(here, shown, cohort)]
    tables = [rows for rows in (shown.assign(scale="full"), own.assign(scale="own")) if len(rows)]
    if not tables:
        hint = "run the notebook with source='auto', or with another cohort"
        raise ExperimentError(f"cohort {cohort!r}", f"there are no results ({source})", hint)
    runs = pd.concat(tables, ignore_index=True)
    about = runs.reindex(columns=["finished", "hardware"]).astype(str)  # absent if nothing was run
    devices = about["hardware"].str.replace(r", [^,]*$", "", regex=True).replace("1 CPUs", "1 CPU")
    made = "stored " + about["finished"].str[:10] + ", " + devices
    return runs.assign(source=made.where(runs["origin"] == STORED, runs["origin"]))


def _check_source(source: str) -> None:
    if source not in SOURCES:
        raise ExperimentError(f"source {source!r}", "is unknown", suggest(source, SOURCES))


def _is_auto(cohort: str) -> bool:
    return cohort.partition("-")[0] == AUTO


def _keys(table: pd.DataFrame, with_start: bool) -> pd.Series:
    """Give task, cohort, and the cohort of the run that each row starts from, in one value."""
    names = ["task", "cohort"] + (["init_from_cohort"] if with_start else [])
    columns = table.reindex(columns=names).astype(object)
    columns = columns.where(columns.notna(), "").astype(str)
    return columns.agg("/".join, axis=1) if len(table) else pd.Series(dtype=str)


def _shown_at_full_scale(wanted: pd.DataFrame, full: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """Keep the finished runs of the full scale that a page on a cohort may show."""
    done = full[full["status"] == FINISHED].reset_index(drop=True)
    if not len(done):
        return done
    parents = done.reindex(columns=["init_from_cohort"])["init_from_cohort"]
    base = parents.where(parents.notna(), done["cohort"])
    kept = ~((done["cohort"] == _OWN_FILES) | (base == _OWN_FILES))
    kept |= done["data"].isin(set(wanted.get("data", ())))
    if not _is_auto(cohort):
        kept &= _keys(done, True).isin(set(_keys(wanted, True))) | (base == cohort)
    return done[kept]


def _replaced(wanted: pd.DataFrame, shown: pd.DataFrame, cohort: str) -> pd.Series:
    """Tell which rows stand for a cohort that the full scale has results of."""
    with_start = not _is_auto(cohort)
    keys = set(_keys(shown, with_start)) if len(shown) else set()
    return _keys(wanted, with_start).isin(keys).set_axis(wanted.index)


def _on_cohort(item: Experiment, cohort: str, options: Mapping[str, Any]) -> Experiment:
    """Fill in a notebook's cohort, also in what the experiment starts from."""
    if item.parent is not None:
        item = item.replace(init_from=_on_cohort(item.parent, cohort, options))
    if item.cohort == AUTO:
        item = item.replace(cohort=cohort, cohort_options={**options, **item.cohort_options})
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
    parent = experiment.parent
    return known[key] or (data_missing(parent, known) if parent is not None else None)


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
    name = task.resolve_dataset(experiment)[0] if task.resolve_dataset else experiment.cohort
    absent = set(dataset_names()) - set(available())
    return any(name == one or name.startswith(f"{one}-") for one in absent)


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
    project = project or working_project()
    wanted = listed(project, profile).get(stem, [])
    if not wanted:
        return as_table([])
    store = store or RunStore.of(project)
    known: dict[str, list[Known]] = defaultdict(list)
    for experiment, row in _known(project, store):
        if cohort in (None, row["cohort_name"]):
            known[experiment.query_key].append((experiment, row))
    return as_table([_best(item, known[item.query_key]) for item in wanted])


def known_results(
    task: str, cohort: str, store: RunStore | None = None, project: Project | None = None
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
    project = project or working_project()
    rows = [row for _, row in _known(project, store or RunStore.of(project))]
    rows = [row for row in rows if (row["task"], row["cohort_name"]) == (task, cohort)]
    return as_table(rows).drop_duplicates("id").reset_index(drop=True)


def shown_results(project: Project, stem: str, store: RunStore) -> list[Path]:
    """List the directories of results that answer an experiment of a notebook at any scale."""
    files = (project.profiles / FOLDER).glob("*.yaml")
    lists = [listed(project, path.stem).get(stem, []) for path in sorted(files)]
    asked = {experiment.query_key for experiments in lists for experiment in experiments}
    found = _known(project, store)
    return [Path(row["folder"]) for experiment, row in found if experiment.query_key in asked]


def _known(project: Project, store: RunStore) -> Iterator[Known]:
    """Go through every finished run that can be read, and every stored result."""
    for folder in store.finished():
        row = row_of(store, folder)
        if row["status"] == FINISHED:
            yield store.read_spec(folder), row
    for folder in stored_runs(project):
        yield _describe_stored(folder, folder.parent.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _describe_stored(folder: Path, _time: int) -> Known:
    experiment = from_mapping(read_json(folder / SPEC), folder / SPEC)
    if experiment.id != folder.name:
        raise ExperimentError(
            folder / SPEC, "does not describe this stored result", "restore it from git"
        )
    facts = read_facts(folder)
    row = {"id": folder.name, "task": experiment.task, "reason": "", "folder": str(folder)}
    row = used_settings(facts) | row | {"status": FINISHED, "origin": STORED}
    return experiment, row | spec_columns(experiment) | fact_columns(facts)


def _best(wanted: Experiment, known: list[Known]) -> dict[str, Any]:
    """Choose among the results of one experiment: real, of this machine, the latest."""
    fitting = [row for experiment, row in known if experiment.matches(wanted)]
    if not fitting:
        row = {"id": "", "task": wanted.task, "status": MISSING, "origin": NOWHERE, "reason": ""}
        # pages ask any table for these, also one in which nothing was run
        return row | spec_columns(wanted) | {"cohort_name": None, "folder": None}
    best = max(fitting, key=lambda r: (not r["synthetic"], r["origin"] == HERE, r["finished"]))
    return best | {"label": wanted.label}


def notebook_experiments(
    project: Project, profile: str, stem: str, parameters: Mapping[str, Any]
) -> list[Experiment]:
    """List what a notebook trains, given its parameters; without a list nothing is loaded."""
    if not listed(project, profile).get(stem):
        return []
    options = {name: parameters[name] for name in COHORT_PARAMETERS if name in parameters}
    cohort, source = parameters.get("cohort", AUTO), parameters.get("source", HERE)
    return for_notebook(profile, stem, cohort, source, project=project, **options)
