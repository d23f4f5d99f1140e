"""The command line: ``iav run``, ``book``, ``train``, ``runs``, ``claims``, ``data`` and others.

Nothing heavy is imported before a command needs it: ``iav --help`` answers at once.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from iavlib import __version__
from iavlib.cli import FAILED, WRONG_INPUT, clear_errors, parse_pairs
from iavlib.core.project import NO_TRAIN_VARIABLE

Profile = Annotated[
    str, typer.Option(help="Scale of the run: smoke (seconds), quick (a laptop), paper (in full).")
]
Force = Annotated[bool, typer.Option("--force", help="Run even what is up to date.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Jobs at a time.")]
Executor = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where jobs run: local, slurm, kubernetes (folders of workflow/profiles), or the "
        "path of a folder like these.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Only list every job and why it would run.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")]


def _late(module: str) -> type[TyperGroup]:
    """Make a group whose commands are those of a module, imported when one is called."""

    class LateCommands(TyperGroup):
        def make_context(self, *args: Any, **kwargs: Any) -> Any:
            group = typer.main.get_group(importlib.import_module(module).app)
            return group.make_context(*args, **kwargs)

    return LateCommands


app = typer.Typer(
    help="Inter-annotator variability: run the notebooks, build the book, see the claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(
    typer.Typer(cls=_late("iavlib.cli.data")),
    name="data",
    help="See which data are here, and fetch what can be fetched.",
)
app.add_typer(
    typer.Typer(cls=_late("iavlib.cli.experiments")),
    name="runs",
    help="List, compare, show and clean up the experiments that were run.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iavlib {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Inter-annotator variability: run the notebooks, build the book, see the claims."""


@app.command()
def agreement(
    table: Annotated[Path, typer.Argument(help="masks.csv, or the folder that holds it.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("agreement"),
    processes: Annotated[int | None, typer.Option(min=1, help="One a core by default.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Tolerance of NSD and boundary F1, in pixels or spacing.")
    ] = 2.0,
    spacing: Annotated[float, typer.Option(min=1e-9, help="Size of a pixel.")] = 1.0,
) -> None:
    """Compare, merge and check the masks of a folder: tables, consensus masks and a report.

    Ends with 1 when a mask could not be used; the others are done.
    """
    from iavlib.agreement.analysis import analyse
    from iavlib.core.errors import DataError, DatasetUnavailable

    try:
        result = analyse(table, out, processes, tolerance, spacing, progress=True)
    except (DataError, DatasetUnavailable) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    for row in result.problems.itertuples():
        kind = "left out" if row.left_out else "look at"
        typer.echo(f"{kind}: {row.mask_id}: {row.problem}; {row.hint}", err=True)
    typer.echo(
        f"{len(result.pairs):,} pairs of {len(result.images):,} images, mean Dice "
        f"{result.pairs['dice_score'].mean():.3f}; {result.n_reused:,} images from an earlier run\n"
        f"{result.out / 'report.html'}"
    )
    if result.problems["left_out"].any():
        raise typer.Exit(FAILED)


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(help="Names, numbers (01) or paths of notebooks; all when none is given."),
    ] = None,
    profile: Profile = "quick",
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Set a parameter."),
    ] = None,
    force: Force = False,
    jobs: Jobs = 1,
    executor: Executor = "local",
    dry_run: DryRun = False,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="Read finished experiments; train none.")
    ] = False,
    job: Annotated[bool, typer.Option("--job", hidden=True)] = False,
) -> None:
    """Execute notebooks into book/executed/, except those that are up to date."""
    from iavlib.book.plan import Request, make, show
    from iavlib.core.project import find_project, select_notebooks

    with clear_errors():
        project = find_project()
        chosen = select_notebooks(project, notebooks or ())
        request = Request(project, chosen, profile, parse_pairs("-p", parameter or ()), force)
        request = replace(request, n_jobs=jobs, executor=executor, train=not no_train)
        if job:
            _run_jobs(request)
        elif not (show(request, typer.echo) if dry_run else not make(request, typer.echo)):
            raise typer.Exit(FAILED)


