"""ISIC 2019: dermoscopic images of eight classes, and a test split that also has unknown ones.

Expected in the folder, as the challenge's archives unpack: ``ISIC_2019_Training_Input`` and
``ISIC_2019_Test_Input`` with JPEG files, ``ISIC_2019_Training_GroundTruth.csv``,
``ISIC_2019_Test_GroundTruth.csv``, ``ISIC_2019_Training_Metadata.csv`` (age, sex, site, lesion) and
``ISIC_2019_Test_Metadata.csv`` (age, sex, site). No validation split and no patients are published.
"""

from pathlib import Path

from iavlib.core.errors import check_choice
from iavlib.data import labels
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.labels import Label
from iavlib.data.official_splits import treat_overlap

UNK = ("not melanoma", "leave out")
_SIZES = {"Training": 25331, "Test": 8238}
SPLITS = labels.challenge_splits("ISIC_2019_{}_GroundTruth.csv", "ISIC_2019_{}_Input", _SIZES)
METADATA = ("ISIC_2019_Training_Metadata.csv", "ISIC_2019_Test_Metadata.csv")
LABELS = labels.ISIC_CLASSES | {
    "AK": Label(0, "indeterminate"),
    "SCC": Label(0, "malignant"),
    "UNK": Label(0, "unknown"),
}
#: The metadata of the test split have no lesions.
COLUMNS = {"age_approx": "age", "sex": "sex", "anatom_site_general": "site"}


def layout(folder: Path) -> Layout:
    """Return the layout of the files."""
    return labels.splits_layout(folder, SPLITS, METADATA)


def load(
    folder: Path | None = None,
    incomplete: bool = False,
    unk: str = "not melanoma",
    overlap: str = "keep",
) -> Cohort:
    """Load ISIC 2019.

    Parameters
    ----------
    folder : pathlib.Path, optional
        ``isic2019`` in the data home unless given.
    incomplete : bool
        Whether images without file and files without label are accepted.
    unk : {"not melanoma", "leave out"}
        Meaning of the test split's class UNK. The paper counts it as not melanoma, though it means
        only that a lesion belongs to none of the eight classes; left out, its images stay in the
        table without a label.
    overlap : {"keep", "leave out"}
        What to do with images that share image, patient or lesion with the multi-annotator
        images of IMA++, see :mod:`iavlib.data.official_splits`.

    Returns
    -------
    Cohort
        ``diagnosis`` is the dataset's class, ``subset`` the official one. No masks.

    Raises
    ------
    ValueError
        If an option has no such value.
    DatasetUnavailable
        If the training labels are absent.
    DataError
        If a file is not what it should be; see :mod:`iavlib.data.labels`.
    """
    check_choice("unk", unk, UNK)
    meanings = LABELS | ({} if unk == "not melanoma" else {"UNK": Label(float("nan"), "unknown")})
    folder = folder or DATASET.folder
    images = labels.read_splits(DATASET, folder, SPLITS, meanings, incomplete)
    images = labels.join(images, folder, METADATA[0], COLUMNS | {"lesion_id": "lesion_id"})
    images = labels.join(images, folder, METADATA[1], COLUMNS)
    return treat_overlap(labels.build(DATASET, images, folder), overlap)


DATASET = register_own("isic2019", load, layout=layout, options=("incomplete", "unk", "overlap"))
