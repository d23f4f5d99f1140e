"""REFUGE-2 of several raters: optic disc and cup in 1,200 fundus photographs by seven people.

Folders as published: ``Training-400``, ``Validation-400`` and ``Test-400``, perhaps some folders
deeper, with one folder per image, such as ``0826``: ``0826.jpg``, ``0826_seg_disc_1.png`` to ``_7``
and ``0826_seg_cup_1.png`` to ``_7``. Whether an eye has glaucoma (as malignancy, the class that is
to be found) is in names that begin with ``g`` or ``n``, as in the challenge; of other names in
``labels.csv`` beside the folders, with ``image_id`` and ``glaucoma`` (0 or 1), or it is unknown.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.riga import CUP, RIM
from iavlib.data.images import read_image, read_mask
from iavlib.data.schemas import read_csv
from iavlib.data.volumes import Slice, load_slices

SUBSETS = {"Training-400": "train", "Validation-400": "val", "Test-400": "test"}
_STRUCTURES = pd.DataFrame(
    {"grey": [RIM, CUP], "structures": ["disc", "disc cup"]},
    index=pd.Index(["rim", "cup"], name="class"),
)


def load() -> Cohort:
    """Load the photographs with the label maps of all raters, and the published split.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`, or if ``labels.csv`` is not as described.
    """
    found = sorted(p for p in DATASET.folder.rglob("*-400/*/*.jpg") if p.stem == p.parent.name)
    files = [file for path in found for file in sorted(path.parent.iterdir())]
    cohort = load_slices(DATASET, files, lambda: map(_read, found), _STRUCTURES)
    rows = [(SUBSETS.get(p.parent.parent.name), {"g": 1, "n": 0}.get(p.stem[0])) for p in found]
    about = pd.DataFrame(rows, [p.stem for p in found], ["subset", "glaucoma"])
    table = DATASET.folder / "labels.csv"
    if table.is_file():
        given = read_csv(table, "write image_id,glaucoma", dtype={"image_id": str})
        about.update(given.set_index("image_id")[["glaucoma"]])
    about = about.reindex(cohort.images.index)
    malignancy = about["glaucoma"].map({1: "malignant", 0: "benign"}).fillna("unknown")
    extras = {**cohort.extras, "published_split": about[["subset"]]}
    return replace(cohort, images=cohort.images.assign(malignancy=malignancy), extras=extras)


def _read(picture: Path) -> Slice:
    masks = {}
    for disc in sorted(picture.parent.glob(f"{picture.stem}_seg_disc_*.png")):
        cup = disc.with_name(disc.name.replace("_seg_disc_", "_seg_cup_"))
        inner = np.where(read_mask(cup), CUP, np.where(read_mask(disc), RIM, 0))
        masks[f"R{disc.stem.rpartition('_')[2]}"] = inner.astype(np.uint8)
    return Slice(picture.stem, picture.stem, read_image(picture), masks)


def _layout(folder) -> Layout:
    return Layout({"**/*_seg_cup_1.png": 1200}, (".",))


DATASET = register_own("refuge2", load, layout=_layout)
