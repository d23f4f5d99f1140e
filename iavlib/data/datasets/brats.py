"""BraTS: brain tumours in MR volumes, one reference segmentation of three classes per patient.

Folders as published: ``BraTS20_Training_001`` and the like, perhaps some folders deeper, with
``BraTS20_Training_001_flair.nii`` and ``…_seg.nii``, compressed or not. The dataset publishes one
mask per patient; annotators are simulated on it, as by Zhang et al. (2023), by the cohort
``brats-simulated``. Of the masks' values 2 is oedema, 1 the core that does not take up contrast and
4 the one that does; the grey values written for them are all above half, so that whoever reads a
mask of one class gets the whole tumour.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.volumes import Slice, load_slices, marked_slices

GREYS = {2: 240, 1: 250, 4: 255}
_CLASSES = pd.DataFrame(
    {"grey": list(GREYS.values()), "structures": ["tumour", "tumour core", "tumour core"]},
    index=pd.Index(["oedema", "core", "enhancing core"], name="class"),
)


def load() -> Cohort:
    """Load the slices with a tumour.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`.
    """
    masks = sorted(DATASET.folder.rglob("*_seg.nii*"))
    return load_slices(DATASET, [*masks, *map(_volume, masks)], lambda: _slices(masks), _CLASSES)


def _volume(mask: Path) -> Path:
    return mask.with_name(mask.name.replace("_seg.nii", "_flair.nii"))


def _slices(masks: list[Path]) -> Iterator[Slice]:
    for mask in masks:
        patient = mask.name.partition("_seg.nii")[0]
        yield from marked_slices(patient, patient, _volume(mask), {"reference": mask}, GREYS)


DATASET = register_own("brats", load, layout=lambda folder: Layout({"**/*_seg.nii*": 369}, (".",)))
