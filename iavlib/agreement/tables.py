"""Pairwise metrics of a whole cohort from its mask files, and summaries by image and label."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from iavlib.core.errors import DataError, check_choice
from iavlib.core.files import replacing
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import mask_paths, read_mask
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
from iavlib.masks.surfaces import PreparedMask, as_mask, looks_inverted, prepare

PROBLEM_COLUMNS = ("image_id", "mask_id", "path", "problem", "hint", "left_out")
STORE = "pairs.jsonl"
VERSION = 2  # of the stored lines; another number makes every image be compared again


class ImageStore:
    """Results of single images in a file, one line of JSON each, so that a run can be resumed.

    A record is found by its key, which must contain everything it depends on. An incomplete last
    line is removed from the file; any other line that cannot be read is skipped with a warning, so
    that its image is compared again. One process writes at a time.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; it is created, with its folder, if it does not exist.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._records: dict[str, dict] = {}
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            hint = "remove it, or choose another folder"
            raise DataError(self.path, f"cannot be opened ({error.strerror})", hint) from None
        self._read()

    def __enter__(self) -> ImageStore:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._records)

    def append(self, key: str, record: dict) -> None:
        """Write a record; once this returns it outlives the process."""
        self._file.write(self._line(key, record))
        self._file.flush()
        self._records[key] = record

    def reusable(self, key: str) -> dict | None:
        """Return the record with this key, unless a mask was left out: that is tried again."""
        record = self._records.get(key)
        return record if record and not any(p["left_out"] for p in record["problems"]) else None

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove all other records: of masks that changed, or of other options."""
        self._records = {key: self._records[key] for key in keys if key in self._records}
        self._file.close()
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(self._line(*item) for item in self._records.items()))
        self._file = self.path.open("a+b")

    @staticmethod
    def _line(key: str, record: dict) -> bytes:
        line = json.dumps({"key": key, "record": record}, allow_nan=False)
        return line.encode() + b"\n"

    def _read(self) -> None:
        self._file.seek(0)
        complete = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            try:
                entry = json.loads(line)
                self._records[entry["key"]] = entry["record"]
            except (ValueError, KeyError, TypeError):
                damage = f"{self.path}, line {number}: damaged; its image is compared again"
                warnings.warn(damage, stacklevel=3)
        self._file.truncate(complete)


@dataclass(frozen=True)
class PairTable:
    """Result of :func:`pair_table`.

    Attributes
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``, with the metrics chosen by :class:`~iavlib.masks.PairOptions`; images
        in the order of the masks table, within an image ordered by ``mask_1``, then ``mask_2``.
    problems : pandas.DataFrame
        ``image_id``, ``mask_id``, ``path``, ``problem``, ``hint``, and ``left_out``: whether the
        mask is missing from ``pairs``. A mask that is empty or covers the whole image is reported
        here but stays in.
    n_images, n_reused : int
        Images with at least two masks, and how many of them an earlier run had compared.
    """

    pairs: pd.DataFrame
    problems: pd.DataFrame
    n_images: int
    n_reused: int


def pair_table(
    masks: pd.DataFrame,
    read: Callable = read_mask,
    processes: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
    out: str | Path | None = None,
    options: PairOptions = DEFAULT,
) -> PairTable:
    """Compare every pair of masks of every image.

    Parameters
    ----------
    masks : pandas.DataFrame
        As ``Cohort.masks``: index ``mask_id``; columns ``image_id``, ``path`` and, where known,
        ``annotator``, ``tool``, ``skill``. Images with one mask have no pair and are not read.
    read : callable
        From path to array of shape (height, width), values above 0 inside. With several processes
        a function of a module (``functools.partial(read_mask, max_pixels=...)`` too).
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.
    progress : bool or callable
        True prints a line every ten seconds; a callable is called with images done and total.
    out : str or pathlib.Path, optional
        Folder in which each image's result is kept as a line of ``pairs.jsonl``. In a later call,
        an image is compared again only if one of its files (size, time of change), its list of
        masks, the options, the metrics or ``read`` changed, or a mask of it was left out.
    options : PairOptions

    Returns
    -------
    PairTable
        A mask that cannot be used (missing, unreadable, not a mask, of another size than most
        masks of its image) is a row of ``problems`` and left out; all others are compared.

    Raises
    ------
    DataError
        If the table lacks a column or names a mask twice.
    ValueError
        If ``processes`` is not at least 1.
    RuntimeError
        If other processes cannot be started or cannot import ``read``.
    """
    check_table(masks)
    tasks = mask_paths(masks)
    metrics = selected_metrics(options.extra)
    compare = partial(compare_image, read=read, options=options, metrics=metrics)
    records: dict[str, dict] = {}
    keys = {image_id: image_key(image_id, tasks[image_id], read, options) for image_id in tasks}
    with ImageStore(Path(out) / STORE) if out is not None else nullcontext() as store:
        if store is not None:
            found = {image_id: store.reusable(key) for image_id, key in keys.items()}
            records = {image_id: record for image_id, record in found.items() if record}
        reused = len(records)

        def keep(record: dict) -> None:
            records[record["image_id"]] = record
            if store is not None:
                store.append(keys[record["image_id"]], record)

        todo = [task for task in tasks.items() if task[0] not in records]
        run_in_order(
            compare, todo, processes, lost_record, progress, "images compared", keep, reused
        )
    return table_of_records([records[image_id] for image_id in tasks], masks, metrics, reused)


def table_of_records(
    ordered: list[dict], masks: pd.DataFrame, metrics: tuple[Metric, ...], reused: int = 0
) -> PairTable:
    """Arrange the records of :func:`compare_image` as tables."""
    rows = [{"image_id": r["image_id"], **row} for r in ordered for row in r["problems"]]
    problems = pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS)).astype({"left_out": bool})
    return PairTable(_pairs(ordered, masks, metric_names(metrics)), problems, len(ordered), reused)


def compare_image(
    task: tuple[str, dict[str, str | None]],
    read: Callable,
    options: PairOptions,
    metrics: tuple[Metric, ...],
) -> dict:
    """Read and compare the masks of one image (its id and mask files).

    The result can be written as JSON.
    """
    image_id, paths = task
    prepared, problems = {}, []

    def report(mask_id: str, problem: str, hint: str, left_out: bool = True) -> None:
        row = (image_id, mask_id, paths[mask_id], problem, hint, left_out)
        problems.append(dict(zip(PROBLEM_COLUMNS, row, strict=True)))

    for mask_id, path in paths.items():
        if path is None:
            report(mask_id, "no path", "enter the mask's file or remove the row")
            continue
        try:
            mask = as_mask(read(path))
            prepared[mask_id] = prepare(mask)
            if looks_inverted(mask):
                problem = f"inverted? Inside on all borders and {mask.mean():.0%} of the image"
                report(mask_id, problem, "if background is marked, invert the file", left_out=False)
        except DataError as error:
            report(mask_id, error.problem, error.hint)
        except Exception as error:  # a reader may raise anything for a damaged file
            problem = f"{type(error).__name__}: {error}"
            report(mask_id, problem, "check whether the file opens in another program")
    for mask_id in _misfits(prepared):
        height, width = prepared.pop(mask_id).shape
        size = f"{width} x {height} pixels, unlike the image's other masks"
        report(mask_id, size, "replace it by a mask of the image's size")
    for mask_id, mask in prepared.items():
        if mask.empty or mask.full:
            kind = "empty" if mask.empty else "covers the whole image"
            hint = "check whether the annotator meant that; distances to it mean little"
            report(mask_id, kind, hint, left_out=False)
    try:
        pairs = image_pairs(prepared, options, metrics)
    except MemoryError:
        return lost_record(task, "not enough memory to compare its masks")
    for pair in pairs:
        missing = [n for n, v in pair.items() if isinstance(v, float) and math.isnan(v)]
        pair.update(dict.fromkeys(missing))
    return {"image_id": image_id, "pairs": pairs, "problems": problems}


def check_table(masks: pd.DataFrame) -> None:
    """Raise :class:`DataError` unless each mask has an image, a path and an id of its own."""
    ids = masks.index.astype("str")
    lacking = [column for column in ("image_id", "path") if column not in masks]
    if lacking:
        problem = f"column {lacking[0]!r} is missing"
    elif ids.has_duplicates:
        problem = f"mask_id {ids[ids.duplicated()][0]!r} is there twice"
    elif masks["image_id"].isna().any():
        problem = f"mask {masks.index[masks['image_id'].isna()][0]!r} has no image_id"
    else:
        return
    hint = "give the table an index mask_id and the columns image_id and path"
    raise DataError("masks table", problem, hint)


def lost_record(task: tuple, error: DataError | str) -> dict:
    """Return the record of an image none of whose masks could be compared."""
    problem = error if isinstance(error, str) else error.problem
    hint = "see how large its masks are; try fewer processes"
    rows = [(task[0], *mask, problem, hint, True) for mask in task[1].items()]
    problems = [dict(zip(PROBLEM_COLUMNS, row, strict=True)) for row in rows]
    return {"image_id": task[0], "pairs": [], "problems": problems}


def _misfits(prepared: dict[str, PreparedMask]) -> list[str]:
    """Return the masks without the most frequent shape; all, if no shape is the most frequent."""
    shapes = Counter(mask.shape for mask in prepared.values()).most_common(2)
    if len(shapes) < 2:
        return []
    usual = shapes[0][0] if shapes[0][1] > shapes[1][1] else None
    return [mask_id for mask_id, mask in prepared.items() if mask.shape != usual]


def image_key(image_id: str, paths: dict, read: Callable, options: PairOptions) -> str:
    """Return a short digest of everything the record of an image depends on."""
    files = []
    for mask_id, path in paths.items():
        try:
            state = os.stat(path or "")
            files.append([mask_id, path, state.st_size, state.st_mtime_ns])
        except OSError:
            files.append([mask_id, path, None, None])
    facts = [VERSION, image_id, files, asdict(options), registry_version(options.extra)]
    return hashlib.sha256(json.dumps([*facts, _name(read)]).encode()).hexdigest()[:20]


def _name(function) -> str:
    """Name a function, with what functools.partial bound, the same in every process."""
    if hasattr(function, "func"):
        bound = sorted(function.keywords.items())
        return f"{_name(function.func)}{function.args!r}{bound!r}"
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"


def _pairs(records: list[dict], masks: pd.DataFrame, metrics: tuple[str, ...]) -> pd.DataFrame:
    rows = [{"image_id": r["image_id"], **pair} for r in records for pair in r["pairs"]]
    table = pd.DataFrame(rows, columns=[*PAIR_TEXT, *metrics])
    facts = masks.set_axis(masks.index.astype("str"))
    for factor in set(FACTORS) & set(facts):
        for side in (1, 2):
            of_mask = table[f"mask_{side}"].map(facts[factor])
            table[f"{factor}_{side}"] = of_mask.astype("str").where(of_mask.notna())
    return table.astype(dict.fromkeys(PAIR_TEXT, "str") | dict.fromkeys(metrics, float))


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
        Distances that do not exist (an empty mask) do not count in their mean.
    """
    groups = pairs.groupby("image_id", sort=False)
    known = metric_names(selected_metrics(extra=True))
    table = groups[[name for name in known if name in pairs]].agg(["mean", "std"])
    table.columns = [f"{metric}_{statistic}" for metric, statistic in table.columns]
    return table.assign(n_pairs=groups.size())


