r"""Does a second task help the diagnosis? Runs in pairs, and tests of their differences.

A *pair* is two runs alike in dataset, backbone and seed, one with the auxiliary task and one
without; its *gain* is the difference of their scores. A *cell* is a dataset with a backbone; its
gain is the mean over its seeds. What a test counts as one observation decides what it can say:

- over pairs, runs with other seeds; pairs of one cell share data and network, so that taking all as
  independent is too sure where gains differ between cells;
- over cells, other combinations of dataset and backbone; still too sure where a dataset's cells go
  together;
- over datasets, other datasets; there are few.

None of these says what other test images would give; see
:func:`iavlib.stats.diagnosis.gain_intervals.average_gain_on_other_images`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

__all__ = ["CELL", "PAIR", "UnpairedRunsError", "cell_gains", "gain_tests", "paired_gains"]

#: What two runs of a pair have in common.
PAIR = ("dataset", "backbone", "seed")

#: What the pairs of a cell have in common.
CELL = ("dataset", "backbone")

#: Differences below this are rounding, and count as none.
_ZERO = 1e-12


class UnpairedRunsError(ValueError):
    """A run has no partner that differs from it in the arm alone, or has two of them."""


def paired_gains(
    runs: pd.DataFrame,
    score: str = "balanced_accuracy",
    arm: str = "arm",
    treatment: str = "multitask",
    control: str = "single",
    complete: bool = True,
) -> pd.DataFrame:
    """Pair the runs of two arms and subtract their scores.

    Parameters
    ----------
    runs : DataFrame
        One row a run, with columns ``dataset``, ``backbone``, ``seed``, `arm` and `score`. Other
        arms are left aside.
    score : str
        Column where more is better.
    arm : str
        Column that tells the arms apart.
    treatment, control : str
        Its values.
    complete : bool
        Whether a run without a partner is an error; otherwise it is left out.

    Returns
    -------
    DataFrame
        One row a pair, in order of `PAIR`: the columns of `PAIR`, ``control``, ``treatment`` and
        ``gain`` (treatment minus control).

    Raises
    ------
    KeyError
        When a column does not exist.
    UnpairedRunsError
        When a run comes twice, has no partner, or no pair is left; the message names it.
    ValueError
        When a score is missing.
    """
    missing = [name for name in (*PAIR, arm, score) if name not in runs]
    if missing:
        raise KeyError(f"the table of runs has no column {', '.join(map(repr, missing))}")
    of_arms = runs[runs[arm].isin([treatment, control])]
    bad = of_arms[~np.isfinite(of_arms[score].astype(float))]
    if len(bad):
        raise ValueError(f"{len(bad)} runs have no {score}, for instance {_name(bad.iloc[0], arm)}")
    twice = of_arms[of_arms.duplicated([*PAIR, arm])]
    if len(twice):
        raise UnpairedRunsError(
            f"{len(twice)} runs come twice, for instance {_name(twice.iloc[0], arm)}: keep one "
            "recipe and one setting (alpha) in the table"
        )
    wide = of_arms.pivot(index=list(PAIR), columns=arm, values=score)
    wide = wide.reindex(columns=[control, treatment]).astype(float)
    alone = wide[wide.isna().any(axis=1)]
    if len(alone) and (complete or len(alone) == len(wide)):
        raise UnpairedRunsError(
            f"{len(alone)} of {len(wide)} combinations have only one of {control!r} and "
            f"{treatment!r}, for instance {', '.join(map(str, alone.index[0]))}: run the "
            "other, or pass complete=False to leave them out"
        )
    if wide.empty:
        raise UnpairedRunsError(f"no run of {control!r} or {treatment!r} in column {arm!r}")
    pairs = wide.dropna().set_axis(["control", "treatment"], axis=1)
    return pairs.assign(gain=pairs["treatment"] - pairs["control"]).reset_index()


def cell_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """Average the gains of each cell over its seeds.

    Parameters
    ----------
    gains : DataFrame
        From :func:`paired_gains`.

    Returns
    -------
    DataFrame
        Index ``dataset``, ``backbone``; columns ``n`` (seeds), ``gain``, ``sd`` (over n - 1; NaN
        of one seed), ``ci_low``, ``ci_high`` (t interval over the seeds) and ``wins`` (seeds
        that gain).
    """
    groups = gains.groupby(list(CELL), sort=True)["gain"]
    table = groups.agg(n="size", gain="mean", sd="std")
    # A seed more or less makes the interval of two or three seeds what it is: wide.
    half = stats.t.ppf(0.975, np.maximum(table["n"] - 1, 1)) * table["sd"] / np.sqrt(table["n"])
    wins = groups.agg(lambda values: int((values > _ZERO).sum()))
    return table.assign(ci_low=table["gain"] - half, ci_high=table["gain"] + half, wins=wins)


def gain_tests(gains: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Test the gain with each kind of unit, by signed ranks, by signs and by the t test.

    Parameters
    ----------
    gains : DataFrame
        From :func:`paired_gains`.
    level : float

    Returns
    -------
    DataFrame
        Index ``unit`` (pair, cell, dataset), ``test``; columns

        - ``n``: units; ``counts_as_one``: what a unit is;
        - ``estimate``, ``ci_low``, ``ci_high``: of ``wilcoxon`` the median of the means of all
          two units (Hodges and Lehmann; its exact interval, NaN for too few units), of ``sign``
          the share of units that gain (Wilson's interval), of ``t`` the mean gain;
        - ``p``: two-sided. Units without any difference are left out of ``wilcoxon`` and
          ``sign`` (p is 1 when none is left); with n units neither can fall below 2 / 2^n, which
          is .0625 for five.

    References
    ----------
    Hollander, M. and Wolfe, D. A. (1999). Nonparametric Statistical Methods, 2nd ed., ch. 3.
    """
    cells = gains.groupby(list(CELL))["gain"].mean()
    units = {
        "pair": (gains["gain"], "two runs alike but for the arm"),
        "cell": (cells, "a dataset with a backbone, mean over seeds"),
        "dataset": (cells.groupby(level="dataset").mean(), "a dataset, mean over backbones"),
    }
    rows = {}
    for unit, (values, meaning) in units.items():
        array = values.to_numpy(dtype=float)
        array = np.where(np.abs(array) < _ZERO, 0, array)
        for test, result in (
            ("wilcoxon", _signed_ranks(array, level)),
            ("sign", _signs(array, level)),
            ("t", _t_test(array, level)),
        ):
            rows[unit, test] = (len(array), *result, meaning)
    columns = ["n", "estimate", "ci_low", "ci_high", "p", "counts_as_one"]
    index = pd.MultiIndex.from_tuples(rows, names=["unit", "test"])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def _signed_ranks(values: np.ndarray, level: float) -> Sequence[float]:
    """Hodges-Lehmann estimate, its interval and the signed-rank test's p-value."""
    n = len(values)
    walsh = np.sort(((values[:, None] + values[None, :]) / 2)[np.triu_indices(n)])
    changed = values[values != 0]
    p = float(stats.wilcoxon(changed).pvalue) if len(changed) else 1.0
    # The distribution of the signed-rank sum without ties says how many means to cut at each end.
    total, counts = n * (n + 1) // 2, np.ones(1)
    for rank in range(1, n + 1):
        counts = np.convolve(counts, np.r_[1.0, np.zeros(rank - 1), 1.0]) / 2
    cut = int(np.searchsorted(np.cumsum(counts), (1 - level) / 2, side="right"))
    ends = (walsh[cut - 1], walsh[total - cut]) if cut > 0 else (np.nan, np.nan)
    return float(np.median(walsh)), float(ends[0]), float(ends[1]), p


def _signs(values: np.ndarray, level: float) -> Sequence[float]:
    """Share of positive values, with Wilson's interval and the sign test's p-value."""
    up, n = int((values > 0).sum()), int((values != 0).sum())
    if not n:
        return float("nan"), float("nan"), float("nan"), 1.0
    low, high = proportion_confint(up, n, 1 - level, method="wilson")
    return up / n, float(low), float(high), float(stats.binomtest(up, n).pvalue)


def _t_test(values: np.ndarray, level: float) -> Sequence[float]:
    """Mean with its t interval and p-value; NaN where nothing can be said."""
    mean, n = float(values.mean()), len(values)
    if n < 2 or np.ptp(values) < _ZERO:
        return mean, float("nan"), float("nan"), float("nan")
    result = stats.ttest_1samp(values, 0)
    interval = result.confidence_interval(level)
    return mean, float(interval.low), float(interval.high), float(result.pvalue)


def _name(run: pd.Series, arm: str) -> str:
    return ", ".join(f"{name} {run[name]}" for name in (*PAIR, arm))
