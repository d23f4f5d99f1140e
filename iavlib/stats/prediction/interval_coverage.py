"""How often intervals hold the truth, and how wide they are for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta

from iavlib.stats.samples import check_aligned, finite_values, group_members

__all__ = ["clopper_pearson", "interval_coverage"]

#: A truth at the very end of an interval lies in it, whatever rounding did to the end.
_ROUNDING = 1e-12


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Give the exact binomial interval of a share.

    Parameters
    ----------
    successes, n : int
    level : float

    Returns
    -------
    tuple of float
        Covers the true share with at least `level`, as its tails hold at most half the rest each.

    Raises
    ------
    ValueError
        When `successes` is not among 0 to `n`, `n` is not positive, or `level` makes no sense.

    References
    ----------
    Clopper, C. and Pearson, E. S. (1934). The use of confidence or fiducial limits illustrated in
    the case of the binomial. Biometrika 26, 404-413.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else beta.ppf(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta.ppf(1 - tail, successes + 1, n - successes)
    return float(low), float(high)


def interval_coverage(
    true: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Count how often intervals hold the truth, overall and by subgroup.

    Parameters
    ----------
    true, lower, upper : array_like of float, shape (n,)
    groups : array_like, shape (n,), optional
        Label of each row; a missing one makes the group ``missing``.
    level : float
        Of the Clopper-Pearson interval of the coverage, which takes rows as independent.

    Returns
    -------
    DataFrame
        Index ``group``: the labels, sorted, then ``missing`` and ``all``. Columns ``n``,
        ``covered``, ``coverage`` with ``ci_low`` and ``ci_high``, ``below`` and ``above`` (shares
        of truths that lie below, above their interval), ``width_mean`` and ``width_median``.

    Raises
    ------
    ValueError
        When lengths or indexes differ, a truth is not finite, or an end is NaN or above the
        other; ends may be infinite.
    """
    check_aligned(true=true, lower=lower, upper=upper, groups=groups)
    truth = finite_values(true, "true values")
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    if not len(truth) == len(low) == len(high):
        raise ValueError(f"{len(truth)} true values, {len(low)} lower and {len(high)} upper ends")
    wrong = ~(low <= high)  # so that a NaN is wrong too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"row {first} has no interval: its ends are {low[first]}, {high[first]}")
    rows = {
        label: _row(truth[member], low[member], high[member], level)
        for label, member in group_members(groups, len(truth)).items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return table.astype({"n": int, "covered": int})


def _row(true: np.ndarray, low: np.ndarray, high: np.ndarray, level: float) -> dict[str, float]:
    below, above = true < low - _ROUNDING, true > high + _ROUNDING
    covered = int(len(true) - below.sum() - above.sum())
    ci_low, ci_high = clopper_pearson(covered, len(true), level)
    return {
        "n": len(true),
        "covered": covered,
        "coverage": covered / len(true),
        "ci_low": ci_low,
        "ci_high": ci_high,
        "below": below.mean(),
        "above": above.mean(),
        "width_mean": (high - low).mean(),
        "width_median": np.median(high - low),
    }
