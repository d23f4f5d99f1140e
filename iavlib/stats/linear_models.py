"""Linear models of clustered rows: cluster-robust errors, and mixed effects.

:func:`clustered_linear_model` fits least squares with cluster-robust standard errors;
:func:`mixed_effects_model` fits random intercepts of images nested in patients.
"""

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy.stats import norm
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from iavlib.stats.samples import check_level, cluster_codes, labels_of


class DependentColumnsError(ValueError):
    """Columns of a design are linearly dependent, so that their coefficients are not determined."""


def clustered_linear_model(
    frame: pd.DataFrame, formula: str, clusters: str | ArrayLike, level: float = 0.95
) -> pd.DataFrame:
    r"""Least squares with cluster-robust standard errors.

    The coefficients are those of ordinary least squares. Their covariance allows any dependence
    between the rows of a cluster and none between clusters:

    .. math::
        \frac{G}{G-1}\,\frac{n-1}{n-k}\;
        (X'X)^{-1} \left(\sum_g X_g' e_g e_g' X_g\right) (X'X)^{-1}

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

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import clustered_linear_model
    >>> malignant = [False, False, True, True]
    >>> table = pd.DataFrame({"dice": [0.9, 0.8, 0.7, 0.5], "malignant": malignant})
    >>> fit = clustered_linear_model(table, "dice ~ malignant", ["a", "b", "c", "d"])
    >>> fit["estimate"].round(2).to_dict()
    {'Intercept': 0.85, 'malignant': -0.25}
    """
    check_level(level)
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
        Fixed effects, as in :func:`iavlib.stats.linear_models.clustered_linear_model`.
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
            "is nested in it: use the inner groups as outer ones, or clustered_linear_model"
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
