"""Predicted against true numbers: errors, correlations, calibration and distributions.

Every interval resamples clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`.
The statistics are written with frequency weights (b, n), so that thousands of replicates are
cheap: replicate `b` is the sample in which row `i` occurs ``weights[b, i]`` times.

The released evaluation of the agreement study concatenates three runs on the same test images
before it tests them. That triples n without a new image: every true value is repeated three times,
and p-values come out too small. Here each run is tested by itself; the pooled row and Fisher's
combination are computed too, labelled as such, so that the effect can be seen.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats.resampling import Estimate, cluster_bootstrap
from iavlib.stats.samples import (
    check_aligned,
    cluster_codes,
    finite_values,
    group_members,
    weighted_mean,
)

#: Statistics of :func:`regression_errors`, in the order of its rows.
ERROR_STATISTICS = ("mae", "mse", "rmse", "bias", "pearson", "spearman", "slope", "intercept", "r2")


def regression_errors(
    true: ArrayLike,
    predicted: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    r"""Compute all usual errors of predictions, with their intervals.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
        For instance the mean Dice of each image and what a model predicted.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.

    Returns
    -------
    DataFrame
        Index ``statistic``; columns ``estimate``, ``ci_low``, ``ci_high``, ``n`` and
        ``n_clusters``. Rows:

        - ``mae``, ``mse``, ``rmse``: mean absolute, mean squared, root mean squared error;
        - ``bias``: mean of predicted minus true;
        - ``pearson``, ``spearman``: correlation of predicted with true (ties share their mean
          rank);
        - ``slope``, ``intercept``: calibration, the least-squares line of *true on predicted*. A
          slope below 1 means that the predictions are spread too widely, above 1 too narrowly;
          1 and 0 are perfect;
        - ``r2``: 1 - sum of squared errors / sum of squares of the true values about their mean.
          It is negative for predictions worse than that mean, and not the square of ``pearson``.

        Correlations and slope are NaN where predictions are constant.

    Raises
    ------
    ValueError
        When lengths or indexes differ, or a value is not finite.

    References
    ----------
    Mincer, J. and Zarnowitz, V. (1969). The evaluation of economic forecasts. NBER: regression of
    the realised on the predicted value as calibration.

    Examples
    --------
    >>> from iavlib.stats import regression_errors
    >>> table = regression_errors([0.5, 0.7, 0.9], [0.6, 0.7, 0.8], n_boot=50)
    >>> table.loc[["mae", "bias", "r2"], "estimate"].round(3).abs().tolist()
    [0.067, 0.0, 0.75]
    """
    truth, guess, codes, n_clusters = _checked(true, predicted, clusters)
    boot = cluster_bootstrap(lambda w: _all_errors(truth, guess, w), codes, n_boot, seed)
    return boot.to_frame(ERROR_STATISTICS, n=len(truth), n_clusters=n_clusters)


def point_errors(true: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Compute the estimates of :func:`regression_errors`, without intervals.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)

    Returns
    -------
    dict of str to float

    Raises
    ------
    ValueError
        When lengths differ or a value is not finite.
    """
    truth, guess, _, _ = _checked(true, predicted, None)
    values = _all_errors(truth, guess, np.ones((1, len(truth))))[0]
    return dict(zip(ERROR_STATISTICS, map(float, values), strict=True))


