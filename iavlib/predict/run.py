"""``iav predict``: from images and models to a table and a report, all of it in one folder.

Which images were asked for: files as named, and folders with all that is in them.

The folder of results: made whole or not at all, and nobody's files are lost.

Predicting a folder of images: one row an image, whatever becomes of it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError, ExplainError, PredictionError
from iavlib.core.files import write_json, write_text
from iavlib.data.images import MAX_PIXELS, read_mask, read_photograph
from iavlib.data.tables import IMAGE_SUFFIXES
from iavlib.explain.cam import CENTRED, GRADCAM, LOWERS, MALIGNANT, RAISES
from iavlib.explain.explainer import Explainer
from iavlib.predict.ensemble import Ensemble
from iavlib.predict.model import Predictor
from iavlib.predict.report import PictureStore, heated, jpeg, outline_paths, picture_cells, small
from iavlib.training.image_cache import to_square

#: Endings of files of a folder that are taken for images; a file that is named is always tried.
SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".webp")


@dataclass(frozen=True)
class Asked:
    """An image that was asked for, or the reason why there is none.

    Parameters
    ----------
    name : str
        What to call it: its path as given, below a folder that which leads from it.
    path : Path or None
        None where `problem` is set.
    problem, hint : str
    """

    name: str
    path: Path | None
    problem: str = ""
    hint: str = ""

    @property
    def image_id(self) -> str:
        """Its name without folder and ending, by which tables of masks call it."""
        return format_table(Path(self.name).stem)


def list_images(sources: Sequence[Path], without: Collection[Path] = ()) -> list[Asked]:
    """List the images of files and folders.

    Parameters
    ----------
    sources : sequence of Path
        Folders are searched with those in them, in the order of names; hidden files and folders
        are passed over.
    without : collection of Path
        Resolved files and folders to leave out, such as masks and the output.

    Returns
    -------
    list of Asked
        A folder without an image, and what is not there, is an entry with the reason.
    """
    found: list[Asked] = []
    for source in sources:
        if not source.is_dir():
            found.append(Asked(format_table(source.name), source))
            continue
        images = [
            Asked(format_table(str(path.relative_to(source))), path)
            for path in _below(source, without)
        ]
        known = ", ".join(SUFFIXES)
        empty = Asked(
            format_table(str(source)),
            None,
            "the folder holds no image",
            f"put files {known} into it",
        )
        found += images or [empty]
    return found


def _below(folder: Path, without: Collection[Path]) -> Iterator[Path]:
    left_out = {os.path.realpath(path) for path in without}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in left_out
        )
        for name in sorted(files):
            path = Path(place, name)
            wanted = name[0] != "." and path.suffix.lower() in SUFFIXES
            if wanted and os.path.realpath(path) not in left_out:
                yield path


def format_table(name: str) -> str:
    """Make of a file's name what every text file can hold."""
    return os.fsencode(name).decode("utf-8", "replace")


TABLE, REPORT, ABOUT, HEAT_MAPS = "predictions.csv", "report.html", "about.json", "heat_maps"
_OURS = (TABLE, REPORT, HEAT_MAPS, ABOUT)  # the last says that the rest is there
_UNFINISHED = ".unfinished-"


@contextmanager
def output_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into, inside the output, and move what is in it up at the end.

    Everything is written below `out`: what is unfinished, temporary or a cache as well. After an
    error nothing of it is left.

    Parameters
    ----------
    out : Path
        New or empty, or with `overwrite` one that an earlier call filled.
    overwrite : bool
        Replace the results of that call; other files stay.

    Yields
    ------
    Path

    Raises
    ------
    PredictionError
        If the folder holds something and is not to be overwritten, or is not ours.
    """
    _check(out, overwrite)
    made = not out.exists()
    work = out / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        work.mkdir(parents=True)
    except OSError as error:
        told = f"cannot be made ({error.strerror})"
        raise PredictionError(out, told, "choose another folder") from None
    try:
        yield work
        _move_up(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    shutil.rmtree(work)


def _check(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise PredictionError(out, "is there and no folder", "choose another name")
    # a killed call may have left its unfinished work, which is nobody's result
    held = [path.name for path in out.iterdir() if not path.name.startswith(_UNFINISHED)]
    if held and not overwrite:
        hint = "choose a new folder, or add --overwrite to replace the results in it"
        raise PredictionError(out, "is there and not empty", hint)
    if held and ABOUT not in held:
        raise PredictionError(out, "holds what is no report of ours", "choose a new folder")


def _move_up(work: Path, out: Path) -> None:
    for name in _OURS:
        target = out / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        if (work / name).exists():
            os.replace(work / name, target)
        else:
            target.unlink(missing_ok=True)
    for left in out.glob(f"{_UNFINISHED}*"):
        if left != work:
            shutil.rmtree(left, ignore_errors=True)


COLUMNS = (
    "image",
    "status",
    "problem",
    "hint",
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
    log: Callable[[str], None],
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
    log : callable
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
            log(f"{numbers[-1] + 1:,} of {len(asked):,} images")
    return rows


def _read(asked, numbers, rows, sizes, wishes: Wishes) -> Iterator[_Seen]:
    """Read images one after another, so that one of full size is in memory at a time."""
    for number in numbers:
        one, row = asked[number], rows[number]
        row |= {"image": one.name, "status": FAILED, "problem": one.problem, "hint": one.hint}
        row["notes"] = ""
        if one.path is None:
            continue
        try:
            photograph = read_photograph(one.path, wishes.max_pixels)
        except DataError as error:
            row |= {"problem": error.problem, "hint": error.hint}
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
        rows[one.number] |= {**found, "status": PREDICTED, "problem": "", "hint": ""}
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
        Table of masks or its folder; see :mod:`iavlib.data.datasets.folder`.
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


def predict_images(asking: Asking, log: Callable[[str], None] = print) -> pd.DataFrame:
    """Predict images and write ``predictions.csv``, ``report.html``, heat maps and ``about.json``.

    Nothing is written but below the output folder, temporary files and caches included.

    Parameters
    ----------
    asking : Asking
    log : callable
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
        rows, about = _predict_in(asking, work, log)
        table = pd.DataFrame(rows)
        write_text(work / TABLE, table.to_csv(index=False, float_format="%.6g"))
        write_json(work / ABOUT, about)
    return table


def _predict_in(asking: Asking, work: Path, log) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from iavlib.data.images import MAX_PIXELS
    from iavlib.predict.ensemble import describe, make_ensemble, warn
    from iavlib.predict.model import load_predictor
    from iavlib.predict.report import STATEMENT, PictureStore, write_report

    predictors = [load_predictor(name) for name in asking.models]
    ensemble = make_ensemble(predictors, asking.alpha, asking.calibrate_on)
    masks = _masks(asking.masks)
    files = [Path(path) for found in masks.values() for _, path in found]
    asked = list_images(asking.sources, without=[asking.out, *files])
    explainers, reasons = find_explainers(ensemble) if asking.heat_maps else ({}, [])
    wishes = Wishes(explainers, masks, asking.max_pixels or MAX_PIXELS)
    with PictureStore(work / "pictures") as pictures:
        rows = predict_each(asked, ensemble, work, pictures, wishes, log)
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
    from iavlib.data.datasets.folder import read_listing

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
