"""``iav predict``: predict images, and write a table and a report into one folder."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iavlib import explain
from iavlib.core.errors import DataError, ExplainError, PredictionError
from iavlib.core.files import csv_text, walk_files, write_json, write_text
from iavlib.data.datasets.folder import read_listing
from iavlib.data.exports import stem
from iavlib.data.images import MAX_PIXELS, is_image, jpeg, outline_path, read_mask, read_photograph
from iavlib.data.own_masks import path_key
from iavlib.data.schemas import IMAGE_SUFFIXES
from iavlib.predict import report
from iavlib.predict.model import Ensemble, Predictor, describe, limitations
from iavlib.predict.segmentation import CONSENSUS, LISTING, MASKS, Segmenter, load_models
from iavlib.training.image_cache import to_square

#: Suffixes of a folder's images beside those of datasets; a file that is named is always read.
_FURTHER = (".gif", ".webp")
SUFFIXES = (*IMAGE_SUFFIXES, *_FURTHER)
#: Formats of cameras and scanners that no installed library reads.
_NOT_READ = {"dcm": "DICOM", "dicom": "DICOM", "heic": "HEIC", "heif": "HEIC", "avif": "AVIF"}
_NOT_READ |= dict.fromkeys(("dng", "cr2", "cr3", "nef", "arw", "orf", "rw2"), "raw")
TABLE, REPORT, ABOUT, HEAT_MAPS = "predictions.csv", "report.html", "about.json", "heat_maps"
#: What is written; the last shows that the others are complete.
_RESULTS = (TABLE, REPORT, HEAT_MAPS, CONSENSUS, MASKS, LISTING, ABOUT)
_UNFINISHED = ".unfinished-"
PREDICTED, FAILED = "predicted", "failed"
COLUMNS = (
    *("image", "status", "problem", "hint", "width", "height"),
    *("predicted_dice", "dice_low", "dice_high", "area_share", "malignancy_probability"),
    *("ood_distance", "ood_p", "out_of_distribution", "heat_map", "notes"),
)
#: Images in memory at a time, at the size of the networks' input and of the report.
_BLOCK = 16
_SECONDS_BETWEEN_LINES = 10.0

#: Position of a requested image to annotators and files of masks.
Masks = Mapping[int, Sequence[tuple[str, str]]]
#: Target of an explanation to the model that predicts it and its explainer.
Explainers = Mapping[str, tuple[Predictor, explain.Explainer]]


@dataclass(frozen=True)
class PredictOptions:
    """What to predict, with which models, and where to write the results.

    Parameters
    ----------
    sources : sequence of Path
        Files and folders.
    models : sequence of str
        Folders or ids of finished runs.
    out : Path
    masks : Path, optional
        Table of masks or its folder, for outlines; see :mod:`iavlib.data.datasets.folder`.
    alpha : float
        Share of true values that may lie outside the intervals.
    calibrate_on : {"val", "test"}
    intervals : {"mondrian", "cqr", "equal"}
        See :func:`iavlib.predict.calibrate`.
    heat_maps : bool
    overwrite : bool
    max_pixels : int
        Larger images are refused before memory is allocated for them.
    embedded : int
        Number of images with pictures in the report, those of the least predicted agreement.
    """

    sources: Sequence[Path]
    models: Sequence[str]
    out: Path
    masks: Path | None = None
    alpha: float = 0.1
    calibrate_on: str = "val"
    intervals: str = "mondrian"
    heat_maps: bool = True
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    embedded: int = 1000


@dataclass(frozen=True)
class RequestedImage:
    """An image to predict, or the reason why it cannot be.

    Parameters
    ----------
    name : str
        Its path as given; for an image of a folder, relative to that folder.
    path : Path or None
        None where `problem` is set.
    problem, hint : str
    """

    name: str
    path: Path | None
    problem: str = ""
    hint: str = ""


def predict_images(options: PredictOptions, log: Callable[[str], None] = print) -> pd.DataFrame:
    """Predict images and write ``predictions.csv``, ``report.html``, heat maps and ``about.json``.

    All files are written below the output folder, including temporary files and caches.

    Parameters
    ----------
    options : PredictOptions
    log : callable
        Receives lines of progress.

    Returns
    -------
    pandas.DataFrame
        As ``predictions.csv``: one row per image, with ``status`` ``predicted`` or ``failed``.

    Raises
    ------
    PredictionError, ExperimentError, DataError, DatasetUnavailable
        If a model, the table of masks or the output folder cannot be used. An image that cannot
        be used is a row.
    """
    for source in options.sources:
        if source.resolve() == options.out.resolve():
            hint = "choose another folder for --out"
            raise PredictionError(options.out, "holds the images", hint)
    with output_folder(options.out, options.overwrite) as work, _matplotlib_cache(work):
        calibration = options.alpha, options.calibrate_on, options.intervals
        ensemble = load_models(options.models, *calibration)
        facts = describe(ensemble)
        listing = read_listing(options.masks, strict=False) if options.masks else None
        read = () if listing is None else [*listing.summary(), listing.counts()]
        facts += [f"masks: {line}" for line in read]
        for fact in facts:
            log(fact)
        files = () if listing is None else listing.source.rows["path"].dropna()
        requested = list_images(options.sources, exclude=[options.out, *map(Path, files)])
        masks = {} if listing is None else find_masks(listing.rows, requested)
        explained = options.heat_maps and isinstance(ensemble, Ensemble)
        explainers, reasons = find_explainers(ensemble) if explained else ({}, [])
        rows = _predict_all(requested, ensemble, explainers, masks, options.max_pixels, work, log)
        about = {
            "statement": report.STATEMENT,
            "models": [model.name for model in ensemble.predictors],
            "agreement": bool(ensemble.calibrations),
            "alpha": options.alpha,
            "intervals": options.intervals,
            "facts": facts,
            "warnings": [*limitations(ensemble), *reasons],
            "images": len(rows),
            "failed": sum(row["status"] == FAILED for row in rows),
            "with_masks": None if listing is None else len(masks),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        about["summary"] = report.summarise(rows, about)
        report.write_report(work / REPORT, rows, work / "pictures", about, options.embedded)
        table = pd.DataFrame(rows)
        write_text(work / TABLE, csv_text(table, float_format="%.6g"))
        if isinstance(ensemble, Segmenter) and ensemble.listing:
            write_text(work / LISTING, csv_text(pd.DataFrame(ensemble.listing)))
        write_json(work / ABOUT, about)
    for row in table[table["status"] == FAILED].itertuples():
        log(f"not predicted: {row.image}: {row.problem}; {row.hint}")
    for line in [*about["summary"], *(f"warning: {text}" for text in about["warnings"])]:
        log(line)
    return table


def list_images(sources: Sequence[Path], exclude: Collection[Path] = ()) -> list[RequestedImage]:
    """List the images of files and folders.

    Parameters
    ----------
    sources : sequence of Path
        Folders are searched recursively, in the order of names; hidden files and folders, and the
        superpixels of the ISIC archive, are ignored.
    exclude : collection of Path
        Files and folders to leave out, such as masks and the output.

    Returns
    -------
    list of RequestedImage
        A folder without images, and a photograph in a format that is not read, are entries with
        the reason.
    """
    excluded = {os.path.realpath(path) for path in exclude}
    requested = []
    for source in sources:
        if not source.is_dir():
            requested.append(_request(source.name, source))
            continue
        paths = [path for path in walk_files(source) if _is_photograph(path, excluded)]
        requested += [_request(str(path.relative_to(source)), path) for path in paths]
        if not paths:
            problem, hint = "the folder holds no image", f"put files {', '.join(SUFFIXES)} into it"
            requested.append(RequestedImage(_as_utf8(str(source)), None, problem, hint))
    return requested


def find_masks(rows: pd.DataFrame, requested: Sequence[RequestedImage]) -> Masks:
    """Find the masks of requested images: by the image file of their rows, else by the id.

    An id stands for an image whose path ends so; where it fits several requested images, or
    several ids fit one, their masks are nobody's.
    """
    by_file: dict[str, list] = {}
    by_id: dict[tuple[str, ...], list] = {}
    for row in rows.itertuples():
        drawn = (str(row.annotator), str(row.mask_path))
        by_id.setdefault(path_key(str(row.image_id).split("/")), []).append(drawn)
        if pd.notna(row.image_path):
            by_file.setdefault(os.path.realpath(row.image_path), []).append(drawn)
    names = [path_key(Path(os.path.abspath(r.path or r.name)).parts) for r in requested]
    found: dict[int, list] = {}
    for number, (image, name) in enumerate(zip(requested, names, strict=True)):
        ids = [i for i in by_id if name[-len(i) :] == i]
        alone = len(ids) == 1 and sum(n[-len(ids[0]) :] == ids[0] for n in names) == 1
        own = by_file.get(os.path.realpath(image.path or ""))
        if own or alone:
            found[number] = own or by_id[ids[0]]
    return found


def _is_photograph(path: Path, excluded: Collection[str]) -> bool:
    real = Path(os.path.realpath(path))
    if not {str(real), *map(str, real.parents)}.isdisjoint(excluded):
        return False
    return is_image(path) or path.suffix.lower() in _FURTHER or bool(_other_format(path))


def _other_format(path: Path) -> str:
    """Return the name of a format of photographs that is not read, else an empty text."""
    if path.suffix or not path.is_file():
        return _NOT_READ.get(path.suffix.lower()[1:], "")
    with path.open("rb") as file:  # scanners write DICOM files without a suffix
        return "DICOM" if file.read(132)[128:] == b"DICM" else ""


def _request(name: str, path: Path) -> RequestedImage:
    if other := _other_format(path):
        why = f"{other} files are not read", "save the photograph as JPEG or PNG"
        return RequestedImage(_as_utf8(name), None, *why)
    return RequestedImage(_as_utf8(name), path)


def _as_utf8(name: str) -> str:
    """Replace bytes of a file's name that are not UTF-8, so that text files can hold it."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def output_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder inside `out`, and move the results in it to `out` at the end.

    After an error nothing of it is left.

    Parameters
    ----------
    out : Path
        New or empty; with `overwrite` also one with the results of an earlier call.
    overwrite : bool
        Replace those results; other files stay.

    Yields
    ------
    Path

    Raises
    ------
    PredictionError
        If the folder is not empty and may not be overwritten, or holds no results of
        ``iav predict``.
    """
    existed = os.path.lexists(out)
    if existed and not out.is_dir():
        raise PredictionError(out, "exists and is not a folder", "choose another name")
    # a killed call may have left its unfinished folder, which is ignored
    content = {p.name for p in out.glob("*") if not p.name.startswith(_UNFINISHED)}
    if content and not overwrite:
        hint = "choose a new folder, or add --overwrite to replace the results in it"
        raise PredictionError(out, "exists and is not empty", hint)
    if content and ABOUT not in content:
        problem = "holds files that are no results of 'iav predict'"
        raise PredictionError(out, problem, "choose a new folder")
    work = out / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        work.mkdir(parents=True)
    except OSError as error:
        problem = f"cannot be created ({error.strerror})"
        raise PredictionError(out, problem, "choose another folder") from None
    try:
        yield work
        for name in _RESULTS:
            target = out / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            target.unlink(missing_ok=True)
            if (work / name).exists():
                os.replace(work / name, target)
        for left in out.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not existed and not any(out.iterdir()):
            out.rmdir()


@contextmanager
def _matplotlib_cache(work: Path) -> Iterator[None]:
    """Let matplotlib write its list of fonts below `work`, which is removed at the end."""
    before = os.environ.get("MPLCONFIGDIR")
    os.environ["MPLCONFIGDIR"] = str(work / "matplotlib")
    try:
        yield
    finally:
        del os.environ["MPLCONFIGDIR"]
        if before is not None:
            os.environ["MPLCONFIGDIR"] = before


def find_explainers(ensemble: Ensemble) -> tuple[Explainers, list[str]]:
    """Find what can be explained, each by the first model that predicts it.

    Returns
    -------
    dict
        What lowers and what raises predicted agreement, and what looks malignant, to a pair of
        the model and its explainer.
    list of str
        Why something cannot be explained.
    """
    explainers: dict[str, tuple[Predictor, explain.Explainer]] = {}
    reasons = []
    named = {
        "predicts_agreement": (explain.LOWERS, explain.RAISES),
        "predicts_malignancy": (explain.MALIGNANT,),
    }
    for predicts, targets in named.items():
        model = next((model for model in ensemble.predictors if getattr(model, predicts)), None)
        if model is None:
            continue
        reference = ensemble.references.get(model.name)
        centre = reference.centre if reference else {}
        # plain Grad-CAM of a regression is often empty in one direction: it has no zero
        method = explain.CENTRED if centre else explain.GRADCAM
        try:
            own = explain.Explainer(model.network, targets, [method], reference=centre)
            explainers |= dict.fromkeys(targets, (model, own))
        except ExplainError as error:  # a feature map of one pixel shows nothing
            reasons.append(f"No heat maps by {model.name}: {error}")
    return explainers, reasons


def _predict_all(
    requested: Sequence[RequestedImage],
    ensemble: Ensemble | Segmenter,
    explainers: Explainers,
    masks: Masks,
    max_pixels: int,
    work: Path,
    log: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Predict images, a few in memory at a time; None in a row is a value that is not known."""
    (work / "pictures").mkdir()
    if explainers:
        (work / HEAT_MAPS).mkdir()
    rows: list[dict[str, Any]] = []
    last = time.monotonic()
    for start in range(0, len(requested), _BLOCK):
        pictures: dict[int, Image.Image] = {}
        squares: dict[int, list[np.ndarray]] = {size: [] for size in ensemble.sizes}
        for image in requested[start : start + _BLOCK]:
            row = dict.fromkeys(COLUMNS) | {"image": image.name, "status": FAILED, "notes": ""}
            rows.append(row | {"problem": image.problem, "hint": image.hint})
            if image.path is None:
                continue
            try:
                photograph = read_photograph(image.path, max_pixels)
            except DataError as error:
                rows[-1] |= {"problem": error.problem, "hint": error.hint}
                continue
            rows[-1] |= {"width": photograph.width, "height": photograph.height}
            pictures[len(rows) - 1] = report.thumbnail(photograph)
            for size, images in squares.items():
                images.append(to_square(photograph, size))
        if pictures:
            pixels = {size: np.stack(images) for size, images in squares.items()}
            heats = _predict_block(pixels, ensemble, explainers, [rows[n] for n in pictures])
            for place, (number, picture) in enumerate(pictures.items()):
                maps = {target: values[place] for target, values in heats.items()}
                drawn = [*masks.get(number, ()), *ensemble.write_masks(place, rows[number], work)]
                _illustrate(number, rows[number], picture, maps, drawn, ensemble, work)
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            log(f"{len(rows):,} of {len(requested):,} images")
    return rows


