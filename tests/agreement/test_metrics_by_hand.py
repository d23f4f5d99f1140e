"""The metrics of a pair, against cases worked out by hand and what must hold for any masks."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from iavlib import masks as library

METRICS = ("dice", "jaccard", "hd", "hd95", "assd")
masks = hnp.arrays(bool, st.tuples(st.integers(2, 12), st.integers(2, 12)))


@st.composite
def pairs(draw):
    first = draw(masks)
    return first, draw(hnp.arrays(bool, first.shape))


def square(row, column, side=4, shape=(30, 30)):
    mask = np.zeros(shape, bool)
    mask[row : row + side, column : column + side] = True
    return mask


def test_shifted_squares():
    """Sides of 4, shifted by 3: 4 of 16 pixels shared; distances counted by hand."""
    a, b = square(10, 10), square(10, 13)
    result = library.pair_metrics(a, b)
    assert result["dice"] == 8 / 32
    assert result["jaccard"] == 4 / 28
    assert result["hd"] == 3
    # 12 surface pixels a side: 4 at distance 3, 2 at 2, 2 at 1 and 4 at 0 (they coincide).
    assert result["assd"] == pytest.approx((4 * 3 + 2 * 2 + 2 * 1) / 12)
    assert result["hd95"] == 3
    assert result["hd_normalized"] == 3 / np.hypot(30, 30)


def test_one_pixel_each():
    a, b = square(0, 0, side=1), square(3, 4, side=1)
    assert [library.pair_metrics(a, b)[m] for m in METRICS] == [0, 0, 5, 5, 5]


def test_percentile_is_linear_over_both_directions():
    a = np.zeros((1, 40), bool)
    b = a.copy()
    a[0, 0] = True
    b[0, [0, 10, 20]] = True
    # Pooled: 0 from a; 0, 10, 20 from b. Position .95 * 3 = 2.85 between 10 and 20.
    assert library.hd95(a, b) == pytest.approx(10 + 0.85 * 10)
    assert library.assd(a, b) == pytest.approx(30 / 4)


def test_image_border_counts_as_outside():
    full = np.ones((5, 5), bool)
    assert library.mask_surface(full).sum() == 16
    assert library.hd(full, full) == 0


def test_concentric_discs():
    y, x = np.mgrid[:101, :101] - 50
    small, large = np.hypot(x, y) <= 20, np.hypot(x, y) <= 30
    assert library.hd(small, large) == pytest.approx(10, abs=0.5)
    assert library.assd(small, large) == pytest.approx(10, abs=0.5)
    assert library.dice(small, large) == pytest.approx(2 * 400 / 1300, abs=0.01)


def test_spacing_scales_each_axis():
    a, b = square(0, 0, side=1), square(3, 4, side=1)
    assert library.hd(a, b, spacing=(2, 0.5)) == pytest.approx(np.hypot(6, 2))


def test_empty_masks():
    empty, some = np.zeros((8, 8), bool), square(2, 2, shape=(8, 8))
    both = library.pair_metrics(empty, empty)
    assert (both["dice"], both["jaccard"], both["hd"], both["assd_normalized"]) == (1, 1, 0, 0)
    one = library.pair_metrics(empty, some)
    assert (one["dice"], one["jaccard"], one["hd95_normalized"]) == (0, 0, 1)
    assert np.isnan([one["hd"], one["hd95"], one["assd"]]).all()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(5, 4\)"):
        library.dice(np.ones((4, 4)), np.ones((5, 4)))


def test_all_pairs_in_order():
    rows = library.image_pairs({"c": square(1, 1), "a": square(2, 2), "b": square(3, 3)})
    assert [(r["mask_1"], r["mask_2"]) for r in rows] == [("a", "b"), ("a", "c"), ("b", "c")]


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_symmetry_and_identity(pair):
    a, b = pair
    forward, back = library.pair_metrics(a, b), library.pair_metrics(b, a)
    np.testing.assert_allclose([forward[m] for m in METRICS], [back[m] for m in METRICS])
    assert [library.pair_metrics(a, a)[m] for m in METRICS] == [1, 1, 0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_order_of_the_distances_and_of_the_overlaps(pair):
    result = library.pair_metrics(*pair)
    assert result["jaccard"] == pytest.approx(result["dice"] / (2 - result["dice"]))
    if not np.isnan(result["hd"]):
        assert result["hd"] + 1e-12 >= result["hd95"]
        assert result["hd"] + 1e-12 >= result["assd"] >= 0


@settings(max_examples=40, deadline=None)
@given(pairs(), st.integers(1, 5), st.integers(1, 5))
def test_moving_both_masks_changes_nothing(pair, down, right):
    inside = [np.pad(mask, 1) for mask in pair]
    moved = [np.pad(mask, ((down, 6 - down), (right, 6 - right))) for mask in pair]
    first, second = library.pair_metrics(*inside), library.pair_metrics(*moved)
    np.testing.assert_allclose([first[m] for m in METRICS], [second[m] for m in METRICS])
    flipped = library.pair_metrics(*(mask[::-1] for mask in inside))
    np.testing.assert_allclose([first[m] for m in METRICS], [flipped[m] for m in METRICS])
