"""The jobs of a batch: experiments, then notebooks, then the book, each with why it is run.

What is done is decided here, by manifests and fingerprints, before Snakemake
starts: it is given only what is missing.

What to run: notebooks with their parameters fixed, and whether a run still holds.

What runs of ``01_data_analysis`` leave in ``book/executed/``:

- ``01_data_analysis.ipynb`` and ``.json``: executed notebook and manifest of the
  last run that ended well;
- ``01_data_analysis.log``: what the last run printed;
- ``01_data_analysis.failed.ipynb`` and ``.failed.json``: how far the last run
  came if it failed, and why. A later success removes them; they never replace a
  good result.

Saying why a notebook would be run: what changed since its last good run.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iavlib.book.experiments import (
    NO_TRAIN_OPTION,
    NoExperiments,
    NotebookExperiments,
    find_experiments,
)
from iavlib.book.fingerprint import (
    PATH_PARAMETER,
    DataFingerprint,
    cohort_fingerprint,
    condense,
    fingerprint,
    run_inputs,
)
from iavlib.book.manifest import read_manifest
from iavlib.book.parameters import load_profile, parameter_defaults, resolve
from iavlib.core.errors import ManifestError, ParameterError, suggest
from iavlib.core.project import Project


@dataclass(frozen=True)
class Job:
    """One notebook at one scale, with everything fixed.

    Parameters
    ----------
    notebook : Path
        Source notebook.
    profile : str
        Name of the profile.
    overrides : mapping
        Parameters the user set beyond the profile, as resolved.
    parameters : dict
        Every parameter with its value.
    changed : dict
        Those whose value is not the notebook's default.
    fingerprint : str
        Fingerprint of all inputs.
    inputs : dict
        The inputs, condensed: by them it can be told what changed.
    experiments : NotebookExperiments, optional
        The experiments it reads.
    """

    notebook: Path
    profile: str
    overrides: Mapping[str, Any]
    parameters: dict[str, Any]
    changed: dict[str, Any]
    fingerprint: str
    inputs: dict[str, Any]
    experiments: NotebookExperiments = NoExperiments

    @property
    def stem(self) -> str:
        """Name of the notebook without ending."""
        return self.notebook.stem


@dataclass(frozen=True)
class Traces:
    """The files that runs of one notebook leave.

    Parameters
    ----------
    executed : Path
        Folder of all runs.
    stem : str
        Name of the notebook without ending.
    """

    executed: Path
    stem: str

    @property
    def notebook(self) -> Path:
        """Executed notebook of the last good run."""
        return self.executed / f"{self.stem}.ipynb"

    @property
    def manifest(self) -> Path:
        """Manifest of the last good run."""
        return self.executed / f"{self.stem}.json"

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self.executed / f"{self.stem}.log"

    @property
    def failed_notebook(self) -> Path:
        """Partly executed notebook of the last run, if it failed."""
        return self.executed / f"{self.stem}.failed.ipynb"

    @property
    def failed_json(self) -> Path:
        """Why the last run failed."""
        return self.executed / f"{self.stem}.failed.json"

    @property
    def lock(self) -> Path:
        """Held while a run is going on."""
        return self.executed / f".{self.stem}.lock"

    @property
    def work(self) -> Path:
        """Folder in which runs work, each in its own; what one leaves is moved out at its end."""
        return self.executed / f".{self.stem}.run"

    def good_manifest(self) -> dict[str, Any] | None:
        """Read the manifest of the last good run; None if there is none to rely on."""
        if not self.notebook.is_file():
            return None
        try:
            return read_manifest(self.manifest)
        except ManifestError:
            return None

    def clear_failure(self) -> None:
        """Remove what an earlier failure left."""
        for trace in (self.failed_notebook, self.failed_json):
            if trace.exists():  # a read-only disk refuses to remove even what is not there
                trace.unlink()


def prepare_jobs(
    project: Project,
    notebooks: Sequence[Path],
    profile: str,
    overrides: Mapping[str, Any] | None = None,
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> list[Job]:
    """Fix the parameters and fingerprints of the notebooks to run.

    Parameters
    ----------
    project : Project
        The project.
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping, optional
        Values for parameters that every one of the notebooks must have.
    data_fingerprint : callable, optional
        Cohort name to the fingerprint of its files.

    Returns
    -------
    list of Job
        In the order of `notebooks`. Nothing has been run.

    Raises
    ------
    ParameterError
        If the profile or an override is wrong.
    """
    values = load_profile(project, profile)
    given = dict(overrides or {})
    _check_overrides(notebooks, given)
    of_data = functools.cache(data_fingerprint)
    jobs = []
    for notebook in notebooks:
        defaults = parameter_defaults(notebook)
        parameters = resolve(notebook, values.get(notebook.stem), given)
        if parameters.get(PATH_PARAMETER):  # the kernel's working folder is another
            parameters[PATH_PARAMETER] = str(
                Path(parameters[PATH_PARAMETER]).expanduser().resolve()
            )
        inputs = run_inputs(notebook, parameters, of_data)
        read = find_experiments(project, profile, notebook.stem, parameters)
        if read.store is not None:  # a notebook without any keeps its fingerprint
            inputs["experiments"] = {"ids": read.ids, "other results": read.others}
        jobs.append(
            Job(
                notebook=notebook,
                profile=profile,
                overrides={name: parameters[name] for name in given},
                parameters=parameters,
                changed={n: v for n, v in parameters.items() if v != defaults[n]},
                fingerprint=fingerprint(inputs),
                inputs=condense(inputs),
                experiments=read,
            )
        )
    return jobs


def _check_overrides(notebooks: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Refuse an override that one of several notebooks lacks, naming those that do."""
    if len(notebooks) < 2:
        return  # resolve() says it with the near names
    for name in overrides:
        lacking = [path.stem for path in notebooks if name not in parameter_defaults(path)]
        if lacking:
            everywhere = set.intersection(*(set(parameter_defaults(path)) for path in notebooks))
            raise ParameterError(
                f"-p {name}: no such parameter in {', '.join(lacking)}; name the notebooks that "
                f"have it, or correct it ({suggest(name, everywhere)})"
            )


