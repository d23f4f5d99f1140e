"""Diagnosis nets that a mask assists, and Take and Give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models import TakeGive, build_assisted, build_encoder
from iavlib.models.assisted import NETS, PatchAttention
from iavlib.multiannotator.assisted_training import diagnose, segment, train
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


def test_take_and_give_pass_gradients_both_ways():
    made = TakeGive("small", blocks=4, size=32)
    backbone = made.backbone
    for output, half, wanted in (
        ("diagnosis", "segmentation", True),
        ("mask", "diagnosis", True),
    ):
        made.zero_grad()
        made(IMAGES)[output].sum().backward()
        reached = [p.grad is not None and bool(p.grad.any()) for p in backbone[half].parameters()]
        assert any(reached) == wanted


def test_without_blocks_the_halves_are_apart():
    made = TakeGive("small", blocks=0, size=32)
    made(IMAGES)["diagnosis"].sum().backward()
    assert all(p.grad is None for p in made.backbone["segmentation"].parameters())
    assert all(p.grad is None for p in made.decoder.parameters())
    made.zero_grad()
    made(IMAGES)["mask"].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in made.backbone["diagnosis"].parameters())


def test_take_and_give_learn_masks_and_diagnoses(discs, recipe):
    labelled = discs
    made = TakeGive("small", blocks=2, size=32)
    history = train(made, labelled, labelled.truth.astype(float), recipe)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert segment(made, labelled.images).shape == (12, 32, 32)


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
        (lambda: TakeGive("small", blocks=5, size=32), "5 connected blocks"),
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
