"""Making the phantom's files once, and reading them ever after."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.agreement.reference import all_pairs
from iavlib.data.cohort import Cohort
from iavlib.data.home import cache_home
from iavlib.data.phantom.annotators import Outline, draw_annotators, draw_outlines, rasterise
from iavlib.data.phantom.lesions import IMAGES_PER_PATIENT, Plane, draw_lesion
from iavlib.data.phantom.render import render
from iavlib.data.schemas import PAIR_COLUMNS

# Raise when anything drawn changes: files of another version are never read.
VERSION = 1
SMALLEST = 32
TABLES = ("images", "masks", "pairs", "truth", "annotators")
_PATIENTS, _ANNOTATORS = 1, 2
SITES = ("posterior torso", "anterior torso", "lower extremity", "upper extremity", "head/neck")


def load(
    n_images: int = 300,
    size: tuple[int, int] = (256, 192),
    seed: int = 0,
    cache: Path | str | None = None,
) -> Cohort:
    """Load invented lesions with known truth and known annotators, making them if need be.

    Image number i of a seed is the same whatever `n_images`, and masks and tables are the same on
    every machine.

    Parameters
    ----------
    n_images : int
        At least 1.
    size : pair of int
        Width and height in pixels, each at least 32.
    seed : int
        Not negative.
    cache : path, optional
        Folder for the files; the cache home unless given.

    Returns
    -------
    Cohort
        Synthetic. ``extras["truth"]`` (index ``image_id``) holds the path of the true mask and
        what the lesion was drawn with, ``extras["annotators"]`` (index ``annotator``) what the
        annotators were drawn with.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """
    width, height = _check(n_images, size, seed)
    root = Path(cache or cache_home()) / "phantom"
    facts = {"version": VERSION, "n_images": n_images, "size": [width, height], "seed": seed}
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = root / key
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        _build(folder, n_images, width, height, seed)
    return _read(folder)


def _check(n_images, size, seed) -> tuple[int, int]:
    if int(n_images) != n_images or n_images < 1:
        raise ValueError(f"phantom: n_images must be a positive whole number, not {n_images!r}")
    if len(size) != 2 or min(size) < SMALLEST:
        raise ValueError(f"phantom: size must be (width, height) of at least 32, not {size!r}")
    if int(seed) != seed or seed < 0:
        raise ValueError(f"phantom: seed must be a whole number from 0, not {seed!r}")
    return int(size[0]), int(size[1])


def _build(folder: Path, n_images: int, width: int, height: int, seed: int) -> None:
    """Write everything beside the final folder and move it there: it is whole or absent."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name in ("images", "masks", "truth"):
            (work / name).mkdir()
        annotators = draw_annotators(np.random.default_rng([VERSION, seed, _ANNOTATORS]))
        rows = [_image(work, number, width, height, seed, annotators) for number in range(n_images)]
        _write_tables(work, rows, annotators)
        try:
            os.rename(work, folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another process was first; its files are the same.
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _image(work: Path, number: int, width, height, seed, annotators) -> dict[str, list]:
    """Draw one image with its masks, write the files, and return the rows of each table."""
    image_id = f"PHANTOM_{number:07d}"
    block = number // IMAGES_PER_PATIENT
    generator = np.random.default_rng([VERSION, seed, 0, number])
    patient = np.random.default_rng([VERSION, seed, _PATIENTS, block])
    aspect = max(width, height) / min(width, height)
    lesion = draw_lesion(generator, 0.3 * patient.standard_normal(), aspect)
    outlines = draw_outlines(generator, lesion, annotators)
    facts = _facts(generator, image_id, lesion, block)
    plane = Plane.around(lesion.centre, width, height)
    truth = plane.level(lesion.log_radius) < 0
    names = [
        f"{image_id}_{o.annotator}_{o.tool}_{o.skill}_{position}.png"
        for position, o in enumerate(outlines)
    ]
    masks = {n: rasterise(o, lesion, plane) for n, o in zip(names, outlines, strict=True)}
    for mask_id, mask in masks.items():
        _save(mask, work / "masks" / mask_id)
    _save(truth, work / "truth" / f"{image_id}.png")
    picture = Image.fromarray(render(generator, lesion, plane))
    picture.save(work / "images" / f"{image_id}.png", compress_level=1)
    own = {"image_id": image_id}
    size = {"path": f"images/{image_id}.png", "width": width, "height": height}
    known = {"ambiguity": lesion.ambiguity, "halo": lesion.halo, "area": float(truth.mean())}
    return {
        "images": [own | size | facts],
        "masks": [
            {"mask_id": name, **own, "path": f"masks/{name}", **_who(outline)}
            for name, outline in zip(names, outlines, strict=True)
        ],
        "pairs": [own | pair for pair in all_pairs(masks)],
        "truth": [own | {"path": f"truth/{image_id}.png"} | known],
    }


def _who(outline: Outline) -> dict[str, str]:
    return {name: getattr(outline, name) for name in ("annotator", "tool", "skill", "event")}


def _facts(generator: np.random.Generator, image_id: str, lesion, block: int) -> dict:
    """Fill in what a register would say, with the gaps that registers have."""
    malignant = lesion.malignancy == "malignant"
    has_patient, has_lesion, has_site, has_sex = generator.random(4) < (0.33, 0.33, 0.35, 0.9)
    age = float(np.clip(generator.normal(60 if malignant else 46, 15), 5, 85).round(-1))
    diagnosis = {"benign": "Nevus", "malignant": "Melanoma", "indeterminate": "Atypical"}
    return {
        "malignancy": lesion.malignancy,
        "diagnosis": diagnosis[lesion.malignancy],
        "patient_id": f"PP_{block:06d}" if has_patient else None,
        "lesion_id": image_id.replace("PHANTOM", "PL") if has_lesion else None,
        "geometry": "original",
        "licence": "MIT",
        "sex": str(generator.choice(["female", "male"])) if has_sex else None,
        "age": age if generator.random() < 0.93 else None,
        "site": str(generator.choice(SITES)) if has_site else None,
    }


def _save(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path, compress_level=1)


def _write_tables(work: Path, rows: list[dict], annotators: pd.DataFrame) -> None:
    tables = {name: pd.DataFrame([r for row in rows for r in row[name]]) for name in TABLES[:4]}
    masks = tables["masks"].set_index("mask_id")
    pairs = tables["pairs"]
    for side in (1, 2):
        for factor in ("annotator", "tool", "skill"):
            pairs[f"{factor}_{side}"] = pairs[f"mask_{side}"].map(masks[factor])
    tables["pairs"] = pairs[list(PAIR_COLUMNS)]
    tables["annotators"] = annotators.reset_index()
    for name, table in tables.items():
        table.to_csv(work / f"{name}.csv", index=False)


def _read(folder: Path) -> Cohort:
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    for name in ("images", "masks", "truth"):
        tables[name]["path"] = str(folder) + os.sep + tables[name]["path"]
    images = tables["images"].set_index("image_id")
    columns = ("patient_id", "lesion_id", "sex", "site")
    images[list(columns)] = images[list(columns)].astype("str")
    return Cohort(
        name="phantom",
        images=images,
        masks=tables["masks"].set_index("mask_id"),
        pairs=tables["pairs"],
        synthetic=True,
        citation="invented by iavlib.data.phantom",
        licence="MIT",
        source=str(folder),
        extras={
            "truth": tables["truth"].set_index("image_id"),
            "annotators": tables["annotators"].set_index("annotator"),
        },
    )
