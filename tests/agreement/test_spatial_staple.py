"""STAPLE with performance that varies: STAPLE itself where the window is the image."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from iavlib.core.errors import DataError
from iavlib.masks import dice, majority_vote, spatial_staple, staple


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - y, columns - x) < radius


def half_blind(seed: int, n: int = 5, size: int = 96):
    """A disc, and annotators who err in 35 % of the pixels on one side, in 3 % on the other."""
    rng = np.random.default_rng(seed)
    truth = disc(size, size, size / 2, size / 2, 0.3 * size)
    left = np.arange(size) < size / 2
    masks = []
    for _ in range(n):
        bad = left if rng.random() < 0.5 else ~left
        masks.append(truth ^ (rng.random(truth.shape) < np.where(bad, 0.35, 0.03)))
    return truth, masks


@pytest.mark.parametrize("weight", [0, 0.05, 0.3, 10])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_it_is_staple_where_the_window_is_the_image(weight, n):
    """SimpleITK stops when its rates move by less than 1e-7; the step beyond stays within 1e-5."""
    _, masks = half_blind(1, n, 48)
    whole = spatial_staple(masks, window=2 * 48 + 1, prior_weight=weight)
    plain = staple(masks)
    assert np.abs(whole.probability - plain.probability).max() < 1e-5
    assert np.abs(whole.sensitivity - plain.sensitivity[:, None, None]).max() < 1e-5
    assert np.abs(whole.specificity - plain.specificity[:, None, None]).max() < 1e-5
    assert whole.iterations == 1


def test_no_window_is_larger_than_the_one_that_covers_all():
    _, masks = half_blind(1, 3, 32)
    covering = spatial_staple(masks, window=63)
    larger = spatial_staple(masks, window=2001)
    assert np.allclose(covering.probability, larger.probability, atol=1e-9)
    smaller = spatial_staple(masks, window=9)
    assert np.abs(covering.probability - smaller.probability).max() > 0.1


def test_one_pass_against_the_equations_written_out():
    """The M and E step at every pixel by plain sums over its window."""
    _, masks = half_blind(3, 3, 24)
    stack, start = np.stack(masks), staple(masks)
    result = spatial_staple(masks, window=7, prior_weight=0.2, max_iterations=1)
    expected = np.empty(stack.shape[1:])
    for y, x in np.ndindex(expected.shape):
        box = np.s_[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
        weight = start.probability[box]
        inside = outside = 1.0
        for j in range(3):
            drawn = stack[j][box]
            pooled = 0.2 * weight.size
            p = pooled * start.sensitivity[j] + weight[drawn].sum()
            p /= pooled + weight.sum()
            q = pooled * start.specificity[j] + (1 - weight)[~drawn].sum()
            q /= pooled + (1 - weight).sum()
            inside *= p if stack[j, y, x] else 1 - p
            outside *= 1 - q if stack[j, y, x] else q
        prior = stack[:, box[0], box[1]].mean()
        expected[y, x] = prior * inside / (prior * inside + (1 - prior) * outside)
    assert np.abs(result.probability - expected).max() < 1e-9
    assert result.warnings == ("stopped after 1 iterations, not converged",)


@pytest.mark.parametrize("n", [5, 9])
def test_it_beats_staple_where_performance_varies(n):
    gains = []
    for seed in range(5):
        truth, masks = half_blind(seed, n)
        plain = max(dice(staple(masks).mask, truth), dice(majority_vote(masks), truth))
        gains.append(dice(spatial_staple(masks).mask, truth) - plain)
    assert np.mean(gains) > 0.005


def test_the_fields_show_who_is_blind_where():
    truth = disc(96, 96, 48, 48, 30)
    rng = np.random.default_rng(0)
    rates = [np.where(np.arange(96) < 48, *sides) for sides in ((0.3, 0.02), (0.02, 0.3))]
    masks = [truth ^ (rng.random(truth.shape) < rates[j % 2]) for j in range(6)]
    result = spatial_staple(masks)
    left, right = result.sensitivity[:, 48, 30], result.sensitivity[:, 48, 66]
    assert (right - left)[::2].min() > 0.1
    assert (left - right)[1::2].min() > 0.1
    assert np.ptp(result.global_sensitivity) < 0.1


@given(arrays(bool, (3, 9, 11)), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_order_and_mirror_do_not_matter(stack, random):
    order = [0, 1, 2]
    random.shuffle(order)
    options = {"window": 5, "max_iterations": 5}
    one = spatial_staple(stack, **options)
    other = spatial_staple(stack[order][:, :, ::-1], **options)
    assert other.probability[:, ::-1] == pytest.approx(one.probability, abs=1e-5)
    assert other.specificity[:, :, ::-1] == pytest.approx(
        one.specificity[order], abs=1e-4, nan_ok=True
    )


@given(arrays(bool, st.tuples(st.integers(2, 4), st.integers(1, 8), st.integers(1, 8))))
@settings(max_examples=60, deadline=None)
def test_probabilities_and_rates_stay_within_0_and_1(stack):
    result = spatial_staple(stack, window=3, max_iterations=10)
    for values in (result.probability, result.sensitivity, result.specificity, result.prior):
        given_values = values[~np.isnan(values)]
        assert given_values.min(initial=0) >= 0
        assert given_values.max(initial=1) <= 1
    assert not np.isnan(result.probability).any()


@pytest.mark.parametrize("inside", ["nothing", "everything", "a disc"])
def test_unanimous_masks_come_back(inside):
    mask = {
        "nothing": np.zeros((20, 30), bool),
        "everything": np.ones((20, 30), bool),
        "a disc": disc(20, 30, 10, 10, 6),
    }[inside]
    result = spatial_staple([mask] * 3)
    assert np.array_equal(result.mask, mask)
    assert result.iterations == 0
    assert "nothing to estimate" in result.warnings[0]


def test_warnings_of_the_global_staple_are_passed_on():
    result = spatial_staple([disc(40, 40, 12, 12, 8), disc(40, 40, 30, 30, 6)])
    assert "global STAPLE: the masks are disjoint" in result.warnings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 8}, "odd"),
        ({"window": 0}, "odd"),
        ({"window": 2.5}, "odd"),
        ({"prior_weight": -1}, "prior_weight"),
        ({"prior_weight": np.nan}, "prior_weight"),
        ({"max_iterations": 0}, "max_iterations"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(options, message):
    _, masks = half_blind(0, 3, 16)
    with pytest.raises(ValueError, match=message):
        spatial_staple(masks, **options)


def test_bad_masks_are_named():
    mask = disc(20, 20, 10, 10, 5)
    with pytest.raises(DataError, match="at least 2"):
        spatial_staple([mask])
    with pytest.raises(DataError, match="mask b: not binary"):
        spatial_staple([mask, mask * 0.2 + disc(20, 20, 10, 10, 3)], names=["mask a", "mask b"])
