r"""How well probabilities separate malignant from benign: every usual measure, with its interval.

Calibration asks whether, of all rows to which a model gives a probability near .3, three in ten are
malignant: by the calibration error.

Intervals resample clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`. A row
is called malignant when its probability is **at least** the threshold; the threshold is .5 or is
chosen on a validation split (:func:`choose_threshold`), never on the rows measured.

The ``weighted_…`` measures take many weight vectors at once: checked labels (n,), scores (n,) and
frequency weights (b, n), none negative; replicate `b` is the sample in which row `i` occurs
``weights[b, i]`` times. They return shape (b,), NaN where a class that the measure needs has no
weight.

The AUROC is the share of pairs (a malignant and a benign row) in which the malignant one scores
higher, a tie counting half. The *placement* of a malignant row is the share of benign rows below
it, that of a benign row the share of malignant rows above it; the mean of either is the area, and
DeLong's covariance of several areas is that of the placements. They are computed from mid-ranks,
without forming any pair.

Rows of one patient are not independent: centred placements are summed by cluster first, and the
covariance of a patient's malignant and benign rows is included (Obuchowski). With every row its own
cluster both variances are equal.

References
----------
DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or
more correlated receiver operating characteristic curves. Biometrics 44, 837-845.
Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53,
567-578.
Sun, X. and Xu, W. (2014). Fast implementation of DeLong's algorithm. IEEE Signal Processing
Letters 21, 1389-1393: placements from mid-ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from iavlib.stats.associations import weighted_rank_biserial
from iavlib.stats.factors import natural_key
from iavlib.stats.resampling import cluster_bootstrap
from iavlib.stats.samples import Sample, check_level, two_samples, weighted_mean

#: Rates this close to the target count as reaching it, so that rounding does not decide.
_ROUNDING = 1e-9


def weighted_rates(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, F1, sensitivity and specificity at a threshold.

    F1 is 0 when malignant rows exist and none is found.
    """
    called = score >= threshold
    true_positive, positive = weights @ (called & malignant), weights @ malignant
    true_negative, negative = weights @ (~called & ~malignant), weights @ ~malignant
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = true_positive / positive
        specificity = true_negative / negative
        f1 = 2 * true_positive / (positive + weights @ called)
        accuracy = (true_positive + true_negative) / (positive + negative)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": np.where(positive > 0, f1, np.nan),
        "sensitivity": sensitivity,
        "specificity": specificity,
    }


