"""Pairwise metrics of a whole cohort, computed from its mask files.

Results of single images kept in a file, so that a run that was stopped goes on.

From pairs of masks to one row an image.

Agreement beside the label it may tell something about.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from iavlib.core.errors import DataError
from iavlib.core.processes import ProcessDied, Progress, default_processes, run_all
from iavlib.data.cohort import Cohort
from iavlib.data.images import read_mask
from iavlib.data.schemas import FACTORS, PAIR_TEXT
from iavlib.masks.metrics import (
    DEFAULT,
    Metric,
    PairOptions,
    image_pairs,
    metric_names,
    registry_version,
    selected_metrics,
)
from iavlib.masks.surfaces import PreparedMask, prepare


class ImageStore:
    """One line of JSON an image, appended when the image is done; nothing is rewritten.

    A record is found by its key, which must say everything it depends on. A last line that was
    not written to its end is taken off the file; any other line that cannot be read is passed
    over with a warning, so that its image is done again. One process writes at a time.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; made, with its folder, if it is not there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._records: dict[str, dict] = {}
        self._file = self.path.open("a+b")
        self._read()

    def __enter__(self) -> ImageStore:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: str) -> dict | None:
        """Return the record with this key, or None."""
        return self._records.get(key)

    def append(self, key: str, record: dict) -> None:
        """Write a record; once this returns it outlives the process."""
        line = json.dumps({"key": key, "record": record}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._records[key] = record

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                entry = json.loads(line)
                self._records[entry["key"]] = entry["record"]
            except (ValueError, KeyError, TypeError):
                warnings.warn(
                    f"{self.path}, line {number}: not as written; its image is done again",
                    stacklevel=3,
                )
        self._file.truncate(whole)


PROBLEM_COLUMNS = ("image_id", "mask_id", "path", "problem", "hint", "left_out")
STORE = "pairs.jsonl"
VERSION = 1  # of what a stored line holds; another number makes every image be done again


@dataclass(frozen=True)
class PairTable:
    """What :func:`pair_table` returns.

    Attributes
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``, with the metrics of :class:`PairOptions`; images in the order of the
        masks table, within an image ordered by ``mask_1``, then ``mask_2``.
    problems : pandas.DataFrame
        ``image_id``, ``mask_id``, ``path``, ``problem``, ``hint``, and ``left_out``: whether the
        mask is missing from ``pairs``. A mask that is empty or covers the whole image is told
        here but stays in.
    n_images, n_reused : int
        Images with at least two masks, and how many of them an earlier run had done.
    """

    pairs: pd.DataFrame
    problems: pd.DataFrame
    n_images: int
    n_reused: int


@dataclass(frozen=True)
class _Image:
    """One image's masks, as sent to another process."""

    image_id: str
    masks: tuple[tuple[str, str | None], ...]
    read: Callable
    options: PairOptions
    metrics: tuple[Metric, ...]
    folder: str | None


def pair_table(
    masks: pd.DataFrame,
    read: Callable = read_mask,
    processes: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
    out: str | Path | None = None,
    options: PairOptions = DEFAULT,
    folder: str | Path | None = None,
) -> PairTable:
    """Compare every pair of masks of every image.

    Parameters
    ----------
    masks : pandas.DataFrame
        As ``Cohort.masks``: index ``mask_id``; columns ``image_id``, ``path`` and, where known,
        ``annotator``, ``tool``, ``skill``. Images with one mask have no pair: they are not read.
    read : callable
        From path to array of shape (height, width), values above 0 inside. With several
        processes a function of a module (``functools.partial(read_mask, max_pixels=...)`` too).
    processes : int, optional
        One a core unless given, fewer for few images. Each holds the masks of one image.
    progress : bool or callable
        True prints a line every ten seconds; a callable is called with images done and total.
    out : str or pathlib.Path, optional
        Folder in which each image's result is kept as a line of ``pairs.jsonl``. Called again,
        an image is not computed anew unless a file of it (size, time of change), its list of
        masks, the options or ``read`` are others, or a mask of it was left out.
    options : PairOptions
    folder : str or pathlib.Path, optional
        Where relative paths begin; paths that lead out of it are then refused.

    Returns
    -------
    PairTable
        A mask that cannot be used (missing, unreadable, no mask, of another size than most of
        its image's masks) is a row of ``problems`` and left out; everything else is done.

    Raises
    ------
    DataError
        If the table lacks a column or names a mask twice.
    ValueError
        If ``processes`` is not at least 1.
    RuntimeError
        If other processes cannot be started or cannot import ``read``.
    """
    images = _images(masks, read, options, folder)
    records: dict[str, dict] = {}
    bar = Progress(progress, len(images), "images compared")
    if out is None:
        _compare(images, records, processes, bar)
        reused = 0
    else:
        with ImageStore(Path(out) / STORE) as store:
            keys = {image.image_id: _key(image) for image in images}
            records |= _stored(images, keys, store)
            reused = len(records)
            bar.step(reused)
            _compare(images, records, processes, bar, lambda i, r: store.append(keys[i], r))
    found = [records[image.image_id] for image in images]
    pairs = _pairs(found, masks, options)
    return PairTable(pairs, _problems(found), len(images), reused)


def compare_image(image: _Image) -> dict:
    """Read and compare the masks of one image; JSON can hold what comes back."""
    prepared, problems = {}, []
    for mask_id, path in image.masks:
        try:
            prepared[mask_id] = prepare(image.read(_located(path, image.folder)))
        except Exception as error:  # whatever a file makes a reader do: told, and the rest goes on
            problems.append(_problem(mask_id, path, *_told(error), left_out=True))
    paths = dict(image.masks)
    for mask_id in _misfits(prepared):
        height, width = prepared.pop(mask_id).shape
        told = f"{width} x {height} pixels, not as the image's other masks"
        hint = "replace it by a mask of the image's size"
        problems.append(_problem(mask_id, paths[mask_id], told, hint, left_out=True))
    for mask_id, mask in prepared.items():
        if mask.empty or mask.full:
            told = "empty" if mask.empty else "covers the whole image"
            hint = "see whether the annotator meant that; distances to it say little"
            problems.append(_problem(mask_id, paths[mask_id], told, hint, left_out=False))
    try:
        pairs = image_pairs(prepared, image.options, image.metrics)
    except MemoryError:
        return _lost(image.image_id, "not enough memory to compare its masks")
    pairs = [{name: _for_json(value) for name, value in pair.items()} for pair in pairs]
    return {"image_id": image.image_id, "pairs": pairs, "problems": problems}


def _compare(images, records, processes, bar, keep: Callable | None = None) -> None:
    """Fill ``records`` with the images that are missing there."""
    todo = [image for image in images if image.image_id not in records]
    if processes is None:
        processes = default_processes(len(todo))
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    for index, record in run_all(compare_image, todo, min(processes, max(len(todo), 1))):
        image_id = todo[index].image_id
        if isinstance(record, ProcessDied):
            record = _lost(image_id, str(record))
        if keep is not None:
            keep(image_id, record)
        records[image_id] = record
        bar.step()


def _images(masks: pd.DataFrame, read, options, folder) -> list[_Image]:
    """List the images with at least two masks, in order of first appearance."""
    hint = "give the table an index mask_id and the columns image_id and path"
    for column in ("image_id", "path"):
        if column not in masks:
            raise DataError("masks table", f"column {column!r} is missing", hint)
    ids = masks.index.astype("str")
    twice = ids[ids.duplicated()]
    if len(twice):
        raise DataError("masks table", f"mask_id {twice[0]!r} is there twice", hint)
    unknown = masks.index[masks["image_id"].isna()]
    if len(unknown):
        raise DataError("masks table", f"mask {unknown[0]!r} has no image_id", hint)
    folder = None if folder is None else str(Path(folder).resolve())
    metrics, images = selected_metrics(options.extra), []
    for image_id, rows in masks.groupby("image_id", sort=False):
        paths = [None if pd.isna(path) or path == "" else str(path) for path in rows["path"]]
        if len(paths) > 1:
            listed = tuple(zip(map(str, rows.index), paths, strict=True))
            images.append(_Image(str(image_id), listed, read, options, metrics, folder))
    return images


def _located(path: str | None, folder: str | None) -> str:
    if path is None:
        raise DataError("masks table", "no path", "enter the mask's file or take the row out")
    if folder is None:
        return path
    located = (Path(folder) / path).resolve()
    if not located.is_relative_to(folder):
        raise DataError(path, f"outside of {folder}", "move the file there or correct the path")
    return str(located)


def _told(error: Exception) -> tuple[str, str]:
    if isinstance(error, DataError):
        return error.problem, error.hint
    return f"{type(error).__name__}: {error}", "see whether the file opens in another program"


def _problem(mask_id, path, problem: str, hint: str, left_out: bool) -> dict:
    return dict(zip(PROBLEM_COLUMNS[1:], (mask_id, path, problem, hint, left_out), strict=True))


def _lost(image_id: str, problem: str) -> dict:
    """Return the record of an image none of whose masks could be compared."""
    hint = "see how large its masks are; try fewer processes"
    problems = [_problem(None, None, problem, hint, left_out=True)]
    return {"image_id": image_id, "pairs": [], "problems": problems}


def _misfits(prepared: dict[str, PreparedMask]) -> list[str]:
    """Return the masks that have not the shape most have; all, if no shape is the most frequent."""
    shapes = Counter(mask.shape for mask in prepared.values()).most_common(2)
    if len(shapes) < 2:
        return []
    usual = shapes[0][0] if shapes[0][1] > shapes[1][1] else None
    return [mask_id for mask_id, mask in prepared.items() if mask.shape != usual]


def _for_json(value):
    return None if isinstance(value, float) and math.isnan(value) else value


def _key(image: _Image) -> str:
    """Say, in a few characters, everything the record of an image depends on."""
    files = [[mask_id, path, *_state(path, image.folder)] for mask_id, path in image.masks]
    options = [asdict(image.options), registry_version(image.options.extra)]
    facts = [VERSION, image.image_id, files, *options, _name(image.read)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def _state(path: str | None, folder: str | None) -> tuple[int, int] | tuple[None, None]:
    try:
        state = os.stat(_located(path, folder))
    except (OSError, ValueError):
        return None, None
    return state.st_size, state.st_mtime_ns


def _name(function) -> str:
    """Name a function, with what functools.partial bound, the same in every process."""
    if hasattr(function, "func"):
        bound = sorted(function.keywords.items())
        return f"{_name(function.func)}{function.args!r}{bound!r}"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"


def _stored(images: Iterable[_Image], keys: dict[str, str], store: ImageStore) -> dict[str, dict]:
    """Return the records of an earlier run that hold; images with a mask left out are retried."""
    found = {image.image_id: store.find(keys[image.image_id]) for image in images}
    return {
        image_id: record
        for image_id, record in found.items()
        if record is not None and not any(row["left_out"] for row in record["problems"])
    }


def _pairs(records: list[dict], masks: pd.DataFrame, options: PairOptions) -> pd.DataFrame:
    rows = [{"image_id": r["image_id"], **pair} for r in records for pair in r["pairs"]]
    metrics = metric_names(selected_metrics(options.extra))
    table = pd.DataFrame(rows, columns=[*PAIR_TEXT, *metrics])
    known = masks.set_axis(masks.index.astype("str"))
    for factor in FACTORS:
        for side in (1, 2):
            if factor in known:
                of_mask = table[f"mask_{side}"].map(known[factor])
                table[f"{factor}_{side}"] = of_mask.astype("str").where(of_mask.notna())
    return table.astype(dict.fromkeys(PAIR_TEXT, "str") | dict.fromkeys(metrics, float))


def _problems(records: list[dict]) -> pd.DataFrame:
    rows = [{"image_id": r["image_id"], **problem} for r in records for problem in r["problems"]]
    return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS)).astype({"left_out": bool})


