"""``iav predict`` and ``iav triage``; nothing heavy is imported before a command needs it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from iavlib.exits import FAILED, clear_errors

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")]


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
        float, typer.Option(min=0.001, max=0.5, help="Share of truths outside of intervals.")
    ] = 0.1,
    calibrate_on: Annotated[
        str, typer.Option(help="Part of the run that sets the width: val or test.")
    ] = "val",
    heat_maps: Annotated[bool, typer.Option(help="Show where the network looks.")] = True,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse larger images; 100 million by default.")
    ] = None,
    embedded: Annotated[
        int, typer.Option(min=0, help="Images with pictures in the report.")
    ] = 1000,
    overwrite: Overwrite = False,
) -> None:
    """Predict agreement and malignancy of new images: a table and a report that opens offline.

    Research software, no medical device. Ends with 1 when an image could not be used; the others
    are done. Nothing is written outside of --out.
    """
    from iavlib.prediction.run import Asking, predict_images

    asking = Asking(
        images, model, out, masks, alpha, calibrate_on, heat_maps, overwrite, max_pixels, embedded
    )
    with _clear_errors():
        table = predict_images(asking, say=lambda line: typer.echo(line, err=True))
    failed = table[table["status"] == "failed"]
    for row in failed.itertuples():
        typer.echo(f"not predicted: {row.image}: {row.problem}; {row.mend}", err=True)
    typer.echo(f"{len(table) - len(failed):,} images predicted, {len(failed):,} not")
    typer.echo(f"{out / 'report.html'}\nResearch software, no medical device.")
    if len(failed):
        raise typer.Exit(FAILED)


def _clear_errors() -> AbstractContextManager[None]:
    from iavlib.data.errors import DataError, DatasetUnavailable

    return clear_errors("nothing was written", DataError, DatasetUnavailable)
