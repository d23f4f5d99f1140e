"""``iav predict`` and ``iav triage``; nothing heavy is imported before a command needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from iavlib.cli import FAILED, clear_errors

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
    from iavlib.data.images import MAX_PIXELS
    from iavlib.predict.run import PredictOptions, predict_images

    options = PredictOptions(images, model, out, masks, alpha, calibrate_on, heat_maps, overwrite)
    options = replace(options, max_pixels=max_pixels or MAX_PIXELS, embedded=embedded)
    with clear_errors("nothing was written"):
        table = predict_images(options, log=lambda line: typer.echo(line, err=True))
    failed = table[table["status"] == "failed"]
    for row in failed.itertuples():
        typer.echo(f"not predicted: {row.image}: {row.problem}; {row.hint}", err=True)
    typer.echo(f"{len(table) - len(failed):,} images predicted, {len(failed):,} not")
    typer.echo(f"{out / 'report.html'}\nResearch software, no medical device.")
    if len(failed):
        raise typer.Exit(FAILED)


def triage(
    cohort: Annotated[str, typer.Argument(help="Name of a cohort, such as imapp or folder.")],
    path: Annotated[str, typer.Option(help="masks.csv, for the cohort folder.")] = "",
    by: Annotated[str, typer.Option(help="disagreement, uncertainty or both.")] = "disagreement",
    model_name: Annotated[
        str | None, typer.Option(help="Whose predictions; of the least error by default.")
    ] = None,
    first: Annotated[int, typer.Option("-k", "--first", min=1, help="Images to print.")] = 10,
    out: Annotated[Path | None, typer.Option(help="CSV file for all images in order.")] = None,
    statistics: Annotated[
        bool, typer.Option(help="Compare with statistics of the images, which are read for it.")
    ] = True,
    n_boot: Annotated[int, typer.Option(min=2, help="Replicates of the bootstrap.")] = 2000,
    overwrite: Overwrite = False,
) -> None:
    """Say which images of a cohort to send to a further annotator, and how good that order is.

    By runs of task iaa, finished here or stored, that had not seen the image.
    """
    with clear_errors("nothing was written"):
        from iavlib.core.errors import PredictionError
        from iavlib.core.files import write_text
        from iavlib.experiments.runner import load_cohort
        from iavlib.predict.triage import describe, out_of_fold_runs, triage as order_images

        if out is not None and out.exists() and not overwrite:
            raise PredictionError(out, "is there", "choose another name, or add --overwrite")
        study = load_cohort(cohort, **({"path": path} if path else {}))
        runs = out_of_fold_runs(study)
        found = order_images(study, runs, by, model_name, statistics, n_boot=n_boot)
        typer.echo(describe(found, study, first))
        if out is not None:
            write_text(out, found.ranking.to_csv(index=False, float_format="%.6g"))
            typer.echo(str(out))
