"""Consensus masks of a whole cohort, written as IMA++ names them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.core.files import replacing
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import read_stack
from iavlib.masks.consensus import Ties, majority_vote, random_annotator, spatial_staple, staple

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


@dataclass(frozen=True)
class _Job:
    """One image's masks, as sent to another process."""

    image_id: str
    paths: dict[str, str | None]
    out: str
    methods: tuple[str, ...]
    ties: Ties
    max_iterations: int | None
    seed: int


def write_consensus(
    cohort: Cohort,
    out: str | Path,
    methods: tuple[str, ...] = ("MV", "ST"),
    *,
    ties: Ties = "foreground",
    max_iterations: int | None = 1000,
    seed: int = 0,
    processes: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
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
    max_iterations : int or None
        Of STAPLE; see :func:`iavlib.masks.consensus.staple`.
    seed : int
        Of the random annotator. Each image has its own generator, so that its draw does not
        depend on the other images.
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.
    progress : bool or callable
        True prints a line every ten seconds; a callable is called with images done and total.

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
    if ties not in ("foreground", "background"):
        raise ValueError(f"ties must be 'foreground' or 'background', not {ties!r}")
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(image_id, paths, str(out), tuple(methods), ties, max_iterations, seed)
        for image_id, paths in _paths(cohort.masks).items()
    ]
    results = run_in_order(
        consensus_of_image, jobs, processes, _problems, progress, "images with a consensus"
    )
    rows = [row for of_image in results for row in of_image]
    table = pd.DataFrame(rows, columns=["mask_id", *COLUMNS]).set_index("mask_id")
    return table.astype({"n_masks": int, "iterations": "Int64", "prior": float})


def consensus_of_image(job: _Job) -> list[dict]:
    """Make and write one image's consensus masks; a failure becomes rows that report it."""
    try:
        stack = read_stack(job.paths, min_masks=2)
    except DataError as error:
        return _problems(job, error)
    rows = []
    for method in job.methods:
        row = _row(job, method)
        mask, facts = _consensus(job, stack, method)
        try:
            row |= {"path": str(_write(mask, Path(job.out), row["mask_id"]))} | facts
        except DataError as error:
            row |= _failure(error)
        rows.append(row)
    return rows


def _paths(masks: pd.DataFrame) -> dict[str, dict[str, str | None]]:
    """Return the mask files of each image with at least two masks; None where there is none."""
    paths = masks["path"].astype(object).where(masks["path"].notna(), None)
    return {
        str(image_id): group.to_dict()
        for image_id, group in paths.groupby(masks["image_id"], sort=False)
        if len(group) > 1
    }


def _consensus(job: _Job, stack: np.ndarray, method: str) -> tuple[np.ndarray, dict]:
    names = list(job.paths)
    if method == "MV":
        return majority_vote(stack, ties=job.ties), {}
    if method == "RA":
        generator = np.random.default_rng([job.seed, zlib.crc32(job.image_id.encode())])
        mask, index = random_annotator(stack, generator)
        return mask, {"masks": names[index]}
    if method == "ST":
        result = staple(stack, names, max_iterations=job.max_iterations)
        sensitivity, specificity = result.sensitivity, result.specificity
    else:
        result = spatial_staple(stack, names=names)
        sensitivity, specificity = result.global_sensitivity, result.global_specificity
    return result.mask, {
        "sensitivity": _numbers(sensitivity),
        "specificity": _numbers(specificity),
        "prior": float(np.mean(result.prior)),
        "iterations": result.iterations,
        "warnings": "; ".join(result.warnings),
    }


def _row(job: _Job, method: str) -> dict:
    return {
        "mask_id": f"{job.image_id}_{method}_{method}_{method}_{method}.png",
        "image_id": job.image_id,
        "annotator": method,
        "tool": method,
        "skill": method,
        "n_masks": len(job.paths),
        "masks": ";".join(job.paths),
        "warnings": "",
    }


def _problems(job: _Job, error: DataError) -> list[dict]:
    return [_row(job, method) | _failure(error) for method in job.methods]


def _failure(error: DataError) -> dict:
    return {"problem": f"{error.where}: {error.problem}", "hint": error.hint}


def _numbers(values: np.ndarray) -> str:
    return ";".join(f"{value:.6f}" for value in values)


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
