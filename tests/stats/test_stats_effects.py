"""Effect sizes: R's numbers for mtcars, a textbook example, pingouin, and their algebra."""

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from iavlib.stats import (
    cohens_d,
    rank_biserial,
    weighted_cohens_d,
    weighted_mean_difference,
    weighted_point_biserial,
    weighted_rank_biserial,
)

# Miles per gallon of R's `mtcars` (Henderson & Velleman 1981), automatic and manual gearbox.
AUTOMATIC = [21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3]
AUTOMATIC += [15.2, 10.4, 10.4, 14.7, 21.5, 15.5, 15.2, 13.3, 19.2]
MANUAL = [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4]

# Hollander & Wolfe (1973), p. 69: permeability of the human chorioamnion, in R's ?wilcox.test.
AT_TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLY = [1.15, 0.88, 0.90, 0.74, 1.21]

WEIGHTED = [
    weighted_mean_difference,
    weighted_cohens_d,
    weighted_rank_biserial,
    weighted_point_biserial,
]

# Hundredths keep ties frequent and sums exact enough for equality up to rounding.
numbers = st.integers(-300, 300).map(lambda k: k / 100)
samples = st.lists(numbers, min_size=2, max_size=20).map(np.array)


@st.composite
def grouped(draw):
    """Values, labels with both groups present, and whole-number weights with none empty."""
    n = draw(st.integers(4, 15))
    values = draw(arrays(float, n, elements=numbers))
    group = draw(arrays(bool, n))
    group[:2] = [True, False]
    weights = draw(arrays(np.int64, n, elements=st.integers(0, 3)))
    weights[:2] = np.maximum(weights[:2], 1)
    return values, group, weights


def test_cohens_d_of_mtcars():
    # R: effectsize::cohens_d(mpg ~ am, data = mtcars) prints -1.48.
    assert cohens_d(AUTOMATIC, MANUAL) == pytest.approx(-1.48, abs=0.005)


def test_cohens_d_by_hand():
    # Means 2 and 5, variances 1 and 4 over n - 1, pooled (2*1 + 2*4)/4 = 2.5.
    assert cohens_d([1, 2, 3], [3, 5, 7]) == pytest.approx(-3 / np.sqrt(2.5))


def test_cohens_d_takes_the_variance_and_not_its_square():
    # Ten times the unit, the same effect: with squared variances it would be a tenth.
    small, large = np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0, 7.0])
    assert cohens_d(10 * small, 10 * large) == pytest.approx(cohens_d(small, large))


def test_point_biserial_of_mtcars():
    # R: cor(mtcars$mpg, mtcars$am) is 0.5998324.
    values = np.array(AUTOMATIC + MANUAL)
    manual = np.r_[np.zeros(19), np.ones(13)]
    r = weighted_point_biserial(values, manual == 1, np.ones(32))
    assert r == pytest.approx(0.5998324, abs=5e-8)


def test_rank_biserial_of_mtcars_and_chorioamnion():
    # R: wilcox.test gives W = 42 for mtcars (19 and 13 cars) and W = 35 for the chorioamnion.
    assert rank_biserial(AUTOMATIC, MANUAL) == pytest.approx(2 * 42 / (19 * 13) - 1)
    assert rank_biserial(AT_TERM, EARLY) == pytest.approx(2 * 35 / 50 - 1)


def test_rank_biserial_counts_pairs():
    first, second = np.array([3, 1, 2, 2]), np.array([2, 0, 2])
    wins = np.sign(first[:, None] - second[None, :])
    assert rank_biserial(first, second) == pytest.approx(wins.mean())
    assert rank_biserial([5, 6], [1, 2]) == 1
    assert rank_biserial([1, 2], [5, 6]) == -1


@settings(deadline=None)
@given(samples, samples)
def test_same_as_pingouin(first, second):
    mine = cohens_d(first, second)
    if np.isfinite(mine):
        theirs = pingouin.compute_effsize(first, second, eftype="cohen")
        assert mine == pytest.approx(theirs, abs=1e-9)
    wins = pingouin.compute_effsize(first, second, eftype="CLES")
    assert rank_biserial(first, second) == pytest.approx(2 * wins - 1)


