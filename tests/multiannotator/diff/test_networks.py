"""Diagnosis nets that a mask assists, and Take and Give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models import TakeGive, build_assisted, build_encoder
from iavlib.models.assisted import NETS, PatchAttention
from iavlib.multiannotator.assisted_training import assisted_loss, diagnose, segment, train
from iavlib.stats import auroc

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "side"), [("small", 32), ("test_resnet", 64)])
def test_an_encoder_shows_four_maps_and_lets_each_be_changed(name, side):
    encoder = build_encoder(name, size=side).eval()
    images = torch.rand(2, 3, side, side)
    maps = encoder(images)
    for one, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert one.shape == (2, channels, side // stride, side // stride)
    changed = encoder(images, lambda level, one: one * 0 if level == 1 else one)
    assert torch.equal(maps[0], changed[0]) and not torch.equal(maps[3], changed[3])
    torch.testing.assert_close(encoder(images), maps)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("encoder", "side"), [("small", 32), ("test_resnet", 64)])
def test_the_diagnosis_follows_the_mask_where_it_should(net, encoder, side):
    made = build_assisted(net, encoder, size=side).eval()
    images, mask = torch.rand(2, 3, side, side), torch.zeros(2, side, side)
    mask[:, : side // 2] = 1
    first, second = (made(images, one)["diagnosis"] for one in (mask, 1 - mask))
    assert first.shape == (2,)
    assert torch.allclose(first, second) == (net == "ssl")


@pytest.mark.parametrize("net", ["cat", "ssl"])
def test_a_net_learns_and_gives_probabilities(net, discs, recipe):
    labelled = discs
    masks = labelled.labels[:, 0].astype(float)
    made = build_assisted(net, "small", size=32)
    history = train(made, labelled, masks, recipe)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    found = diagnose(made, labelled.images, masks)
    assert found.shape == (12,) and (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("net", ["att", "seat"])
def test_what_the_mask_alone_tells_is_learnt(net, halves, recipe):
    labelled, masks = halves
    made = build_assisted(net, "small", size=32)
    train(made, labelled, masks, recipe.model_copy(update={"epochs": 8, "lr": 3e-3}))
    shown, turned = (diagnose(made, labelled.images, one) for one in (masks, 1 - masks))
    assert auroc(labelled.diagnosis, shown).value > 0.9
    assert auroc(labelled.diagnosis, turned).value < 0.1


def test_attention_to_a_mask_needs_no_more_than_one_pixel():
    made = build_assisted("seat", "test_resnet", size=32)
    assert made(IMAGES, torch.ones(2, 32, 32))["diagnosis"].shape == (2,)


def test_folded_batch_norms_survive_the_first_batch(discs, recipe):
    labelled = discs
    made = build_assisted("cat", "test_resnet", size=32)
    with torch.no_grad():
        for module in made.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.fill_(0.1)  # mean 0 and variance 1, but something was learnt
    before = diagnose(made, labelled.images, labelled.truth)
    masks = labelled.truth.astype(float)
    train(made, labelled, masks, recipe.model_copy(update={"epochs": 1, "lr": 1e-9}))
    after = diagnose(made, labelled.images, labelled.truth)
    np.testing.assert_allclose(after, before, atol=0.02)


@pytest.mark.parametrize("blocks", ["B1 B2 B3", "B2 B3", "none"])
def test_what_the_diagnosis_net_sees_reaches_the_mask_through_connected_blocks_alone(blocks):
    made = TakeGive("small", blocks=blocks, size=32).eval()
    assert list(made.give) == [str(int(name[1]) - 1) for name in blocks.split() if name != "none"]
    before = made(IMAGES)["mask"]
    with torch.no_grad():
        for parameter in made.diagnosis.backbone.parameters():
            parameter.zero_()
    assert torch.equal(before, made(IMAGES)["mask"]) == (blocks == "none")


def test_take_and_give_learns_masks_by_equation_1_beside_a_diagnosis_net_as_it_was(discs, recipe):
    labelled = discs
    made = TakeGive("small", blocks="B1 B2", size=32)
    images = torch.from_numpy(labelled.images).permute(0, 3, 1, 2) / 255
    batch = {"images": images, "mask": torch.from_numpy(labelled.truth).float()}
    batch["diagnosis"] = torch.full((12,), float("nan"))  # it takes no part
    logits = made(images)["mask"].double()
    # written out: -[s log M + (1 - s) log(1 - M)], the mean over pixels
    mask = batch["mask"].double()
    by_hand = -(mask * logits.sigmoid().log() + (1 - mask) * (1 - logits.sigmoid()).log()).mean()
    assert assisted_loss(made, batch).item() == pytest.approx(by_hand.item(), rel=1e-5)
    before = {name: value.clone() for name, value in made.diagnosis.state_dict().items()}
    history = train(made, labelled, labelled.truth.astype(float), recipe)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert segment(made, labelled.images).shape == (12, 32, 32)
    for name, value in made.diagnosis.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_statistics_of_a_frozen_diagnosis_net_do_not_move():
    made = TakeGive("test_resnet", size=64).train()
    assert made.backbone.training and not made.diagnosis.training
    made.diagnosis.requires_grad_(True)
    assert made.train().diagnosis.training


def test_positions_are_added_before_the_linear_maps():
    """Two patches of one channel; the MLP passes positive values, so that all is done by hand."""
    attention = PatchAttention(1, 1, scale=1.0)
    with torch.no_grad():
        for one, weight in ((attention.query, 2.0), (attention.key, 3.0), (attention.value, 1.0)):
            one.weight.fill_(weight)
            one.bias.zero_()
        for layer in (attention.mlp[0], attention.mlp[2]):
            layer.weight.fill_(1)
            layer.bias.zero_()
    query, memory = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 7.0])
    found = attention(query.view(1, 1, 2, 1), memory.view(1, 1, 2, 1)).flatten()
    position = torch.tensor([0.0, 1.0]).sin()  # of rows 0 and 1: width 1 has the first sine alone
    q, k = 2 * (query + position), 3 * (memory + position)
    weights = torch.outer(q, k).softmax(1)
    by_hand = torch.nn.functional.gelu(weights @ memory)
    torch.testing.assert_close(found, by_hand)


def test_attention_takes_any_sides_and_refuses_two():
    attention = PatchAttention(3, 5, patch=4)
    found = attention(torch.rand(2, 3, 10, 7), torch.rand(2, 5, 10, 7))
    assert found.shape == (2, 5, 10, 7)
    with pytest.raises(DiagnosisFirstError, match="one height and width"):
        attention(torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build_assisted("dog", "small"), "no diagnosis net 'dog'"),
        (lambda: build_assisted("cat", "small", size=30), "no multiple of 8"),
        (lambda: build_assisted("cat", "small", "file", size=32), "has no weights"),
        (lambda: build_encoder("test_vit", size=160), "at strides"),
        (lambda: TakeGive("small", blocks=5, size=32), "blocks is 5: give some of B1"),
        (lambda: TakeGive("small", blocks="B5", size=32), "blocks is B5: give some of B1"),
        (lambda: TakeGive("small", size=32)(torch.rand(2, 1, 32, 32)), "give \\(B, 3, H, W\\)"),
        (
            lambda: build_assisted("roi", "small", size=32)(IMAGES, torch.zeros(2, 16, 16)),
            "give \\(B, 3, H, W\\) and \\(B, H, W\\)",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, said):
    with pytest.raises(DiagnosisFirstError, match=said):
        make()


@pytest.mark.parametrize(
    ("masks", "diagnosis", "said"),
    [
        (np.zeros((12, 8, 8)), np.zeros(12), "give \\(12, 32, 32\\)"),
        (np.full((12, 32, 32), 255.0), np.zeros(12), "outside 0 to 1"),
        (np.zeros((12, 32, 32)), np.full(12, np.nan), "neither 0 nor 1"),
    ],
)
def test_targets_that_do_not_fit_are_reported(masks, diagnosis, said, discs, recipe):
    data = replace(discs, diagnosis=diagnosis)
    with pytest.raises(DiagnosisFirstError, match=said):
        train(build_assisted("cat", "small", size=32), data, masks, recipe)
