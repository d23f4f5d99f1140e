"""A batch: lay out the jobs, hand the open ones to Snakemake, see what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iavlib.execution.engine import find_place, run_steps
from iavlib.execution.errors import ExecutionError
from iavlib.execution.graph import BOOK, EXPERIMENT, Step, plan
from iavlib.execution.jobs import Traces
from iavlib.execution.project import Project
from iavlib.locks import only_one


@dataclass(frozen=True)
class Batch:
    """What is wanted.

    Parameters
    ----------
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping
        Parameters the user set, as text.
    force : bool
        Whether to run even what is up to date.
    with_book : bool
        Whether the book is built at the end.
    """

    notebooks: Sequence[Path]
    profile: str
    overrides: Mapping[str, str]
    force: bool = False
    with_book: bool = False

    def steps(self, project: Project, force: bool | None = None) -> list[Step]:
        """Lay out the jobs, all of them; `force` replaces that of the batch."""
        force = self.force if force is None else force
        return plan(project, self.notebooks, self.profile, self.overrides, force, self.with_book)


def run_batch(
    project: Project, batch: Batch, jobs: int, place: str, say: Callable[[str], None]
) -> list[Step]:
    """Bring a batch up to date, several jobs at a time.

    Waits while another batch runs in this project. The jobs say themselves how
    they ended.

    Parameters
    ----------
    project : Project
        The project.
    batch : Batch
        What is wanted.
    jobs : int
        How many at a time.
    place : str
        Where, as for :func:`iavlib.execution.engine.find_place`.
    say : callable
        Gets a line before and one after.

    Returns
    -------
    list of Step
        Those that are not done, the book last; empty if all went well.

    Raises
    ------
    ExecutionError
        If the batch is wrong, or Snakemake failed and it cannot be told at what.
    """
    folder = find_place(project, place)
    with only_one(project.lock, "iav book" if batch.with_book else "iav run --jobs"):
        steps = [step for step in batch.steps(project) if not step.obstacle]
        todo = [step for step in steps if step.reason]
        if not todo:
            say(nothing_to_do(len(steps)))
            return []
        say(f"{len(todo)} of {len(steps)} jobs to do, {jobs} at a time")
        for step in todo:
            if step.prepare is not None:
                step.prepare()
        code, log = run_steps(project, todo, jobs, folder)
        # a failed experiment is kept as a result, and is no failure to Snakemake
        if code == 0 and all(step.kind != EXPERIMENT for step in todo):
            return []
        left = _left(project, batch, todo)
        if code == 0 and not left:
            return []
    if not left:  # as when a forced job was killed, whose earlier result is good
        raise ExecutionError(f"Snakemake ended with status {code}: {_last_words(log)}")
    if code and not any(Traces(project.executed, step.name).failed_json.is_file() for step in left):
        say(f"Snakemake ended with status {code}: {_last_words(log)}")
    names = [step.name for step in left if step.kind != BOOK] or [BOOK]
    say(f"not done: {', '.join(names)}; the same command goes on with what is left")
    return left


def nothing_to_do(n_jobs: int) -> str:
    """Say that every job is up to date."""
    return f"nothing to do: {n_jobs} of {n_jobs} jobs are up to date"


def _left(project: Project, batch: Batch, todo: Sequence[Step]) -> list[Step]:
    """List what is still open, or failed in spite of an earlier good result, the book last."""
    still = {step.id for step in batch.steps(project, force=False) if step.reason}
    return [
        step
        for step in todo
        if step.id in still or Traces(project.executed, step.name).failed_json.is_file()
    ]


def _last_words(log: Path) -> str:
    """Give the last line of Snakemake's log; on a cluster all of it was shown."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"{said[-1]} (all it said: {log})" if said else "see above"
