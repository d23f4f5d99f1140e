"""The command line: ``iav run``, ``book``, ``train``, ``runs``, ``claims``, ``data`` and others.

Nothing heavy is imported before a command needs it: ``iav --help`` answers at once.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from iavlib import __version__
from iavlib.cli import FAILED, AsJson, Commands, DryRun, experiments, fail, parse_pairs, print_json
from iavlib.core.project import APART_VARIABLE, NO_TRAIN_VARIABLE

Profile = Annotated[str, Option(help="Scale: smoke (seconds), quick (a laptop), paper (in full).")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace an earlier result there.")]
Force = Annotated[bool, Option("--force", help="Run even what is up to date.")]
Jobs = Annotated[
    int | None,
    Option("-j", "--jobs", min=1, help="Jobs at a time, trainings as jobs of their own."),
]
_WHERE = "Where jobs run: local, slurm, kubernetes (in workflow/profiles), or a path of another."
Executor = Annotated[str, Option(metavar="NAME", help=_WHERE)]

app = typer.Typer(
    cls=Commands,
    help="Inter-annotator variability: run the notebooks, build the book, see the claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(experiments.app, name="runs")
app.command()(experiments.train)
app.command()(experiments.sweep)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"iavlib {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Inter-annotator variability: run the notebooks, build the book, see the claims."""
    from iavlib.core.processes import end_orderly  # not for --help

    end_orderly()


@app.command()
def agreement(
    table: Path = Argument(..., help="Folder of masks, table, or what a tool exported."),
    out: Path = Option(Path("agreement"), help="Folder for the results."),
    processes: int | None = Option(None, min=1, help="One a core by default."),
    tolerance: float = Option(2.0, min=0, help="Tolerance of NSD and boundary F1, as spacing."),
    spacing: float = Option(1.0, min=1e-9, help="Size of a pixel."),
    label: str | None = Option(None, help="Class; with commas or any: united; all: one by one."),
    threshold: float | None = Option(None, min=0, max=0.999, help="Share of a mask's maximum."),
    per_object: bool = Option(False, "--per-object", help="Match objects one to one."),
    quorum: float | None = Option(None, help="Vote to write: masks needed, or their share (< 1)."),
    export: str = Option("", help="Forms for other tools, by commas: coco, nifti, png, votes."),
    notebook: bool = Option(False, "--notebook", help="Run notebooks 01 and 02 on the masks too."),
) -> None:
    """Compare, merge and check masks: tables, consensus masks and a report.

    Reads a table with the columns image, mask and annotator (CSV, Excel), a folder per annotator,
    CVAT, Label Studio, COCO, labelme, GeoJSON, NumPy, and a zip of these. Ends with 1 when a mask
    could not be used; the others are done.
    """
    typer.echo(f"reading {table}")  # before the imports, which take a second
    from iavlib.agreement.analysis import analyse
    from iavlib.core.files import safe_name
    from iavlib.data.datasets.folder import class_names

    failed = False
    for name in class_names(table, True) if label == "all" else [label]:
        place = out / safe_name(name) if label == "all" else out
        typer.echo(f"class {name}" if label == "all" else f"results go into {place}")
        chosen = {"label": name, "threshold": threshold, "per_object": per_object}
        chosen |= {"quorum": quorum, "export": tuple(export.replace(",", " ").split())}
        chosen |= {"progress": True, "log": lambda line: typer.echo(f"  {line}")}
        result = analyse(table, place, processes, tolerance, spacing, **chosen)
        for row in result.problems.itertuples():
            kind = "left out" if row.left_out else "look at"
            typer.echo(f"{kind}: {row.mask_id}: {row.problem}; {row.hint}", err=True)
        typer.echo(f"{result}\n{result.out / 'report.html'}")
        if notebook:
            from iavlib.book.notebooks import run_on_own_masks

            for page in run_on_own_masks(result.measured, place / "notebooks", typer.echo):
                typer.echo(str(page))
        failed |= bool(result.problems["left_out"].any())
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def run(
    notebooks: list[str] | None = Argument(None, help="Names, numbers or paths; all by default."),
    profile: Profile = "quick",
    parameter: list[str] | None = Option(None, "-p", "--parameter", help="Set one: NAME=VALUE."),
    force: Force = False,
    jobs: Jobs = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    no_train: bool = Option(False, "--no-train", help="Read finished experiments; train none."),
    job: bool = Option(False, "--job", hidden=True),
    apart: bool = Option(
        False, "--apart", hidden=True
    ),  # what its list names are jobs of their own
) -> None:
    """Execute notebooks into book/executed/, except those that are up to date."""
    from iavlib.book.plan import Request
    from iavlib.core.project import find_project, select_notebooks

    project = find_project()
    chosen, overrides = select_notebooks(project, notebooks or ()), parse_pairs("-p", parameter)
    options = (force, False, jobs, executor, not no_train)
    request = Request(project, chosen, profile, overrides, *options)
    if job:
        _run_jobs(request, apart)
    else:
        _make(request, dry_run)


