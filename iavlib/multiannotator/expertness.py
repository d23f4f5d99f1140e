r"""DF-GT: raters' masks fused by the expertness that makes a diagnosis net right.

Raters' maps m are brought to weights by a softmax over raters, and the fused mask is
:math:`\sum_i \mathrm{softmax}(m)_i\, s_i`. A frozen net diagnoses image and fused mask, and m
is moved to where its loss is *lower*. The paper prints Eq. 4 with the sign of a step uphill.

Ways to write maps of expertness, one for each rater of each image, as what is optimised.

- ``pixel``: every pixel a number of its own;
- ``robust``: the same, but images and masks are shifted, turned and scaled at random in each
  step (Transformation Robustness);
- ``fourier``: amplitudes of waves, the coarser ones reaching further;
- ``expg``: a network from a pixel's coordinates to its expertness, four layers (ExpG);
- ``expg-released``: as in the released code, eight layers and a sigmoid at the end.

All begin with the same expertness for all raters: the fused mask then is their mean vote.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.assisted import AssistedNet
from iavlib.training.predict import evaluating

#: Coordinates of pixels run between these, so that their variance is 1 (released code).
_REACH = math.sqrt(3)
#: Cycles a pixel from which a wave counts as high; the highest there is has 0.5 along an axis.
HIGH = 0.25


class PixelMaps(nn.Module):
    """Every pixel a number of its own: (B, R, H, W)."""

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

    Weights are drawn with the variance 1 / inputs, those of the last layer are 0. Layers are
    joined by ``[atan(x) / 0.67, atan(x)^2 / 0.6]``, as in the released code.

    Parameters
    ----------
    n, raters : int
    size : (H, W)
    generator : torch.Generator
    layers : int
        Four in the paper, eight in the released code.
    hidden : int
        Channels between layers; 128 in the released code, which takes minutes an image without an
        accelerator.
    bounded : bool
        Whether a sigmoid ends it, as in the released code.
    """

    def __init__(
        self, n, raters, size, generator, layers: int = 4, hidden: int = 16, bounded: bool = False
    ):
        super().__init__()
        if layers < 2 or hidden < 1:
            raise DiagnosisFirstError(f"ExpG of {layers} layers with {hidden} channels: give more")
        axes = [torch.linspace(-_REACH, _REACH, side) for side in size]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
        self.register_buffer("places", places)
        self.size, self.bounded = size, bounded
        inputs = [2, *[2 * hidden] * (layers - 1)]
        outputs = [*[hidden] * (layers - 1), raters]
        drawn = [
            torch.randn(n, one, other, generator=generator) / math.sqrt(one)
            for one, other in zip(inputs, outputs, strict=True)
        ]
        drawn[-1].zero_()
        self.weights = nn.ParameterList(drawn)
        self.biases = nn.ParameterList(torch.zeros(n, 1, other) for other in outputs)

    def forward(self) -> Tensor:
        """Give the maps."""
        values = self.places.expand(len(self.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                bent = values.atan()
                values = torch.cat((bent / 0.67, bent**2 / 0.6), -1)
            values = torch.baddbmm(bias, values, weight)
        maps = values.transpose(1, 2).unflatten(-1, self.size)
        return maps.sigmoid() if self.bounded else maps


def _released(n, raters, size, generator) -> nn.Module:
    return ExpertnessGenerator(n, raters, size, generator, layers=8, bounded=True)


#: Name to what makes maps of n images, from raters, (H, W) and a generator.
GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "pixel": PixelMaps,
    "robust": PixelMaps,
    "fourier": FourierMaps,
    "expg": ExpertnessGenerator,
    "expg-released": _released,
}
#: Step size of Adam, for some tens of steps; the paper takes 1e-4 for 125 epochs, the released
#: code 5e-3 for 256 steps an image.
STEP_SIZES = {"pixel": 0.3, "robust": 0.3, "fourier": 0.3, "expg": 0.02, "expg-released": 0.02}


def jitter(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shift, turn and scale images (B, 3, H, W) and masks (B, H, W), each pair alike.

    By up to an eighth of the side, 10 degrees, and a factor from 0.8 to 1.2, as in the released
    code (16 pixels of 256, with 4 more afterwards); what comes in from outside repeats the border.
    """
    drawn = 2 * torch.rand(4, len(images), generator=generator).to(images.device) - 1
    angle, scale = drawn[0] * math.radians(10), 1 + 0.2 * drawn[1]
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack((cosine, -sine, drawn[2] / 8), 1)]
    rows += [torch.stack((sine, cosine, drawn[3] / 8), 1)]
    both = torch.cat((images, masks[:, None]), 1)
    grid = F.affine_grid(torch.stack(rows, 1), list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, padding_mode="border", align_corners=False)
    return moved[:, :3], moved[:, 3]


def high_frequency_energy(maps: np.ndarray, high: float = HIGH) -> np.ndarray:
    """Compute what share of the variance of maps is in fine waves.

    Parameters
    ----------
    maps : numpy.ndarray, shape (..., height, width)
    high : float
        Cycles a pixel from which a wave counts as fine.

    Returns
    -------
    numpy.ndarray of float, shape (...)
        From 0 to 1; 0 of a map that is the same everywhere.

    Raises
    ------
    DiagnosisFirstError
        If values are not finite, or there is no such frequency.
    """
    maps = np.asarray(maps, float)
    if maps.ndim < 2 or not np.isfinite(maps).all() or not 0 < high <= 0.5:
        raise DiagnosisFirstError("give finite maps (..., height, width), and high from 0 to 0.5")
    maps = maps - maps.mean((-2, -1), keepdims=True)
    power = np.abs(np.fft.fft2(maps)) ** 2
    rows, columns = (np.fft.fftfreq(side) for side in maps.shape[-2:])
    fine = np.hypot(rows[:, None], columns[None]) >= high
    total = power.sum((-2, -1))
    share = (power * fine).sum((-2, -1)) / np.where(total > 0, total, 1)
    # rounding leaves a grain of variance in a constant map
    varies = maps.var((-2, -1)) > 1e-12
    return np.where(varies, share, 0.0)


STEPS = 20
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Expertness:
    """What was found for n images.

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
        told = f"maps, masks and raters of shapes {shapes}"
        raise DiagnosisFirstError(f"{told}: give (B, R, H, W) twice and (B, R), a rater an image")
    shown = maps.masked_fill(~given[..., None, None], -torch.inf)
    weights = shown.softmax(1)
    marked = masks.masked_fill(~given[..., None, None], 0)
    return (weights * marked).sum(1), weights


def optimise_expertness(
    net: AssistedNet,
    images: np.ndarray,
    masks: np.ndarray,
    diagnosis: np.ndarray,
    generator: str = "expg",
    steps: int = STEPS,
    seed: int = 0,
    step_size: float | None = None,
) -> Expertness:
    """Find expertness maps that lower the diagnosis loss of each image.

    Parameters
    ----------
    net : AssistedNet
        It is left as it is.
    images : numpy.ndarray of uint8, shape (n, height, width, 3)
    masks : numpy.ndarray of int, shape (n, raters, height, width)
        0 or 1; -1 throughout where a rater did not mark the image.
    diagnosis : numpy.ndarray, shape (n,)
        0 or 1, of these very images.
    generator : str
        Name in :data:`iavlib.multiannotator.GENERATORS`.
    steps : int
        Of Adam.
    seed : int
    step_size : float, optional

    Returns
    -------
    Expertness

    Raises
    ------
    DiagnosisFirstError
        If there is no such generator, or arrays do not fit each other.
    """
    if generator not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise DiagnosisFirstError(f"no way {generator!r} to write expertness: give one of {known}")
    if masks.ndim != 4 or not len(images) == len(masks) == len(diagnosis):
        told = f"{len(images)} images, masks {masks.shape}, {len(diagnosis)} diagnoses"
        raise DiagnosisFirstError(f"{told}: give one diagnosis and (raters, H, W) masks an image")
    if not np.isin(diagnosis, (0, 1)).all():
        raise DiagnosisFirstError("a diagnosis is neither 0 nor 1: leave such images out")
    drawn = torch.Generator().manual_seed(seed)
    rate = step_size or STEP_SIZES[generator]
    lots = range(0, len(images), _BATCH)
    states = [parameter.requires_grad for parameter in net.parameters()]
    net.requires_grad_(False)
    try:
        with evaluating(net):
            found = [
                _optimise(
                    net,
                    *(_tensors(net, one[first : first + _BATCH]) for one in (images, masks)),
                    torch.tensor(diagnosis[first : first + _BATCH], dtype=torch.float32),
                    (generator, steps, rate),
                    drawn,
                )
                for first in lots
            ]
    finally:
        for parameter, state in zip(net.parameters(), states, strict=True):
            parameter.requires_grad_(state)
    return Expertness(*(np.concatenate(subsets) for subsets in zip(*found, strict=True)))


def _tensors(net: AssistedNet, values: np.ndarray) -> Tensor:
    device = next(net.parameters()).device
    made = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    return made if values.dtype != np.uint8 else made.permute(0, 3, 1, 2).float() / 255


def _optimise(net, images, labels, diagnosis, how, drawn) -> tuple[np.ndarray, ...]:
    """Optimise one lot of images; each is by itself, for their losses are added."""
    generator, steps, rate = how
    given, masks = labels[:, :, 0, 0] >= 0, labels.clamp_min(0).float()
    diagnosis = diagnosis.to(images.device)
    n, raters, *size = masks.shape
    maps = GENERATORS[generator](n, raters, tuple(size), drawn).to(images.device)
    optimizer = torch.optim.Adam(maps.parameters(), lr=rate)
    before = _loss(net, images, fuse_by_expertness(maps(), masks, given)[0], diagnosis)
    for _ in range(steps):
        optimizer.zero_grad()
        fused, _ = fuse_by_expertness(maps(), masks, given)
        shown = jitter(images, fused, drawn) if generator == "robust" else (images, fused)
        _loss(net, *shown, diagnosis).sum().backward()
        optimizer.step()
    with torch.no_grad():
        fused, weights = fuse_by_expertness(maps(), masks, given)
        after = _loss(net, images, fused, diagnosis)
    subsets = (weights, fused.clamp(0, 1), before.detach(), after)  # a sum of weights is rounded
    return tuple(subset.float().cpu().numpy() for subset in subsets)


def _loss(net: AssistedNet, images: Tensor, fused: Tensor, diagnosis: Tensor) -> Tensor:
    logits = net(images, fused)["diagnosis"]
    return F.binary_cross_entropy_with_logits(logits, diagnosis, reduction="none")