def image_level(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average every metric over the pairs of each image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        Pairs table of a cohort: one row per unordered pair of annotators' masks.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``, in order of first appearance; for each metric ``<metric>_mean`` and
        ``<metric>_std`` (n - 1 in the denominator, missing for a single pair), and ``n_pairs``.
        Distances that do not exist (an empty mask) are left out of their mean.
    """
    groups = pairs.groupby("image_id", sort=False)
    table = groups[[name for name in metric_names() if name in pairs]].agg(["mean", "std"])
    table.columns = [f"{metric}_{statistic}" for metric, statistic in table.columns]
    return table.assign(n_pairs=groups.size())


Indeterminate = Literal["out", "benign"]


def labelled_pairs(
    cohort: Cohort, indeterminate: Indeterminate = "out", pairs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Join the pairs of masks with the malignancy and the patient of their image.

    Parameters
    ----------
    cohort : Cohort
    indeterminate : {"out", "benign"}
        What becomes of indeterminate lesions: left out, or counted as benign as the published
        evaluation of the regression does. Images of unknown malignancy are always left out.
    pairs : pandas.DataFrame, optional
        Other pairs of masks of the cohort's images, for instance of consensus masks; the pairs of
        annotators' masks unless given.

    Returns
    -------
    pandas.DataFrame
        The pairs that stay, with ``malignant`` (bool), ``cluster`` (patient,
        or the image itself) and ``n_masks`` (masks of the image).

    Raises
    ------
    ValueError
        If no pair is left, or none of benign, or none of malignant lesions.
    """
    if indeterminate not in ("out", "benign"):
        raise ValueError(f"indeterminate must be 'out' or 'benign', not {indeterminate!r}")
    kept = {"benign", "malignant"} | ({"indeterminate"} if indeterminate == "benign" else set())
    malignancy = cohort.images["malignancy"]
    pairs = cohort.pairs if pairs is None else pairs
    pairs = pairs[pairs["image_id"].map(malignancy).isin(kept)]
    image = pairs["image_id"]
    malignant = image.map(malignancy).eq("malignant")
    if malignant.nunique() < 2:
        counts = cohort.images["malignancy"].value_counts().to_dict()
        raise ValueError(
            f"{cohort.name}: agreement of malignant and benign lesions cannot be compared without "
            f"pairs of masks on both (images by malignancy: {counts}); add the labels"
        )
    return pairs.assign(
        malignant=malignant,
        cluster=image.map(cohort.clusters()),
        n_masks=image.map(cohort.masks["image_id"].value_counts()),
    ).reset_index(drop=True)


def labelled_images(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average labelled pairs to one row an image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From :func:`labelled_pairs`, perhaps with some pairs taken out.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: the mean of every metric over the image's pairs, under the metric's
        own name (missing distances left out of their mean), ``malignant``, ``cluster``,
        ``n_masks`` and ``n_pairs``.
    """
    groups = pairs.groupby("image_id", sort=False)
    facts = groups[["malignant", "cluster", "n_masks"]].first()
    metrics = [name for name in metric_names() if name in pairs]
    return groups[metrics].mean().join(facts).assign(n_pairs=groups.size())