def _make(request: Any, dry_run: bool) -> None:
    from iavlib.book.plan import make, show

    if not (show(request, typer.echo) if dry_run else not make(request, typer.echo)):
        raise typer.Exit(FAILED)


def _run_jobs(request: Any, apart: bool) -> None:
    """Run notebooks in this process, as the jobs of a plan do; whoever planned reports failures."""
    from iavlib.book.notebooks import run_if_needed
    from iavlib.book.pages import cohort_names

    if not request.train:
        os.environ[NO_TRAIN_VARIABLE] = "1"  # for the notebooks' kernels
    for job in request.jobs:
        os.environ[APART_VARIABLE] = ",".join(e.name for e in job.experiments.listed if apart)
        result = run_if_needed(request.project, job, request.force, request.train)
        text = f"{job.stem:<20}  {result.seconds:6.1f} s  "
        if result.failure is not None:
            place = "" if result.failure.cell is None else f" in {result.failure.place}"
            text += f"FAILED{place}: {result.failure.error}"
            partial = request.project.executed / f"{job.stem}.failed.ipynb"
            if partial.is_file():
                text += f"\n  partly executed: {partial.relative_to(request.project.root)}"
        else:
            data, n_claims = cohort_names(result.manifest), len(result.manifest["claims"])
            text += f"{result.status}: {data or 'no data'}, {n_claims} claims"
        typer.echo(text)


@app.command()
def book(
    profile: Profile = "quick",
    force: bool = Option(False, "--force", help="Run every notebook and build every page again."),
    no_run: bool = Option(False, "--no-run", help="Run nothing; build from the last results."),
    jobs: Jobs = None,
    executor: Executor = "local",
    dry_run: DryRun = False,
    job: bool = Option(False, "--job", hidden=True),
) -> None:
    """Run the notebooks that changed and build the book into _build/html."""
    from iavlib.book.interactive import collect
    from iavlib.book.plan import Request
    from iavlib.book.site import build_book, toc_notebooks
    from iavlib.core.project import find_project

    project = find_project()
    if dry_run or not no_run:
        chosen = [] if no_run else toc_notebooks(project)
        _make(Request(project, chosen, profile, {}, force, True, jobs, executor), dry_run)
        return
    if not job:  # the plan has taken over what fits it
        collect(project, typer.echo)
    result = build_book(project, force)
    for problem in result.problems:
        typer.secho(f"problem: {problem}", fg="red", err=True)
    typer.echo(f"Book{'' if result.rebuilt else ', nothing changed'}: {project.html}/index.html")
    if not result.ok:
        n_failed, n_problems = len(result.failed), len(result.problems)
        fail(f"Not a good book: {n_failed} of its notebooks failed, {n_problems} problems.")


@app.command()
def claims(as_json: AsJson = False) -> None:
    """Compare the claims of the papers with what was measured here."""
    from iavlib.book.claims import count_verdicts, ledger, rich_table

    rows = ledger()
    if as_json:
        print_json(rows)
        return
    from rich.console import Console

    table = rich_table(rows)
    # narrower, ids would be cut off
    console = Console(width=max(Console().width, Console(width=1000).measure(table).minimum))
    console.print(table)
    console.print(count_verdicts(rows))


