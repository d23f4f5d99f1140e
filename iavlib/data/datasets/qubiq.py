"""QUBIQ: slices of CT and MR of several organs, each structure outlined by three to seven people.

Folders as published, perhaps some folders deeper: ``kidney/Training/case01`` with ``image.nii.gz``
and ``task01_seg01.nii.gz`` and so on, one file per task and annotator. One cohort holds one
structure and one of its tasks: ``brain-growth`` (1), ``brain-tumor`` (1 to 3), ``kidney`` (1),
``prostate`` (1 and 2), ``pancreas`` (1), ``pancreatic-lesion`` (1). Of images with several channels
the first is shown. Validation cases are the published test subset.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.volumes import PERCENTILES, Slice, load_slices, read_array, windowed


def load(structure: str = "prostate", task: int = 1) -> Cohort:
    """Load one task of a structure.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`.
    """
    images = sorted(DATASET.folder.rglob("image.nii*"))
    images = [path for path in images if structure in path.parts]
    masks = {path: sorted(path.parent.glob(f"task{task:02d}_seg*.nii*")) for path in images}
    files = [file for path, drawn in masks.items() for file in (path, *drawn) if drawn]
    cohort = load_slices(DATASET, files, lambda: (_read(*pair) for pair in masks.items()))
    test = cohort.images.index.str.lower().str.startswith("validation")
    split = pd.DataFrame({"subset": np.where(test, "test", "train")}, cohort.images.index)
    return replace(cohort, extras={**cohort.extras, "published_split": split})


def _read(image: Path, drawn: list[Path]) -> Slice:
    picture = _first_channel(image)
    masks = {f"R{path.name[10:12]}": 255 * (_first_channel(path) > 0) for path in drawn}
    name = f"{image.parent.parent.name}_{image.parent.name}"
    shown = windowed(picture, *np.percentile(picture, PERCENTILES))
    return Slice(name, name, shown, {key: mask.astype(np.uint8) for key, mask in masks.items()})


def _first_channel(path: Path) -> np.ndarray:
    values = read_array(path)
    return values.reshape(-1, *values.shape[-2:])[0]


_FILES = {"**/image.nii*": 0, "**/task*_seg*.nii*": 0}
DATASET = register_own(
    "qubiq",
    load,
    layout=lambda folder: Layout(_FILES, tuple(_FILES)),
    options=("structure", "task"),
)