def is_current(project: Project, job: Job) -> bool:
    """Tell whether the last good run of a notebook is what `job` would give.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        What would be run.

    Returns
    -------
    bool
        True if its executed notebook and valid manifest are there and nothing
        it depends on changed since.
    """
    manifest = Traces(project.executed, job.stem).good_manifest()
    if manifest is None or manifest["fingerprint"] != job.fingerprint:
        return False
    return job.experiments.reason_to_run(manifest["finished"]) is None


_LISTED = 3


def reason_to_run(project: Project, job: Job, force: bool = False) -> str | None:
    """Say why a notebook would be run.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        The notebook with its parameters.
    force : bool, optional
        Whether it is to be run in any case.

    Returns
    -------
    str or None
        Half a sentence; None if its last good run still holds.
    """
    if force:
        return "forced"
    if is_current(project, job):
        return None
    traces = Traces(project.executed, job.stem)
    try:
        manifest = read_manifest(traces.manifest)
    except ManifestError:
        if traces.failed_json.is_file():
            return "its last run failed, and none was good before"
        return "its manifest is damaged" if traces.manifest.exists() else "no manifest: never run"
    if not traces.notebook.is_file():
        return "its executed notebook is missing"
    changes = describe_changes(manifest.get("inputs"), job.inputs)
    if manifest["fingerprint"] == job.fingerprint:
        changes = job.experiments.reason_to_run(manifest["finished"]) or changes
    return changes + ("; its last run failed" if traces.failed_json.is_file() else "")


