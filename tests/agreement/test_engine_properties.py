"""What must hold for any two masks."""

import numpy as np
import pytest
from engine_shapes import KINDS, draw, related
from hypothesis import given, settings, strategies as st

from iavlib import masks as library
from iavlib.core.errors import DataError
from iavlib.masks import PairOptions, image_pairs, metric_names, pair_metrics, prepare

DISTANCE_METRICS = ("hd", "hd95", "assd")
NORMALIZED_METRICS = tuple(f"{name}_normalized" for name in DISTANCE_METRICS)

REDUCTIONS = ("pooled", "directed")


@st.composite
def two_masks(draw_from):
    """Two masks of one shape, not empty, often near each other."""
    shape = draw_from(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw_from(st.integers(0, 2**32)))
    first = draw(shape, rng, draw_from(st.integers(0, len(KINDS) - 1)))
    second = related(first, rng) if draw_from(st.booleans()) else draw(shape, rng)
    return first, second


def metrics(a, b, reduction="pooled", spacing=1.0):
    return pair_metrics(a, b, PairOptions(reduction=reduction, spacing=spacing, extra=True))


@settings(deadline=None)
@given(two_masks(), st.sampled_from(REDUCTIONS))
def test_symmetry(masks, reduction):
    a, b = masks
    assert metrics(a, b, reduction) == pytest.approx(metrics(b, a, reduction), abs=1e-12)


@settings(deadline=None)
@given(two_masks(), st.sampled_from(REDUCTIONS))
def test_identity(masks, reduction):
    mask, other = masks
    values = metrics(mask, mask, reduction)
    assert [values[m] for m in ("dice", "jaccard", "kappa", "nsd", "boundary_f1")] == [1] * 5
    assert {values[m] for m in (*DISTANCE_METRICS, *NORMALIZED_METRICS)} == {0}
    if (mask != other).any():
        assert (
            metrics(mask, other, reduction)["hd"] > 0
            or (library.mask_surface(mask) == library.mask_surface(other)).all()
        )
        assert metrics(mask, other, reduction)["dice"] < 1


@settings(deadline=None)
@given(two_masks(), st.integers(0, 20), st.integers(0, 20), st.sampled_from(REDUCTIONS))
def test_translation(masks, down, right, reduction):
    shape = np.add(masks[0].shape, (25, 25))
    values = []
    for offset in ((1, 1), (1 + down, 1 + right)):
        moved = []
        for mask in masks:
            frame = np.zeros(shape, bool)
            rows, columns = (slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))
            frame[rows, columns] = mask
            moved.append(frame)
        values.append(metrics(*moved, reduction))
    assert values[0] == pytest.approx(values[1], abs=1e-12)


@settings(deadline=None)
@given(two_masks(), st.sampled_from(REDUCTIONS))
def test_flips_and_transposition(masks, reduction):
    expected = metrics(*masks, reduction)
    for turn in (np.flipud, np.fliplr, np.transpose):
        assert metrics(*map(turn, masks), reduction) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(two_masks(), st.floats(0.01, 100), st.floats(0.01, 100), st.sampled_from(REDUCTIONS))
def test_spacing_scales_distances_and_nothing_else(masks, sy, factor, reduction):
    one, scaled = (metrics(*masks, reduction, s) for s in ((sy, 1.0), (sy * factor, factor)))
    for metric in DISTANCE_METRICS:
        assert scaled[metric] == pytest.approx(one[metric] * factor, rel=1e-9)
    for metric in ("dice", "jaccard", *NORMALIZED_METRICS):
        assert scaled[metric] == pytest.approx(one[metric], rel=1e-9)


@settings(deadline=None)
@given(two_masks())
def test_order_of_the_metrics(masks):
    values = metrics(*masks)
    assert 0 <= values["assd"] <= values["hd"] + 1e-9
    assert values["hd95"] <= values["hd"] + 1e-9
    assert values["jaccard"] <= values["dice"] <= 1
    assert values["dice"] == pytest.approx(2 * values["jaccard"] / (1 + values["jaccard"]))
    assert all(0 <= values[m] <= 1 for m in (*NORMALIZED_METRICS, "nsd", "boundary_f1"))