@app.command()
def predict(
    images: list[Path] = Argument(..., help="Images, or folders of images."),
    model: list[str] = Option(["default"], "--model", "--run", help="Id or folder of a run."),
    out: Path = Option(Path("report"), help="New folder for table, report and heat maps."),
    masks: Path | None = Option(None, help="masks.csv, or its folder: outlines for the report."),
    alpha: float = Option(0.1, min=0.001, max=0.5, help="Share of true values outside intervals."),
    calibrate_on: str = Option("val", help="Split that calibrates intervals: val or test."),
    intervals: str = Option("mondrian", help="Kind of intervals: mondrian, cqr or equal."),
    heat_maps: bool = Option(True, help="Explain predictions by Grad-CAM."),
    max_pixels: int = Option(100_000_000, min=1, help="Refuse larger images."),
    embedded: int = Option(1000, min=0, help="Images with pictures in the report."),
    overwrite: Overwrite = False,
) -> None:
    """Predict agreement and malignancy of new images: a table and a report that opens offline.

    With a run of task segmentation: masks by every annotator and their consensus. The first GPU
    that PyTorch finds is used (CUDA_VISIBLE_DEVICES chooses), else the CPU. Research software, no
    medical device. The exit status is 1 if an image could not be used; all others are predicted.
    Nothing is written outside --out.
    """
    from iavlib.predict.run import PredictOptions, predict_images

    calibration = alpha, calibrate_on, intervals
    rest = heat_maps, overwrite, max_pixels, embedded
    options = PredictOptions(images, model, out, masks, *calibration, *rest)
    table = predict_images(options, log=typer.echo)
    typer.echo(f"{out / 'report.html'}\nResearch software, no medical device.")
    if table["status"].eq("failed").any():
        raise typer.Exit(FAILED)


@app.command()
def triage(
    cohort: str = Argument(..., help="Name of a cohort, such as imapp or folder."),
    path: str = Option("", help="masks.csv, for the cohort folder."),
    by: str = Option("disagreement", help="disagreement, uncertainty or both."),
    model_name: str | None = Option(None, help="Label of the model; by default the most accurate."),
    first: int = Option(10, "-k", "--first", min=1, help="Images to print."),
    out: Path | None = Option(None, help="CSV file for all images in order."),
    statistics: bool = Option(True, help="Compare with image statistics; reads the images."),
    n_boot: int = Option(2000, min=2, help="Replicates of the bootstrap."),
    overwrite: Overwrite = False,
) -> None:
    """List the images of a cohort that most need a further annotator, and the order's quality.

    Predictions are of runs of task iaa, finished or stored, that were not trained on the image.
    """
    from iavlib.core.errors import PredictionError
    from iavlib.core.files import csv_text, write_text
    from iavlib.experiments.runner import load_cohort
    from iavlib.predict.triage import describe, out_of_fold_runs, triage as order_images

    if out is not None and out.exists() and not overwrite:
        raise PredictionError(out, "exists", "choose another name, or add --overwrite")
    study = load_cohort(cohort, **({"path": path} if path else {}))
    runs = out_of_fold_runs(study)
    order = order_images(study, runs, by, model_name, statistics, n_boot=n_boot)
    typer.echo(describe(order, study, first))
    if out is not None:
        write_text(out, csv_text(order.ranking, float_format="%.6g"))
        typer.echo(str(out))


results_app = typer.Typer(no_args_is_help=True, callback=lambda: None)
app.add_typer(results_app, name="results", help="Store results for machines that cannot make them.")


@results_app.command("export")
def export(
    runs: Path | None = Option(None, help="Run store of the experiments; runs/ by default."),
    every_run: bool = Option(False, "--all", help="Also experiments that no list names."),
) -> None:
    """Copy the results of finished runs into book/results/, small files to commit."""
    from iavlib.book.stored import export_results
    from iavlib.core.project import find_project

    done = export_results(find_project(), runs, every_run)
    for name in done.written:
        typer.echo(f"stored: {name}")
    for reason in done.skipped:
        typer.echo(f"left out: {reason}")
    typer.echo(f"{len(done.written)} stored, {len(done.unchanged)} unchanged")


