"""The jobs of a batch: experiments, then notebooks, then the book, each with why it is run.

What is done is decided here, by manifests and fingerprints, before Snakemake
starts: it is given only what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iavlib.execution.experiments import NO_TRAIN_OPTION
from iavlib.execution.fingerprint import PATH_PARAMETER, DataFingerprint, cohort_fingerprint
from iavlib.execution.jobs import Job, prepare_jobs
from iavlib.execution.project import Project
from iavlib.execution.reasons import reason_to_run

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
