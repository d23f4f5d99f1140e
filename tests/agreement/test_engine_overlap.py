"""Overlap and chance-corrected agreement, by hand and against scikit-learn and statsmodels."""

import numpy as np
import pytest
from engine_shapes import draw
from hypothesis import given, settings, strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa as statsmodels_fleiss

from iavlib.masks import cohens_kappa, dice, fleiss_kappa, jaccard, soft_dice


def test_overlap_by_hand():
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    a[:2, :5] = True
    b[1:5, 3:8] = True
    assert dice(a, b) == 2 * 2 / 30
    assert jaccard(a, b) == 2 / 28
    assert dice(a, b[::-1]) == jaccard(a, b[::-1]) == 0


def test_empty_masks_overlap_by_convention():
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    for metric in (dice, jaccard, cohens_kappa):
        assert metric(empty, empty) == 1
        assert metric(empty, full) == 0
        assert metric(full, full) == 1
    assert fleiss_kappa([empty, empty, empty]) == fleiss_kappa([full, full]) == 1
    assert soft_dice(np.zeros((3, 4)), np.zeros((3, 4))) == 1
    assert soft_dice(np.zeros((3, 4)), np.ones((3, 4))) == 0


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_cohens_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    a, b = (draw((13, 11), rng) for _ in range(2))
    if a.all() and b.all():
        return
    expected = cohen_kappa_score(a.ravel(), b.ravel())
    assert cohens_kappa(a, b) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_fleiss_kappa_is_that_of_statsmodels(seed, n):
    rng = np.random.default_rng(seed)
    masks = np.array([draw((13, 11), rng) for _ in range(n)])
    if masks.all():
        return
    counts, _ = aggregate_raters(masks.reshape(n, -1).T.astype(int), n_cat=2)
    assert fleiss_kappa(masks) == pytest.approx(statsmodels_fleiss(counts), abs=1e-12)


def test_fleiss_kappa_refuses_what_it_cannot_rate():
    with pytest.raises(ValueError, match="at least two masks, not 1"):
        fleiss_kappa([np.ones((3, 3))])
    with pytest.raises(ValueError, match="one shape"):
        fleiss_kappa([np.ones((3, 3)), np.ones((3, 4))])


def test_soft_dice_counts_what_is_strictly_above():
    a = np.array([[0.1, 0.3, 0.5, 0.7, 0.9]])
    b = np.array([[0.2, 0.3, 0.5, 0.7, 1.0]])
    above = [(4, 5), (3, 3), (2, 2), (1, 1), (0, 1)]
    expected = np.mean([2 * min(n) / sum(n) for n in above])
    assert soft_dice(a, b) == pytest.approx(expected)
    assert soft_dice(a, b, thresholds=[0.3]) == pytest.approx(1)
    assert soft_dice(a, a) == 1


def test_soft_dice_refuses_logits():
    good = np.full((2, 2), 0.5)
    for wrong in (np.full((2, 2), 1.5), np.full((2, 2), -0.1), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="second soft mask has values outside"):
            soft_dice(good, wrong)
    with pytest.raises(ValueError, match="threshold"):
        soft_dice(good, good, thresholds=[])
    with pytest.raises(ValueError, match="one shape"):
        soft_dice(good, np.full((2, 3), 0.5))
