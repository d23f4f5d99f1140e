"""Masks as files with names like those of the images: consensus masks, and what others read."""

import os
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError, check_choice
from iavlib.core.files import replacing, safe_name, write_json
from iavlib.core.processes import run_in_order
from iavlib.data import exports
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
    "quorum": "vote with a quorum: pixels that enough masks contain",
}
#: Forms in which masks are written for other tools.
EXPORTS = ("coco", "nifti", "png", "votes")
_COCO = "coco/masks.json"
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
    quorum: float = 0.5,
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
        from 0 to 255 (a soft consensus), ``quorum`` for the pixels that enough masks contain.
    ties : {"foreground", "background"}
        Of the majority vote; see :func:`iavlib.masks.consensus.majority_vote`.
    seed : int
        Of the random annotator. Each image has its own generator, so that its draw does not
        depend on the other images.
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.
    quorum : float
        Of the method ``quorum``: votes that a pixel needs, from 1, or below 1 the share of the
        masks.

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
    rules = {"ties": ties, "seed": seed, "quorum": quorum}
    make = partial(consensus_of_image, methods=tuple(methods), out=out, **rules)
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
    quorum: float = 0.5,
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
        mask, facts = _consensus(task[0], task[1], stack, method, ties, seed, quorum)
        try:
            row |= {"path": str(_write(mask, out, row["mask_id"]))} | facts
        except DataError as error:
            row |= _failure(error)
        rows.append(row)
    return rows


def _consensus(image_id, paths, stack: np.ndarray, method, ties, seed, quorum):
    """Return a consensus mask and what is known about it."""
    names = list(paths)
    if method == "mean":
        grey = np.rint(np.linspace(0, 255, len(stack) + 1)).astype(np.uint8)
        return look_up(grey, consensus.count_votes(stack)), {}
    if method == "majority":
        return _vote(stack, ties)
    if method == "quorum":
        needed = quorum if quorum >= 1 else quorum * len(stack) - 1e-9
        text = f"the quorum of {quorum:g} votes is more than the {len(stack)} masks"
        return consensus.count_votes(stack) >= needed, {
            "warnings": text if needed > len(stack) else ""
        }
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
    row = {"mask_id": f"{name}_{method}.png", "image_id": image_id, "method": method}
    return row | {"n_masks": len(paths), "masks": tuple(paths), "warnings": ""}


def _problems(methods: tuple[str, ...], task: tuple, error: DataError) -> list[dict]:
    return [_row(*task, method) | _failure(error) for method in methods]


def _failure(error: DataError) -> dict:
    return {"problem": f"{error.where}: {error.problem}", "hint": error.hint}


def _write(mask: np.ndarray, folder: Path, name: str, spacing: float = 1.0) -> Path:
    path = folder / name
    grey = mask if mask.dtype == np.uint8 else mask.astype(np.uint8) * 255
    try:
        with replacing(path) as temporary:
            if name.endswith(".png"):
                Image.fromarray(grey).save(temporary, format="PNG", compress_level=1)
            else:
                import SimpleITK  # which is large

                image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
                image.SetSpacing([spacing, spacing])
                named = temporary.with_name(f"{temporary.name}.nii.gz")  # it chooses the format
                SimpleITK.WriteImage(image, named, useCompression=True)
                named.replace(temporary)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error})"
        raise DataError(path, reason, "free some space or write elsewhere") from None
    return path


def export_masks(
    cohort: Cohort,
    out: str | Path,
    kinds: Iterable[str],
    spacing: float = 1.0,
    label: str = "object",
    processes: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> list[str]:
    """Write the masks of a cohort in forms that other tools read.

    Parameters
    ----------
    cohort : Cohort
    out : path
        Folder; each kind has one of its own in it.
    kinds : iterable of str
        Some of ``coco`` (``masks.json``: all masks as compressed run lengths, with the attribute
        ``annotator``), ``nifti`` and ``png`` (a file per mask, named like its image, in a folder
        per annotator; repeated drawings in ``ann_2`` and so on), ``votes`` (a PNG per image: how
        many annotators marked a pixel).
    spacing : float
        Size of a pixel, in NIfTI.
    label : str
        Name of the category in COCO.
    processes, progress
        See :func:`iavlib.agreement.pair_table`.

    Returns
    -------
    list of str
        The files, relative to `out`.

    Raises
    ------
    DataError
        If a mask cannot be read or written.
    """
    out, masks = Path(out).resolve(), cohort.masks
    number = masks.groupby(["image_id", "annotator"]).cumcount()
    people = masks["annotator"] + (number + 1).map("_{}".format).where(number > 0, "")
    masks = masks.assign(number=number, folder=people.map(consensus_names(people.unique())))
    names = consensus_names(masks["image_id"].unique())
    tasks = [(names[i], group) for i, group in masks.groupby("image_id", sort=False)]
    export = partial(_export_image, kinds=tuple(kinds), out=out, spacing=float(spacing))
    results = run_in_order(export, tasks, processes, _lost, progress, "images exported")
    if "coco" in kinds:
        results.append(([_COCO], {}))
        encoded = {mask_id: rle for _, one in results for mask_id, rle in one.items()}
        write_json(out / _COCO, _coco_document(cohort, encoded, label))
    return [name for written, _ in results for name in written]


def _lost(task: tuple, error: DataError) -> None:
    raise error


def _export_image(task: tuple, kinds, out: Path, spacing: float) -> tuple[list[str], dict]:
    """Write the files of one image; return their names, and its masks as run lengths."""
    name, masks = task
    stack, files = read_stack(masks["path"].to_dict(), 1), {}
    for mask, folder in zip(stack, masks["folder"], strict=True):
        files |= {f"png/{folder}/{name}.png": mask} if "png" in kinds else {}
        files |= {f"nifti/{folder}/{name}.nii.gz": mask} if "nifti" in kinds else {}
    if "votes" in kinds:
        files[f"votes/{name}.png"] = stack[masks["number"] == 0].sum(axis=0, dtype=np.uint8)
    for file, mask in files.items():
        _write(mask, out, file, spacing)
    coded = map(exports.run_lengths, stack if "coco" in kinds else ())
    return list(files), dict(zip(masks.index, coded, strict=False))


def _coco_document(cohort: Cohort, encoded: dict[str, dict], label: str) -> dict:
    """List images and annotations; a photograph is named from the folder that holds all of them."""
    paths = cohort.images["path"].dropna()
    root = os.path.commonpath([os.path.dirname(path) for path in paths] or ["/"])
    names = {i: Path(os.path.relpath(path, root)).as_posix() for i, path in paths.items()}
    images, annotations, facts = {}, [], ["annotator", "tool", "skill"]
    for number, (mask_id, rle) in enumerate(encoded.items(), 1):
        row = cohort.masks.loc[mask_id]
        name = names.get(row["image_id"], row["image_id"])
        size = dict(zip(("height", "width"), rle["size"], strict=True))
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, **size})
        one = {"id": number, "image_id": image["id"], "category_id": 1, "segmentation": rle}
        one |= exports.area_and_box(rle) | {"iscrowd": 0}
        annotations.append(one | {"attributes": row[facts].dropna().to_dict()})
    categories = [{"id": 1, "name": label, "supercategory": ""}]
    document = {"info": {}, "licenses": [], "images": list(images.values())}
    return document | {"annotations": annotations, "categories": categories}