@settings(deadline=None)
@given(samples, samples)
def test_sign_is_first_minus_second(first, second):
    assert cohens_d(first, second) == pytest.approx(-cohens_d(second, first), nan_ok=True)
    assert rank_biserial(first, second) == pytest.approx(-rank_biserial(second, first))


@settings(deadline=None)
@given(samples, samples, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(first, second, random):
    shuffled = first.tolist()
    random.shuffle(shuffled)
    expected = pytest.approx(cohens_d(first, second), nan_ok=True)
    assert cohens_d(shuffled, second) == expected
    assert rank_biserial(shuffled, second) == pytest.approx(rank_biserial(first, second))


@settings(deadline=None)
@given(samples, samples)
def test_rank_biserial_sees_order_only(first, second):
    monotone = [np.exp(x) + x**3 for x in (first, second)]
    assert rank_biserial(*monotone) == pytest.approx(rank_biserial(first, second))


@settings(deadline=None)
@given(samples, samples, st.floats(0.1, 10), st.floats(-5, 5))
def test_cohens_d_has_no_unit(first, second, unit, origin):
    moved = cohens_d(unit * first + origin, unit * second + origin)
    assert moved == pytest.approx(cohens_d(first, second), nan_ok=True, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(grouped())
def test_weights_of_one_are_no_weights(sample):
    values, group, _ = sample
    first, second = values[group], values[~group]
    plain = [
        first.mean() - second.mean(),
        cohens_d(first, second),
        rank_biserial(first, second),
        np.corrcoef(values, group)[0, 1] if np.ptp(values) else np.nan,
    ]
    for effect, expected in zip(WEIGHTED, plain, strict=True):
        weighted = effect(values, group, np.ones(len(values)))
        assert weighted == pytest.approx(expected, nan_ok=True, abs=1e-9)


@settings(deadline=None)
@given(grouped())
def test_whole_weights_repeat_rows(sample):
    values, group, weights = sample
    repeated, labels = np.repeat(values, weights), np.repeat(group, weights)
    for effect in WEIGHTED:
        weighted = effect(values, group, weights.astype(float))
        plain = effect(repeated, labels, np.ones(len(repeated)))
        assert weighted == pytest.approx(plain, nan_ok=True, abs=1e-9)


def test_many_weight_vectors_at_once():
    rng = np.random.default_rng(1)
    values, group = rng.normal(size=30).round(1), np.arange(30) < 12
    weights = rng.integers(0, 3, size=(7, 30)).astype(float)
    for effect in WEIGHTED:
        together = effect(values, group, weights)
        assert together.shape == (7,)
        alone = [effect(values, group, row) for row in weights]
        np.testing.assert_allclose(together, alone)


@pytest.mark.parametrize("effect", WEIGHTED)
def test_a_group_without_weight_gives_nan(effect):
    values, group = np.array([1.0, 2.0, 3.0, 5.0]), np.array([True, True, False, False])
    weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    assert np.isnan(effect(values, group, weights)).tolist() == [False, True, True]


@pytest.mark.parametrize("constant", [0.1, 0.0, 1e6 + 0.1])
def test_no_spread_no_standardised_effect(constant):
    same = np.full(7, constant)
    group = np.arange(7) < 3
    assert np.isnan(cohens_d(same[group], same[~group]))
    assert np.isnan(weighted_point_biserial(same, group, np.ones(7)))
    assert np.isnan(weighted_cohens_d(same, group, np.ones(7)))
    assert rank_biserial(same[group], same[~group]) == 0
    # Two different constants: the ranks differ, the pooled standard deviation is still zero.
    assert np.isnan(cohens_d(same, same + 0.7))


def test_cohens_d_of_one_value_each_is_undefined():
    assert np.isnan(cohens_d([1.0], [2.0]))


def test_pandas_in_and_errors_out():
    first, second = pd.Series([1.0, 2.0, 3.0]), pd.Series([3.0, 5.0, 7.0])
    assert cohens_d(first, second) == cohens_d(first.to_numpy(), second.to_numpy())
    with pytest.raises(ValueError, match="1 of 3 values of the second group are NaN"):
        cohens_d(first, second.replace(5.0, np.nan))
    with pytest.raises(ValueError, match="values of the first group must have"):
        rank_biserial([], second)