def relative_reduction(
    true: ArrayLike,
    predicted: ArrayLike,
    baseline: ArrayLike | float,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    r"""Share by which a predictor's mean absolute error is below that of a baseline.

    .. math:: 1 - \mathrm{MAE}(\text{predicted}) / \mathrm{MAE}(\text{baseline})

    Datasets differ in how much their agreement varies, so that equal MAE on two of them is not
    equal skill; the reduction against each dataset's own constant median can be compared.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    baseline : float or array_like of float, shape (n,)
        What the baseline predicts: one number, such as the median of the training split, or one per
        row, as with a separate median for each fold. It is held fixed in the bootstrap.
    clusters, n_boot, seed
        See :func:`regression_errors`.

    Returns
    -------
    Estimate
        1 for perfect predictions, 0 for no gain, negative when the baseline is better; NaN when
        the baseline makes no error.

    Raises
    ------
    ValueError
        As :func:`regression_errors`.
    """
    truth, guess, codes, _ = _checked(true, predicted, clusters, baseline=baseline)
    each = [baseline] * len(truth) if np.ndim(baseline) == 0 else baseline
    error, reference = np.abs(guess - truth), np.abs(_checked(true, each, clusters)[1] - truth)

    def reduction(weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1 - weighted_mean(error, weights) / weighted_mean(reference, weights)
        return np.where(np.isfinite(share), share, np.nan)

    return cluster_bootstrap(reduction, codes, n_boot, seed).to_estimate()


def partial_correlation(
    true: ArrayLike,
    predicted: ArrayLike,
    given: pd.DataFrame,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Correlate predictions with the truth once other facts about the rows are known.

    Both are regressed on these facts by least squares, anew in each replicate, and their residuals
    correlated.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    given : DataFrame, shape (n, k)
        Numbers, or labels, of which each is a group with a mean of its own: with one column of
        labels the correlation is that within groups.
    clusters, n_boot, seed
        See :func:`regression_errors`.

    Returns
    -------
    Estimate
        NaN where the residuals of either do not vary.

    Raises
    ------
    ValueError
        As :func:`regression_errors`, or when a fact is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import partial_correlation
    >>> facts = pd.DataFrame({"tool": list("aabb")})
    >>> r = partial_correlation([0.1, 0.2, 0.8, 0.9], [0.2, 0.1, 0.8, 0.7], facts, n_boot=50)
    >>> round(r.value, 3)
    -1.0
    """
    truth, guess, codes, _ = _checked(true, predicted, clusters)
    if len(given) != len(truth) or given.isna().to_numpy().any():
        raise ValueError(f"give {len(truth)} rows of facts, none missing, not {len(given)}")
    design = pd.get_dummies(given, dtype=float).to_numpy(float)
    design = np.column_stack([np.ones(len(truth)), (design - design.mean(0)) / (design.std(0) + 1)])
    products = (design[:, :, None] * design[:, None]).reshape(len(truth), -1)
    both, size = np.stack([truth, guess], axis=1), design.shape[1]
    with_both = (design[:, :, None] * both[:, None]).reshape(len(truth), -1)

    def correlation(weights: np.ndarray) -> np.ndarray:
        gram = (weights @ products).reshape(-1, size, size)
        slopes = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ (weights @ with_both).reshape(
            -1, size, 2
        )
        x, y = np.moveaxis(both - np.einsum("nk,bkc->bnc", design, slopes), 2, 0)
        var_x, var_y, joint = weighted_second_moments(x, y, weights)
        defined = (var_x > 1e-9 * truth.var()) & (var_y > 1e-9 * guess.var())
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.clip(joint / np.sqrt(var_x * var_y), -1, 1)
        return np.where(defined, r, np.nan)

    return cluster_bootstrap(correlation, codes, n_boot, seed).to_estimate()


def errors_by_group(
    true: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute errors in each subgroup, such as each malignancy or number of masks.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    groups : array_like, shape (n,)
        Label of each row; a missing one makes the group ``missing``, so that no row is lost.
    clusters, n_boot, seed
        See :func:`regression_errors`.

    Returns
    -------
    DataFrame
        Index ``group``: the labels, sorted, then ``missing`` and ``all``. Columns ``n``,
        ``n_clusters``, ``mae`` with ``mae_low`` and ``mae_high``, likewise ``bias`` and
        ``pearson``, and ``true_mean``. Intervals are NaN in a group of a single cluster.

    Raises
    ------
    ValueError
        As :func:`regression_errors`.

    See Also
    --------
    iavlib.stats.associations.association : of the absolute errors, to test two groups.

    Examples
    --------
    >>> from iavlib.stats import errors_by_group
    >>> table = errors_by_group([0.5, 0.7, 0.9], [0.6, 0.7, 0.7], ["a", "a", "b"], n_boot=50)
    >>> table["mae"].round(3).to_dict()
    {'a': 0.05, 'b': 0.2, 'all': 0.1}
    """
    truth, guess, codes, _ = _checked(true, predicted, clusters, groups=groups)
    table = {}
    for label, member in group_members(groups, len(truth)).items():
        inside_true, inside_guess, inside = truth[member], guess[member], codes[member]
        row = {"n": len(inside_true), "n_clusters": len(np.unique(inside))}
        errors = pd.DataFrame({"estimate": point_errors(inside_true, inside_guess)})
        if row["n_clusters"] > 1:
            errors = regression_errors(inside_true, inside_guess, inside, n_boot, seed)
        errors = errors.reindex(columns=["estimate", "ci_low", "ci_high"])
        for name in ("mae", "bias", "pearson"):
            names = (name, f"{name}_low", f"{name}_high")
            row |= dict(zip(names, errors.loc[name], strict=True))
        table[label] = row | {"true_mean": inside_true.mean()}
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("group")
    return frame.astype({"n": int, "n_clusters": int})


def _checked(true, predicted, clusters, **others) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Check alignment, lengths and finite values; give truth, prediction and cluster codes."""
    check_aligned(true=true, predicted=predicted, clusters=clusters, **others)
    truth = finite_values(true, "true values")
    guess = finite_values(predicted, "predicted values")
    if len(truth) != len(guess):
        raise ValueError(f"{len(truth)} true values but {len(guess)} predicted ones")
    return truth, guess, *cluster_codes(clusters, len(truth))


def _all_errors(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """All `ERROR_STATISTICS` for each weight vector (b, n), shape (b, 9)."""
    error = predicted - true
    mae, bias, mse = (weighted_mean(values, weights) for values in (np.abs(error), error, error**2))
    x, y = predicted[None, :], true[None, :]
    mean_x, mean_y = weighted_mean(predicted, weights), weighted_mean(true, weights)
    var_x, var_y, both = weighted_second_moments(x, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(varies(var_x, predicted), both / var_x, np.nan)
        r2 = np.where(varies(var_y, true), 1 - mse / var_y, np.nan)
    pearson = weighted_correlation(x, y, weights)
    spearman = weighted_correlation(
        weighted_ranks(predicted, weights), weighted_ranks(true, weights), weights
    )
    intercept = mean_y - slope * mean_x
    columns = [mae, mse, np.sqrt(mse), bias, pearson, spearman, slope, intercept, r2]
    return np.stack(columns, axis=-1)


def weighted_second_moments(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Weighted variances and covariance; `x` and `y` are (1, n), or (b, n) as the weights."""
    total = weights.sum(axis=-1, keepdims=True)
    dx = x - (weights * x).sum(axis=-1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=-1, keepdims=True) / total
    total = total[..., 0]
    return tuple((weights * a * b).sum(axis=-1) / total for a, b in ((dx, dx), (dy, dy), (dx, dy)))


def weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation of each replicate; NaN where either is constant."""
    var_x, var_y, both = weighted_second_moments(x, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(both / np.sqrt(var_x * var_y), -1, 1)
    return np.where(varies(var_x, x) & varies(var_y, y), r, np.nan)


def varies(variance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Distinguish variances from rounding errors of constant values."""
    return variance > (1e-12 * max(float(np.abs(values).max()), 1e-300)) ** 2


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks of rows that occur as often as their weight, shape (b, n)."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(inverse[order]) > 0])
    at_value = np.add.reduceat(weights[:, order], starts, axis=1)
    below = np.cumsum(at_value, axis=1) - at_value
    return (below + (at_value + 1) / 2)[:, inverse]


#: Labels of the two rows that combine runs as the released evaluation does.
POOLED = "runs concatenated (as published)"
COMBINED = "Fisher's combination (as published)"

_P_VALUES = ("ks_p", "mwu_p", "pearson_p", "spearman_p")


def compare_distributions(true: ArrayLike, predicted: ArrayLike) -> pd.Series:
    """Compare predicted with true values, as two samples and as pairs.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)

    Returns
    -------
    Series
        - ``n``: rows;
        - ``ks``, ``ks_p``: two-sample Kolmogorov-Smirnov (exact up to 10,000 rows);
        - ``mwu``, ``mwu_p``: Mann-Whitney U of the predictions, two-sided normal approximation
          with tie and continuity correction, and ``rank_biserial``, positive when predictions
          tend to be larger;
        - ``pearson``, ``pearson_p``, ``spearman``, ``spearman_p``: predicted with true;
        - ``sd_ratio``: standard deviation of the predictions over that of the truth.

    Raises
    ------
    ValueError
        When lengths or indexes differ, there are fewer than three rows, or a value is not finite.

    Notes
    -----
    The first two take predictions and truth as independent samples, as the papers do, although
    they are of the same images. A large p-value does not make the predictions good: true values
    in another order have the same distribution. The correlations are NaN for constant predictions.
    """
    from iavlib.stats.associations import rank_biserial  # a training run needs none of it

    truth, guess, _, _ = _checked(true, predicted, None)
    if len(truth) < 3:
        raise ValueError(f"{len(truth)} true and predicted values: give three or more")
    ks = stats.ks_2samp(guess, truth)
    mwu = stats.mannwhitneyu(guess, truth, method="asymptotic")
    varied = np.ptp(truth) > 0 and np.ptp(guess) > 0
    pearson = stats.pearsonr(guess, truth) if varied else (np.nan, np.nan)
    spearman = stats.spearmanr(guess, truth) if varied else (np.nan, np.nan)
    values = {"n": len(truth), "ks": ks.statistic, "ks_p": ks.pvalue}
    values |= {"mwu": mwu.statistic, "mwu_p": mwu.pvalue}
    values |= {"rank_biserial": rank_biserial(guess, truth)}
    values |= {"pearson": pearson[0], "pearson_p": pearson[1]}
    values |= {"spearman": spearman[0], "spearman_p": spearman[1]}
    values |= {"sd_ratio": guess.std() / truth.std() if np.ptp(truth) > 0 else np.nan}
    return pd.Series(values, dtype=float)


def predictions_against_truth(runs: pd.DataFrame) -> pd.DataFrame:
    """Test each run's predictions against the truth, and all runs as the released code does.

    Parameters
    ----------
    runs : DataFrame
        Predictions of all runs, one row per image and run: ``run``, ``image_id``, ``true``,
        ``predicted``.

    Returns
    -------
    DataFrame
        One row per run, then, of two or more, :data:`POOLED` and :data:`COMBINED`. Columns as
        :func:`compare_distributions`, with ``n_images``, the number of different images, after
        ``n``. The combination has p-values only. Fisher's method takes the tests as independent,
        which runs on the same images are not.

    Raises
    ------
    KeyError
        When a column is missing.
    ValueError
        When a run has an image twice, or as :func:`compare_distributions`.

    References
    ----------
    Fisher, R. A. (1932). Statistical Methods for Research Workers, 4th ed., sec. 21.1.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import predictions_against_truth
    >>> run = pd.DataFrame({"run": 0, "image_id": list("abcd"), "true": [0.5, 0.6, 0.8, 0.9]})
    >>> table = predictions_against_truth(run.assign(predicted=[0.6, 0.7, 0.75, 0.8]))
    >>> table.loc[0, ["pearson", "sd_ratio"]].astype(float).round(2).tolist()
    [0.96, 0.47]
    """
    rows, images = {}, {}
    for label, run in _runs(runs):
        rows[label] = compare_distributions(run["true"], run["predicted"])
        images[label] = run["image_id"].nunique()
    if len(rows) > 1:
        rows[POOLED] = compare_distributions(runs["true"], runs["predicted"])
        single = pd.DataFrame(rows).T.drop(index=POOLED)
        # A p-value that underflowed to 0 would make the logarithm infinite.
        p_values = single[list(_P_VALUES)].clip(lower=np.finfo(float).tiny)
        combined = {k: stats.combine_pvalues(p).pvalue for k, p in p_values.items()}
        rows[COMBINED] = pd.Series(combined)
        images[POOLED] = runs["image_id"].nunique()
    table = pd.DataFrame(rows).T.rename_axis("run")
    table.insert(1, "n_images", pd.Series(images))
    columns = list(next(iter(rows.values())).index)
    return table[["n", "n_images", *columns[1:]]].astype({"n": "Int64", "n_images": "Int64"})


def predictions_by_malignancy(
    runs: pd.DataFrame, indeterminate: str = "drop", n_boot: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Compare malignant with benign lesions, on the truth and on each run's predictions.

    A model that predicts agreement may show the difference between malignant and benign lesions
    that the annotators show, less of it, or more.

    Parameters
    ----------
    runs : DataFrame
        As for :func:`predictions_against_truth`, with ``malignancy`` and, where patients are
        known, ``cluster``, which the intervals resample.
    indeterminate : {"drop", "benign"}
        How to treat lesions that are neither benign nor malignant: leave them out, or count them
        as benign as in the released evaluation.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        Index ``run`` and ``values`` (``true`` or ``predicted``); the rows :data:`POOLED` come
        last where there are two or more runs. Columns ``n``, ``n_malignant``, ``mean_benign``,
        ``sd_benign``, ``mean_malignant``, ``sd_malignant`` (over n - 1), ``difference``
        (malignant minus benign) with ``ci_low`` and ``ci_high``, ``cohens_d``, ``mwu_p``. The
        intervals resample `cluster`, or images without it, so that the repeated images of the
        pooled rows do not narrow them; the p-values are narrowed.

    Raises
    ------
    KeyError, ValueError
        As :func:`predictions_against_truth` and :func:`iavlib.stats.associations.association`.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import predictions_by_malignancy
    >>> run = pd.DataFrame({"run": 0, "image_id": list("abcd"), "true": [0.9, 0.8, 0.6, 0.5]})
    >>> run = run.assign(predicted=run["true"], malignancy=["benign"] * 2 + ["malignant"] * 2)
    >>> table = predictions_by_malignancy(run, n_boot=50)
    >>> print(round(table.loc[(0, "true"), "difference"], 2))
    -0.3
    """
    from iavlib.stats.associations import association

    if indeterminate not in ("drop", "benign"):
        raise ValueError(f"indeterminate must be 'drop' or 'benign', not {indeterminate!r}")
    labelled = list(_runs(runs, "malignancy"))
    if len(labelled) > 1:
        labelled.append((POOLED, runs))
    rows = {}
    for label, run in labelled:
        if indeterminate == "drop":
            run = run[run["malignancy"].isin(["benign", "malignant"])]
        clusters = run["cluster"] if "cluster" in run else run["image_id"]
        malignant = run["malignancy"].eq("malignant")
        for values in ("true", "predicted"):
            result = association(run[values], malignant, clusters, n_boot, seed)
            row = {"n": result.n, "n_malignant": result.n_malignant}
            for group, name in (("other", "benign"), ("malignant", "malignant")):
                row[f"mean_{name}"] = result.groups.loc[group, "mean"]
                row[f"sd_{name}"] = result.groups.loc[group, "sd"]
            row["difference"] = result.mean_difference.value
            row["ci_low"], row["ci_high"] = result.mean_difference.interval
            row |= {"cohens_d": result.cohens_d.value, "mwu_p": result.mann_whitney.p}
            rows[label, values] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["run", "values"])
    return table


def _runs(runs: pd.DataFrame, *more: str) -> Iterator[tuple[object, pd.DataFrame]]:
    """Yield the runs in order of appearance, each image once."""
    missing = [c for c in ("run", "image_id", "true", "predicted", *more) if c not in runs]
    if missing:
        raise KeyError(f"no column {', '.join(missing)} in the predictions; give one row per image")
    for label, run in runs.groupby("run", sort=False):
        twice = run["image_id"].duplicated()
        if twice.any():
            raise ValueError(
                f"run {label!r} has image {run.loc[twice, 'image_id'].iloc[0]} twice: give each "
                "run its own label"
            )
        yield label, run
