"""Expertness maps: they lower the loss of a net, and ExpG writes smooth ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models import build_assisted
from iavlib.multiannotator import (
    GENERATORS,
    MultiAnnotatorSet,
    expectation_maximisation,
    fuse_by_expertness,
    high_frequency_energy,
    optimise_expertness,
)
from iavlib.multiannotator.expertness import ExpertnessGenerator
from iavlib.multiannotator.fusion import cup_to_disc_ratio


class Checkered(torch.nn.Module):
    """Says melanoma the more, the more of the mask lies on every second pixel; and a bit of sum."""

    def __init__(self, side):
        super().__init__()
        board = torch.arange(side)[:, None] + torch.arange(side)[None]
        self.weight = torch.nn.Parameter(2.0 * (board % 2) - 0.5)

    def forward(self, images, masks):
        return {"diagnosis": (masks * self.weight).mean((1, 2))}


@pytest.mark.parametrize("generator", GENERATORS)
def test_optimising_lowers_the_loss_of_the_diagnosis(generator, discs):
    labelled = discs
    net = build_assisted("cat", "small", seed=3, size=32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    # each step of the robust maps sees the images moved otherwise, so that they take longer
    found = optimise_expertness(net, labelled, generator, 80 if generator == "robust" else 8)
    assert found.after.mean() < found.before.mean()
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    assert found.fused.shape == labelled.truth.shape
    agreed = labelled.labels[:, 0] == labelled.labels[:, 1]
    np.testing.assert_allclose(found.fused[agreed], labelled.labels[:, 0][agreed], atol=1e-5)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_expg_is_four_convolutions_with_relu_between():
    made = ExpertnessGenerator(1, 2, (3, 5), torch.Generator().manual_seed(0))
    assert [tuple(weight.shape[1:]) for weight in made.weights] == [
        (2, 16),
        (16, 16),
        (16, 16),
        (16, 2),
    ]
    with torch.no_grad():
        made.weights[-1].normal_()
    convolutions = []
    for weight, bias in zip(made.weights, made.biases, strict=True):
        one = torch.nn.Conv2d(*weight.shape[1:], 1)
        one.weight.data, one.bias.data = weight[0].T[..., None, None], bias[0, 0]
        convolutions += [one, torch.nn.ReLU()]
    y, x = np.meshgrid(
        np.linspace(-(3**0.5), 3**0.5, 3), np.linspace(-(3**0.5), 3**0.5, 5), indexing="ij"
    )
    coordinates = torch.tensor(np.stack([y, x])[None], dtype=torch.float32)
    torch.testing.assert_close(made(), torch.nn.Sequential(*convolutions[:-1])(coordinates))


def test_cup_to_disc_ratio_by_hand():
    disc, cup = np.zeros((3, 10, 6), bool), np.zeros((3, 10, 6), bool)
    disc[:2, 1:9] = True  # 8 rows
    cup[0, 3:7, 2] = cup[0, 4, :] = True  # 4 rows, wherever the columns
    np.testing.assert_array_equal(cup_to_disc_ratio(disc, cup), [0.5, 0, np.nan])


def test_expg_is_smoother_than_pixels_where_the_loss_asks_for_a_chessboard():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    masks = np.zeros((2, 2, 32, 32), np.int8)
    masks[:, 0] = 1  # one rater draws everything, one nothing: the fused mask is free
    pair = MultiAnnotatorSet(
        "pair", images, masks, ("a", "b"), 2, pd.Index(["1", "2"]), diagnosis=np.array([1, 1])
    )
    energies = {
        how: high_frequency_energy(optimise_expertness(Checkered(32), pair, how).weights[:, 0])
        for how in ("pixel", "expg")
    }
    assert energies["expg"].mean() < 0.5 * energies["pixel"].mean()


def test_a_rater_who_did_not_mark_an_image_has_no_weight(discs):
    labelled = discs
    masks = labelled.labels.copy()
    masks[0, 1] = -1
    net = build_assisted("roi", "small", size=32)
    found = optimise_expertness(net, replace(labelled, labels=masks), "pixel", 2)
    assert (found.weights[0, 1] == 0).all()
    np.testing.assert_array_equal(found.fused[0], masks[0, 0])


def test_the_same_seed_gives_the_same_masks(discs):
    labelled = discs
    net = build_assisted("cat", "small", size=32)
    given = (net, labelled, "robust", 3)
    first, again, other = (optimise_expertness(*given, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.fused, again.fused)
    assert not np.array_equal(first.fused, other.fused)


def test_high_frequency_energy_of_known_maps():
    y, x = np.mgrid[:16, :16]
    board, wave = (y + x) % 2, np.sin(2 * np.pi * x / 16)
    found = high_frequency_energy(np.stack([board, wave, np.full((16, 16), 0.3)]))
    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(high_frequency_energy((board - 0.5) / 0.5 + wave * 2**0.5), 0.5)


def test_expectation_maximisation_finds_who_is_right(discs):
    labelled = discs
    labels = np.stack([labelled.truth, labelled.truth, labelled.labels[:, 1]], 1)
    three = replace(labelled, labels=labels, annotators=("a", "b", "generous"))
    fused = expectation_maximisation(three)
    np.testing.assert_allclose(fused.sum(1), 1, rtol=1e-5)
    assert (fused.argmax(1) == labelled.truth).mean() > 0.99


@pytest.mark.parametrize(
    ("diagnosis", "generator", "said"),
    [
        (np.zeros(12), "brush", "no way 'brush'"),
        (np.full(12, 2), "pixel", "neither 0 nor 1"),
        (None, "pixel", "has no diagnoses"),
    ],
)
def test_bad_input_is_reported(diagnosis, generator, said, discs):
    net = build_assisted("cat", "small", size=32)
    with pytest.raises(DiagnosisFirstError, match=said):
        optimise_expertness(net, replace(discs, diagnosis=diagnosis), generator)


def test_fusing_refuses_what_nobody_marked():
    masks = torch.zeros(1, 2, 4, 4)
    with pytest.raises(DiagnosisFirstError, match="one rater per image"):
        fuse_by_expertness(masks, masks, torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(DiagnosisFirstError, match="finite maps"):
        high_frequency_energy(np.full((4, 4), np.nan))