def weighted_auroc(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability that a malignant row scores above a benign one; a tie counts half."""
    return (weighted_rank_biserial(score, malignant, weights) + 1) / 2


def weighted_average_precision(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sum of precision times step in recall, over all distinct scores from the top."""
    hits, alarms, positive, _ = _from_the_top(malignant, score, weights)
    steps = np.diff(hits, axis=-1, prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(hits + alarms > 0, hits / (hits + alarms), 0)
        return (steps * precision).sum(axis=-1) / positive


def best_sensitivity(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, specificity: float
) -> np.ndarray:
    """Highest sensitivity of any threshold whose specificity is at least the given one.

    Thresholds are the scores themselves and one above all; nothing is interpolated.
    """
    hits, alarms, positive, negative = _from_the_top(malignant, score, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = 1 - alarms / negative[:, None] >= specificity - _ROUNDING
        best = np.where(allowed, hits, 0).max(axis=-1) / positive
    return np.where(negative > 0, best, np.nan)


def best_specificity(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, sensitivity: float
) -> np.ndarray:
    """Highest specificity of any threshold whose sensitivity is at least the given one."""
    hits, alarms, positive, negative = _from_the_top(malignant, score, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = hits / positive[:, None] >= sensitivity - _ROUNDING
        best = 1 - np.where(allowed, alarms, negative[:, None]).min(axis=-1) / negative
    return np.where(positive > 0, best, np.nan)


def _from_the_top(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple:
    """Weight of true and of false alarms at each distinct score, and of both classes."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    by_rank = np.asarray(weights, dtype=float)[:, order]
    label = malignant[order]
    hits = np.cumsum(np.add.reduceat(by_rank * label, starts, axis=1), axis=1)
    alarms = np.cumsum(np.add.reduceat(by_rank * ~label, starts, axis=1), axis=1)
    return hits, alarms, hits[:, -1], alarms[:, -1]


@dataclass(frozen=True)
class Threshold:
    """A threshold and its performance on the rows that chose it.

    Attributes
    ----------
    value : float
        A row is called malignant when its probability is at least this.
    sensitivity, specificity : float
        On the rows that chose it, and so optimistic.
    n_tied : int
        Candidates with the same balanced accuracy, this one included.
    """

    value: float
    sensitivity: float
    specificity: float
    n_tied: int


def choose_threshold(malignant: ArrayLike, probability: ArrayLike) -> Threshold:
    """Choose the threshold with the highest balanced accuracy on a validation split.

    That is also the threshold with the highest Youden index (twice balanced accuracy minus 1).
    Between two neighbouring scores every threshold calls the same rows malignant, so the
    candidates are the midpoints between neighbours, one below all scores and one above all.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)

    Returns
    -------
    Threshold
        Of candidates that tie, the nearest to .5, because no row supports moving it further; of
        two equally near, the lower one, which misses fewer malignancies.

    Raises
    ------
    OneClassError
        When a class is missing.

    References
    ----------
    Youden, W. J. (1950). Index for rating diagnostic tests. Cancer 3, 32-35.

    Examples
    --------
    >>> from iavlib.stats import choose_threshold
    >>> choose_threshold([False, False, True], [0.1, 0.3, 0.7]).value
    0.5
    """
    sample = two_samples(probability, malignant, probability=True)
    cuts, sensitivity, specificity = _candidates(sample.group, sample.value)
    balanced = (sensitivity + specificity) / 2
    tied = np.flatnonzero(balanced >= balanced.max() - _ROUNDING)
    best = min(tied, key=lambda i: (round(abs(cuts[i] - 0.5), 12), cuts[i]))
    rates = float(sensitivity[best]), float(specificity[best])
    return Threshold(float(cuts[best]), *rates, len(tied))


def _candidates(malignant: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Thresholds from low to high, with sensitivity and specificity of each."""
    values, which = np.unique(score, return_inverse=True)
    above = (values[-1] + 1) / 2 if values[-1] < 1 else np.nextafter(1, 2)
    cuts = np.r_[values[0] / 2, (values[1:] + values[:-1]) / 2, above]
    # A midpoint may round down to its lower neighbour, which would then be called malignant.
    cuts[1:-1] = np.where(cuts[1:-1] > values[:-1], cuts[1:-1], values[1:])
    missed = np.r_[0, np.cumsum(np.bincount(which, malignant, len(values)))]
    spared = np.r_[0, np.cumsum(np.bincount(which, ~malignant, len(values)))]
    return cuts, 1 - missed / missed[-1], spared / spared[-1]


#: Rows of :func:`classification_scores`, in order.
CLASSIFICATION_SCORES = (
    "balanced_accuracy",
    "auroc",
    "average_precision",
    "f1",
    "sensitivity",
    "specificity",
    "accuracy",
    "sensitivity_at_90_specificity",
    "specificity_at_90_sensitivity",
    "brier",
    "ece",
)


def classification_scores(
    malignant: ArrayLike,
    probability: ArrayLike,
    threshold: float = 0.5,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    r"""Compute all usual measures of a diagnosis at once.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
        Of malignancy, from 0 to 1.
    threshold : float
        A row is called malignant when its probability is at least this.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.

    Returns
    -------
    DataFrame
        Index ``statistic``; columns ``estimate``, ``ci_low``, ``ci_high``, ``n``,
        ``n_malignant`` and ``n_clusters``. Rows:

        - ``balanced_accuracy`` (mean of sensitivity and specificity), ``f1`` (of the malignant
          class), ``sensitivity``, ``specificity``, ``accuracy``: at the threshold;
        - ``auroc``: ties count half; ``average_precision``: not interpolated. Its value for
          guessing is the share of malignant rows;
        - ``sensitivity_at_90_specificity``: the highest of any threshold that gives these very
          rows a specificity of at least .9, and the reverse. It is a point of the ROC curve and
          so slightly optimistic; a threshold fixed on a validation split is not;
        - ``brier``: mean squared difference of probability and label;
        - ``ece``: expected calibration error, 10 bins of equal width. It is never negative and
          grows with fewer rows in a bin even for perfect probabilities, so that its bootstrap
          interval lies too high.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When lengths or indexes differ, a probability lies outside 0 to 1, or there is a single
        cluster.

    References
    ----------
    Davis, J. and Goadrich, M. (2006). The relationship between precision-recall and ROC curves.
    ICML. Naeini, M. P. et al. (2015). Obtaining well calibrated probabilities using Bayesian
    binning. AAAI: the calibration error.

    Examples
    --------
    >>> from iavlib.stats import classification_scores
    >>> malignant, probability = [True, False, True, False, False], [0.9, 0.8, 0.6, 0.4, 0.1]
    >>> table = classification_scores(malignant, probability, n_boot=50)
    >>> table.loc[["auroc", "sensitivity", "brier"], "estimate"].round(3).tolist()
    [0.833, 1.0, 0.196]
    """
    sample = two_samples(probability, malignant, clusters, probability=True)
    statistic = partial(_all_scores, sample.group, sample.value, threshold)
    boot = cluster_bootstrap(statistic, sample.clusters, n_boot, seed)
    return boot.to_frame(CLASSIFICATION_SCORES, **sample.counts)


def _all_scores(
    malignant: np.ndarray, probability: np.ndarray, threshold: float, weights: np.ndarray
) -> np.ndarray:
    """All `CLASSIFICATION_SCORES` for each weight vector, shape (b, 11)."""
    rows = (malignant, probability, weights)
    scores = weighted_rates(*rows, threshold) | {
        "auroc": weighted_auroc(*rows),
        "average_precision": weighted_average_precision(*rows),
        "sensitivity_at_90_specificity": best_sensitivity(*rows, 0.9),
        "specificity_at_90_sensitivity": best_specificity(*rows, 0.9),
        "brier": weighted_mean((probability - malignant) ** 2, weights),
        "ece": weighted_ece(*rows, bin_rows(probability)),
    }
    return np.stack([scores[name] for name in CLASSIFICATION_SCORES], axis=-1)


def weighted_ece(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, bins: np.ndarray
) -> np.ndarray:
    """Expected calibration error for each weight vector (b, n), given the bin of each row."""
    member = np.eye(bins.max() + 1)[bins]
    gaps = weights @ (member * (score - malignant)[:, None])
    return np.abs(gaps).sum(axis=-1) / weights.sum(axis=-1)


def bin_rows(score: np.ndarray, n_bins: int = 10) -> np.ndarray:
    """Number the bin of each probability, of equal width and closed below."""
    # Compared with the limits as they are printed: .3 / .1 is slightly less than 3.
    return np.searchsorted(np.arange(1, n_bins) / n_bins, score, side="right")


#: First year of each age band but the first.
AGE_LIMITS = (30, 45, 60, 75)

#: Level of rows whose factor is missing.
NOT_RECORDED = "not recorded"

_SUBGROUP_SCORES = ("auroc", "balanced_accuracy", "sensitivity", "specificity")


def age_bands(age: pd.Series) -> pd.Series:
    """Sort ages into bands.

    Parameters
    ----------
    age : Series of float
        Years; ISIC rounds them to five. Missing ages stay missing.

    Returns
    -------
    Series
        Ordered categories such as "under 30", "30-44", "75 and over"; a band includes its first
        year.

    Raises
    ------
    ValueError
        When an age lies outside 0 to 120.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import age_bands
    >>> age_bands(pd.Series([25.0, 45.0, 80.0])).tolist()
    ['under 30', '45-59', '75 and over']
    """
    years = pd.to_numeric(age)
    wrong = years[(years < 0) | (years > 120)]
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} ages lie outside 0 to 120, for instance {wrong.iloc[0]:g} at "
            f"{wrong.index[0]!r}: correct them, or make them missing"
        )
    between = [f"{low}-{high - 1}" for low, high in pairwise(AGE_LIMITS)]
    labels = [f"under {AGE_LIMITS[0]}", *between, f"{AGE_LIMITS[-1]} and over"]
    return pd.cut(years, [-np.inf, *AGE_LIMITS, np.inf], right=False, labels=labels)


def scores_by_group(
    malignant: ArrayLike,
    probability: ArrayLike,
    groups: Mapping[str, ArrayLike] | pd.DataFrame,
    threshold: float = 0.5,
    clusters: ArrayLike | None = None,
    min_per_class: int = 10,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the main measures of a diagnosis within each subgroup.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
    groups : DataFrame or mapping of str to array_like
        Factors such as sex, age band and site, with the level of each row; a missing level
        becomes "not recorded", a subgroup like any other.
    threshold : float
        The same in all subgroups.
    clusters : array_like, shape (n,), optional
        Patients.
    min_per_class : int
        Rows of *each* class below which a subgroup is not measured; at least 2.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.

    Returns
    -------
    DataFrame
        Index ``factor``, ``level``, the first row ("all", "all"); levels in their categories'
        order, or in natural order. Columns ``n``, ``n_malignant``, ``n_clusters``; ``auroc``,
        ``balanced_accuracy``, ``sensitivity`` and ``specificity``, each with ``_low`` and
        ``_high``; ``note``, empty or the class with too few rows. Intervals are not corrected for
        the number of subgroups.

    Raises
    ------
    OneClassError
        When a class is missing altogether.
    ValueError
        When a factor has another index or length than the rows, or as
        :func:`classification_scores`.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib.stats import scores_by_group
    >>> malignant = np.arange(40) % 2 == 0
    >>> sex = {"sex": ["f", "m"] * 20}
    >>> table = scores_by_group(malignant, 0.2 + 0.6 * malignant, sex, n_boot=9)
    >>> table.loc[("all", "all"), ["n", "auroc"]].tolist(), table.loc[("sex", "f"), "note"]
    ([40.0, 1.0], 'too few: 0 benign')
    """
    if min_per_class < 2:
        raise ValueError(f"min_per_class must be at least 2, not {min_per_class}")
    factors = {name: groups[name] for name in groups}
    sample = two_samples(probability, malignant, clusters, probability=True, **factors)
    members = {("all", "all"): np.ones(len(sample), dtype=bool)}
    for name, labels in factors.items():
        if len(labels) != len(sample):
            raise ValueError(f"{len(sample)} rows but {len(labels)} levels of {name!r}")
        members |= {(name, text): member for text, member in _levels(labels).items()}
    rows = {}
    for key, member in members.items():
        label, score, cluster = (c[member] for c in (sample.group, sample.value, sample.clusters))
        counts = {"malignant": int(label.sum()), "benign": int((~label).sum())}
        few = [f"{count} {name}" for name, count in counts.items() if count < min_per_class]
        n_clusters = len(np.unique(cluster))
        few = few or (["1 patient"] if n_clusters < 2 else [])
        row = {"n": len(label), "n_malignant": counts["malignant"], "n_clusters": n_clusters}
        table = pd.DataFrame(np.nan, _SUBGROUP_SCORES, ["estimate", "ci_low", "ci_high"])
        if not few:
            table = classification_scores(label, score, threshold, cluster, n_boot, seed)
        for name in _SUBGROUP_SCORES:
            names = (name, f"{name}_low", f"{name}_high")
            row |= dict(zip(names, table.loc[name], strict=False))
        rows[key] = row | {"note": f"too few: {', '.join(few)}" if few else ""}
    index = pd.MultiIndex.from_tuples(rows, names=["factor", "level"])
    return pd.DataFrame(list(rows.values()), index=index)


def _levels(labels: ArrayLike) -> dict[str, np.ndarray]:
    """Rows of each level, in order, those without one last."""
    column = labels if isinstance(labels, pd.Series) else pd.Series(labels)
    if isinstance(column.dtype, pd.CategoricalDtype):
        names = [name for name in column.cat.categories if (column == name).any()]
    else:
        names = sorted(column.dropna().unique(), key=natural_key)
    members = {str(name): (column == name).fillna(False).to_numpy(dtype=bool) for name in names}
    absent = column.isna().to_numpy()
    return members | ({NOT_RECORDED: absent} if absent.any() else {})


#: Standard errors below this are rounding errors of zero.
_ZERO_ERROR = 1e-12


@dataclass(frozen=True)
class Auroc:
    """An area under the curve with DeLong's standard error and interval.

    Attributes
    ----------
    value, se, low, high : float
        `se` is 0 and the interval a point where the classes are separated without error, which
        does not hold for other rows.
    n_malignant, n_benign, n_clusters : int
    """

    value: float
    se: float
    low: float
    high: float
    n_malignant: int
    n_benign: int
    n_clusters: int


@dataclass(frozen=True)
class AurocDifference:
    """Two areas compared.

    Attributes
    ----------
    first, second : float
        The two areas.
    difference, se, low, high : float
        First minus second.
    z, p : float
        Two-sided test of no difference. Where nothing varies p is 1 for equal areas and NaN
        otherwise.
    correlation : float
        Of the two areas.
    """

    first: float
    second: float
    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float
    correlation: float


def placement_areas(sample: Sample, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas (k,) and their covariance (k, k) from scores (k, n).

    `sample` has the labels and clusters; its own values are not used.

    Raises
    ------
    ValueError
        When all rows of a class lie in one cluster.
    """
    m, n = int(sample.group.sum()), int((~sample.group).sum())
    above, below = scores[:, sample.group], scores[:, ~sample.group]
    ranks = rankdata(scores, axis=1)
    of_malignant = (ranks[:, sample.group] - rankdata(above, axis=1)) / n
    of_benign = 1 - (ranks[:, ~sample.group] - rankdata(below, axis=1)) / m
    areas = of_malignant.mean(axis=1)
    first, n_first = _cluster_sums(of_malignant - areas[:, None], sample, malignant=True)
    second, n_second = _cluster_sums(of_benign - areas[:, None], sample, malignant=False)
    total = sample.n_clusters
    covariance = n_first / (n_first - 1) * first @ first.T / m**2
    covariance += n_second / (n_second - 1) * second @ second.T / n**2
    mixed = total / (total - 1) * first @ second.T / (m * n)
    return areas, covariance + mixed + mixed.T


def _cluster_sums(
    placements: np.ndarray, sample: Sample, malignant: bool
) -> tuple[np.ndarray, int]:
    """Sum centred placements by cluster, shape (k, clusters); count the clusters of the class."""
    codes = sample.clusters[sample.group == malignant]
    n_clusters = len(np.unique(codes))
    if n_clusters < 2:
        name = "malignant" if malignant else "benign"
        raise ValueError(
            f"all {name} rows lie in one row or cluster: at least two are needed to estimate how "
            "the area varies"
        )
    sums = [np.bincount(codes, row, minlength=sample.n_clusters) for row in placements]
    return np.stack(sums), n_clusters


def roc_curve(malignant: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """Compute sensitivity and specificity at every distinct score.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)

    Returns
    -------
    DataFrame
        One row per threshold, from above all scores (infinity, where nothing is called malignant)
        down to the lowest: ``threshold``, ``sensitivity``, ``specificity``. The straight line
        between neighbours has the AUROC below it in which ties count half.

    Raises
    ------
    OneClassError
        When a class is missing.

    Examples
    --------
    >>> from iavlib.stats import roc_curve
    >>> roc_curve([True, False, True], [0.9, 0.5, 0.3])["sensitivity"].tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    from sklearn import metrics

    sample = two_samples(score, malignant)
    false_alarms, sensitivity, threshold = metrics.roc_curve(
        sample.group, sample.value, drop_intermediate=False
    )
    rates = {"sensitivity": sensitivity, "specificity": 1 - false_alarms}
    return pd.DataFrame({"threshold": threshold, **rates})


def auroc(
    malignant: ArrayLike, score: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95
) -> Auroc:
    """Compute the area under the ROC curve with its interval.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)
        Any number that is larger for what is more likely malignant.
    clusters : array_like, shape (n,), optional
        Patients; without it rows count as independent.
    level : float
        Coverage of the interval.

    Returns
    -------
    Auroc
        From 0 to 1, with a normal interval, cut at 0 and 1.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When a class lies in a single row or cluster, lengths or indexes differ, or a score is
        missing.

    Examples
    --------
    >>> from iavlib.stats import auroc
    >>> round(auroc([True, False, True, False, True], [0.9, 0.8, 0.7, 0.2, 0.6]).value, 3)
    0.667
    """
    check_level(level)
    sample = two_samples(score, malignant, clusters)
    areas, covariance = placement_areas(sample, sample.value[None, :])
    value, se = float(areas[0]), float(np.sqrt(covariance[0, 0]))
    half = float(norm.ppf((1 + level) / 2)) * se
    n_malignant, n_benign = len(sample.first), len(sample.second)
    limits = max(0.0, value - half), min(1.0, value + half)
    return Auroc(value, se, *limits, n_malignant, n_benign, sample.n_clusters)


def compare_aurocs(
    malignant: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> AurocDifference:
    """Compare two models on the same rows.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    first, second : array_like of float, shape (n,)
        Scores of the two models.
    clusters, level
        See :func:`auroc`.

    Returns
    -------
    AurocDifference
        Its interval covers other patients with these two trained models, not other seeds.

    Raises
    ------
    OneClassError, ValueError
        As :func:`auroc`.

    Examples
    --------
    >>> from iavlib.stats import compare_aurocs
    >>> malignant = [True, False, True, False, True, False]
    >>> result = compare_aurocs(malignant, [6, 5, 4, 3, 2, 1], [6, 1, 5, 2, 4, 3])
    >>> round(result.difference, 3), round(result.p, 3)
    (-0.333, 0.221)
    """
    check_level(level)
    one, two = (two_samples(s, malignant, clusters, first=first) for s in (first, second))
    (a, b), covariance = placement_areas(one, np.stack([one.value, two.value]))
    difference = float(a - b)
    product = float(np.sqrt(covariance[0, 0] * covariance[1, 1]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    se = float(np.sqrt(max(variance, 0)))
    half = float(norm.ppf((1 + level) / 2) * se)
    z = difference / se if se > _ZERO_ERROR else float("nan")
    p = float(2 * norm.sf(abs(z))) if se > _ZERO_ERROR else 1.0 if difference == 0 else float("nan")
    correlation = float(covariance[0, 1]) / product if product > _ZERO_ERROR else float("nan")
    limits = difference - half, difference + half
    return AurocDifference(float(a), float(b), difference, se, *limits, z, p, correlation)
