"""Fundus images of CHASE_DB1 and DRIVE whose vessels two observers outlined.

The folder in the data home holds a table ``masks.csv`` as :mod:`iavlib.data.datasets.folder`
reads it.
"""

import pandas as pd

from iavlib.data.catalogue import register_own
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.folder import layout, load_published


def load() -> Cohort:
    """Load the two observers' masks; the two eyes of a child of CHASE_DB1 are one patient.

    Raises
    ------
    DatasetUnavailable
        If the folder is absent.
    DataError
        If its table or a file is not what it should be.
    """
    return load_published(DATASET, _with_patients)


def _with_patients(images: pd.DataFrame) -> pd.DataFrame:
    """Name the children of CHASE_DB1, whose images are ``Image_01L`` and ``Image_01R``."""
    child = images.index.to_series().str.extract(r"^Image_(\d+)[LR]$", expand=False)
    return images.assign(patient_id=("CHASE_" + child).astype("str"))


DATASET = register_own("retina_two_observers", load, layout=layout)
