"""Cluster permutation: which labels move together, and what cannot be permuted."""

import numpy as np
import pandas as pd
import pytest

from iavlib.stats.associations import ClusterLabels

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


def test_units_must_carry_one_label_in_one_cluster():
    with pytest.raises(ValueError, match="1 of 2 units have rows with different labels"):
        ClusterLabels([True, False, True], None, [0, 0, 1])
    with pytest.raises(ValueError, match="1 of 2 units have rows with different clusters"):
        ClusterLabels([True, True, False], ["p", "q", "q"], [0, 0, 1])


def test_nothing_to_permute():
    with pytest.raises(ValueError, match="nothing to permute"):
        ClusterLabels([True, True], ["p", "q"])


def test_misaligned_tables():
    labels = pd.Series([True, False], index=["a", "b"])
    with pytest.raises(ValueError, match="different indexes"):
        ClusterLabels(labels, pd.Series(["p", "q"], index=["b", "a"]))
