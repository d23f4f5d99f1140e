"""Consensus masks of a whole cohort, written as IMA++ names them."""

from __future__ import annotations

import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError, check_choice
from iavlib.core.files import replacing
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import mask_paths, read_stack
from iavlib.data.schemas import FACTORS
from iavlib.masks import consensus

#: Code of each method, which takes the place of annotator, tool, skill and id in a file's name.
METHODS = {
    "MV": "majority vote",
    "ST": "STAPLE",
    "SP": "spatially varying STAPLE",
    "RA": "random annotator",
}
COLUMNS = (
    *("image_id", "path", "annotator", "tool", "skill", "n_masks", "masks"),
    *("sensitivity", "specificity", "prior", "iterations", "warnings", "problem", "hint"),
)


def write_consensus(
    cohort: Cohort,
    out: str | Path,
    methods: tuple[str, ...] = ("MV", "ST"),
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
        ``<image_id>_MV_MV_MV_MV.png`` (and so on for each method), as in IMA++; it
        appears under its name only when complete.
    methods : tuple of str
        ``MV`` majority vote, ``ST`` STAPLE, ``SP`` spatially varying STAPLE, ``RA`` one of the
        masks at random.
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
        Index ``mask_id`` (the file's name), one row per mask, images in the cohort's order:
        ``image_id``, ``path`` (missing where no file was written), ``annotator``, ``tool`` and
        ``skill`` (the method's code, as in IMA++), ``n_masks``, ``masks`` (ids of the masks it was
        made of), ``sensitivity`` and ``specificity`` of each of them (STAPLE; in that order,
        separated like the ids by semicolons), ``prior``, ``iterations``, ``warnings`` (separated
        by semicolons), and, where the mask could not be made, ``problem`` and ``hint``.

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
    tasks = list(mask_paths(cohort.masks).items())
    results = run_in_order(make, tasks, processes, partial(_problems, methods))
    rows = [row for of_image in results for row in of_image]
    table = pd.DataFrame(rows, columns=["mask_id", *COLUMNS]).set_index("mask_id")
    return table.astype({"n_masks": int, "iterations": "Int64", "prior": float})


def consensus_of_image(
    task: tuple[str, dict[str, str | None]], methods: tuple[str, ...], out: Path, **options
) -> list[dict]:
    """Make and write the consensus masks of one image (its id and mask files).

    A failure becomes rows that report it.
    """
    try:
        stack = read_stack(task[1], min_masks=2)
    except DataError as error:
        return _problems(methods, task, error)
    rows = []
    for method in methods:
        row = _row(*task, method)
        mask, facts = _consensus(*task, stack, method, **options)
        try:
            row |= {"path": str(_write(mask, out, row["mask_id"]))} | facts
        except DataError as error:
            row |= _failure(error)
        rows.append(row)
    return rows


def _consensus(image_id, paths, stack: np.ndarray, method, ties, seed):
    """Return a consensus mask and what is known about it."""
    names = list(paths)
    if method == "MV":
        return consensus.majority_vote(stack, ties=ties), {}
    if method == "RA":
        generator = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
        mask, index = consensus.random_annotator(stack, generator)
        return mask, {"masks": names[index]}
    if method == "ST":
        result = consensus.staple(stack, names)
        rates = {"sensitivity": result.sensitivity, "specificity": result.specificity}
    else:
        result = consensus.spatial_staple(stack, names=names)
        rates = {rate: getattr(result, f"global_{rate}") for rate in ("sensitivity", "specificity")}
    rates = {rate: ";".join(f"{value:.6f}" for value in values) for rate, values in rates.items()}
    about = {"prior": float(np.mean(result.prior)), "iterations": result.iterations}
    return result.mask, rates | about | {"warnings": "; ".join(result.warnings)}


def _row(image_id: str, paths: dict[str, str | None], method: str) -> dict:
    return {
        "mask_id": f"{image_id}_{method}_{method}_{method}_{method}.png",
        "image_id": image_id,
        **dict.fromkeys(FACTORS, method),
        "n_masks": len(paths),
        "masks": ";".join(paths),
        "warnings": "",
    }


def _problems(methods: tuple[str, ...], task: tuple, error: DataError) -> list[dict]:
    return [_row(*task, method) | _failure(error) for method in methods]


def _failure(error: DataError) -> dict:
    return {"problem": f"{error.where}: {error.problem}", "hint": error.hint}


def _write(mask: np.ndarray, folder: Path, name: str) -> Path:
    path = folder / name
    if path.parent != folder or os.sep in name:
        raise DataError(name, "the image's id is no file name", "take '/' and the like out of it")
    try:
        with replacing(path) as temporary:
            image = Image.fromarray(mask.astype(np.uint8) * 255)
            image.save(temporary, format="PNG", compress_level=6)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error})"
        raise DataError(path, reason, "free some space or write elsewhere") from None
    return path
