"""Linear models of clustered rows: one robust coefficient under many choices, and mixed effects.

:func:`mixed_effects_model` fits random intercepts of images nested in patients.
:func:`clustered_coefficient` estimates the coefficient of a yes/no term by least squares given
categorical and numeric controls, always with errors that are robust to clusters;
:func:`specification_curve` does so under every reasonable choice. Only that coefficient is
computed: by the theorem of Frisch, Waugh and Lovell it is the slope of what the controls leave of
the outcome on what they leave of the term, so that controls with many, even dependent, levels are
no obstacle.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm, t
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from iavlib.stats.samples import check_level, cluster_codes, finite_values, labels_of


class DependentColumnsError(ValueError):
    """Columns of a design are linearly dependent, so that their coefficients are not determined."""


def formula_model(frame: pd.DataFrame, formula: str):
    """Build the least-squares model of a formula, refusing rows that would be dropped silently.

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
    # Checked here because the formula engine drops such rows silently.
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
            "instance the logarithm of zero: compute the term in the table and correct it there"
        )
    if np.linalg.matrix_rank(model.exog) < model.exog.shape[1]:
        raise DependentColumnsError(
            f"the columns of '{formula}' are linearly dependent "
            f"({', '.join(model.exog_names)}): leave out a term that the others determine"
        )
    return model


#: A variance component below this share of the total counts as zero, the fit as singular.
_SINGULAR_SHARE = 1e-4


class NotIdentifiedError(ValueError):
    """The data cannot separate one variance component from another, so nothing can be fitted."""


