"""Attribution without maps, regions, measures, curves and sanity checks on known answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from iavlib import data, explain
from iavlib.explain import attribution, checks, localisation
from iavlib.explain.attribution import Target
from iavlib.explain.localisation import ambiguous_zone, border_distance

SIDE = 28


class Corner(nn.Module):
    """Predicts the mean of the upper left quarter of the red channel, less that of the rest."""

    def __init__(self):
        super().__init__()
        weight = torch.full((SIDE, SIDE), -0.2)
        weight[: SIDE // 2, : SIDE // 2] = 1.0
        self.weight = nn.Parameter(weight / SIDE**2)

    def forward(self, images):
        return {"iaa": (images[:, 0] * self.weight).sum(dim=(1, 2))[:, None]}


RAISES = Target(explain.RAISES, "iaa", "linear", 1)


@pytest.fixture
def pictures():
    return torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(4))


def test_integrated_gradients_of_a_linear_network_are_exact(pictures):
    corner = Corner()
    found = explain.integrated_gradients(corner, pictures, RAISES, steps=3)
    red = pictures[:, 0]
    expected = (red - red.mean(dim=(1, 2), keepdim=True)) * corner.weight
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)


def test_integrated_gradients_sum_to_the_difference_from_the_base(network, images):
    target = explain.find_targets(network)[explain.LOWERS]
    found = explain.integrated_gradients(network, images[:1], target, steps=100)
    with torch.no_grad():
        base = attribution.mean_colour(images[:1])
        difference = target.score(network(images[:1])) - target.score(network(base))
    assert found.sum() == pytest.approx(float(difference), rel=0.05, abs=1e-3)
    with pytest.raises(explain.ExplainError, match="steps = 0"):
        explain.integrated_gradients(network, images, target, steps=0)


def test_covering_finds_what_counts(pictures):
    bright = pictures.clone() * 0.1
    bright[:, 0, 2:10, 2:10] = 1
    found = explain.occlusion(Corner(), bright, RAISES)
    assert found.shape == (2, SIDE, SIDE)
    for one in found:
        row, column = np.unravel_index(one.argmax(), one.shape)
        assert row < 14 and column < 14
        assert one[:10, :10].mean() > 5 * abs(one[16:, 16:].mean())


def test_regions_of_two_masks():
    first, second = np.zeros((2, 20, 20), bool)
    first[5:15, 5:15] = True
    second[5:15, 5:18] = True
    found = explain.make_regions([first, second], band=0.05)
    assert np.array_equal(found.lesion, second)  # a tie is foreground
    assert found.disagreement.sum() == 30
    assert found.band.sum() == (2 * (10 + 13) - 4) + (2 * (10 + 13) + 4)  # a pixel to both sides
    assert set(found.named()) == {"lesion", "band", "disagreement"}
    alone = explain.make_regions([first])
    assert alone.disagreement is None and set(alone.named()) == {"lesion", "band"}
    assert np.isinf(border_distance(np.ones((4, 4), bool))).all()
    with pytest.raises(explain.ExplainError, match="0 masks"):
        explain.make_regions([])


def test_the_phantoms_ambiguity_is_around_its_true_border():
    y, x = np.mgrid[:64, :64]
    truth = np.hypot(x - 32, y - 32) < 15
    narrow, wide = (ambiguous_zone(truth, ambiguity, 0) for ambiguity in (0.02, 0.4))
    assert narrow.sum() < wide.sum() and not wide[32, 32]
    halo = ambiguous_zone(truth, 0.02, 0.5)
    assert halo[32, 50] and not narrow[32, 50] and not halo[32, 40]
    cohort = data.load("phantom", n_images=20, size=(64, 64))
    ids = explain.usable_images(cohort)
    assert len(ids) == 20
    found = explain.read_regions(cohort, ids[0], 32)
    assert found.cause.any() and found.lesion.shape == (32, 32)


def test_measures_of_a_map_whose_answer_is_known():
    heat = np.zeros((10, 10), np.float32)
    heat[0, :4] = 1
    region = np.zeros((10, 10), bool)
    region[0, :2] = region[9] = True
    found = explain.measure(heat, {"lesion": region})
    assert found == pytest.approx(
        {"half_area": 0.02, "share_lesion": 0.5, "area_lesion": 0.12, "hit_lesion": 0.5}
    )
    empty = explain.measure(np.zeros((10, 10)), {"lesion": region})
    assert np.isnan([empty["share_lesion"], empty["hit_lesion"], empty["half_area"]]).all()
    assert explain.half_area(np.ones((10, 10))) == 0.5


def test_other_images_maps_are_the_second_chance():
    left, right = np.zeros((2, 4, 4))
    left[:, 0] = right[:, 3] = 2.0
    others = explain.OtherMaps()
    for heat in (left, right, np.zeros((4, 4))):
        others.add(heat)
    region = np.zeros((4, 4), bool)
    region[:, 0] = True
    assert others.share(region, localisation.shares(left, region)) == 0
    assert others.share(region, localisation.shares(right, region)) == 1
    assert others.share(region, float("nan")) == 0.5


def test_ratios_have_intervals_over_patients():
    generator = np.random.default_rng(0)
    n = 60
    rows = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "cluster": [f"p{k // 2}" for k in range(n)],
            "target": "lowers agreement",
            "method": "Grad-CAM",
            "share_band": 0.4 + 0.05 * generator.standard_normal(n),
            "area_band": 0.2,
            "others_band": 0.4,
            "hit_band": 1.0,
        }
    )
    line = explain.attribution_ratios(rows, n_boot=200).iloc[0]
    assert line["ci_low"] < line["ratio"] < line["ci_high"] and line["ci_low"] > 1.8
    assert line["n"] == n and line["pointing"] == 1
    others = explain.attribution_ratios(rows, "others", n_boot=200).iloc[0]
    assert others["ratio"] == pytest.approx(1, abs=0.05)
    twice = explain.attribution_ratios(pd.concat([rows, rows]), n_boot=200).iloc[0]
    assert twice["n"] == n and twice["ci_low"] == line["ci_low"]
    with pytest.raises(ValueError, match="use one of"):
        explain.attribution_ratios(rows, "luck")


def test_deletion_and_insertion_reward_the_right_order(pictures):
    bright = pictures[0] * 0
    bright[0, : SIDE // 2, : SIDE // 2] = 1
    weight = Corner().weight.detach().numpy()
    right = explain.cell_order(weight)
    wrong = right[::-1].copy()
    good, bad = (
        explain.deletion_insertion(Corner(), bright, RAISES, order, steps=7)
        for order in (right, wrong)
    )
    assert good.deletion_area < bad.deletion_area
    assert good.insertion_area > bad.insertion_area
    assert good.deletion[0] == pytest.approx(good.insertion[-1])
    assert good.deletion[-1] == pytest.approx(good.insertion[0])
    assert len(good.deletion) == 8 and len(right) == explain.CELLS**2


def test_destroying_weights_destroys_maps_that_depend_on_them(network, images):
    def maps(which):
        found = explain.Explainer(which, [explain.LOWERS], ["Grad-CAM"]).explain(images)
        brightness = images.mean(dim=1).numpy()  # of the image alone
        return {
            "Grad-CAM": found.signed[explain.LOWERS, "Grad-CAM"],
            "image": brightness,
        }

    state = {name: item.clone() for name, item in network.state_dict().items()}
    table = explain.cascade(network, maps)
    assert all(torch.equal(state[name], item) for name, item in network.state_dict().items())
    stages = list(dict.fromkeys(table["stage"]))
    assert stages[0] == "heads" and stages[-1] == "stage 1"
    last = table[table["stage"] == "stage 1"].set_index("method")
    assert last.loc["image", "spearman"] == pytest.approx(1)
    assert last.loc["image", "ssim"] == pytest.approx(1)
    assert abs(last.loc["Grad-CAM", "spearman"]) < explain.ALIKE


def test_methods_are_compared_where_they_point():
    generator = np.random.default_rng(1)
    coarse = generator.random((2, 7, 7)).astype(np.float32)
    maps = {"a": coarse, "same": explain.enlarge(coarse, 56), "flat": np.zeros((2, 7, 7))}
    table = explain.method_agreement(maps | {"against": -coarse})
    assert table.loc["a", "same"] > 0.98
    assert table.loc["a", "against"] == pytest.approx(-1)
    assert np.isnan(table.loc["a", "flat"])
    assert checks.in_cells(coarse).shape == (2, explain.CELLS, explain.CELLS)
