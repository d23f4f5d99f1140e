"""ISIC 2018, task 3: dermoscopic images of seven classes (HAM10000), with official splits.

Expected in the folder, as the challenge's archives unpack: ``ISIC2018_Task3_Training_Input``,
``…_Validation_Input`` and ``…_Test_Input`` with JPEG files, the tables
``ISIC2018_Task3_Training_GroundTruth.csv``, ``…_Validation_…`` and ``…_Test_…`` (each alone or in a
folder of its name), and ``ISIC2018_Task3_Training_LesionGroupings.csv``, which names the lesion of
the training images only. No patients are published.
"""

from pathlib import Path

from iavlib.data import labels
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort

_NAME, _SIZES = "ISIC2018_Task3_{}", {"Training": 10015, "Validation": 193, "Test": 1512}
SPLITS = labels.challenge_splits(f"{_NAME}_GroundTruth.csv", f"{_NAME}_Input", _SIZES)
LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"
#: Actinic keratoses and intraepithelial carcinoma are one class, so it is unknown which it is.
LABELS = labels.ISIC_CLASSES | {"AKIEC": labels.Label(0, "indeterminate")}


def layout(folder: Path) -> Layout:
    """Return the layout of the files."""
    return labels.splits_layout(folder, SPLITS, (LESIONS,))


def load(folder: Path | None = None, incomplete: bool = False) -> Cohort:
    """Load ISIC 2018 task 3.

    Parameters
    ----------
    folder : pathlib.Path, optional
        ``isic2018`` in the data home unless given.
    incomplete : bool
        Whether images without file and files without label are accepted.

    Returns
    -------
    Cohort
        ``diagnosis`` is the dataset's class, ``subset`` the official one. No masks.

    Raises
    ------
    DatasetUnavailable
        If the training labels are absent.
    DataError
        If a file is not what it should be; see :mod:`iavlib.data.labels`.
    """
    folder = folder or DATASET.folder
    images = labels.read_splits(DATASET, folder, SPLITS, LABELS, incomplete)
    images = labels.join(images, folder, LESIONS, {"lesion_id": "lesion_id"})
    return labels.build(DATASET, images, folder)


DATASET = register_own("isic2018", load, layout=layout, options=("incomplete",))
