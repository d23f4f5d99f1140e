"""Augmentation of whole batches beside torchvision's, image by image."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from iavlib.core.errors import TrainingError
from iavlib.training import augment as changes
from iavlib.training.augment import AUGMENTATIONS, augment

N, SIZE = 12, 21


@pytest.fixture
def images():
    """Smooth and rough images, one of a single colour, one that already spans the range."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (N, 3, SIZE, SIZE), dtype=np.uint8)
    pixels[0] = 97
    pixels[1, :, 0, 0], pixels[1, :, 0, 1] = 0, 255
    pixels[2:5] = 128 + pixels[2:5] // 32
    return torch.from_numpy(pixels)


@pytest.fixture
def which():
    return torch.tensor([True, False, True] * (N // 3))


def unit(images):
    return images.float() / 255


def nhwc(images):
    return images.permute(0, 2, 3, 1).contiguous()


def same(pixels, expected, tolerance=0.0):
    difference = (pixels.permute(0, 3, 1, 2).double() - expected.double()).abs().max()
    assert difference <= tolerance


def one_by_one(images, which, function):
    return torch.stack([function(x) if w else x for x, w in zip(images, which, strict=True)])


def test_turns_and_flips_are_torchvisions(images):
    images = images.repeat(2, 1, 1, 1)[:16]
    quarters, across = torch.arange(16) % 4, torch.arange(16) // 4 % 2 == 1
    down = torch.arange(16) >= 8
    expected = []
    for x, k, left, up in zip(images, quarters, across, down, strict=True):
        x = tv.rotate(x, 90 * int(k))
        x = tv.horizontal_flip(x) if left else x
        expected.append(tv.vertical_flip(x) if up else x)
    same(changes.turn(nhwc(images), quarters, across, down), torch.stack(expected))


def test_autocontrast_is_torchvisions(images, which):
    expected = one_by_one(unit(images), which, tv.autocontrast)
    same(changes.autocontrast(nhwc(unit(images)), which), expected, 1e-6)
    same(changes.autocontrast(nhwc(images), which), expected, 1e-6)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_sharpness_is_torchvisions(images, which, factor):
    expected = one_by_one(unit(images), which, lambda x: tv.adjust_sharpness(x, factor))
    same(changes.sharpen(nhwc(unit(images)), which, factor), expected, 1e-6)


def test_the_blur_of_the_paper_changes_nothing(images):
    expected = torch.stack([tv.gaussian_blur(x, [5, 5], [0.1, 0.1]) for x in unit(images)])
    same(nhwc(unit(images)), expected, 1e-20)


def test_warping_is_torchvisions(images):
    degrees, scale = torch.linspace(-10, 10, N), torch.linspace(0.8, 1.3, N)
    expected = [
        tv.affine(x, -float(a), [0, 0], float(s), [0.0], InterpolationMode.BILINEAR)
        for x, a, s in zip(unit(images), degrees, scale, strict=True)
    ]
    same(changes.warp(nhwc(unit(images)), degrees, scale), torch.stack(expected), 2e-5)


def test_colours_are_torchvisions_where_nothing_is_cut_off(images):
    factors = [torch.linspace(low, high, N) for low, high in ((0.9, 1.1), (1.1, 0.9), (0.9, 1.1))]
    expected = []
    for x, b, c, s in zip(unit(images) * 0.5 + 0.2, *factors, strict=True):
        x = tv.adjust_contrast(tv.adjust_saturation(x, float(s)), float(c))
        expected.append(tv.adjust_brightness(x, float(b)))
    pixels = changes.adjust_colours(nhwc(unit(images) * 0.5 + 0.2), *factors)
    same(pixels, torch.stack(expected), 2e-4)  # torchvision's luma has four digits, too


@pytest.mark.parametrize("policy", AUGMENTATIONS)
def test_a_policy_keeps_form_and_input_and_repeats(images, policy):
    before = images.clone()
    first = augment(images, policy, torch.Generator().manual_seed(3))
    again = augment(images, policy, torch.Generator().manual_seed(3))
    assert first.shape == images.shape and first.dtype == torch.float32
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and torch.equal(images, before)
    if policy != "none":
        assert not torch.equal(first, augment(images, policy, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("policy", AUGMENTATIONS)
def test_bytes_and_floats_are_changed_alike(images, policy):
    of_bytes = augment(images, policy, torch.Generator().manual_seed(3))
    of_floats = augment(unit(images), policy, torch.Generator().manual_seed(3))
    assert torch.allclose(of_bytes, of_floats, atol=1e-6)
    floats = unit(images).contiguous(memory_format=torch.channels_last)
    augment(floats, policy, torch.Generator().manual_seed(3))
    assert torch.equal(floats, unit(images))


@pytest.mark.parametrize("policy", AUGMENTATIONS)
def test_images_changed_together_are_those_changed_one_by_one(images, policy, monkeypatch):
    one_by_one = augment(images, policy, torch.Generator().manual_seed(3))
    monkeypatch.setattr(changes, "ONE_BY_ONE", ())
    together = augment(images, policy, torch.Generator().manual_seed(3))
    assert torch.allclose(one_by_one, together, atol=1e-6)


def test_the_paper_changes_half_of_the_images_each_way():
    corner = torch.zeros(4000, 3, 4, 4, dtype=torch.uint8)
    corner[:, :, 0, 0] = 200
    generator = torch.Generator().manual_seed(0)
    changed = augment(corner, "paper", generator)
    stretched = (changed.amax((1, 2, 3)) == 1).float().mean()  # by contrast or sharpness
    assert stretched == pytest.approx(0.5, abs=0.03)
    where = changed[:, 0].flatten(1).argmax(1).bincount(minlength=16)[[0, 3, 12, 15]] / 4000
    assert where.numpy() == pytest.approx(0.25, abs=0.03)


def test_an_unknown_policy_names_those_known(images):
    with pytest.raises(TrainingError, match="no augmentation 'strong'; known: none, paper"):
        augment(images, "strong")
