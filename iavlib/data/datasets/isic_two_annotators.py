"""Skin lesions outlined by two annotators: crops of ISIC 2017 and 2018 that IMA++ has, too.

The folder in the data home holds a table ``masks.csv`` as :mod:`iavlib.data.datasets.folder`
reads it. The two masks of an image, those of the challenges of 2017 and of 2018, are by different
annotators of IMA++.
"""

import pandas as pd

from iavlib.core.errors import DatasetUnavailable
from iavlib.data.catalogue import find_dataset, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.datasets.folder import layout, load_published

_FACTS = ("malignancy", "diagnosis", "patient_id", "lesion_id", "licence", "sex", "age", "site")


def load() -> Cohort:
    """Load the two annotators' masks.

    Returns
    -------
    Cohort
        Malignancy, patient and other facts about a lesion are those of IMA++'s tables, where
        these are in the data home.

    Raises
    ------
    DatasetUnavailable
        If the folder is absent.
    DataError
        If its table or a file is not what it should be.
    """
    return load_published(DATASET, _with_facts)


def _with_facts(images: pd.DataFrame) -> pd.DataFrame:
    try:
        facts = find_dataset("imapp").load().images.reindex(images.index)
    except DatasetUnavailable:
        return images
    facts["malignancy"] = facts["malignancy"].fillna("unknown")
    return images.assign(**{name: facts[name] for name in _FACTS})


DATASET = register_own("isic_two_annotators", load, layout=layout)