def labelled_pairs(
    cohort: Cohort,
    indeterminate: Literal["drop", "benign"] = "drop",
    pairs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Join the pairs of masks with the malignancy and the patient of their image.

    Parameters
    ----------
    cohort : Cohort
    indeterminate : {"drop", "benign"}
        Whether indeterminate lesions are dropped, or counted as benign as in the published
        evaluation of the regression. Images of unknown malignancy are always dropped.
    pairs : pandas.DataFrame, optional
        Other pairs of masks of the cohort's images, for instance of consensus masks; the pairs of
        annotators' masks unless given.

    Returns
    -------
    pandas.DataFrame
        The remaining pairs, with ``malignant`` (bool), ``cluster`` (patient,
        or the image itself) and ``n_masks`` (masks of the image). Perhaps of one class only, or
        none: check that before comparing.

    Raises
    ------
    ValueError
        If `indeterminate` has no such value.
    """
    check_choice("indeterminate", indeterminate, ("drop", "benign"))
    kept = {"benign", "malignant"} | ({"indeterminate"} if indeterminate == "benign" else set())
    malignancy = cohort.images["malignancy"]
    pairs = cohort.pairs if pairs is None else pairs
    pairs = pairs[pairs["image_id"].map(malignancy).isin(kept)]
    image = pairs["image_id"]
    malignant = image.map(malignancy).eq("malignant")
    return pairs.assign(
        malignant=malignant,
        cluster=image.map(cohort.clusters()),
        n_masks=image.map(cohort.masks["image_id"].value_counts()),
    ).reset_index(drop=True)


def labelled_images(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average labelled pairs to one row per image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From :func:`labelled_pairs`, perhaps without some pairs.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: the mean of every metric over the image's pairs, under the metric's
        own name (without missing distances), ``malignant``, ``cluster``,
        ``n_masks`` and ``n_pairs``.
    """
    groups = pairs.groupby("image_id", sort=False)
    facts = groups[["malignant", "cluster", "n_masks"]].first()
    metrics = [name for name in metric_names() if name in pairs]
    return groups[metrics].mean().join(facts).assign(n_pairs=groups.size())
