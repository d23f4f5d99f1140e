"""What runs that differ in their seed say together: which are finished, means, and intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.experiments.store import FINISHED

#: Runs with different seeds that a claim takes at least.
SEEDS = 3


def finished_runs(runs: pd.DataFrame, label: str | None = None) -> pd.DataFrame:
    """Return the rows that are finished, of one label where it is given."""
    found = runs[runs["status"] == FINISHED] if len(runs) else runs
    return found if label is None or not len(found) else found[found["label"] == label]


def by_seed(runs: pd.DataFrame, method: str, measure: str = "dice", less: str = "") -> pd.Series:
    """Return a measure of a method for each seed, less that of another method where one is given.

    Returns
    -------
    pandas.Series
        Indexed by seed; empty where nothing was measured.
    """
    runs = finished_runs(runs)
    if measure not in runs:
        return pd.Series(dtype=float)
    values = runs[runs["method"] == method].set_index("seed")[measure]
    if less:
        values = values - runs[runs["method"] == less].set_index("seed")[measure]
    return values.dropna()


def interval_of_mean(
    values: Iterable[float], level: float = 0.95, within: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """Return mean and Student's interval; ends are NaN with fewer than two values.

    Of few values that lie far apart the interval reaches beyond what can be; `within` cuts it.
    """
    values = np.asarray(list(values), float)
    if len(values) < 2:
        mean = float(values[0]) if len(values) else float("nan")
        return mean, float("nan"), float("nan")
    mean, spread = float(values.mean()), values.std(ddof=1) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * spread)
    lowest, highest = within or (-np.inf, np.inf)
    return mean, max(mean - half, lowest), min(mean + half, highest)


def in_words(
    values: Iterable[float], digits: int = 2, within: tuple[float, float] | None = None
) -> str:
    """Say a mean with its interval over seeds, or that there is one seed, or none."""
    values = list(values)
    if not values:
        return "(not run)"
    mean, low, high = interval_of_mean(values, within=within)
    if len(values) == 1:
        return f"{mean:.{digits}f} (one seed)"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, {len(values)} seeds)"


def range_in_words(values: Iterable[float], digits: int = 1) -> str:
    """Say the smallest and the largest value, or that there is none."""
    values = list(values)
    if not values:
        return "(not run)"
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