@settings(deadline=None)
@given(two_masks(), st.floats(0, 30))
def test_functions_agree_with_the_table(masks, tolerance):
    a, b = masks
    values = pair_metrics(a, b, PairOptions(extra=True, tolerance=tolerance))
    for name in ("dice", "jaccard", "hd", "hd95", "assd"):
        assert values[name] == getattr(library, name)(a, b)
    assert values["kappa"] == library.cohens_kappa(a, b)
    assert values["nsd"] == library.nsd(a, b, tolerance=tolerance)
    assert values["boundary_f1"] == library.boundary_f1(a, b, tolerance=tolerance)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([1.0, (0.5, 2.0)]))
def test_sharing_gives_what_fresh_masks_give(seed, n, spacing):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 50, 2))
    masks = {f"m{k}": draw(shape, rng) for k in range(n)}
    masks["empty"] = np.zeros(shape, bool)
    options = PairOptions(extra=True, spacing=spacing)
    shared = image_pairs({name: prepare(mask) for name, mask in masks.items()}, options)
    assert len(shared) == n * (n + 1) / 2
    for pair in shared:
        assert pair["mask_1"] < pair["mask_2"]
        fresh = pair_metrics(masks[pair["mask_1"]].copy(), masks[pair["mask_2"]].copy(), options)
        found = {metric: pair[metric] for metric in fresh}
        np.testing.assert_equal(found, fresh)
    again = image_pairs(masks, options)
    np.testing.assert_equal(again, shared)


def test_empty_masks():
    empty, some = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    some[3:9, 4:7] = True
    both, one = metrics(empty, empty), metrics(some, empty)
    assert list(both) == list(one) == [*metric_names(), "kappa", "nsd", "boundary_f1"]
    assert [both[m] for m in ("dice", "jaccard", "kappa", "nsd", "boundary_f1")] == [1] * 5
    assert {both[m] for m in (*DISTANCE_METRICS, *NORMALIZED_METRICS)} == {0}
    assert [one[m] for m in ("dice", "jaccard", "kappa", "nsd", "boundary_f1")] == [0] * 5
    assert np.isnan([one[m] for m in DISTANCE_METRICS]).all()
    assert {one[m] for m in NORMALIZED_METRICS} == {1}
    for name in ("hd", "hd95", "assd"):
        assert getattr(library, name)(empty, empty) == 0
        assert np.isnan(getattr(library, name)(empty, some))
    with pytest.raises(ValueError, match="no surface"):
        library.surface_distances(some, empty)


def test_masks_that_are_none_are_refused():
    mask = np.ones((4, 5), bool)
    for wrong, error, told in (
        (np.ones((4, 6)), ValueError, r"one shape, not \(4, 5\) and \(4, 6\)"),
        (np.ones(4), ValueError, r"shape \(height, width\)"),
        (np.ones((0, 5)), ValueError, r"shape \(height, width\)"),
        (np.full((4, 5), np.nan), ValueError, "NaN"),
        (np.full((4, 5), "x"), TypeError, "bool or numbers"),
    ):
        with pytest.raises(error, match=told):
            pair_metrics(mask, wrong)
    for options in (
        {"reduction": "max"},
        {"spacing": 0},
        {"spacing": (1, 2, 3)},
        {"tolerance": np.nan},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            PairOptions(**options)
    with pytest.raises(ValueError, match="reduction"):
        library.hd95(mask, mask, reduction="max")


def test_numbers_above_zero_are_inside():
    mask = np.array([[0, 100, 100], [0, 0, 100]])
    for dtype in (np.int8, np.int16, np.int64, np.float32):
        assert prepare(mask.astype(dtype)).area == 3
    with pytest.raises(DataError, match="negative"):
        prepare(-mask)
    shown = repr(prepare(mask))
    assert "shape=(2, 3)" in shown
    assert "crop" not in shown
