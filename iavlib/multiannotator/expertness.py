r"""DF-GT: annotators' masks fused with the expertness that makes a diagnosis net right.

Maps m of the raters are turned into weights by a softmax over raters, and the fused mask is
:math:`\sum_i \mathrm{softmax}(m)_i\, s_i`. A frozen net diagnoses image and fused mask, and m is
optimised to make its loss *lower* (Wu et al. 2024; the paper prints Eq. 4 with the sign of a step
uphill). A fused mask of this kind is made with the diagnosis of its own image: a diagnosis that is
predicted from it again is no measure of clinical use.

The maps of each image are parametrised in one of these ways:

- ``pixel``: one parameter per pixel;
- ``robust``: the same, but images and masks are shifted, rotated and scaled at random in each
  step (Transformation Robustness);
- ``fourier``: amplitudes of waves, the coarser ones with larger steps;
- ``expg``: a network from a pixel's coordinates to its expertness (ExpG): four layers of 1 x 1
  convolutions, joined by ReLU (the facts at hand name no activation of the paper's);
- ``expg-released``: as in the released code, eight layers, joined by ``[atan(x) / 0.67,
  atan(x)^2 / 0.6]``, and a sigmoid at the end.

All start with the same expertness for all raters: the fused mask then is their mean vote.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.assisted import AssistedNet
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.training.predict import evaluating, frozen

#: Coordinates of pixels run between these, so that their variance is 1 (released code).
_REACH = math.sqrt(3)
#: Channels between layers of ExpG; 128 in the released code, which takes minutes per image without
#: an accelerator.
_HIDDEN = 16
#: Cycles per pixel from which a wave counts as fine; the highest frequency along an axis is 0.5.
FINE = 0.25


class PixelMaps(nn.Module):
    """One parameter per pixel: (B, R, H, W)."""

    def __init__(self, n: int, raters: int, size: tuple[int, int], generator: torch.Generator):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n, raters, *size))

    def forward(self) -> Tensor:
        """Give the maps."""
        return self.values


class FourierMaps(nn.Module):
    """Amplitudes of waves, divided by their frequencies as in natural images."""

    def __init__(self, n: int, raters: int, size: tuple[int, int], generator: torch.Generator):
        super().__init__()
        rows, columns = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
        frequency = torch.hypot(rows[:, None], columns[None])
        self.size = size
        self.register_buffer("scale", 1 / frequency.clamp_min(1 / max(size)))
        self.values = nn.Parameter(torch.zeros(n, raters, *frequency.shape, 2))

    def forward(self) -> Tensor:
        """Give the maps."""
        waves = torch.view_as_complex(self.values) * self.scale
        return torch.fft.irfft2(waves, s=self.size, norm="ortho")


class ExpertnessGenerator(nn.Module):
    """ExpG: a small network of each image, from coordinates to the expertness of all raters.

    Weights are drawn so that the variance stays the same from layer to layer, 2 / inputs of ReLU
    and 1 / inputs of the released activation; those of the last layer are 0.

    Parameters
    ----------
    n, raters : int
    size : (H, W)
    generator : torch.Generator
    layers : int
        Four in the paper, eight in the released code.
    released : bool
        Whether layers are joined, and the last is ended, as in the released code.
    """

    def __init__(self, n, raters, size, generator, layers: int = 4, released: bool = False):
        super().__init__()
        axes = [torch.linspace(-_REACH, _REACH, side) for side in size]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
        self.register_buffer("grid", grid)
        self.size, self.released = size, released
        inputs = [2, *[(1 + released) * _HIDDEN] * (layers - 1)]
        outputs = [*[_HIDDEN] * (layers - 1), raters]
        shapes = zip(inputs, outputs, strict=True)
        gain = 1 if released else math.sqrt(2)
        drawn = [torch.randn(n, a, b, generator=generator) * gain / math.sqrt(a) for a, b in shapes]
        drawn[-1].zero_()
        self.weights = nn.ParameterList(drawn)
        self.biases = nn.ParameterList(torch.zeros(n, 1, width) for width in outputs)

    def forward(self) -> Tensor:
        """Give the maps."""
        values = self.grid.expand(len(self.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number and self.released:
                values = values.atan()
                values = torch.cat((values / 0.67, values**2 / 0.6), -1)
            elif number:
                values = values.relu()
            values = torch.baddbmm(bias, values, weight)
        maps = values.transpose(1, 2).unflatten(-1, self.size)
        return maps.sigmoid() if self.released else maps


#: Name to what makes maps of n images, from raters, (H, W) and a generator.
GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "pixel": PixelMaps,
    "robust": PixelMaps,
    "fourier": FourierMaps,
    "expg": ExpertnessGenerator,
    "expg-released": partial(ExpertnessGenerator, layers=8, released=True),
}
#: Step size of Adam, for some tens of steps; the paper takes 1e-4 for 125 epochs, the released
#: code 5e-3 for 256 steps an image.
STEP_SIZES = {"pixel": 0.3, "robust": 0.3, "fourier": 0.3, "expg": 0.02, "expg-released": 0.02}


def jitter(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shift, rotate and scale images (B, 3, H, W) and masks (B, H, W) jointly, each pair at random.

    By up to an eighth of the side, 10 degrees, and a factor from 0.8 to 1.2, as in the released
    code (16 pixels of 256, with 4 more afterwards); beyond the image its border is repeated.
    """
    drawn = 2 * torch.rand(4, len(images), generator=generator).to(images.device) - 1
    angle, scale = drawn[0] * math.radians(10), 1 + 0.2 * drawn[1]
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack((cosine, -sine, drawn[2] / 8, sine, cosine, drawn[3] / 8), 1)
    both = torch.cat((images, masks[:, None]), 1)
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, padding_mode="border", align_corners=False)
    return moved[:, :3], moved[:, 3]


