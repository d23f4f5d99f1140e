r"""Placements: each row's part in the area under the ROC curve, and the covariance that follows.

The placement of a malignant row is the share of benign rows below it, that of a benign row the
share of malignant rows above it, a tie counting half; the mean of either is the area. DeLong's
covariance of several areas is that of the placements. They come from mid-ranks, so that no pair
is ever formed.

Rows of one patient are not independent: centred placements are summed by cluster first, and what a
patient's malignant and benign rows have in common is counted (Obuchowski). With every row its own
cluster both are the same.

References
----------
DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or
more correlated receiver operating characteristic curves. Biometrics 44, 837-845.
Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53,
567-578.
Sun, X. and Xu, W. (2014). Fast implementation of DeLong's algorithm. IEEE Signal Processing
Letters 21, 1389-1393: placements from mid-ranks.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from iavlib.stats.diagnosis.diagnosis_samples import DiagnosisSample

__all__ = ["placement_areas"]


def placement_areas(sample: DiagnosisSample, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas (k,) and their covariance (k, k) from scores (k, n).

    `sample` has the labels and clusters; its own score is not used.

    Raises
    ------
    ValueError
        When all rows of a class lie in one cluster.
    """
    m, n = sample.n_malignant, sample.n_benign
    above, below = scores[:, sample.malignant], scores[:, ~sample.malignant]
    ranks = rankdata(scores, axis=1)
    of_malignant = (ranks[:, sample.malignant] - rankdata(above, axis=1)) / n
    of_benign = 1 - (ranks[:, ~sample.malignant] - rankdata(below, axis=1)) / m
    areas = of_malignant.mean(axis=1)
    first, n_first = _cluster_sums(of_malignant - areas[:, None], sample, malignant=True)
    second, n_second = _cluster_sums(of_benign - areas[:, None], sample, malignant=False)
    total = sample.n_clusters
    covariance = n_first / (n_first - 1) * first @ first.T / m**2
    covariance += n_second / (n_second - 1) * second @ second.T / n**2
    mixed = total / (total - 1) * first @ second.T / (m * n)
    return areas, covariance + mixed + mixed.T


def _cluster_sums(
    placements: np.ndarray, sample: DiagnosisSample, malignant: bool
) -> tuple[np.ndarray, int]:
    """Sum centred placements by cluster, shape (k, clusters); count the clusters of the class."""
    codes = sample.clusters[sample.malignant == malignant]
    n_clusters = len(np.unique(codes))
    if n_clusters < 2:
        name = "malignant" if malignant else "benign"
        raise ValueError(
            f"all {name} rows lie in one row or cluster: two at least are needed to see how the "
            "area varies"
        )
    sums = [np.bincount(codes, row, minlength=sample.n_clusters) for row in placements]
    return np.stack(sums), n_clusters
