"""Predicting a folder of images: one row an image, whatever becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iavlib.data.errors import DataError
from iavlib.data.images import MAX_PIXELS, read_mask, read_photograph
from iavlib.explain import CENTRED, LOWERS, MALIGNANT, RAISES, Explainer, ExplainError
from iavlib.explain.cam import GRADCAM
from iavlib.prediction.ensemble import Ensemble
from iavlib.prediction.listing import Asked
from iavlib.prediction.models import Predictor
from iavlib.prediction.output import HEAT_MAPS
from iavlib.prediction.pictures import heated, jpeg, outline_paths, small
from iavlib.prediction.report import PictureStore, picture_cells
from iavlib.training.image_cache import to_square

COLUMNS = (
    "image",
    "status",
    "problem",
    "mend",
    "width",
    "height",
    "predicted_dice",
    "dice_low",
    "dice_high",
    "malignancy_probability",
    "distance",
    "distance_p",
    "out_of_distribution",
    "heat_map",
    "notes",
)
PREDICTED, FAILED = "predicted", "failed"
#: Images in memory at a time, as small as the networks and the report want them.
_AT_A_TIME = 16
_EVERY = 10.0  # seconds between lines of progress
_EXPLAINED = {"tells_agreement": (LOWERS, RAISES), "tells_malignancy": (MALIGNANT,)}

Masks = Mapping[str, Sequence[tuple[str, str]]]
#: What is explained, to the model that tells it and its explainer.
Explainers = Mapping[str, tuple[Predictor, Explainer]]


@dataclass(frozen=True)
class Wishes:
    """How images are to be treated.

    Parameters
    ----------
    explainers : mapping
        Whose heat maps are shown; see :func:`find_explainers`.
    masks : mapping of str to sequence of (str, str)
        Image id to annotators and files of masks of the upright image, which are drawn.
    max_pixels : int
        Larger images are refused before memory is taken for them.
    """

    explainers: Explainers = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image that could be read, in the sizes that are needed of it."""

    number: int
    asked: Asked
    size: tuple[int, int]
    squares: Mapping[int, np.ndarray]
    picture: Image.Image


def find_explainers(ensemble: Ensemble) -> tuple[Explainers, list[str]]:
    """Find what can be explained, each by the first model that tells it.

    Returns
    -------
    dict
        What lowers and what raises predicted agreement, and what makes a lesion malignant, to a
        pair of the model and its explainer.
    list of str
        Why something cannot be.
    """
    found: dict[str, tuple[Predictor, Explainer]] = {}
    reasons = []
    for tells, targets in _EXPLAINED.items():
        predictor = ensemble.first(tells)
        if predictor is not None:
            try:
                familiar = ensemble.familiar.get(predictor.name)
                centre = familiar.centre if familiar is not None else {}
                # plain Grad-CAM of a regression is often empty in one direction: it has no zero
                method = CENTRED if centre else GRADCAM
                explainer = Explainer(predictor.network, targets, [method], reference=centre)
                found |= dict.fromkeys(targets, (predictor, explainer))
            except ExplainError as error:  # a map of a single place shows nothing
                reasons.append(f"No heat maps by {predictor.name}: {error}")
    return found, reasons


