"""The engine against medpy 0.5.2, and against distances computed one by one."""

import numpy as np
import pytest
from engine_shapes import KINDS, SHAPES, draw, related
from scipy import ndimage
from scipy.spatial.distance import cdist

from iavlib import masks
from iavlib.masks import surfaces as nearest
from iavlib.masks.surfaces import mask_surface

METRICS = ("dice", "jaccard", "hd", "hd95", "assd")
SPACINGS = (1.0, 0.37, (0.5, 2.0), (3.0, 0.25))


def pairs():
    """708 pairs: every kind beside every kind, and each kind and shape beside a relative."""
    rng = np.random.default_rng(0)
    for first in range(len(KINDS)):
        for second in range(len(KINDS)):
            for shape in ((23, 31), (48, 33)):
                yield draw(shape, rng, first), draw(shape, rng, second)
    for shape in SHAPES:
        for kind in range(len(KINDS)):
            mask = draw(shape, rng, kind)
            yield mask, related(mask, rng)
            yield draw(shape, rng), mask
    for _ in range(204):
        shape = tuple(int(side) for side in rng.integers(1, 90, 2))
        mask = draw(shape, rng)
        yield mask, related(mask, rng) if rng.random() < 0.5 else draw(shape, rng)


def reference(a, b, spacing=1.0):
    """The five metrics by distances between all pairs of surface pixels."""
    points = [
        np.argwhere(m ^ ndimage.binary_erosion(m)) * np.broadcast_to(spacing, 2) for m in (a, b)
    ]
    table = cdist(*points)
    pooled = np.concatenate([table.min(axis=1), table.min(axis=0)])
    common, total = np.sum(a & b), np.sum(a) + np.sum(b)
    overlaps = 2 * common / total, common / (total - common)
    return (*overlaps, pooled.max(), np.percentile(pooled, 95), pooled.mean())


def by_medpy(binary, a, b, spacing=None):
    distances = (m(a, b, voxelspacing=spacing) for m in (binary.hd, binary.hd95, binary.assd))
    return (binary.dc(a, b), binary.jc(a, b), *distances)


def ours(a, b, spacing=1.0):
    values = masks.pair_metrics(a, b, masks.PairOptions(spacing=spacing))
    return [values[metric] for metric in METRICS]


def test_equal_to_medpy_on_708_pairs():
    binary = pytest.importorskip("medpy.metric.binary", reason="medpy is the outside oracle")
    cases = list(pairs())
    assert len(cases) == 708
    for a, b in cases:
        np.testing.assert_allclose(ours(a, b), by_medpy(binary, a, b), rtol=0, atol=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_equal_to_medpy_with_spacing(spacing):
    binary = pytest.importorskip("medpy.metric.binary", reason="medpy is the outside oracle")
    for a, b in list(pairs())[::11]:
        expected = by_medpy(binary, a, b, tuple(np.broadcast_to(spacing, 2)))
        np.testing.assert_allclose(ours(a, b, spacing), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_equal_to_all_distances(spacing):
    for a, b in list(pairs())[::7]:
        expected = reference(a, b, spacing)
        np.testing.assert_allclose(ours(a, b, spacing), expected, rtol=0, atol=1e-9)


def test_surface_is_the_mask_without_its_erosion():
    for mask, _ in pairs():
        expected = mask ^ ndimage.binary_erosion(mask)
        np.testing.assert_array_equal(mask_surface(mask), expected)


def test_whole_numbers_are_wide_enough_for_large_images(monkeypatch):
    monkeypatch.setattr(nearest, "NARROW", 0)
    for a, b in list(pairs())[::13]:
        np.testing.assert_allclose(ours(a, b), reference(a, b), rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 31_000), (1, 45_000), (45_000, 1), (30, 32_000)], ids=str)
def test_distances_across_very_long_images(shape):
    a, b = np.zeros(shape, bool), np.zeros(shape, bool)
    a[0, 0] = b[-1, -1] = True
    expected = np.hypot(shape[0] - 1, shape[1] - 1)
    assert masks.hd(a, b) == pytest.approx(expected, abs=1e-9)
    b[min(2, shape[0] - 1), min(2, shape[1] - 1)] = True
    assert masks.surface_distances(a, b)[0].tolist() == [
        np.hypot(*np.minimum(np.array(shape) - 1, 2))
    ]


def test_more_surface_than_is_searched_at_once():
    rng = np.random.default_rng(1)
    a, b = (rng.random((300, 400)) < share for share in (0.5, 0.02))
    assert len(masks.prepare(a).surface[0]) > 2 * nearest.CHUNK
    for first, second in ((a, b), (b, a)):
        found, _ = masks.surface_distances(first, second)
        far = ndimage.distance_transform_edt(~mask_surface(second))
        np.testing.assert_allclose(found, far[mask_surface(first)], rtol=0, atol=1e-12)


def test_directed_forms_by_their_definitions():
    """Max of the directed percentiles (MONAI, MetricsReloaded) and mean of the directed means."""
    a, b = np.zeros((12, 40), bool), np.zeros((12, 40), bool)
    a[5, 2:12] = True
    b[5, 2:32] = True
    ab, ba = masks.surface_distances(a, b)
    assert ab.tolist() == [0] * 10
    assert ba.tolist() == [0] * 10 + list(range(1, 21))
    assert masks.hd95(a, b, reduction="directed") == pytest.approx(np.percentile(ba, 95))
    assert masks.hd95(a, b) == pytest.approx(np.percentile([0] * 20 + list(range(1, 21)), 95))
    assert masks.assd(a, b, reduction="directed") == pytest.approx((0 + 210 / 30) / 2)
    assert masks.assd(a, b) == pytest.approx(210 / 40)
    options = masks.PairOptions(reduction="directed")
    values = masks.pair_metrics(a, b, options)
    assert values["hd95"] == masks.hd95(a, b, reduction="directed")
    assert values["assd"] == masks.assd(a, b, reduction="directed")


def test_shares_of_surface_within_a_tolerance():
    a, b = np.zeros((12, 40), bool), np.zeros((12, 40), bool)
    a[5, 2:12] = True
    b[5, 2:32] = True
    assert masks.nsd(a, b, tolerance=5) == pytest.approx((10 + 15) / 40)
    assert masks.nsd(a, b, tolerance=2.5, spacing=0.5) == pytest.approx((10 + 15) / 40)
    assert masks.boundary_f1(a, b, tolerance=5) == pytest.approx(2 * 1 * 0.5 / 1.5)
    far = np.zeros((12, 40), bool)
    far[0, 39] = True
    assert masks.boundary_f1(a, far, tolerance=1) == 0
    with pytest.raises(ValueError, match="tolerance"):
        masks.nsd(a, b, tolerance=-1)
