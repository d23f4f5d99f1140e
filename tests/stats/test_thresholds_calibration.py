"""Thresholds and calibration: by hand and exhaustive."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_classification_scores import samples

from iavlib.stats import (
    OneClassError,
    choose_threshold,
)
from iavlib.stats.classification import bin_rows, weighted_ece


def error_of(malignant, score, n_bins):
    """The calibration error of one sample."""
    malignant, score = np.asarray(malignant), np.asarray(score)
    return weighted_ece(malignant, score, np.ones((1, len(score))), bin_rows(score, n_bins))[0]


def rates(malignant, score, threshold):
    called = score >= threshold
    return called[malignant].mean(), (~called)[~malignant].mean()


def test_threshold_by_hand():
    malignant, score = [False, False, True, False, True], [0.1, 0.2, 0.4, 0.6, 0.8]
    best = choose_threshold(malignant, score)
    assert best.value == pytest.approx(0.3)
    assert best.sensitivity == 1 and best.specificity == pytest.approx(2 / 3)
    assert best.n_tied == 1


def test_ties_go_to_the_middle_and_then_down():
    # Told apart anywhere between .2 and .9, and .55 is the only cut there.
    assert choose_threshold([False, True], [0.2, 0.9]).value == pytest.approx(0.55)
    # Cuts .1 below, .3 and .7 tie with balanced accuracy .5 to .75: symmetric about .5.
    malignant, score = [False, True, False, True], [0.2, 0.4, 0.6, 0.8]
    tied = choose_threshold(malignant, score)
    assert tied.value == pytest.approx(0.3) and tied.n_tied == 2


@settings(deadline=None)
@given(samples())
def test_no_threshold_is_better(sample):
    malignant, score = sample
    best = choose_threshold(malignant, score)
    assert (best.sensitivity, best.specificity) == pytest.approx(rates(*sample, best.value))
    grid = np.linspace(-0.001, 1.001, 301)
    balanced = [np.mean(rates(*sample, at)) for at in grid]
    assert (best.sensitivity + best.specificity) / 2 >= max(balanced) - 1e-12


def test_threshold_of_certain_scores():
    malignant, score = np.array([False, True]), np.array([1.0, 1.0])
    assert rates(malignant, score, choose_threshold(malignant, score).value) == (1, 0)
    low = np.nextafter(0.5, 0)
    best = choose_threshold(malignant, np.array([low, 0.5]))
    assert rates(malignant, np.array([low, 0.5]), best.value) == (1, 1)


def test_calibration_error_by_hand():
    malignant, score = [False, True, False, True], [0.0, 0.3, 0.35, 1.0]
    expected = (2 * abs(0.325 - 0.5) + 0 + 0) / 4
    assert error_of(malignant, score, 10) == pytest.approx(expected)


@given(st.integers(1, 20))
def test_bins_are_closed_below(n_bins):
    ends = np.arange(n_bins + 1) / n_bins
    assert bin_rows(ends, n_bins).tolist() == [*range(n_bins), n_bins - 1]


def test_bad_input_is_named():
    with pytest.raises(OneClassError):
        choose_threshold([True, True], [0.1, 0.2])
