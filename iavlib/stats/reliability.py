r"""Reliability: of areas that several people measured, and of agreement as what is predicted.

:func:`intraclass_correlation` and :func:`limits_of_agreement` compare measurements by several
raters. The others bound how well agreement could be predicted. The target is itself a measurement:
the Dice of two people's masks depends on who they were and on how they drew that day. With
:math:`y_{ip} = \mu + b_i + e_{ip}` for pair p of image i, the share
:math:`\rho = \sigma_b^2 / (\sigma_b^2 + \sigma_e^2)` belongs to the image. Whatever looks at the
image alone can correlate with one pair's value by at most :math:`\sqrt\rho`, the *noise ceiling*.

Two pairs that have a mask in common resemble each other for that reason too, which raises
:math:`\rho`; pairs without one are rarer, as an image needs four masks.

References
----------
Spearman, C. (1904). The proof and measurement of association between two things. American Journal
of Psychology 15, 72-101 (attenuation).
Shrout, P. E. and Fleiss, J. L. (1979). Intraclass correlations. Psychological Bulletin 86, 420-428.
Brennan, R. L. (2001). Generalizability Theory. Springer.
McGraw, K. O. and Wong, S. P. (1996). Forming inferences about some intraclass correlation
coefficients. Psychological Methods 1, 30-46.
Bland, J. M. and Altman, D. G. (1986). Statistical methods for assessing agreement between two
methods of clinical measurement. Lancet 327, 307-310.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import f

from iavlib.stats.regression import weighted_correlation
from iavlib.stats.resampling import Estimate, cluster_bootstrap
from iavlib.stats.samples import finite_values, weighted_mean


def intraclass_correlation(ratings: ArrayLike, level: float = 0.95) -> Estimate:
    r"""Compute ICC(2,1): two-way random effects, absolute agreement, a single rater.

    With the mean squares of n targets (T), k raters (R) and the residual (E):
    :math:`(T - E) / (T + (k - 1) E + k (R - E) / n)`.

    Parameters
    ----------
    ratings : array_like of float, shape (n, k)
        Targets (images) by raters, in any unit. Rows with a missing value are left out.
    level : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        The coefficient, at most 1, with the F interval of McGraw and Wong (targets independent,
        normal errors). NaN for fewer than two complete rows, fewer than two raters, or equal
        values.

    References
    ----------
    Shrout and Fleiss (1979), McGraw and Wong (1996, table 7).

    Examples
    --------
    >>> from iavlib.stats import intraclass_correlation
    >>> estimate = intraclass_correlation([[9, 8], [6, 7], [8, 9], [7, 7], [10, 9], [6, 6]])
    >>> round(estimate.value, 3), round(estimate.low, 3), round(estimate.high, 3)
    (0.833, 0.155, 0.975)
    """
    values = np.asarray(ratings, float)
    values = values[np.isfinite(values).all(axis=1)]
    n, k = values.shape
    if n < 2 or k < 2 or np.ptp(values) == 0:
        return Estimate(float("nan"))
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    t = k * np.sum((rows - mean) ** 2) / (n - 1)
    r = n * np.sum((columns - mean) ** 2) / (k - 1)
    residual = values - rows[:, None] - columns + mean
    e = np.sum(residual**2) / ((n - 1) * (k - 1))
    total = t + (k - 1) * e + k * (r - e) / n
    icc = (t - e) / total if total > 0 else np.nan
    if r + e < 1e-12 * t:  # nobody differs
        return Estimate(float(icc), float(icc), float(icc))
    a, b = k * icc * r, (n * (1 + (k - 1) * icc) - k * icc) * e
    with np.errstate(invalid="ignore"):  # neither raters nor targets differ
        freedom = (k - 1) * (n - 1) * (a + b) ** 2 / ((n - 1) * a**2 + b**2)
    upper, lower = f.ppf((1 + level) / 2, [n - 1, freedom], [freedom, n - 1])
    rest = k * r + (k * n - k - n) * e
    low = n * (t - upper * e) / (upper * rest + n * t)
    high = n * (lower * t - e) / (rest + n * lower * t)
    return Estimate(float(icc), float(low), float(high))


def limits_of_agreement(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Compute Bland and Altman's bias and 95 % limits of agreement of two raters.

    Parameters
    ----------
    first, second : array_like of float, shape (n,)
        Measurements of the same targets, in one unit; pairs with a missing value are left out.

    Returns
    -------
    Estimate
        Mean of first minus second, and that mean minus and plus 1.96 standard deviations of the
        differences, in the same unit; without limits for a single pair.

    References
    ----------
    Bland and Altman (1986).

    Examples
    --------
    >>> from iavlib.stats import limits_of_agreement
    >>> limits_of_agreement([10, 12, 9], [9, 12, 10]).interval
    (-1.96, 1.96)
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    difference = difference[np.isfinite(difference)]
    if len(difference) == 0:
        return Estimate(float("nan"))
    half = 1.96 * difference.std(ddof=1) if len(difference) > 1 else np.nan
    bias = float(difference.mean())
    return Estimate(bias, float(bias - half), float(bias + half))


#: Shares of the variance among which the maximum of the likelihood is sought.
_GRID = np.linspace(0, 0.995, 200)


def noise_ceiling(
    pairs: pd.DataFrame,
    clusters: pd.Series,
    predictions: pd.DataFrame | None = None,
    within: pd.Series | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    r"""Estimate the reliability of agreement, and what it allows a prediction to reach.

    Parameters
    ----------
    pairs : DataFrame
        One row per pair of masks: ``image_id``, ``mask_1``, ``mask_2``, ``dice``.
    clusters : Series
        Cluster (patient) of each image, indexed by image id; these are resampled.
    predictions : DataFrame, optional
        ``image_id``, ``true`` (mean Dice of the image's pairs) and ``predicted``, each image once.
    within : Series, optional
        Group of each row of `pairs`, such as its two tools: the groups' means are taken out of the
        values first, and held fixed in the bootstrap.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.

    Returns
    -------
    DataFrame
        Index ``method`` (:data:`METHODS`, those that the pairs allow: maximum likelihood of a
        random intercept; ICC(1); covariance of pairs with and without a common mask over the
        variance of the same images). Columns ``n_images``, and with ``_low`` and ``_high`` each:

        - ``reliability`` of one pair, cut at 0;
        - ``ceiling``: largest possible correlation with the target, :math:`\sqrt{\rho'}`, where
          :math:`\rho' = \rho / (\rho + (1 - \rho) \overline{1/k})` allows for targets that are
          means of k pairs (of the predicted images, or of all);
        - ``corrected``: the predictions' correlation over the ceiling, at most 1 but for chance;
          NaN without predictions.

        It is empty where no image has two pairs, or where there is a single cluster.

    Raises
    ------
    ValueError
        When a value is not finite, or an image has no cluster.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from iavlib.stats import noise_ceiling
    >>> image = np.repeat(np.arange(200), 3)
    >>> rng = np.random.default_rng(0)
    >>> dice = 0.7 + 0.1 * rng.normal(size=200)[image] + 0.1 * rng.normal(size=600)
    >>> pairs = pd.DataFrame({"image_id": image, "mask_1": 0, "mask_2": 1, "dice": dice})
    >>> table = noise_ceiling(pairs, pd.Series(np.arange(200)), n_boot=50)
    >>> bool(abs(table["reliability"].iloc[0] - 0.5) < 0.1)
    True
    """
    table = _image_table(pairs, within)
    if predictions is not None:
        table = table.join(predictions.set_index("image_id")[["true", "predicted"]])
    table["cluster"] = clusters.reindex(table.index)
    if table["cluster"].isna().any():
        raise ValueError(f"image {table.index[table['cluster'].isna()][0]!r} has no cluster")
    if table["k"].max() < 2 or table["cluster"].nunique() < 2:
        return pd.DataFrame(columns=["n_images", *_COLUMNS]).rename_axis("method")
    rows = {}
    for method, (needed, reliability) in METHODS.items():
        used = (table[needed].notna() if needed else table["k"] > 0).to_numpy()
        if used.sum() < 2:
            continue
        values = cluster_bootstrap(
            _ceiling_of(table, used, reliability), table["cluster"], n_boot, seed
        )
        row = {"n_images": int(used.sum())}
        for i, name in enumerate(_NAMES):
            numbers = (values.estimate[i], values.low[i], values.high[i])
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
        rows[method] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


_NAMES = ("reliability", "ceiling", "corrected")
_COLUMNS = [f"{name}{end}" for name in _NAMES for end in ("", "_low", "_high")]


def _image_table(pairs: pd.DataFrame, within: pd.Series | None) -> pd.DataFrame:
    """Reduce the pairs to sums by image, of which every estimator is made."""
    values = pd.Series(finite_values(pairs["dice"], "dice"), index=pairs.index)
    if within is not None:
        values = values - values.groupby(within).transform("mean") + values.mean()
    pairs = pairs[["image_id", "mask_1", "mask_2"]].assign(value=values)
    by_image = pairs.groupby("image_id")["value"]
    table = pd.DataFrame({"k": by_image.size(), "mean": by_image.mean()})
    table["within"] = by_image.var(ddof=0) * table["k"]  # sum of squares about the image's mean
    table.loc[table["k"] > 1, "repeated"] = table["within"]
    several = pairs[pairs["image_id"].map(table["k"]) > 1].reset_index(drop=True).reset_index()
    both = several.merge(several, on="image_id", suffixes=("", "_b"))
    both = both[both["index"] != both["index_b"]]
    shared = sum(both[a] == both[b] for a in _MASKS for b in (f"{m}_b" for m in _MASKS)) > 0
    product = both["value"] * both["value_b"]
    table["sharing"] = product[shared].groupby(both["image_id"][shared]).mean()
    table["disjoint"] = product[~shared].groupby(both["image_id"][~shared]).mean()
    table["squares"] = by_image.agg(lambda group: (group**2).mean())
    return table


_MASKS = ("mask_1", "mask_2")


def _ceiling_of(table: pd.DataFrame, used: np.ndarray, reliability: Callable) -> Callable:
    """Make the statistic that :func:`noise_ceiling` bootstraps."""
    images = table[used]
    predicted = np.zeros(len(table), bool)
    if "predicted" in table:
        predicted = table[["true", "predicted"]].notna().all(axis=1).to_numpy()
    targets = table[predicted] if predicted.any() else table
    inverse = (1 / targets["k"]).to_numpy()

    def statistic(weights: np.ndarray) -> np.ndarray:
        rho = np.clip(reliability(images, weights[:, used]), 0, 1)
        chosen = weights[:, predicted] if predicted.any() else weights
        with np.errstate(divide="ignore", invalid="ignore"):
            ceiling = np.sqrt(rho / (rho + (1 - rho) * weighted_mean(inverse, chosen)))
            corrected = np.full(len(weights), np.nan)
            if predicted.sum() > 1:
                x, y = (targets[name].to_numpy()[None] for name in ("predicted", "true"))
                corrected = weighted_correlation(x, y, chosen) / ceiling
        corrected[~np.isfinite(corrected)] = np.nan
        return np.stack([rho, ceiling, corrected], axis=1)

    return statistic


def _mixed_model(images: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """Maximise the likelihood of a random intercept over a grid; a parabola refines it."""
    k, mean, within = (images[name].to_numpy()[:, None] for name in ("k", "mean", "within"))
    middle = mean.mean()
    factor = 1 + (k - 1) * _GRID  # variance of the image's mean times k over the total variance
    n = weights @ k
    weight, first = weights @ (k / factor), weights @ (k * (mean - middle) / factor)
    second = weights @ (k * (mean - middle) ** 2 / factor)
    squares = (weights @ within) / (1 - _GRID) + second - first**2 / weight
    logarithms = weights @ ((k - 1) * np.log(1 - _GRID) + np.log(factor))
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = -0.5 * (logarithms + n * np.log(squares / n))
    best = np.clip(likelihood.argmax(axis=1), 1, len(_GRID) - 2)
    low, top, high = (np.take_along_axis(likelihood, (best + d)[:, None], 1) for d in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.clip(0.5 * (low - high) / (low - 2 * top + high), -1, 1)[:, 0]
    varies = (weights @ (within + k * (mean - middle) ** 2))[:, 0] > 1e-12
    return np.where(varies, _GRID[best] + shift * (_GRID[1] - _GRID[0]), np.nan)


def _analysis_of_variance(images: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """ICC(1) of groups of different size."""
    k, mean, within = (images[name].to_numpy(float) for name in ("k", "mean", "within"))
    n, groups = weights @ k, weights.sum(axis=1)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # a replicate may draw none of these images
        grand = (weights @ (k * mean)) / n
        between = (weights * k * (mean - grand[:, None]) ** 2).sum(axis=1) / (groups - 1)
        size = (n - weights @ k**2 / n) / (groups - 1)
        error = (weights @ within) / (n - groups)
        return (between - error) / (between + (size - 1) * error)


def _covariance(kind: str) -> Callable:
    """Covariance of two pairs of an image over the variance of a pair, images weighing alike."""

    def reliability(images: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            product, square, mean = (
                weighted_mean(images[name].to_numpy(), weights)
                for name in (kind, "squares", "mean")
            )
            return (product - mean**2) / (square - mean**2)

    return reliability


#: What the pairs that are compared have in common, besides the image (index of the results), to the
#: column that images need and the estimator.
METHODS = {
    "all images, mixed model": ("", _mixed_model),
    "images with three masks or more, analysis of variance": ("repeated", _analysis_of_variance),
    "pairs that share a mask": ("sharing", _covariance("sharing")),
    "pairs that share no mask": ("disjoint", _covariance("disjoint")),
}


def error_floor(
    pairs: pd.DataFrame,
    clusters: pd.Series,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    r"""Estimate the least mean absolute error with which one pair's value can be predicted.

    With two pairs y and y' of the same image and its median m,
    :math:`\tfrac12 E|y - y'| \le E|y - m| \le E|y - y'|`, whatever the distribution; for normal
    errors the middle is :math:`E|y - y'| / \sqrt2`. Images with a single pair do not count.

    Parameters
    ----------
    pairs, clusters, n_boot, seed
        As for :func:`noise_ceiling`.

    Returns
    -------
    DataFrame
        Index ``statistic``: ``difference`` (of two pairs, mean over images), ``bound`` (half of
        it), ``normal``, ``constant`` (error of the median of these images' pairs) and
        ``reducible`` (``1 - normal / constant``, the share of the constant's error that could be
        removed). Columns as of :func:`iavlib.stats.regression.regression_errors`. Empty where
        fewer than two clusters have images with two pairs.
    """
    by_image = pairs.groupby("image_id")["dice"]
    several = pairs[by_image.transform("size") > 1]
    names = ["difference", "bound", "normal", "constant", "reducible"]
    owner = clusters.reindex(several["image_id"].unique())
    if owner.nunique() < 2:
        return pd.DataFrame(columns=["estimate", "ci_low", "ci_high"])
    groups = several.groupby("image_id")["dice"]
    median = several["dice"].median()
    difference = groups.agg(_mean_difference).reindex(owner.index).to_numpy()
    deviation = groups.agg(lambda v: (v - median).abs().mean()).reindex(owner.index).to_numpy()

    def statistic(weights: np.ndarray) -> np.ndarray:
        gap, constant = weighted_mean(difference, weights), weighted_mean(deviation, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(constant > 0, 1 - gap / np.sqrt(2) / constant, np.nan)
        return np.stack([gap, gap / 2, gap / np.sqrt(2), constant, share], axis=1)

    boot = cluster_bootstrap(statistic, owner, n_boot, seed)
    return boot.to_frame(names, n=len(owner), n_clusters=boot.n_clusters)


def _mean_difference(values: pd.Series) -> float:
    """Mean absolute difference of all pairs of different values."""
    array = values.to_numpy()
    return np.abs(array[:, None] - array).sum() / (len(array) * (len(array) - 1))
