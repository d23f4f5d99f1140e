"""``iav predict``: from images and models to a table and a report, all of it in one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.files import write_json, write_text
from iavlib.prediction.errors import PredictionError
from iavlib.prediction.listing import list_images
from iavlib.prediction.output import ABOUT, REPORT, TABLE, output_folder


@dataclass(frozen=True)
class Asking:
    """What to predict, by what, and where to write it.

    Parameters
    ----------
    sources : sequence of Path
        Files and folders.
    models : sequence of str
        Folders or ids of finished runs.
    out : Path
    masks : Path, optional
        Table of masks or its folder; see :mod:`iavlib.data.folder_listing`.
    alpha : float
        Share of truths that may lie outside of intervals.
    calibrate_on : {"val", "test"}
    heat_maps : bool
    overwrite : bool
    max_pixels : int, optional
    embedded : int
        Images whose pictures are in the report, those of the least predicted agreement.
    """

    sources: Sequence[Path]
    models: Sequence[str]
    out: Path
    masks: Path | None = None
    alpha: float = 0.1
    calibrate_on: str = "val"
    heat_maps: bool = True
    overwrite: bool = False
    max_pixels: int | None = None
    embedded: int = 1000


def predict_images(asking: Asking, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Predict images and write ``predictions.csv``, ``report.html``, heat maps and ``about.json``.

    Nothing is written but below the output folder, temporary files and caches included.

    Parameters
    ----------
    asking : Asking
    say : callable
        Gets lines of progress.

    Returns
    -------
    pandas.DataFrame
        As ``predictions.csv``: one row an image, with ``status`` ``predicted`` or ``failed``.

    Raises
    ------
    PredictionError, ExperimentError, DataError, DatasetUnavailable
        If a model, the table of masks or the output folder is not what is needed. An image that
        cannot be used is a row.
    """
    for source in asking.sources:
        if source.resolve() == asking.out.resolve():
            raise PredictionError(asking.out, "holds the images", "choose another folder for --out")
    with output_folder(asking.out, asking.overwrite) as work, _caches_in(work):
        rows, about = _predict(asking, work, say)
        table = pd.DataFrame(rows)
        write_text(work / TABLE, table.to_csv(index=False, float_format="%.6g"))
        write_json(work / ABOUT, about)
    return table


def _predict(asking: Asking, work: Path, say) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from iavlib.data.images import MAX_PIXELS
    from iavlib.prediction.ensemble import describe, make_ensemble, warn
    from iavlib.prediction.job import FAILED, Wishes, find_explainers, predict_each
    from iavlib.prediction.models import load_predictor
    from iavlib.prediction.report import STATEMENT, PictureStore, write_report

    predictors = [load_predictor(name) for name in asking.models]
    ensemble = make_ensemble(predictors, asking.alpha, asking.calibrate_on)
    masks = _masks(asking.masks)
    files = [Path(path) for found in masks.values() for _, path in found]
    asked = list_images(asking.sources, without=[asking.out, *files])
    explainers, reasons = find_explainers(ensemble) if asking.heat_maps else ({}, [])
    wishes = Wishes(explainers, masks, asking.max_pixels or MAX_PIXELS)
    with PictureStore(work / "pictures") as pictures:
        rows = predict_each(asked, ensemble, work, pictures, wishes, say)
        about = {
            "statement": STATEMENT,
            "models": [one.name for one in predictors],
            "agreement": ensemble.tells_agreement,
            "alpha": asking.alpha,
            "facts": describe(ensemble),
            "warnings": [*warn(ensemble), *reasons],
            "images": len(rows),
            "failed": sum(row["status"] == FAILED for row in rows),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_report(work / REPORT, rows, pictures, about, asking.embedded)
    return rows, about


def _masks(table: Path | None) -> dict[str, list[tuple[str, str]]]:
    """Give annotators and files of the masks of each image."""
    if table is None:
        return {}
    from iavlib.data.folder_listing import read_listing

    found: dict[str, list[tuple[str, str]]] = {}
    for row in read_listing(table).rows.itertuples():
        found.setdefault(str(row.image_id), []).append((str(row.annotator), str(row.mask_path)))
    return found


@contextmanager
def _caches_in(work: Path):
    """Let matplotlib, which grad-cam loads, keep its list of fonts where it is removed again."""
    name = "MPLCONFIGDIR"
    before = os.environ.get(name)
    os.environ[name] = str(work / "matplotlib")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