def predict_each(
    asked: Sequence[Asked],
    ensemble: Ensemble,
    folder: Path,
    pictures: PictureStore,
    wishes: Wishes,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Predict images a few at a time.

    Parameters
    ----------
    asked : sequence of Asked
    ensemble : Ensemble
    folder : Path
        Heat maps are written below it.
    pictures : PictureStore
        Gets what the report shows of each image.
    wishes : Wishes
    say : callable
        Gets a line of progress now and then.

    Returns
    -------
    list of dict
        A row with :data:`COLUMNS` for each of `asked`, in their order; None is what is not known.
    """
    rows: list[dict[str, Any]] = [dict.fromkeys(COLUMNS) for _ in asked]
    if wishes.explainers:
        (folder / HEAT_MAPS).mkdir()
    last = time.monotonic()
    for start in range(0, len(asked), _AT_A_TIME):
        numbers = range(start, min(start + _AT_A_TIME, len(asked)))
        seen = list(_read(asked, numbers, rows, ensemble.sizes, wishes))
        if seen:
            heats = _predict(seen, ensemble, wishes.explainers, rows)
            for place, one in enumerate(seen):
                own = {what: maps[place] for what, maps in heats.items()}
                row = rows[one.number]
                row["notes"] = ensemble.knows(one.asked.image_id)
                _show(one, row, own, folder, pictures, wishes.masks)
        if time.monotonic() - last > _EVERY:
            last = time.monotonic()
            say(f"{numbers[-1] + 1:,} of {len(asked):,} images")
    return rows


def _read(asked, numbers, rows, sizes, wishes: Wishes) -> Iterator[_Seen]:
    """Read images one after another, so that one of full size is in memory at a time."""
    for number in numbers:
        one, row = asked[number], rows[number]
        row |= {"image": one.name, "status": FAILED, "problem": one.problem, "mend": one.mend}
        row["notes"] = ""
        if one.path is None:
            continue
        try:
            photograph = read_photograph(one.path, wishes.max_pixels)
        except DataError as error:
            row |= {"problem": error.problem, "mend": error.mend}
            continue
        row |= {"width": photograph.width, "height": photograph.height}
        squares = {size: to_square(photograph, size) for size in sizes}
        yield _Seen(number, one, photograph.size, squares, small(photograph))


def _predict(seen, ensemble: Ensemble, explainers: Explainers, rows) -> dict[str, np.ndarray]:
    """Fill in the numbers of some images; give their maps by what these explain."""
    pixels = {size: np.stack([one.squares[size] for one in seen]) for size in ensemble.sizes}
    table = ensemble.predict(pixels).astype(object)
    table = table.where(table.notna(), None)
    for one, found in zip(seen, table.to_dict("records"), strict=True):
        rows[one.number] |= {**found, "status": PREDICTED, "problem": "", "mend": ""}
    heats: dict[str, np.ndarray] = {}
    for predictor, explainer in dict.fromkeys(explainers.values()):
        batch = predictor.batches(pixels[predictor.size]).batch(np.arange(len(seen)))
        maps = explainer.explain(batch["images"]).maps
        heats |= {what: values for (what, _), values in maps.items()}
    return heats


def _show(one: _Seen, row, heats, folder: Path, pictures: PictureStore, masks: Masks) -> None:
    """Keep an image's pictures for the report, and its heat maps as files."""
    stem, written, layers = f"{one.number + 1:05d}", [], {}
    for what, heat in heats.items():
        if not heat.any():  # nothing in the image speaks for it
            continue
        layers[what] = jpeg(heated(one.picture, heat))
        name = f"{HEAT_MAPS}/{stem}_{what.replace(' ', '_')}.jpg"
        (folder / name).write_bytes(layers[what])
        written.append(name)
    row["heat_map"] = ";".join(written) or None
    drawn, problems = _outlines(masks.get(one.asked.image_id, ()), one.picture.size)
    row["notes"] = "; ".join(filter(None, (row["notes"], *problems)))
    photograph = jpeg(one.picture)
    nothing = [what for what in heats if what not in layers]
    cells = picture_cells(one.asked.name, photograph, one.picture.size, layers, drawn, nothing)
    pictures.keep(one.number, cells)


def _outlines(masks, size) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Trace the masks that can be read; say which cannot."""
    read, problems = [], []
    for annotator, path in masks:
        try:
            read.append((annotator, read_mask(path)))
        except DataError as error:
            problems.append(f"mask {Path(error.where).name}: {error.problem}")
    traced = outline_paths([mask for _, mask in read], size)
    who = [annotator for annotator, _ in read]
    return [(name, *drawn) for name, drawn in zip(who, traced, strict=True)], problems
