"""ISBI 2015: lesions of multiple sclerosis, outlined by two raters in every slice.

Folders as published: in ``training01`` and so on, of each visit the volume
``preprocessed/training01_01_flair_pp.nii``, and ``masks/training01_01_mask1.nii`` and
``_mask2.nii`` of the raters 1 and 2. Test cases have no masks and are not read.
"""

from collections.abc import Iterator

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.volumes import Slice, load_slices, marked_slices

RATERS = {"R1": "mask1", "R2": "mask2"}


def load() -> Cohort:
    """Load the marked slices of all training visits; the visits of a person are one patient.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`.
    """
    return load_slices(DATASET, sorted(DATASET.folder.rglob("training*.nii*")), _slices)


def _slices() -> Iterator[Slice]:
    for volume in sorted(DATASET.folder.rglob("*_flair_pp.nii*")):
        visit, _, suffix = volume.name.partition("_flair_pp")
        folder = volume.parents[1] / "masks"
        masks = {rater: folder / f"{visit}_{name}{suffix}" for rater, name in RATERS.items()}
        if any(path.is_file() for path in masks.values()):
            yield from marked_slices(visit, visit.rpartition("_")[0], volume, masks, {1: 255})


DATASET = register_own(
    "isbi2015", load, layout=lambda folder: Layout({"**/*_flair_pp.nii*": 21}, (".",))
)
