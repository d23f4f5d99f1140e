"""``iav data``: what is here, and getting what is not."""

from __future__ import annotations

import json

import typer

app = typer.Typer(help="What data are here, and getting what is not.", no_args_is_help=True)


@app.command("status")
def status_command(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List every cohort: files present, size, licence, citation, and how to get the rest."""
    from iavlib.core.project import data_home
    from iavlib.data.catalogue import status

    rows = status()
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2))
        return
    typer.echo(f"data home: {data_home()}")
    for row in rows:
        _print(row)


@app.command("fetch")
def fetch_command(
    cohort: str = typer.Argument(..., help="Name of the cohort: imapp."),
    masks: bool = typer.Option(False, "--masks", help="Also the masks, from Zenodo."),
    images: bool = typer.Option(False, "--images", help="Also the images, from the ISIC archive."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Continue without asking."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Only list what would be fetched, with its size; write nothing."
    ),
    attempts: int = typer.Option(3, min=1, help="Failed attempts per file before giving up."),
    timeout: float = typer.Option(
        30, min=0.1, help="Seconds without data before an attempt fails."
    ),
    optional: bool = typer.Option(
        False, "--optional", help="Report failures, but end with status 0."
    ),
) -> None:
    """Get what was published of a cohort into the data home, each file verified.

    The tables always (by SHA-256), masks and images where asked for (masks by their published
    MD5, images by their published size). Files that are present and correct are not fetched again;
    interrupted downloads are resumed.
    """
    from iavlib.core.errors import DataError, FetchError

    if cohort != "imapp":
        typer.echo(
            f"nothing to fetch for {cohort!r}; 'iav data status' shows how to get it", err=True
        )
        raise typer.Exit(2)
    try:
        complete = True
        known = _fetch_tables(attempts, timeout, dry_run)
        if known and (masks or images):
            complete = _fetch_files(masks, images, yes, dry_run, attempts, timeout)
    except (FetchError, DataError) as error:
        typer.echo(f"not fetched: {error}", err=True)
        complete = False
    if not complete and not optional:
        raise typer.Exit(1)


def _fetch_tables(attempts: int, timeout: float, dry_run: bool) -> bool:
    """Get the tables, or report that they would be fetched; return whether they are here."""
    from iavlib.data.datasets import imapp as registry

    if dry_run and (left := registry.imapp_tables_to_fetch()):
        typer.echo(
            f"tables: {len(left)} to fetch ({', '.join(left)}); they list what else is missing"
        )
        return False
    files = registry.fetch_imapp_tables(attempts, timeout)
    typer.echo(f"{len(files)} tables of imapp are in {files[0].parent}, as published")
    return True


def _fetch_files(
    masks: bool, images: bool, yes: bool, dry_run: bool, attempts: int, timeout: float
) -> bool:
    from iavlib.data import imapp_fetch

    steps = []
    if masks:
        steps.append((imapp_fetch.plan_masks(attempts, timeout), imapp_fetch.fetch_masks))
    if images:
        steps.append((imapp_fetch.plan_images(attempts, timeout), imapp_fetch.fetch_images))
    for plan, _ in steps:
        typer.echo(str(plan))
    imapp_fetch.check_plans(plan for plan, _ in steps)
    if dry_run:
        return True
    if any(plan.todo for plan, _ in steps) and not yes and not _agreed():
        typer.echo("stopped, nothing was downloaded; --yes goes on without asking", err=True)
        return False
    reports = []
    for plan, fetch in steps:
        reports.append(fetch(plan, attempts, timeout, typer.echo))
        typer.echo(str(reports[-1]))
    return all(report.complete for report in reports)


def _agreed() -> bool:
    try:
        return typer.confirm("Go on?")
    except typer.Abort:
        # Nobody is there to answer.
        return False


def _print(row) -> None:
    usable = "" if row.usable or row.state == "by path" else ", not usable"
    typer.echo(f"\n{row.name}: {row.state}{usable} - {row.title}")
    for pattern, (have, expected) in row.counts.items():
        typer.echo(f"  {pattern}: {have:,} of {expected:,}")
    if row.counts:
        typer.echo(f"  size here: {row.bytes / 1e6:,.1f} MB in {row.folder}")
    for note in row.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"  licence: {row.licence}\n  cite: {row.citation}\n  get it: {row.how}")
