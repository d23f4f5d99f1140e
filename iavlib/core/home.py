"""Locations of data and caches on this machine.

The *data home* holds what others published (only ``iav data fetch`` writes there), the *cache home*
what this library can generate again.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def data_home() -> Path:
    """Return the folder of the data sets: ``IAV_DATA_HOME``, else ``data`` in the user's cache.

    The folder need not exist.
    """
    return _from_environment("IAV_DATA_HOME") or Path(user_cache_dir("iavlib")) / "data"


def cache_home() -> Path:
    """Return the folder of what can be generated again: ``IAV_CACHE_HOME``, else the user's cache.

    The folder need not exist.
    """
    return _from_environment("IAV_CACHE_HOME") or Path(user_cache_dir("iavlib"))


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    return Path(value).expanduser().resolve() if value else None