def describe_changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say what differs between the inputs of two runs.

    Parameters
    ----------
    before, now : mapping
        What :func:`iavlib.book.fingerprint.condense` gave; None if it was
        not kept.

    Returns
    -------
    str
        The changed kinds of input with their names, by semicolons.
    """
    if not before:
        return "changed since, but its manifest does not tell what it was made from"
    told = [
        f"{label} changed{_in_brackets(_details(key, before.get(key), now.get(key)))}"
        for key, label in _labels(before, now).items()
        if before.get(key) != now.get(key)
    ]
    return "; ".join(told)


def _labels(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    known = {"cells": "source"}
    return {key: known.get(key, key) for key in (*now, *(set(before) - set(now)))}


def _details(key: str, before: Any, now: Any) -> list[str]:
    if key == "cells" and before is not None:
        return _changed_cells(before, now)
    if not isinstance(before, dict) or not isinstance(now, dict):
        return []
    changed = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
    if key == "library":
        return changed
    return [f"{n}: {before.get(n, 'none')} → {now.get(n, 'none')}" for n in changed]


def _changed_cells(before: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> list[str]:
    """Name the cells that differ, code cells by the number that failures have too."""
    if [kind for kind, _ in before] != [kind for kind, _ in now]:
        return ["cells added, removed or moved"]
    counts: dict[str, int] = {}
    changed = []
    for (kind, old), (_, new) in zip(before, now, strict=True):
        counts[kind] = counts.get(kind, 0) + 1
        if old != new:
            changed.append(f"{kind} cell {counts[kind]}")
    return changed


def _in_brackets(names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return ""
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f" ({', '.join(listed[:_LISTED])}{more})"


EXPERIMENT, NOTEBOOK, BOOK = "experiment", "notebook", "book"


@dataclass(frozen=True)
class Step:
    """One job of the graph.

    Parameters
    ----------
    kind : str
        ``"experiment"``, ``"notebook"`` or ``"book"``: the rule of the Snakefile.
    name : str
        Unique within its kind.
    reason : str or None
        Why it is run; None if it is up to date.
    arguments : tuple of str
        What its rule adds to the command ``iav train``, ``iav run <name>`` or
        ``iav book --no-run``.
    after : tuple of str
        Ids of the steps that must be done before.
    prepare : callable, optional
        Writes what the job reads; called before Snakemake starts, not for a dry run.
    obstacle : str, optional
        Why it cannot be run here, which also makes its reason None; only a dry run shows it.
    """

    kind: str
    name: str
    reason: str | None
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    prepare: Callable[[], object] | None = field(default=None, compare=False)
    obstacle: str = ""

    @property
    def id(self) -> str:
        """Kind and name, unique in the graph."""
        return f"{self.kind}/{self.name}"


def experiments(jobs: Sequence[Job]) -> dict[str, list[Step]]:
    """List the experiments that notebooks read.

    Parameters
    ----------
    jobs : sequence of Job
        The notebooks.

    Returns
    -------
    dict of str to list of Step
        Stem of a notebook to its experiments, those finished with reason None. Each is done by
        ``iav train`` on the specification in its run directory, and what fails is kept there:
        it does not keep the notebook from being run. What an experiment starts from is a job
        before it. Those whose data are not here have an obstacle.
    """
    steps = {}
    for job in jobs:
        known = job.experiments
        wanted = [one for each in known.listed for one in (*known.starts_of(each), each)]
        here = [_experiment_step(job, one) for one in dict.fromkeys(wanted)]
        steps[job.stem] = here + [_waiting_step(*each) for each in known.waiting]
    return steps


def _experiment_step(job: Job, experiment: Any) -> Step:
    known, store = job.experiments, job.experiments.store
    reason = known.reason_to_train(experiment)
    before = known.starts_of(experiment)[-1:] if reason else []
    return Step(
        EXPERIMENT,
        _step_name(experiment),
        reason,
        (str(store.folder(experiment) / "spec.json"), "--go-on"),
        tuple(f"{EXPERIMENT}/{_step_name(one)}" for one in before if known.reason_to_train(one)),
        prepare=lambda: store.begin(experiment),
    )


def _step_name(experiment: Any) -> str:
    return f"{experiment.task}-{experiment.id}"


def _waiting_step(experiment: Any, missing: str) -> Step:
    """Show an experiment whose data are not here, under a name that has no id yet."""
    digits = hashlib.sha256(experiment.canonical().encode()).hexdigest()[:6]
    name = f"{experiment.task}-{experiment.cohort}-{digits}"
    return Step(EXPERIMENT, name, None, obstacle=missing)


def plan(
    project: Project,
    notebooks: Sequence[Path],
    profile: str,
    overrides: Mapping[str, str] | None = None,
    force: bool = False,
    with_book: bool = False,
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> list[Step]:
    """Lay out the jobs.

    Parameters
    ----------
    project : Project
        The project.
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping, optional
        Parameters the user set, as text.
    force : bool, optional
        Whether to run even what is up to date; experiments excepted.
    with_book : bool, optional
        Whether the book is built at the end.
    data_fingerprint : callable, optional
        Cohort name to the fingerprint of its files.

    Returns
    -------
    list of Step
        Every job in an order in which they could be run, also those up to date.

    Raises
    ------
    ExecutionError
        If a parameter, a profile or the table of contents is wrong.
    """
    given = dict(overrides or {})
    jobs = prepare_jobs(project, notebooks, profile, given, data_fingerprint)
    needed = experiments(jobs)
    steps: dict[str, Step] = {}
    for job in jobs:
        before = needed.get(job.stem, [])
        steps |= {step.id: step for step in before}
        waits = tuple(step.id for step in before if step.reason)
        reason = reason_to_run(project, job, force) or ("after its experiments" if waits else None)
        step = Step(NOTEBOOK, job.stem, reason, _options(job, given, force), waits)
        steps[step.id] = step
    if with_book:
        book = _book_step(project, list(steps.values()), force)
        steps[book.id] = book
    order = {EXPERIMENT: 0, NOTEBOOK: 1, BOOK: 2}
    return sorted(steps.values(), key=lambda step: order[step.kind])


def _options(job: Job, given: Mapping[str, str], force: bool) -> tuple[str, ...]:
    """Write the options of ``iav run`` that give this job in whatever folder it is started."""
    texts = dict(given)
    if PATH_PARAMETER in texts:
        texts[PATH_PARAMETER] = job.parameters[PATH_PARAMETER]  # no longer relative
    settings = [text for name, value in texts.items() for text in ("-p", f"{name}={value}")]
    # its experiments are jobs of their own, on machines that are made for it
    reads = [NO_TRAIN_OPTION] if job.experiments.listed else []
    return ("--profile", job.profile, *settings, *reads, *(["--force"] if force else []))


def _book_step(project: Project, steps: Sequence[Step], force: bool) -> Step:
    from iavlib.book.site import reason_to_build

    waits = tuple(step.id for step in steps if step.kind == NOTEBOOK and step.reason)
    reason = "forced" if force else None
    if reason is None:
        reason = "notebooks are run before it" if waits else reason_to_build(project)
    return Step(BOOK, "book", reason, ("--force",) if force else (), waits)