def _run_jobs(request: Any) -> None:
    """Run notebooks in this process, as the jobs of a plan do; whoever planned reports failures."""
    from iavlib.book.notebooks import run_if_needed

    if not request.train:
        os.environ[NO_TRAIN_VARIABLE] = "1"  # for the notebooks' kernels
    for job in request.jobs:
        result = run_if_needed(request.project, job, request.force)
        text = f"{job.stem:<20}  {result.seconds:6.1f} s  "
        if result.failure is not None:
            place = "" if result.failure.cell is None else f" in {result.failure.place}"
            text += f"FAILED{place}: {result.failure.error}"
            partial = request.project.executed / f"{job.stem}.failed.ipynb"
            if partial.is_file():
                text += f"\n  partly executed: {partial.relative_to(request.project.root)}"
        else:
            cohorts = result.manifest["cohorts"]
            names = [c["name"] + (" (synthetic)" if c["synthetic"] else "") for c in cohorts]
            data, n_claims = ", ".join(names) or "no data", len(result.manifest["claims"])
            text += f"{result.status}: {data}, {n_claims} claims"
        typer.echo(text)


@app.command()
def train(
    spec: Annotated[
        str | None,
        typer.Argument(help="A YAML or JSON file with an experiment, or the id of a run."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Such as seed=1 or recipe.lr=0.01."),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="End with status 0 even if training failed."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Only list the experiments and their state.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of an experiment, for editors.")
    ] = False,
) -> None:
    """Run the experiments of a file; finished ones are read, interrupted ones are resumed.

    Lists in the file are combined: a list of three seeds stands for three experiments.
    """
    from iavlib.cli.experiments import print_schema, train as do_experiments

    if schema:
        print_schema()
        return
    do_experiments(spec, settings or (), keep_going, dry_run)


@app.command()
def book(
    profile: Profile = "quick",
    force: Annotated[
        bool, typer.Option("--force", help="Run every notebook and build every page again.")
    ] = False,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Run nothing; build from the last results.")
    ] = False,
    jobs: Jobs = 1,
    executor: Executor = "local",
    dry_run: DryRun = False,
) -> None:
    """Run the notebooks that changed and build the book into _build/html."""
    from iavlib.book.plan import Request, make, show
    from iavlib.book.site import build_book, toc_notebooks
    from iavlib.core.project import find_project

    with clear_errors():
        project = find_project()
        if no_run and not dry_run:
            result = build_book(project, force)
        else:
            chosen = [] if no_run else toc_notebooks(project)
            request = Request(project, chosen, profile, {}, force, True, jobs, executor)
            if not (show(request, typer.echo) if dry_run else not make(request, typer.echo)):
                raise typer.Exit(FAILED)
            return
    for problem in result.problems:
        typer.secho(f"problem: {problem}", fg="red", err=True)
    typer.echo(f"Book{'' if result.rebuilt else ', nothing changed'}: {project.html}/index.html")
    if not result.ok:
        typer.secho(
            f"Not a good book: {len(result.failed)} of its notebooks failed, "
            f"{len(result.problems)} problems.",
            fg="red",
            err=True,
        )
        raise typer.Exit(FAILED)


