"""What the command line prints about runs and the book."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from iavlib.book.engine import LOCAL, Batch, find_place, nothing_to_do, show_steps
from iavlib.book.graph import Step, prepare_jobs
from iavlib.book.notebooks import UP_TO_DATE, RunResult, bring_up_to_date
from iavlib.book.site import BookResult
from iavlib.core.project import Project


def run_in_turn(project: Project, batch: Batch) -> bool:
    """Run notebooks one by one in this process; tell whether all went well."""
    jobs = prepare_jobs(project, batch.notebooks, batch.profile, batch.overrides)
    announce, report = reporters(project, [job.stem for job in jobs])
    results = []
    for job in jobs:
        announce(job.stem)
        results.append(bring_up_to_date(project, job, batch.force))
        report(results[-1])
    if all(result.status == UP_TO_DATE for result in results):
        typer.echo(nothing_to_do(len(results)))
    return all(result.failure is None for result in results)


def show_batch(project: Project, batch: Batch, jobs: int, executor: str) -> bool:
    """List the jobs of a batch; elsewhere than here, also what Snakemake makes of them."""
    steps = batch.steps(project)
    todo = [step for step in steps if step.reason]
    width = max((len(step.name) for step in steps), default=0)
    for step in steps:
        typer.echo(f"{step.name:<{width}}  {_state(step)}")
    n_known = sum(not step.obstacle for step in steps)
    typer.echo(f"{len(todo)} of {n_known} jobs to do" if todo else nothing_to_do(n_known))
    if n_known < len(steps):
        typer.echo(f"{len(steps) - n_known} experiments cannot be run here: their data are missing")
    if not todo or executor == LOCAL:
        return True
    sys.stdout.flush()
    return show_steps(project, todo, jobs, find_place(project, executor)) == 0


def _state(step: Step) -> str:
    return step.reason or step.obstacle or "up to date"


def report_book(project: Project, result: BookResult) -> None:
    """Say where the book is and what is wrong with it."""
    for problem in result.problems:
        typer.secho(f"problem: {problem}", fg="red", err=True)
    index = project.html / "index.html"
    typer.echo(f"{'Book' if result.rebuilt else 'Book, nothing changed'}: {index}")
    if not result.ok:
        typer.secho(
            f"Not a good book: {len(result.failed)} of its notebooks failed, "
            f"{len(result.problems)} problems.",
            fg="red",
            err=True,
        )


def reporters(
    project: Project, stems: Sequence[str]
) -> tuple[Callable[[str], None], Callable[[RunResult], None]]:
    """Make two functions that print one line a notebook: how it ended, on a terminal name first."""
    width = max(map(len, stems), default=0)
    at_once = sys.stdout.isatty()  # elsewhere, lines of several processes may mix

    def announce(stem: str) -> None:
        if at_once:
            typer.echo(f"{stem:<{width}}  ", nl=False)
            sys.stdout.flush()

    def report(result: RunResult) -> None:
        name = "" if at_once else f"{result.stem:<{width}}  "
        typer.echo(name + _outcome(project, result))

    return announce, report


def _outcome(project: Project, result: RunResult) -> str:
    if result.failure is not None:
        place = f" in {result.failure.place}" if result.failure.cell is not None else ""
        text = f"{result.seconds:6.1f} s  FAILED{place}: {result.failure.error}"
        partial = project.executed / f"{result.stem}.failed.ipynb"
        if partial.is_file():
            text += f"\n  how far it came: {partial.relative_to(project.root)}"
        return text
    data = ", ".join(
        f"{c['name']}{' (synthetic)' if c['synthetic'] else ''}" for c in result.manifest["cohorts"]
    )
    done = f"{data or 'no data'}, {len(result.manifest['claims'])} claims"
    return f"{result.seconds:6.1f} s  {result.status}: {done}"
