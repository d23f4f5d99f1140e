"""Confusion matrices as part of a network, and the U-Nets below them."""

import numpy as np
import pytest
import torch

from iavlib.core.errors import ModelError
from iavlib.models.annotator_heads import (
    FixedConfusion,
    GlobalConfusion,
    LowRankConfusion,
    PixelConfusion,
    apply_confusion,
    confusion_entries,
    confusion_flops,
    mean_trace,
)
from iavlib.models.unet import ProbabilisticUNet, UNet, pad_to_multiple, stages_for


def test_the_four_numbers_of_table_4():
    size = (192, 192, 4)
    assert confusion_entries(*size) == 589_824
    assert confusion_entries(*size, rank=1) == 294_912
    assert confusion_flops(*size) == 1_032_192
    assert confusion_flops(*size, rank=1) == 405_504


def test_counts_are_those_of_the_networks():
    features = torch.rand(1, 4, 8, 6)
    full, low = PixelConfusion(4, 1, 4), LowRankConfusion(4, 1, 4, 1, residual=False)
    assert full.head(features).numel() == confusion_entries(6, 8, 4)
    assert low.head(features).numel() == confusion_entries(6, 8, 4, rank=1)


@pytest.mark.parametrize(
    "head",
    [
        PixelConfusion(4, 3, 2),
        PixelConfusion(4, 3, 2, blocks=2),
        LowRankConfusion(4, 3, 2, 1),
        GlobalConfusion(3, 2),
        FixedConfusion(3, 2),
    ],
)
def test_columns_are_distributions(head):
    matrices = head(torch.rand(2, 4, 8, 8))
    assert matrices.shape[:4] == (2, 3, 2, 2)
    torch.testing.assert_close(matrices.sum(2), torch.ones_like(matrices.sum(2)))
    said = apply_confusion(matrices, torch.rand(2, 2, 8, 8).softmax(1))
    torch.testing.assert_close(said.sum(2), torch.ones(2, 3, 8, 8))


def test_columns_are_the_true_classes():
    head = FixedConfusion(1, 2)
    head.set(np.array([[[0.9, 0.4], [0.1, 0.6]]]))
    certain = torch.zeros(1, 2, 1, 1)
    certain[0, 1] = 1
    said = apply_confusion(head(torch.zeros(1)), certain)
    torch.testing.assert_close(said.flatten(), torch.tensor([0.4, 0.6]))


def test_unknown_columns_stay_those_of_the_identity():
    head = FixedConfusion(1, 2)
    head.set(np.array([[[0.9, np.nan], [0.1, np.nan]]]))
    assert head.matrices[0].tolist() == [[pytest.approx(0.9), 0], [pytest.approx(0.1), 1]]


def test_the_global_form_starts_where_the_released_code_does():
    for classes, diagonal in ((2, 0.6545), (4, 0.387)):
        trace = mean_trace(GlobalConfusion(1, classes)(torch.zeros(1)))
        assert float(trace.detach()) / classes == pytest.approx(diagonal, abs=5e-4)


def test_without_residual_rank_one_does_not_depend_on_the_truth():
    torch.manual_seed(0)
    features = torch.rand(1, 4, 2, 2)
    for residual, same in ((False, True), (True, False)):
        matrices = LowRankConfusion(4, 1, 3, 1, residual=residual)(features).detach()
        apart = (matrices - matrices[:, :, :, :1]).abs().max()
        assert (float(apart) < 1e-4) == same


def test_impossible_forms_are_refused():
    with pytest.raises(ModelError, match="rank 4"):
        LowRankConfusion(4, 1, 3, 4)


@pytest.mark.parametrize(
    ("side", "stages"), [(6, 1), (7, 2), (8, 2), (16, 3), (28, 4), (32, 4), (256, 4)]
)
def test_stages_have_room(side, stages):
    assert len(stages_for(side, 2 * side)) == stages
    widths = [4, 5, 6, 7][:stages]
    features = UNet(1, widths)(torch.rand(2, 1, side, side))
    assert features.shape == (2, 4, side, side)


def test_padding_repeats_the_border_and_is_cut_off():
    images = torch.arange(9.0).view(1, 1, 3, 3)
    padded, top, left = pad_to_multiple(images, 4)
    assert padded.shape[-2:] == (4, 4)
    assert torch.equal(padded[..., top : top + 3, left : left + 3], images)
    assert torch.equal(padded[..., -1, :3], images[..., -1, :])


def test_the_probabilistic_unet_draws_by_its_generator():
    torch.manual_seed(0)
    network = ProbabilisticUNet(1, 2, [4, 8]).eval()
    images = torch.rand(2, 1, 9, 9)
    draws = [network.sample(images, 3, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert draws[0].shape == (2, 3, 2, 9, 9)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    logits, divergence = network.reconstruct(images, torch.zeros(2, 9, 9, dtype=torch.long))
    assert logits.shape == (2, 2, 9, 9) and (divergence >= 0).all()
