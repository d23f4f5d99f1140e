"""Datasets and cohorts: images, masks and tables.

>>> from iavlib import data
>>> cohort = data.load("phantom", n_images=20)
"""

import lazy_loader

from iavlib.core.errors import DataError, DatasetUnavailable, FetchError
from iavlib.core.project import cache_home, data_home

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["DataError", "DatasetUnavailable", "FetchError", "cache_home", "data_home"]