def _predict_block(pixels, ensemble: Ensemble, explainers: Explainers, rows) -> dict:
    """Fill the numbers of some images into their rows; return heat maps by target."""
    table = ensemble.predict(pixels).astype(object)
    for row, values in zip(rows, table.where(table.notna(), None).to_dict("records"), strict=True):
        row |= {**values, "status": PREDICTED}
    heats = {}
    for model, explainer in dict.fromkeys(explainers.values()):
        maps = explainer.explain(model.to_input(pixels[model.size])).maps
        heats |= {target: values for (target, _), values in maps.items()}
    return heats


def _illustrate(number, row, picture: Image.Image, maps, drawn, ensemble, work) -> None:
    """Save the heat maps of an image and its cell of the report, and note what is missing."""
    files, heats = [], {}
    for target, heat in maps.items():
        if heat.any():
            heats[target] = jpeg(report.overlay_heat(picture, heat))
            files.append(f"{HEAT_MAPS}/{number + 1:05d}_{target.replace(' ', '_')}.jpg")
            (work / files[-1]).write_bytes(heats[target])
    row["heat_map"] = ";".join(files) or None
    notes, outlines = [ensemble.trained_on(stem(row["image"]))], []
    for annotator, path in drawn:
        try:
            outlines.append((annotator, outline_path(read_mask(path), picture.size)))
        except DataError as error:
            notes.append(f"mask {Path(error.where).name}: {error.problem}")
    row["notes"] = "; ".join(filter(None, notes))
    empty = [target for target in maps if target not in heats]
    cell = report.picture_cell(row["image"], jpeg(picture), picture.size, heats, outlines, empty)
    (work / "pictures" / f"{number}.html").write_text(cell, "utf-8")