@dataclass(frozen=True, eq=False)
class MixedEffects:
    """A fitted mixed-effects model.

    Attributes
    ----------
    coefficients : DataFrame
        Index `term`; columns `estimate`, `se`, `ci_low`, `ci_high`, `p` (normal approximation),
        `n`, `n_clusters` (outer groups).
    variances : DataFrame
        Index `component` (outer, inner, residual); columns `variance`, `sd`, `share` of the total.
    converged : bool
        Whether the optimiser reached its tolerance.
    singular : bool
        Whether a variance component was estimated as zero. The coefficients then are those of the
        smaller model.
    n, n_outer, n_inner, n_outer_repeated, n_inner_repeated : int
        Rows, groups, and groups with more than one member (inner groups of an outer group, rows of
        an inner group). Only repeated groups separate a variance component from what is nested in
        it.
        Without inner groups `n_inner` is 0 and `n_outer_repeated` counts rows.
    log_likelihood : float
        Restricted when `reml`.
    reml : bool
    warnings : tuple of str
        Warnings of the fit.
    """

    coefficients: pd.DataFrame
    variances: pd.DataFrame
    converged: bool
    singular: bool
    n: int
    n_outer: int
    n_inner: int
    n_outer_repeated: int
    n_inner_repeated: int
    log_likelihood: float
    reml: bool
    warnings: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether the model converged and no variance component is zero."""
        return self.converged and not self.singular


def mixed_effects_model(
    frame: pd.DataFrame,
    formula: str,
    outer: str | ArrayLike,
    inner: str | ArrayLike | None = "image_id",
    reml: bool = True,
    level: float = 0.95,
) -> MixedEffects:
    r"""Fit fixed effects with a random intercept of inner groups nested in outer groups.

    For row k of image j of patient i,

    .. math::
        y_{ijk} = x_{ijk}'\beta + b_i + b_{ij} + e_{ijk}

    with independent normal b_i, b_ij and e_ijk. The response is divided by its standard deviation
    for the fit and the result scaled back, because the optimiser's tolerances are absolute.

    Parameters
    ----------
    frame : DataFrame
    formula : str
        Fixed effects, for instance ``"dice ~ malignant + tool_pair"``; text columns become
        indicators against their first level, columns of truth values count as 0 and 1.
    outer : str or array_like
        Column name or labels of the outer groups, for instance patients; an image without a
        patient is a patient of its own.
    inner : str, array_like or None
        Column name or labels of the inner groups, for instance images. None leaves out b_ij, for
        tables with one row per image.
    reml : bool
        Restricted maximum likelihood (default) or maximum likelihood.
    level : float

    Returns
    -------
    MixedEffects
        Check `sound` first. A fit that did not converge, or is singular, is returned and marked.

    Raises
    ------
    KeyError
        When a column does not exist.
    NotIdentifiedError
        When no group is repeated, so that a variance component cannot be separated from another.
    ValueError
        When a value or label is missing, an inner group lies in two outer groups, columns of the
        design are linearly dependent, or the response is constant.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000). Mixed-Effects Models in S and S-PLUS, ch. 2.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from iavlib.stats import mixed_effects_model
    >>> patient = np.repeat(np.arange(20), 4)
    >>> noise = np.random.default_rng(0).normal(size=80)
    >>> table = pd.DataFrame({"y": 2 * np.sin(patient) + noise, "patient": patient})
    >>> fit = mixed_effects_model(table, "y ~ 1", "patient", inner=None)
    >>> fit.sound, list(fit.variances.index)
    (True, ['outer', 'residual'])
    """
    check_level(level)
    outer_codes, n_outer = cluster_codes(labels_of(frame, outer), len(frame))
    inner_codes = None
    if inner is not None:
        inner_codes, _ = cluster_codes(labels_of(frame, inner), len(frame))
    counts = _count_groups(outer_codes, inner_codes)
    design = formula_model(frame, formula)
    scale = float(np.std(design.endog))
    if scale <= 1e-12 * np.abs(design.endog).max():
        raise ValueError("the response is constant: there is no variation to model")
    fit, messages = _fit(design, scale, outer_codes, inner_codes, reml)
    variances = _variances(fit, scale)
    # The restricted likelihood is that of n - k contrasts, so it is rescaled n - k times.
    n_scaled = len(frame) - (design.exog.shape[1] if reml else 0)
    return MixedEffects(
        coefficients=_coefficients(fit, design.exog_names, scale, level, n_outer),
        variances=variances,
        converged=bool(fit.converged),
        singular=bool((variances["share"] < _SINGULAR_SHARE).any()),
        n=len(frame),
        **counts,
        log_likelihood=float(fit.llf - n_scaled * np.log(scale)),
        reml=reml,
        warnings=messages,
    )


def _count_groups(outer: np.ndarray, inner: np.ndarray | None) -> dict[str, int]:
    """Count groups and repeated groups; refuse a nesting that cannot be estimated."""
    members = outer
    counts = {"n_inner": 0, "n_inner_repeated": 0}
    if inner is not None:
        parents = pd.Series(outer).groupby(inner).agg(["first", "nunique"])
        split = int((parents["nunique"] > 1).sum())
        if split:
            raise ValueError(f"{split} of {len(parents)} inner groups lie in two outer groups")
        members = parents["first"].to_numpy()
        repeated = int((np.bincount(inner) > 1).sum())
        counts = {"n_inner": len(parents), "n_inner_repeated": repeated}
        if not repeated:
            raise NotIdentifiedError(
                "every inner group has one row, so its variance cannot be separated from "
                "the residual: pass inner=None"
            )
    repeated = int((np.bincount(members) > 1).sum())
    if not repeated:
        raise NotIdentifiedError(
            "every outer group has one member, so its variance cannot be separated from what "
            "is nested in it: use the inner groups as outer ones, or clustered_coefficient"
        )
    return {"n_outer": int(outer.max()) + 1, "n_outer_repeated": repeated, **counts}


def _fit(design, scale, outer, inner, reml):
    """Fit the model to the scaled response; return it with its warnings."""
    model = MixedLM(
        design.endog / scale,
        design.exog,
        groups=outer,
        exog_re=np.ones((len(outer), 1)),
        exog_vc=None if inner is None else _nested_intercepts(outer, inner),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = model.fit(reml=reml, gtol=1e-6)
    return fit, tuple(dict.fromkeys(str(warning.message) for warning in caught))


def _nested_intercepts(outer: np.ndarray, inner: np.ndarray) -> VCSpec:
    """Indicator columns of the inner groups, one matrix per outer group in order of its code."""
    rows = np.split(np.argsort(outer, kind="stable"), np.cumsum(np.bincount(outer))[:-1])
    matrices, names = [], []
    for members in rows:
        codes = np.unique(inner[members])
        matrices.append((inner[members][:, None] == codes).astype(float))
        names.append([str(code) for code in codes])
    return VCSpec(["inner"], [names], [matrices])


def _coefficients(fit, terms, scale, level, n_outer) -> pd.DataFrame:
    """Fixed effects in the units of the response, with normal intervals."""
    estimate = np.asarray(fit.fe_params) * scale
    se = np.asarray(fit.bse_fe) * scale
    z = norm.ppf((1 + level) / 2)
    return pd.DataFrame(
        {
            "estimate": estimate,
            "se": se,
            "ci_low": estimate - z * se,
            "ci_high": estimate + z * se,
            "p": 2 * norm.sf(np.abs(estimate / se)),
            "n": int(fit.nobs),
            "n_clusters": n_outer,
        },
        index=pd.Index(terms, name="term"),
    )


def _variances(fit, scale) -> pd.DataFrame:
    """Variance components in the squared units of the response."""
    components = np.r_[np.asarray(fit.cov_re)[0, 0], fit.vcomp, fit.scale] * scale**2
    names = ["outer", "inner", "residual"] if len(components) == 3 else ["outer", "residual"]
    return pd.DataFrame(
        {
            "variance": components,
            "sd": np.sqrt(np.maximum(components, 0)),
            "share": components / components.sum(),
        },
        index=pd.Index(names, name="component"),
    )


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
        The coefficient of least squares with all controls, where that exists.

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