def high_frequency_energy(maps: np.ndarray) -> np.ndarray:
    """Compute the share of the variance of maps in waves of at least 0.25 cycles per pixel.

    Parameters
    ----------
    maps : numpy.ndarray, shape (..., height, width)

    Returns
    -------
    numpy.ndarray of float, shape (...)
        From 0 to 1; 0 of a constant map.

    Raises
    ------
    DiagnosisFirstError
        If values are not finite, or there are fewer than two axes.
    """
    maps = np.asarray(maps, float)
    if maps.ndim < 2 or not np.isfinite(maps).all():
        raise DiagnosisFirstError("give finite maps (..., height, width)")
    maps = maps - maps.mean((-2, -1), keepdims=True)
    power = np.abs(np.fft.fft2(maps)) ** 2
    rows, columns = (np.fft.fftfreq(side) for side in maps.shape[-2:])
    fine = np.hypot(rows[:, None], columns[None]) >= FINE
    total = power.sum((-2, -1))
    share = (power * fine).sum((-2, -1)) / np.where(total > 0, total, 1)
    # Rounding leaves some variance in a constant map.
    return np.where(maps.var((-2, -1)) > 1e-12, share, 0.0)


STEPS = 20
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Expertness:
    """Fused masks of n images.

    Attributes
    ----------
    weights : numpy.ndarray of float32, shape (n, raters, height, width)
        Summing to 1 over raters; 0 of one who did not mark the image.
    fused : numpy.ndarray of float32, shape (n, height, width)
    before, after : numpy.ndarray of float32, shape (n,)
        Loss of the diagnosis with the mean vote, and with the fused mask.
    """

    weights: np.ndarray
    fused: np.ndarray
    before: np.ndarray
    after: np.ndarray


