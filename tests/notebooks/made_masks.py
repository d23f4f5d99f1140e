"""Photographs and masks that are made, with a known effect."""

from pathlib import Path

import numpy as np
import pandas as pd
import skimage.io
from skimage.draw import ellipse


def make_masks(
    folder,
    *,
    n_images=24,
    n_masks=3,
    effect=0.0,
    labels="both",
    n_patients=None,
    tools=False,
    perfect=False,
    size=(64, 48),
    seed=0,
):
    """Write photographs, masks and masks.csv; return the path of the table.

    Parameters
    ----------
    folder : Path
        Where to; made.
    n_images, n_masks : int
        Images, and annotators, each of whom outlines every image.
    effect : float
        Added to how much borders differ on malignant lesions: positive for less agreement on them.
    labels : str
        ``"both"``, ``"benign"``, ``"malignant"`` (one class only) or ``"none"`` (no column).
    n_patients : int, optional
        How many patients the images come from; by default no patient is recorded.
    tools : bool
        Record a tool and a skill level, which differ between annotators.
    perfect : bool
        All annotators draw the same outline.
    size : tuple of int
        Width and height.
    seed : int
        Of the drawing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator, rows = np.random.default_rng(seed), []
    width, height = size
    for number in range(n_images):
        malignant = number % 2 == 1 if labels == "both" else labels == "malignant"
        centre = np.array([height / 2, width / 2]) + generator.normal(0, 2, 2)
        radii = np.array([height, width]) * generator.uniform(0.18, 0.32, 2)
        image = np.full((height, width, 3), 205, np.uint8) - generator.integers(
            0, 12, (height, width, 3), dtype=np.uint8
        )
        inside = ellipse(*centre, *radii, shape=(height, width))
        image[inside] = (125 - 45 * malignant, 85, 65)
        skimage.io.imsave(folder / f"img{number:03d}.png", image, check_contrast=False)
        spread = 0 if perfect else max(0.02, 0.10 + effect * malignant)
        for annotator in range(n_masks):
            drawn = radii * np.exp(generator.normal(0, spread, 2))
            mask = np.zeros((height, width), np.uint8)
            mask[ellipse(*centre, *drawn, shape=mask.shape)] = 255
            name = f"img{number:03d}_{annotator}.png"
            skimage.io.imsave(folder / name, mask, check_contrast=False)
            row = {"image": f"img{number:03d}.png", "mask": name, "annotator": f"ann{annotator}"}
            if labels != "none":
                row["malignancy"] = "malignant" if malignant else "benign"
            if n_patients is not None:
                row["patient"] = f"P{number % n_patients:02d}"
            if tools:
                row["tool"] = f"T{annotator % 2}"
                row["skill"] = ("expert", "novice")[annotator % 2]
            rows.append(row)
    path = folder / "masks.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
