"""Consensus masks of a whole cohort, in files with names like those of the images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError, check_choice
from iavlib.core.files import replacing, safe_name
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import mask_paths, read_mask, read_stack
from iavlib.masks import consensus
from iavlib.masks.surfaces import look_up

#: Methods, whose names follow that of the image in a file's name.
METHODS = {
    "majority": "majority vote",
    "staple": "STAPLE",
    "spatial": "spatially varying STAPLE",
    "mean": "mean map: share of the masks that contain a pixel",
    "random": "random annotator",
}
COLUMNS = (
    *("image_id", "method", "path", "n_masks", "masks"),
    *("sensitivity", "specificity", "prior", "iterations", "warnings", "problem", "hint"),
)
DEFAULT_METHODS = ("majority", "staple", "mean")


def write_consensus(
    cohort: Cohort,
    out: str | Path,
    methods: tuple[str, ...] = DEFAULT_METHODS,
    *,
    ties: consensus.Ties = "foreground",
    seed: int = 0,
    processes: int | None = None,
) -> pd.DataFrame:
    """Write the consensus masks of every image that has at least two masks.

    Parameters
    ----------
    cohort : Cohort
    out : path
        Folder for the files, created if needed. A mask is a PNG of 0 and 255 named
        ``<image_id>_<method>.png`` (see :func:`consensus_names`); it appears under its name only
        when complete.
    methods : tuple of str
        ``majority`` vote, ``staple``, ``spatial`` (spatially varying STAPLE), ``random`` for one
        of the masks at random, ``mean`` for the share of the masks that contain a pixel, as grey
        from 0 to 255: a soft consensus, from which a threshold makes the vote of any quorum.
    ties : {"foreground", "background"}
        Of the majority vote; see :func:`iavlib.masks.consensus.majority_vote`.
    seed : int
        Of the random annotator. Each image has its own generator, so that its draw does not
        depend on the other images.
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.

    Returns
    -------
    pandas.DataFrame
        Index ``mask_id`` (the file's name, perhaps with its folder), one row per mask, images in
        the cohort's order: ``image_id``, ``method``, ``path`` (missing where no file was written),
        ``n_masks``, ``masks`` (tuple of the ids of the masks it was made of), ``sensitivity`` and
        ``specificity`` (tuples: of each of them, by STAPLE), ``prior``, ``iterations``,
        ``warnings`` (sentences, separated by semicolons), and, where the mask could not be made,
        ``problem`` and ``hint``.

    Raises
    ------
    ValueError
        If a method is unknown or `ties` is neither.
    OSError
        If the folder cannot be made.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, not {methods!r}")
    check_choice("ties", ties, consensus.TIES)
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    make = partial(consensus_of_image, methods=tuple(methods), out=out, ties=ties, seed=seed)
    paths = mask_paths(cohort.masks)
    names = consensus_names(paths)
    tasks = [(image_id, files, names[image_id]) for image_id, files in paths.items()]
    return consensus_table(run_in_order(make, tasks, processes, partial(_problems, methods)))


def consensus_table(results: Iterable[list[dict]]) -> pd.DataFrame:
    """Arrange the results of :func:`consensus_of_image` as a table."""
    rows = [row for of_image in results for row in of_image]
    table = pd.DataFrame(rows, columns=["mask_id", *COLUMNS]).set_index("mask_id")
    return table.astype({"n_masks": int, "iterations": "Int64", "prior": float})


def consensus_names(image_ids: Iterable[str]) -> dict[str, str]:
    """Return, for each image, the names of its consensus masks without method and suffix.

    An id with slashes becomes folders; what no system allows in a name becomes ``_``; a long name
    is cut, and a digest keeps names apart that would be equal, also where case does not count.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for image_id in image_ids:
        name = "/".join(safe_name(part) for part in image_id.split("/") if part) or "_"
        if name.casefold() in taken:
            name += f"~{zlib.crc32(image_id.encode()):08x}"
        taken.add(name.casefold())
        names[image_id] = name
    return names


def consensus_of_image(
    task: tuple[str, dict[str, str | None], str],
    methods: tuple[str, ...],
    out: Path,
    ties: consensus.Ties = "foreground",
    seed: int = 0,
    read: Callable = read_mask,
) -> list[dict]:
    """Make and write the consensus masks of one image (its id, mask files and name).

    A failure becomes rows that report it.
    """
    try:
        stack = read_stack(task[1], 2, read)
    except DataError as error:
        return _problems(methods, task, error)
    rows = []
    for method in methods:
        row = _row(*task, method)
        mask, facts = _consensus(task[0], task[1], stack, method, ties, seed)
        try:
            row |= {"path": str(_write(mask, out, row["mask_id"]))} | facts
        except DataError as error:
            row |= _failure(error)
        rows.append(row)
    return rows


def _consensus(image_id, paths, stack: np.ndarray, method, ties, seed):
    """Return a consensus mask and what is known about it."""
    names = list(paths)
    if method == "mean":
        grey = np.rint(np.linspace(0, 255, len(stack) + 1)).astype(np.uint8)
        return look_up(grey, consensus.count_votes(stack)), {}
    if method == "majority":
        return _vote(stack, ties)
    if method == "random":
        generator = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
        mask, index = consensus.random_annotator(stack, generator)
        return mask, {"masks": (names[index],)}
    if method == "staple":
        result = consensus.staple(stack, names)
        rates = {"sensitivity": result.sensitivity, "specificity": result.specificity}
    else:
        result = consensus.spatial_staple(stack, names=names)
        rates = {rate: getattr(result, f"global_{rate}") for rate in ("sensitivity", "specificity")}
    rates = {rate: tuple(map(float, values)) for rate, values in rates.items()}
    about = {"prior": float(np.mean(result.prior)), "iterations": result.iterations}
    return result.mask, rates | about | {"warnings": "; ".join(result.warnings)}


def _vote(stack: np.ndarray, ties: consensus.Ties) -> tuple[np.ndarray, dict]:
    """Return the majority vote, and a warning where a rule and no majority decides."""
    mask = consensus.majority_vote(stack, ties)
    warnings = []
    if len(stack) == 2:
        what = "union" if ties == "foreground" else "intersection"
        warnings.append(f"two masks have no majority: this is their {what}")
    votes = consensus.count_votes(stack)
    tied = np.count_nonzero(votes == len(stack) // 2) if len(stack) % 2 == 0 else 0
    if tied:
        share = f"{tied / max(np.count_nonzero(mask), 1):.1%} of the area of this mask"
        warnings.append(f"{tied:,} pixels ({share}) have half of the votes and count as {ties}")
    return mask, {"warnings": "; ".join(warnings)}


def _row(image_id: str, paths: dict[str, str | None], name: str, method: str) -> dict:
    return {
        "mask_id": f"{name}_{method}.png",
        "image_id": image_id,
        "method": method,
        "n_masks": len(paths),
        "masks": tuple(paths),
        "warnings": "",
    }


def _problems(methods: tuple[str, ...], task: tuple, error: DataError) -> list[dict]:
    return [_row(*task, method) | _failure(error) for method in methods]


def _failure(error: DataError) -> dict:
    return {"problem": f"{error.where}: {error.problem}", "hint": error.hint}


def _write(mask: np.ndarray, folder: Path, name: str) -> Path:
    path = folder / name
    grey = mask if mask.dtype == np.uint8 else mask.astype(np.uint8) * 255
    try:
        with replacing(path) as temporary:
            Image.fromarray(grey).save(temporary, format="PNG", compress_level=1)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error})"
        raise DataError(path, reason, "free some space or write elsewhere") from None
    return path
