"""One association under every reasonable choice (a specification curve), and its mean over groups.

The coefficient of a yes/no term is estimated by least squares given categorical and numeric
controls, always with errors that are robust to clusters. Only that coefficient is computed: by the
theorem of Frisch, Waugh and Lovell it is the slope of what the controls leave of the outcome on
what they leave of the term, so that controls with many, even dependent, levels are no obstacle.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm, t

from iavlib.stats.samples import check_level, cluster_codes, finite_values, labels_of

#: A variance below this share of the original one counts as nothing left.
_ROUNDING = 1e-10


def clustered_coefficient(
    frame: pd.DataFrame,
    outcome: str,
    term: str = "malignant",
    controls: Sequence[str] = (),
    clusters: str | ArrayLike = "cluster",
    level: float = 0.95,
) -> dict[str, Any]:
    """Estimate how much an outcome differs between rows with and without a property.

    Parameters
    ----------
    frame : DataFrame
    outcome : str
        Numeric column. Rows without a value, or without that of a numeric control, are left out;
        ``n`` counts the rows used.
    term : str
        Column of truth values.
    controls : sequence of str
        Columns held equal. Texts and truth values are categories, a missing one being a category
        of its own; numbers enter linearly.
    clusters : str or array_like
        Column name, or one label per row, for instance patients.
    level : float
        Coverage of the interval.

    Returns
    -------
    dict
        ``estimate`` (true minus false, in the unit of the outcome), ``se``, ``ci_low``,
        ``ci_high``, ``p``, ``n``, ``n_true``, ``n_clusters``, ``n_clusters_true`` (with a row for
        which the term is true) and ``note``: why there is no estimate or no interval, else empty.
        Equal to the coefficient of :func:`iavlib.stats.clustered_linear_model` where that exists.

    Raises
    ------
    KeyError
        When a column does not exist.
    ValueError
        When a cluster label or a value of the term is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import clustered_coefficient
    >>> table = pd.DataFrame({"dice": [0.9, 0.8, 0.7, 0.5], "tool": list("aabb")})
    >>> table = table.assign(malignant=[False, True, False, True], cluster=list("pqrs"))
    >>> print(round(clustered_coefficient(table, "dice", controls=["tool"])["estimate"], 3))
    -0.15
    """
    check_level(level)
    frame = frame.assign(_cluster=np.asarray(labels_of(frame, clusters), dtype=object))
    numeric = [c for c in controls if frame[c].dtype.kind in "iuf"]
    used = frame.dropna(subset=[outcome, *numeric])
    x = used[term].astype(bool).to_numpy(float)
    codes, n_clusters = cluster_codes(used["_cluster"], len(used))
    true_clusters, false_clusters = (len(np.unique(codes[x == value])) for value in (1, 0))
    result = dict.fromkeys(("estimate", "se", "ci_low", "ci_high", "p"), np.nan)
    result |= {"n": len(used), "n_true": int(x.sum()), "n_clusters": n_clusters}
    result |= {"n_clusters_true": true_clusters, "note": ""}
    if len(used) == 0 or x.min() == x.max():
        return result | {"note": f"all rows have the same value of {term}"}
    basis = _basis(used, [c for c in controls if c not in numeric], numeric)
    y = used[outcome].to_numpy(float)
    x_left, y_left = (values - basis @ (basis.T @ values) for values in (x, y))
    left = x_left @ x_left
    if left <= _ROUNDING * len(x):
        return result | {"note": f"the controls determine {term}"}
    result["estimate"] = x_left @ y_left / left
    n, k = len(used), basis.shape[1] + 1
    if min(true_clusters, false_clusters) < 2 or n <= k:
        return result | {"note": "too few clusters for an interval"}
    residual = y_left - result["estimate"] * x_left
    scores = np.bincount(codes, x_left * residual, n_clusters)
    variance = n_clusters / (n_clusters - 1) * (n - 1) / (n - k) * (scores @ scores) / left**2
    if variance <= (_ROUNDING * max(np.abs(y).max(), 1e-300)) ** 2:
        small = abs(result["estimate"]) <= _ROUNDING * np.abs(y).max()
        estimate = 0.0 if small else result["estimate"]
        return result | {"estimate": estimate, "note": f"{outcome} does not vary within groups"}
    se = np.sqrt(variance)
    half = t.ppf((1 + level) / 2, n_clusters - 1) * se
    result |= {"se": se, "ci_low": result["estimate"] - half, "ci_high": result["estimate"] + half}
    result["p"] = 2 * t.sf(abs(result["estimate"]) / se, n_clusters - 1)
    return result


def _basis(frame: pd.DataFrame, categories: Sequence[str], numeric: Sequence[str]) -> np.ndarray:
    """Orthonormal basis, shape (n, rank), of an intercept and the controls."""
    columns = [np.ones((len(frame), 1))]
    for name in categories:
        codes, levels = pd.factorize(frame[name].astype(object), use_na_sentinel=False)
        columns.append((codes[:, None] == np.arange(1, len(levels))).astype(float))
    for name in numeric:
        values = frame[name].to_numpy(float)
        columns.append(((values - values.mean()) / (values.std() or 1))[:, None])
    left, singular, _ = np.linalg.svd(np.hstack(columns), full_matrices=False)
    return left[:, singular > 1e-9 * singular[0]]


def specification_curve(
    tables: Mapping[str, pd.DataFrame],
    outcomes: Mapping[str, tuple[str, int]],
    subsets: Mapping[str, Callable[[pd.DataFrame], pd.Series]],
    adjustments: Mapping[str, Sequence[str]],
    term: str = "malignant",
    clusters: str = "cluster",
) -> pd.DataFrame:
    """Estimate one association under every combination of choices.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Unit of analysis, such as images or pairs of masks, to its rows.
    outcomes : mapping of str to (str, int)
        Name of an outcome to its column, and 1 or -1: the sign that makes more of it mean more
        agreement.
    subsets : mapping of str to callable
        Name of a subset to a function that returns which rows of a table belong to it.
    adjustments : mapping of str to sequence of str
        Name of an adjustment to its controls. Left out for tables that lack one of the columns.
    term, clusters : str
        Columns, see :func:`clustered_coefficient`.

    Returns
    -------
    DataFrame
        One row per combination with an estimate: ``unit``, ``outcome``, ``subset``,
        ``adjustment``; columns of :func:`clustered_coefficient`, signs turned as given; and
        ``effect``, ``effect_low``, ``effect_high``, the same in standard deviations of the
        outcome in its whole table, which makes outcomes comparable.

    References
    ----------
    Simonsohn, U., Simmons, J. P. and Nelson, L. D. (2020). Specification curve analysis. Nature
    Human Behaviour 4, 1208-1214.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import specification_curve
    >>> table = pd.DataFrame({"dice": [0.9, 0.8, 0.7, 0.5], "tool": list("aabb")})
    >>> table = table.assign(malignant=[False, True, False, True], cluster=list("pqrs"))
    >>> everything = {"all": lambda rows: rows["dice"] >= 0}
    >>> adjust = {"none": [], "tool": ["tool"]}
    >>> curve = specification_curve({"images": table}, {"Dice": ("dice", 1)}, everything, adjust)
    >>> curve["adjustment"].tolist()
    ['none', 'tool']
    """
    rows = []
    for (unit, table), (outcome, (column, sign)) in product(tables.items(), outcomes.items()):
        spread = table[column].std() or np.nan
        for (subset, member), (label, controls) in product(subsets.items(), adjustments.items()):
            if not set(controls) <= set(table.columns):
                continue
            part = table[member(table)]
            found = clustered_coefficient(part, column, term, controls, clusters)
            low, high = sorted((sign * found["ci_low"], sign * found["ci_high"]))
            found |= {"estimate": sign * found["estimate"], "ci_low": low, "ci_high": high}
            scaled = {
                name.replace("estimate", "effect").replace("ci_", "effect_"): found[name] / spread
                for name in ("estimate", "ci_low", "ci_high")
            }
            choices = {"unit": unit, "outcome": outcome, "subset": subset, "adjustment": label}
            rows.append(choices | found | scaled)
    curve = pd.DataFrame(rows or {"estimate": []})
    return curve.dropna(subset=["estimate"]).reset_index(drop=True)


def random_effects_mean(
    effects: ArrayLike, errors: ArrayLike, level: float = 0.95
) -> dict[str, float]:
    r"""Average estimates of several groups whose true effects differ (DerSimonian and Laird).

    .. math::
        \hat\mu = \frac{\sum_i w_i y_i}{\sum_i w_i}, \qquad w_i = \frac{1}{s_i^2 + \tau^2}, \qquad
        I^2 = \max\left(0, \frac{Q - (k - 1)}{Q}\right)

    with the moment estimate of :math:`\tau^2` from Cochran's Q.

    Parameters
    ----------
    effects, errors : array_like of float, shape (k,)
        Estimates of independent groups and their standard errors, above 0.
    level : float
        Coverage of the intervals.

    Returns
    -------
    dict
        ``estimate``, ``se``, ``ci_low``, ``ci_high``, ``p`` (normal); ``tau``, the standard
        deviation of true effects; ``i2``, the share of the variation that is due to it; ``q`` and
        ``q_p``, the test of equal effects; ``new_low`` and ``new_high``, in which the effect of a
        further group is expected (Student's t with k - 2 degrees of freedom, NaN for k < 3); ``k``.

    Raises
    ------
    ValueError
        When there are fewer than two groups, a value is not finite, or an error is not above 0.

    References
    ----------
    DerSimonian, R. and Laird, N. (1986). Controlled Clinical Trials 7, 177-188.
    Higgins, J. P. T., Thompson, S. G. and Spiegelhalter, D. J. (2009). A re-evaluation of
    random-effects meta-analysis. JRSS A 172, 137-159: the interval of a further group.

    Examples
    --------
    >>> from iavlib.stats import random_effects_mean
    >>> mean = random_effects_mean([-0.05, 0.02, 0.20], [0.01, 0.02, 0.05])
    >>> round(mean["i2"], 1), mean["k"]
    (0.9, 3)
    """
    check_level(level)
    values, se = finite_values(effects, "effects"), finite_values(errors, "errors")
    k = len(values)
    if k < 2 or len(se) != k or (se <= 0).any():
        raise ValueError(
            f"{k} effects with {len(se)} errors: give two or more, with errors above 0"
        )
    weights = 1 / se**2
    q = float(weights @ (values - weights @ values / weights.sum()) ** 2)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    # statsmodels' combine_effects leaves a negative variance in the weights
    tau2 = max(0.0, (q - (k - 1)) / scale)
    weights = 1 / (se**2 + tau2)
    mean, error = weights @ values / weights.sum(), 1 / np.sqrt(weights.sum())
    half = norm.ppf((1 + level) / 2) * error
    wide = np.nan
    if k > 2:
        wide = float(t.ppf((1 + level) / 2, k - 2)) * np.sqrt(tau2 + error**2)
    found = {
        **{"estimate": mean, "se": error, "ci_low": mean - half, "ci_high": mean + half},
        **{"p": 2 * norm.sf(abs(mean) / error), "tau": np.sqrt(tau2)},
        **{"i2": max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0},
        **{"q": q, "q_p": chi2.sf(q, k - 1), "k": k},
        **{"new_low": mean - wide, "new_high": mean + wide},
    }
    return {name: int(value) if name == "k" else float(value) for name, value in found.items()}
