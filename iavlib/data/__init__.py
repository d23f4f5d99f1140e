"""Where images, masks and tables come from.

>>> from iavlib import data
>>> cohort = data.load("phantom", n_images=20)
"""

from iavlib.data.catalogue import (
    COHORTS,
    DEFAULT,
    DIAGNOSED,
    available,
    choose,
    fingerprint,
    load,
)
from iavlib.data.cohort import Cohort
from iavlib.data.errors import DataError, DatasetUnavailable, FetchError
from iavlib.data.home import cache_home, data_home
from iavlib.data.overlap import overlap_report, without_overlap
from iavlib.data.parts import check_parts, official_split
from iavlib.data.split import Split, dice_range
from iavlib.data.targets import label_map, target, target_names

__all__ = [
    "COHORTS",
    "DEFAULT",
    "DIAGNOSED",
    "Cohort",
    "DataError",
    "DatasetUnavailable",
    "FetchError",
    "Split",
    "available",
    "cache_home",
    "check_parts",
    "choose",
    "data_home",
    "dice_range",
    "fingerprint",
    "label_map",
    "load",
    "official_split",
    "overlap_report",
    "target",
    "target_names",
    "without_overlap",
]
