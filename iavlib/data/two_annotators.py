"""Real pictures with the masks of two annotators, kept as a table of masks beside their files.

``isic_two_annotators``: dermoscopic crops whose masks of the ISIC challenges of 2017 and 2018 are
by different annotators of IMA++. ``retina_two_observers``: fundus pictures of CHASE_DB1 and DRIVE
with the vessels drawn by two observers.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from iavlib.core.errors import DatasetUnavailable
from iavlib.core.home import data_home
from iavlib.data import folder
from iavlib.data.cohort import Cohort
from iavlib.data.folder import TABLE

ISIC, RETINA = "isic_two_annotators", "retina_two_observers"
TITLES = {
    ISIC: "Skin lesions outlined by two annotators (61 crops of ISIC 2017 and 2018)",
    RETINA: "Retinal vessels drawn by two observers (CHASE_DB1 and DRIVE, 48 images)",
}
CITATIONS = {
    ISIC: "N. Codella et al.: Skin lesion analysis toward melanoma detection (ISIC 2017, 2018); "
    "annotators by K. Abhishek et al.: IMA++",
    RETINA: "M. M. Fraz et al.: An ensemble classification-based approach applied to retinal blood "
    "vessel segmentation, IEEE TBME 2012 (CHASE_DB1); J. Staal et al.: Ridge-based vessel "
    "segmentation in color images of the retina, IEEE TMI 2004 (DRIVE)",
}
LICENCES = {
    ISIC: "CC-0 or CC BY-NC by image (ISIC archive)",
    RETINA: "research use, as the sources state",
}
_KNOWN = ("malignancy", "diagnosis", "patient_id", "lesion_id", "licence", "sex", "age", "site")


def load(dataset: str) -> Cohort:
    """Load one of the two.

    Parameters
    ----------
    dataset : {"isic_two_annotators", "retina_two_observers"}
        The folder's name in the data home; it holds a table ``masks.csv`` as
        :mod:`iavlib.data.folder` reads it.

    Returns
    -------
    Cohort
        Malignancy, patient and the rest of a lesion as IMA++'s tables tell, where those are in
        the data home. The two eyes of a child of CHASE_DB1 are one patient.

    Raises
    ------
    DatasetUnavailable
        If the folder is not there.
    DataError
        If its table or a file is not what it should be.
    """
    home = data_home() / dataset
    if not (home / TABLE).is_file():
        raise DatasetUnavailable(
            dataset, f"there is no {home / TABLE}", "put the pictures, masks and masks.csv there"
        )
    read = folder.load(home)
    images = _lesions(read.images) if dataset == ISIC else _eyes(read.images)
    return replace(
        read,
        name=dataset,
        images=images,
        citation=CITATIONS[dataset],
        licence=LICENCES[dataset],
        source=str(home),
    )


def _eyes(images: pd.DataFrame) -> pd.DataFrame:
    """Name the children of CHASE_DB1, whose pictures are ``Image_01L`` and ``Image_01R``."""
    child = images.index.to_series().str.extract(r"^Image_(\d+)[LR]$", expand=False)
    return images.assign(patient_id=("CHASE_" + child).astype("str"))


def _lesions(images: pd.DataFrame) -> pd.DataFrame:
    """Take over what IMA++'s tables tell of the lesions, where those are here."""
    from iavlib.data import imapp

    try:
        known = imapp.load().images.reindex(images.index)
    except DatasetUnavailable:
        return images
    told = {name: known[name] for name in _KNOWN}
    return images.assign(**told | {"malignancy": known["malignancy"].fillna("unknown")})