data_app = typer.Typer(help="See which data are here, and fetch what can be.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("status")
def status_command(as_json: AsJson = False) -> None:
    """List every cohort: files present, size, licence, citation, and how to get the rest."""
    from iavlib.core.project import data_home
    from iavlib.data.catalogue import status

    rows = status()
    if as_json:
        print_json([vars(row) for row in rows])
        return
    typer.echo(f"data home: {data_home()}")
    for row in rows:
        usable = "" if row.usable or row.state == "by path" else ", not usable"
        lines = [f"\n{row.name}: {row.state}{usable} - {row.title}"]
        for pattern, (have, expected) in row.counts.items():
            lines.append(f"  {pattern}: {have:,}{f' of {expected:,}' if expected else ''}")
        if row.counts:
            lines.append(f"  size here: {row.bytes / 1e6:,.1f} MB in {row.folder}")
        lines += [f"  note: {note}" for note in row.notes]
        lines += [f"  licence: {row.licence}", f"  cite: {row.citation}", f"  get it: {row.how}"]
        typer.echo("\n".join(lines))


@data_app.command("fetch")
def fetch_command(
    cohort: str = Argument(..., help="Name of the cohort: imapp."),
    masks: bool = Option(False, "--masks", help="Also the masks, from Zenodo."),
    images: bool = Option(False, "--images", help="Also the images, from the ISIC archive."),
    yes: bool = Option(False, "--yes", "-y", help="Continue without asking."),
    dry_run: DryRun = False,
    attempts: int = Option(3, min=1, help="Failed attempts per file before giving up."),
    timeout: float = Option(30, min=0.1, help="Seconds without data before an attempt fails."),
    optional: bool = Option(False, "--optional", help="Report failures, but end with status 0."),
) -> None:
    """Get what was published of a cohort into the data home, each file verified.

    The tables always (by SHA-256), masks and images where asked for (masks by their published
    MD5, images by their published size). Files that are present and correct are not fetched again;
    interrupted downloads are resumed.
    """
    from iavlib.core.errors import DataError, FetchError

    if cohort != "imapp":
        typer.echo(f"nothing to fetch for {cohort!r}; see 'iav data status' for it", err=True)
        raise typer.Exit(2)
    try:
        complete = _fetch(masks, images, yes, dry_run, attempts, timeout)
    except (FetchError, DataError) as error:
        typer.echo(f"not fetched: {error}", err=True)
        complete = False
    if not complete and not optional:
        raise typer.Exit(FAILED)


def _fetch(
    masks: bool, images: bool, yes: bool, dry_run: bool, attempts: int, timeout: float
) -> bool:
    """Get the tables, then the files that are asked for; return whether nothing is left out."""
    from iavlib.data import imapp_fetch
    from iavlib.data.datasets import imapp

    if dry_run and (left := imapp.imapp_tables_to_fetch()):
        names = ", ".join(left)
        typer.echo(f"tables: {len(left)} to fetch ({names}); they list what else is missing")
        return True
    files = imapp.fetch_imapp_tables(attempts, timeout)
    typer.echo(f"{len(files)} tables of imapp are in {files[0].parent}, as published")
    kinds = [
        (masks, imapp_fetch.plan_masks, imapp_fetch.fetch_masks),
        (images, imapp_fetch.plan_images, imapp_fetch.fetch_images),
    ]
    steps = [(make_plan(attempts, timeout), fetch) for wanted, make_plan, fetch in kinds if wanted]
    for plan, _ in steps:
        typer.echo(str(plan))
    imapp_fetch.check_plans(plan for plan, _ in steps)
    if dry_run:
        return True
    if any(plan.todo for plan, _ in steps) and not yes and not _agreed():
        typer.echo("stopped, nothing was downloaded; --yes goes on without asking", err=True)
        return False
    complete = True
    for plan, fetch in steps:
        report = fetch(plan, attempts, timeout, typer.echo)
        typer.echo(str(report))
        complete &= report.complete
    return complete


def _agreed() -> bool:
    try:
        return typer.confirm("Go on?")
    except typer.Abort:
        # Nobody is there to answer.
        return False
