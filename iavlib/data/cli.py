"""``iav data``: what is here, and getting what is not."""

import json

import typer

app = typer.Typer(help="What data are here, and getting what is not.", no_args_is_help=True)


@app.command("status")
def status_command(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Say for every cohort what is here, its size, licence, citation and how to get the rest."""
    from iavlib.data.home import data_home
    from iavlib.data.status import status

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
    attempts: int = typer.Option(3, min=1, help="Tries per file."),
    timeout: float = typer.Option(30, min=0.1, help="Seconds of silence before a try is given up."),
    optional: bool = typer.Option(
        False, "--optional", help="Say what failed, but end with success: go on with what is here."
    ),
) -> None:
    """Download the published tables of a cohort into the data home, each checked by its SHA-256."""
    from iavlib.data.errors import FetchError
    from iavlib.data.registry import fetch_imapp_tables

    if cohort != "imapp":
        typer.echo(
            f"nothing to fetch for {cohort!r}; 'iav data status' says how to get it", err=True
        )
        raise typer.Exit(2)
    try:
        files = fetch_imapp_tables(attempts, timeout)
    except FetchError as error:
        typer.echo(f"not fetched: {error}", err=True)
        raise typer.Exit(0 if optional else 1) from None
    typer.echo(f"{len(files)} tables of imapp are in {files[0].parent}, as published")


def _print(row) -> None:
    usable = "" if row.usable else ", not usable"
    typer.echo(f"\n{row.name}: {row.state}{usable} - {row.title}")
    for pattern, (have, expected) in row.counts.items():
        typer.echo(f"  {pattern}: {have:,} of {expected:,}")
    if row.counts:
        typer.echo(f"  size here: {row.bytes / 1e6:,.1f} MB in {row.folder}")
    for note in row.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"  licence: {row.licence}\n  cite: {row.citation}\n  get it: {row.how}")