@app.command()
def claims(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
) -> None:
    """Compare the claims of the papers with what was measured here."""
    from iavlib.book.claims import count_verdicts, ledger, rich_table

    with clear_errors():
        rows = ledger()
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console

    console = Console()
    console.print(rich_table(rows))
    console.print(count_verdicts(rows))


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[
        list[str],
        typer.Option(help="Run of task iaa, multitask or diagnosis: its id or folder; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for table, report and heat maps.")],
    masks: Annotated[
        Path | None, typer.Option(help="masks.csv, or its folder: outlines for the report.")
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of true values outside intervals.")
    ] = 0.1,
    calibrate_on: Annotated[
        str, typer.Option(help="Split that calibrates intervals: val or test.")
    ] = "val",
    heat_maps: Annotated[bool, typer.Option(help="Explain predictions by Grad-CAM.")] = True,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse larger images.")] = 100_000_000,
    embedded: Annotated[
        int, typer.Option(min=0, help="Images with pictures in the report.")
    ] = 1000,
    overwrite: Overwrite = False,
) -> None:
    """Predict agreement and malignancy of new images: a table and a report that opens offline.

    Research software, no medical device. The exit status is 1 if an image could not be used; all
    others are predicted. Nothing is written outside --out.
    """
    from iavlib.predict.run import PredictOptions, predict_images

    options = PredictOptions(
        images, model, out, masks, alpha, calibrate_on, heat_maps, overwrite, max_pixels, embedded
    )
    with clear_errors("nothing was written"):
        table = predict_images(options, log=lambda line: typer.echo(line, err=True))
    failed = table[table["status"] == "failed"]
    for row in failed.itertuples():
        typer.echo(f"not predicted: {row.image}: {row.problem}; {row.hint}", err=True)
    typer.echo(f"{len(table) - len(failed):,} images predicted, {len(failed):,} not")
    typer.echo(f"{out / 'report.html'}\nResearch software, no medical device.")
    if len(failed):
        raise typer.Exit(FAILED)


@app.command()
def triage(
    cohort: Annotated[str, typer.Argument(help="Name of a cohort, such as imapp or folder.")],
    path: Annotated[str, typer.Option(help="masks.csv, for the cohort folder.")] = "",
    by: Annotated[str, typer.Option(help="disagreement, uncertainty or both.")] = "disagreement",
    model_name: Annotated[
        str | None, typer.Option(help="Label of the model; by default the most accurate.")
    ] = None,
    first: Annotated[int, typer.Option("-k", "--first", min=1, help="Images to print.")] = 10,
    out: Annotated[Path | None, typer.Option(help="CSV file for all images in order.")] = None,
    statistics: Annotated[
        bool, typer.Option(help="Compare with image statistics; reads the images.")
    ] = True,
    n_boot: Annotated[int, typer.Option(min=2, help="Replicates of the bootstrap.")] = 2000,
    overwrite: Overwrite = False,
) -> None:
    """List the images of a cohort that most need a further annotator, and the order's quality.

    Predictions are of runs of task iaa, finished or stored, that were not trained on the image.
    """
    with clear_errors("nothing was written"):
        from iavlib.core.errors import PredictionError
        from iavlib.core.files import write_text
        from iavlib.experiments.runner import load_cohort
        from iavlib.predict.triage import describe, out_of_fold_runs, triage as order_images

        if out is not None and out.exists() and not overwrite:
            raise PredictionError(out, "exists", "choose another name, or add --overwrite")
        study = load_cohort(cohort, **({"path": path} if path else {}))
        runs = out_of_fold_runs(study)
        found = order_images(study, runs, by, model_name, statistics, n_boot=n_boot)
        typer.echo(describe(found, study, first))
        if out is not None:
            write_text(out, found.ranking.to_csv(index=False, float_format="%.6g"))
            typer.echo(str(out))


results_app = typer.Typer(no_args_is_help=True, callback=lambda: None)
app.add_typer(results_app, name="results", help="Store results for machines that cannot make them.")


@results_app.command("export")
def export(
    runs: Annotated[
        Path | None, typer.Option(help="Run store of the experiments; runs/ by default.")
    ] = None,
    every_run: Annotated[
        bool, typer.Option("--all", help="Also experiments that no notebook's list names.")
    ] = False,
) -> None:
    """Copy the results of finished runs into book/results/, small files to commit."""
    from iavlib.book.stored import export_results
    from iavlib.core.project import find_project

    with clear_errors():
        done = export_results(find_project(), runs, every_run)
    for name in done.written:
        typer.echo(f"stored: {name}")
    for reason in done.skipped:
        typer.echo(f"left out: {reason}")
    typer.echo(f"{len(done.written)} stored, {len(done.unchanged)} unchanged")


if __name__ == "__main__":
    app()
