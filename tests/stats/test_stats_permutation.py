"""Cluster permutation: what moves, exact p-values by enumeration, and level under clustering."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from iavlib.stats import (
    cluster_permutation_test,
    mean_difference_of,
    rank_biserial,
    rank_biserial_of,
)
from iavlib.stats.dominance import ClusterLabels

# Patients a, b, c of one label each; d has a benign and a malignant image of two rows each.
CLUSTERS = np.array(list("aabcccdddd"))
UNITS = np.array([0, 0, 1, 2, 2, 3, 4, 4, 5, 5])
LABELS = np.array([1, 1, 0, 0, 0, 0, 1, 1, 0, 0], dtype=bool)


def permuted(n=400, **kwargs):
    design = ClusterLabels(LABELS, CLUSTERS, UNITS, **kwargs)
    return design, np.concatenate(list(design.permutations(n, np.random.default_rng(0))))


def test_pure_clusters_swap_labels_whole():
    design, labels = permuted()
    assert (design.n_clusters, design.n_mixed) == (4, 1)
    pure = labels[:, :6]
    for members in ([0, 1], [3, 4, 5]):
        assert (pure[:, members] == pure[:, members[:1]]).all()
    # One of the three pure clusters is malignant, each about equally often.
    by_cluster = pure[:, [0, 2, 3]]
    assert (by_cluster.sum(axis=1) == 1).all()
    np.testing.assert_allclose(by_cluster.mean(axis=0), 1 / 3, atol=0.08)


def test_a_mixed_cluster_keeps_its_mixture_and_its_units():
    _, labels = permuted()
    mixed = labels[:, 6:]
    assert (mixed[:, 0] == mixed[:, 1]).all()
    assert (mixed[:, 2] == mixed[:, 3]).all()
    assert (mixed.sum(axis=1) == 2).all()
    assert mixed[:, 0].mean() == pytest.approx(0.5, abs=0.08)


def test_p_value_is_that_of_all_permutations():
    # Eight rows, each a cluster: 70 ways to choose four, so the exact p can be counted.
    values = np.array([0.3, 1.2, 0.7, 2.5, 1.9, 3.1, 0.9, 2.2])
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1], dtype=bool)
    differences = []
    for chosen in combinations(range(8), 4):
        mask = np.isin(np.arange(8), chosen)
        differences.append(values[mask].mean() - values[~mask].mean())
    seen = values[labels].mean() - values[~labels].mean()
    exact = np.mean(np.abs(differences) >= abs(seen) - 1e-12)
    test = cluster_permutation_test(mean_difference_of(values), labels, n_permutations=8000)
    assert test.statistic == pytest.approx(seen)
    assert test.p == pytest.approx(exact, abs=0.006)


def test_one_sided_p_values_agree_with_exact_mann_whitney():
    rng = np.random.default_rng(6)
    first, second = rng.normal(0.8, 1, 7), rng.normal(0, 1, 8)
    values, labels = np.r_[first, second], np.arange(15) < 7
    for alternative in ("greater", "less"):
        exact = stats.mannwhitneyu(first, second, alternative=alternative, method="exact").pvalue
        test = cluster_permutation_test(
            rank_biserial_of(values), labels, n_permutations=6000, alternative=alternative
        )
        assert test.p == pytest.approx(exact, abs=0.02)
    assert test.statistic == pytest.approx(rank_biserial(first, second))


def test_the_smallest_p_is_not_zero():
    values = np.r_[np.zeros(20), np.ones(20)]
    labels = np.arange(40) >= 20
    test = cluster_permutation_test(mean_difference_of(values), labels, n_permutations=99)
    assert test.p == 0.01


def test_rows_of_a_cluster_are_not_independent_evidence():
    """With labels given to clusters, permuting rows rejects far too often, clusters as stated."""
    rng = np.random.default_rng(12)
    rejected = {"clusters": 0, "rows": 0}
    clusters = np.repeat(np.arange(24), 5)
    labels = clusters < 12
    for _ in range(200):
        values = rng.normal(size=24)[clusters] + rng.normal(size=120)
        for name, given in (("clusters", clusters), ("rows", None)):
            test = cluster_permutation_test(
                mean_difference_of(values), labels, given, n_permutations=199, seed=rng
            )
            rejected[name] += test.p <= 0.05
    assert rejected["clusters"] / 200 <= 0.1
    assert rejected["rows"] / 200 >= 0.2


def test_a_planted_difference_is_found():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 3)
    values = rng.normal(size=40)[clusters] + rng.normal(size=120) + 1.5 * (clusters < 20)
    test = cluster_permutation_test(rank_biserial_of(values), clusters < 20, clusters)
    assert test.statistic > 0.4
    assert test.p < 0.01


def test_units_must_carry_one_label_in_one_cluster():
    with pytest.raises(ValueError, match="1 of 2 units have rows with different labels"):
        ClusterLabels([True, False, True], None, [0, 0, 1])
    with pytest.raises(ValueError, match="1 of 2 units have rows with different clusters"):
        ClusterLabels([True, True, False], ["p", "q", "q"], [0, 0, 1])


def test_nothing_to_permute():
    with pytest.raises(ValueError, match="nothing to permute"):
        ClusterLabels([True, True], ["p", "q"])


def test_unknown_alternative_and_misaligned_tables():
    with pytest.raises(ValueError, match="two-sided, greater, less"):
        cluster_permutation_test(mean_difference_of([1.0, 2.0]), [True, False], alternative="up")
    labels = pd.Series([True, False], index=["a", "b"])
    with pytest.raises(ValueError, match="different indexes"):
        ClusterLabels(labels, pd.Series(["p", "q"], index=["b", "a"]))
