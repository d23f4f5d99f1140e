"""The jobs of a batch: experiments, then notebooks, then the book, each with why it is run.

What is done is decided here, by manifests and fingerprints, before Snakemake
starts: it is given only what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """

    kind: str
    name: str
    reason: str | None
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Kind and name, unique in the graph."""
        return f"{self.kind}/{self.name}"


def experiments(project: Project, profile: str) -> dict[str, list[Step]]:
    """List the experiments that notebooks read.

    Parameters
    ----------
    project : Project
        The project.
    profile : str
        Scale, which lists them.

    Returns
    -------
    dict of str to list of Step
        Stem of a notebook to its experiments, those finished with reason None;
        ``arguments`` is the path of the specification. Empty: no notebook reads
        an experiment yet.
    """
    return {}


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
    needed = experiments(project, profile)
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
    return ("--profile", job.profile, *settings, *(["--force"] if force else []))


def _book_step(project: Project, steps: Sequence[Step], force: bool) -> Step:
    from iavlib.book.site import reason_to_build

    waits = tuple(step.id for step in steps if step.kind == NOTEBOOK and step.reason)
    reason = "forced" if force else None
    if reason is None:
        reason = "notebooks are run before it" if waits else reason_to_build(project)
    return Step(BOOK, "book", reason, ("--force",) if force else (), waits)
