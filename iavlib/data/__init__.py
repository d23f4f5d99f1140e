"""Where images, masks and tables come from.

>>> from iavlib import data
>>> cohort = data.load("phantom", n_images=20)
"""

from iavlib.data.catalogue import COHORTS, DEFAULT, available, choose, fingerprint, load
from iavlib.data.cohort import Cohort
from iavlib.data.errors import DataError, DatasetUnavailable, FetchError
from iavlib.data.home import cache_home, data_home
from iavlib.data.split import Split, dice_range

__all__ = [
    "COHORTS",
    "DEFAULT",
    "Cohort",
    "DataError",
    "DatasetUnavailable",
    "FetchError",
    "Split",
    "available",
    "cache_home",
    "choose",
    "data_home",
    "dice_range",
    "fingerprint",
    "load",
]