def fuse_by_expertness(maps: Tensor, masks: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Weight raters' masks.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, H, W)
    masks : torch.Tensor, shape (B, R, H, W)
    given : torch.Tensor of bool, shape (B, R)
        Whether a rater marked the image.

    Returns
    -------
    fused : torch.Tensor, shape (B, H, W)
    weights : torch.Tensor, shape (B, R, H, W)

    Raises
    ------
    DiagnosisFirstError
        If shapes do not fit, or nobody marked an image.
    """
    if maps.shape != masks.shape or given.shape != maps.shape[:2] or not given.any(1).all():
        shapes = f"{tuple(maps.shape)}, {tuple(masks.shape)} and {tuple(given.shape)}"
        hint = "give (B, R, H, W) twice and (B, R), at least one rater per image"
        raise DiagnosisFirstError(f"maps, masks and raters of shapes {shapes}: {hint}")
    missing = ~given[..., None, None]
    weights = maps.masked_fill(missing, -torch.inf).softmax(1)
    return (weights * masks.masked_fill(missing, 0)).sum(1), weights


def optimise_expertness(
    net: AssistedNet,
    dataset: MultiAnnotatorSet,
    generator: str = "expg",
    steps: int = STEPS,
    seed: int = 0,
) -> Expertness:
    """Optimise expertness maps so that they lower the diagnosis loss of each image.

    Parameters
    ----------
    net : AssistedNet
        It is left as it is.
    dataset : MultiAnnotatorSet
        Colour images (uint8) with two classes and the diagnosis of each image.
    generator : str
        Name in :data:`iavlib.multiannotator.GENERATORS`.
    steps : int
        Of Adam.
    seed : int

    Returns
    -------
    Expertness

    Raises
    ------
    DiagnosisFirstError
        If there is no such generator, or a diagnosis is missing.
    """
    if generator not in GENERATORS:
        problem = f"no way {generator!r} to parametrise expertness"
        raise DiagnosisFirstError(f"{problem}: give one of {', '.join(GENERATORS)}")
    check_diagnosis(dataset)
    random = torch.Generator().manual_seed(seed)
    parts = np.array_split(np.arange(len(dataset)), range(_BATCH, len(dataset), _BATCH))
    with frozen(net), evaluating(net):
        batches = [_optimise(net, dataset.take(part), generator, steps, random) for part in parts]
    return Expertness(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))


def check_diagnosis(dataset: MultiAnnotatorSet) -> None:
    """Raise :class:`DiagnosisFirstError` where a diagnosis is neither 0 nor 1."""
    if dataset.diagnosis is None:
        raise DiagnosisFirstError(f"set {dataset.name!r} has no diagnoses: give some")
    if not np.isin(dataset.diagnosis, (0, 1)).all():
        raise DiagnosisFirstError("a diagnosis is neither 0 nor 1: leave such images out")


def unit_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """Turn images (n, H, W, 3) of bytes into (n, 3, H, W) from 0 to 1 on a device."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 255


def _optimise(net, batch: MultiAnnotatorSet, generator: str, steps: int, random):
    """Optimise a batch of images; each is independent, for their losses are added."""
    device = next(net.parameters()).device
    images = unit_pixels(batch.images, device)
    labels = torch.from_numpy(np.ascontiguousarray(batch.labels)).to(device)
    given, masks = labels[:, :, 0, 0] >= 0, (labels > 0).float()
    diagnosis = torch.tensor(batch.diagnosis, dtype=torch.float32).to(device)
    n, raters, *size = masks.shape
    maps = GENERATORS[generator](n, raters, tuple(size), random).to(device)
    optimizer = torch.optim.Adam(maps.parameters(), lr=STEP_SIZES[generator])

    def losses(*inputs: Tensor) -> Tensor:
        logits = net(*inputs)["diagnosis"]
        return F.binary_cross_entropy_with_logits(logits, diagnosis, reduction="none")

    before = losses(images, fuse_by_expertness(maps(), masks, given)[0])
    for _ in range(steps):
        optimizer.zero_grad()
        fused, _ = fuse_by_expertness(maps(), masks, given)
        inputs = jitter(images, fused, random) if generator == "robust" else (images, fused)
        losses(*inputs).sum().backward()
        optimizer.step()
    with torch.no_grad():
        fused, weights = fuse_by_expertness(maps(), masks, given)
        after = losses(images, fused)
    # Rounding may take a sum of weights beyond 1.
    arrays = (weights, fused.clamp(0, 1), before.detach(), after)
    return tuple(array.float().cpu().numpy() for array in arrays)
