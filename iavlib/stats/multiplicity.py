"""Correction of p-values that stand together."""

from __future__ import annotations

import pandas as pd
from statsmodels.stats.multitest import multipletests

__all__ = ["holm"]


def holm(p_values: pd.Series, alpha: float = 0.05) -> pd.DataFrame:
    """Holm's step-down correction of a labelled family of p-values.

    Controls the probability of any false rejection in the family, whatever the dependence between
    the tests.

    Parameters
    ----------
    p_values : Series of float
        Uncorrected p-values; the index names the tests.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        Index as given, in the order given; columns `p`, `p_holm` (at most 1) and `rejected`
        (`p_holm` <= `alpha`).

    Raises
    ------
    TypeError
        When `p_values` has no labels.
    ValueError
        When it is empty, has NaN or values outside 0 to 1, or names a test twice.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    if not isinstance(p_values, pd.Series):
        raise TypeError("p_values must be a pandas Series whose index names the tests")
    if p_values.empty:
        raise ValueError("p_values is empty: there is no test to correct")
    outside = p_values[~p_values.between(0, 1)]
    if len(outside):
        raise ValueError(
            f"{len(outside)} p-values are missing or outside 0 to 1, for instance "
            f"{outside.index[0]!r} = {outside.iloc[0]}: leave out tests that were not run"
        )
    if not p_values.index.is_unique:
        twice = p_values.index[p_values.index.duplicated()][0]
        raise ValueError(f"the test {twice!r} is named twice: give each test its own label")
    rejected, corrected, _, _ = multipletests(p_values.to_numpy(float), alpha, method="holm")
    return pd.DataFrame(
        {"p": p_values.astype(float), "p_holm": corrected, "rejected": rejected},
        index=p_values.index,
    )
