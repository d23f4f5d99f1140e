"""Volumes with masks of several annotators: every marked slice becomes an image of a cohort.

A slice that at least one annotator marked is written to the cache once, with the mask of each
annotator, empty where that one marked nothing in it, and a table as
:mod:`iavlib.data.datasets.folder` reads it. Slices of one patient are never split apart.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.core.files import content_digests, write_text
from iavlib.core.project import cache_home
from iavlib.data.catalogue import Dataset
from iavlib.data.cohort import Cohort
from iavlib.data.datasets import folder

#: Raise when the images or masks that are written change.
VERSION = 1
#: Percentiles of a volume that become black and white.
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice.

    Attributes
    ----------
    name, patient : str
    picture : numpy.ndarray of uint8, shape (height, width)
    masks : mapping of str to numpy.ndarray of uint8, shape (height, width)
        By annotator.
    """

    name: str
    patient: str
    picture: np.ndarray
    masks: Mapping[str, np.ndarray]


def read_array(path: Path) -> np.ndarray:
    """Read an image or volume (NIfTI, NRRD, MetaImage, DICOM) of any number of dimensions.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    import SimpleITK

    try:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise DataError(path, f"no readable volume ({reason})", "copy it again") from None


def read_xml(path: Path) -> Element:
    """Read an XML file; its root.

    Raises
    ------
    DataError
        If the file is missing or not XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(path, f"is not XML ({error})", "copy the published file again") from None


def read_volume(path: Path) -> np.ndarray:
    """Read a volume, shape (slices, height, width), as :func:`read_array`.

    Raises
    ------
    DataError
        If the file cannot be read, or is no volume.
    """
    volume = read_array(path)
    if volume.ndim != 3:
        raise DataError(path, f"{volume.ndim} dimensions, not a volume", "replace it")
    return volume


def windowed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values to uint8, `low` and below black, `high` and above white."""
    share = (values.astype(float) - low) / max(high - low, 1e-9)
    return np.round(255 * share.clip(0, 1)).astype(np.uint8)


def marked_slices(
    name: str, patient: str, volume: Path, masks: Mapping[str, Path], greys: Mapping[int, int]
) -> Iterator[Slice]:
    """Go through the marked slices of a volume and of its annotators' masks.

    Parameters
    ----------
    name, patient : str
        Slices are called ``<name>_<position from 0, three digits>``.
    volume : pathlib.Path
    masks : mapping of str to pathlib.Path
        By annotator.
    greys : mapping of int to int
        Value in the masks to the grey value that is written; other values but 0 are refused.

    Raises
    ------
    DataError
        If a file cannot be read, sizes differ, or a mask holds another value.
    """
    values = read_volume(volume)
    low, high = np.percentile(values, PERCENTILES)
    drawn = {}
    for annotator, path in masks.items():
        labels = read_volume(path)
        if labels.shape != values.shape:
            problem = f"shape {labels.shape}, the image has {values.shape}"
            raise DataError(path, problem, "replace the one that was resized")
        if strange := set(np.unique(labels).tolist()) - {0, *greys}:
            problem = f"values {sorted(strange)[:5]} stand for no class"
            raise DataError(path, problem, f"write 0, {', '.join(map(str, greys))}")
        drawn[annotator] = sum(grey * (labels == value) for value, grey in greys.items())
    for z in np.flatnonzero(sum(drawn.values()).any(axis=(1, 2))).tolist():
        each = {annotator: marks[z].astype(np.uint8) for annotator, marks in drawn.items()}
        yield Slice(f"{name}_{z:03d}", patient, windowed(values[z], low, high), each)


def load_slices(
    dataset: Dataset,
    files: Iterable[Path],
    slices: Callable[[], Iterable[Slice]],
    classes: pd.DataFrame | None = None,
) -> Cohort:
    """Load the slices of a dataset as a cohort, from the cache where they are there.

    Parameters
    ----------
    dataset : Dataset
    files : iterable of pathlib.Path
        What slices are made of; they are made again where a file changes.
    slices : callable
        Makes them.
    classes : pandas.DataFrame, optional
        ``extras["classes"]`` of the cohort, of masks with several classes.

    Raises
    ------
    DatasetUnavailable
        If there are no files.
    DataError
        If a file is not what it should be, or no slice has a mask.
    """
    files = list(files)
    if not files:
        problem = f"no volumes with masks in {dataset.folder}"
        raise DatasetUnavailable(dataset.name, problem, dataset.how)
    try:
        digests = content_digests(files)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise DataError(error.filename, problem, "copy the published file again") from None
    names = [path.relative_to(dataset.folder).as_posix() for path in files]
    key = hashlib.sha256(repr((VERSION, names, digests)).encode()).hexdigest()[:16]
    kept = cache_home() / dataset.name / key
    if not (kept / folder.TABLE).is_file():
        kept.mkdir(parents=True, exist_ok=True)
        rows = [row for one in slices() for row in _written(one, kept)]
        if not rows:
            raise DataError(dataset.folder, "no slice has a mask", dataset.how)
        # The table comes last: where it exists, everything does.
        write_text(kept / folder.TABLE, pd.DataFrame(rows).to_csv(index=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # greys of classes are as intended
        cohort = folder.load(kept / folder.TABLE)
    about = {name: getattr(dataset, name) for name in ("name", "citation", "licence")}
    extras = {} if classes is None else {"classes": classes}
    return replace(cohort, source=str(dataset.folder), extras=extras, **about)


def _written(one: Slice, place: Path) -> Iterator[dict[str, str]]:
    Image.fromarray(one.picture).save(place / f"{one.name}.png")
    for annotator, mask in one.masks.items():
        name = f"{one.name}_{annotator}.png"
        Image.fromarray(mask).save(place / name)
        row = {"image_id": one.name, "image": f"{one.name}.png", "mask": name}
        yield row | {"annotator": annotator, "patient": one.patient}
