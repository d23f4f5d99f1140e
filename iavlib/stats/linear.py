"""Linear models with errors that are robust to clustering."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike

from iavlib.stats.samples import cluster_codes, labels_of

__all__ = ["clustered_linear_model", "formula_model", "identified_terms"]


class DependentColumnsError(ValueError):
    """Columns of a design are linearly dependent, so that their coefficients are not determined."""


def clustered_linear_model(
    frame: pd.DataFrame,
    formula: str,
    clusters: str | ArrayLike,
    level: float = 0.95,
) -> pd.DataFrame:
    r"""Least squares with cluster-robust standard errors.

    The coefficients are those of ordinary least squares. Their covariance allows any dependence
    between the rows of a cluster and none between clusters:

    .. math::
        \frac{G}{G-1}\,\frac{n-1}{n-k}\;
        (X'X)^{-1} \Big(\sum_g X_g' e_g e_g' X_g\Big) (X'X)^{-1}

    with G clusters, n rows and k coefficients. Intervals and p-values take Student's t with G - 1
    degrees of freedom. These are the conventions of Stata's ``vce(cluster)``.

    Parameters
    ----------
    frame : DataFrame
        Columns of truth values count as 0 and 1, so that their term keeps the column's name.
    formula : str
        For instance ``"dice ~ malignant + tool_pair + skill_pair"``; text columns become
        indicators against their first level.
    clusters : str or array_like
        Column name, or one label per row.
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        Index `term`; columns `estimate`, `se`, `ci_low`, `ci_high`, `p`, `n`, `n_clusters`.

    Raises
    ------
    KeyError
        When the cluster column does not exist.
    ValueError
        When a row has a missing value in a variable of the formula, a cluster label is missing,
        there are fewer than two clusters, or columns of the design are linearly dependent.

    Notes
    -----
    With few clusters (below about 40) these errors tend to be too small.

    References
    ----------
    Liang, K.-Y. and Zeger, S. L. (1986). Biometrika 73, 13-22.
    Cameron, A. C. and Miller, D. L. (2015). A practitioner's guide to cluster-robust inference.
    Journal of Human Resources 50, 317-372.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    codes, n_clusters = cluster_codes(labels_of(frame, clusters), len(frame))
    if n_clusters < 2:
        raise ValueError("cluster-robust errors need at least two clusters")
    result = formula_model(frame, formula).fit(
        cov_type="cluster",
        cov_kwds={"groups": codes, "use_correction": True, "df_correction": True},
        use_t=True,
    )
    interval = result.conf_int(alpha=1 - level)
    return pd.DataFrame(
        {
            "estimate": result.params,
            "se": result.bse,
            "ci_low": interval[0],
            "ci_high": interval[1],
            "p": result.pvalues,
            "n": int(result.nobs),
            "n_clusters": n_clusters,
        }
    ).rename_axis("term")


def formula_model(frame: pd.DataFrame, formula: str):
    """Build the least-squares model of a formula, refusing what would be dropped in silence.

    Parameters
    ----------
    frame : DataFrame
    formula : str

    Returns
    -------
    statsmodels.regression.linear_model.OLS
        Unfitted; its ``endog``, ``exog`` and ``exog_names`` have one entry per row and term.

    Raises
    ------
    ValueError
        When a variable of the formula has missing values, or columns of the design are linearly
        dependent, so that no coefficient of theirs is determined.
    """
    # Checked here because the formula engine drops such rows and says nothing.
    used = [
        name for name in frame.columns if re.search(rf"\b{re.escape(str(name))}\b(?!\()", formula)
    ]
    missing = frame[used].isna()
    if missing.any(axis=None):
        columns = ", ".join(missing.columns[missing.any()])
        raise ValueError(
            f"{int(missing.any(axis=1).sum())} of {len(frame)} rows have a missing value in a "
            f"variable of '{formula}' ({columns}): drop them or fill them before, so that the "
            "number of rows is a decision"
        )
    truth = frame.select_dtypes(["bool", "boolean"]).columns
    model = smf.ols(formula, frame.astype(dict.fromkeys(truth, float)).reset_index(drop=True))
    rows = np.column_stack([model.endog, model.exog])
    undefined = len(frame) - int(np.isfinite(rows).all(axis=1).sum())
    if undefined:
        raise ValueError(
            f"{undefined} of {len(frame)} rows have no finite value for a term of '{formula}', for "
            "instance the logarithm of zero: compute the term in the table and mend it there"
        )
    if np.linalg.matrix_rank(model.exog) < model.exog.shape[1]:
        raise DependentColumnsError(
            f"the columns of '{formula}' are linearly dependent "
            f"({', '.join(model.exog_names)}): leave out a term that the others determine"
        )
    return model


def identified_terms(frame: pd.DataFrame, formula: str, candidates: Sequence[str]) -> list[str]:
    """Choose the columns that can be added to a formula with every coefficient determined.

    Parameters
    ----------
    frame : DataFrame
    formula : str
        The model without the candidates.
    candidates : sequence of str
        Columns to add, the most wanted first.

    Returns
    -------
    list of str
        Each candidate in turn, unless its indicators are linearly dependent on what is there
        already (two factors that always change together, a factor with one level).

    Raises
    ------
    ValueError
        When the formula itself is not determined, or a candidate has missing values.
    """
    chosen: list[str] = []
    formula_model(frame, formula)
    for name in candidates:
        if frame[name].isna().any():
            raise ValueError(f"{int(frame[name].isna().sum())} rows have no {name}: leave it out")
        if frame[name].nunique() < 2:
            continue
        try:
            formula_model(frame, " + ".join([formula, *chosen, name]))
        except DependentColumnsError:
            continue
        chosen.append(name)
    return chosen
