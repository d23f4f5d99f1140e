"""DF-GT: raters' masks fused by the expertness that makes a diagnosis net right.

Raters' maps m are brought to weights by a softmax over raters, and the fused mask is
:math:`\\sum_i \\mathrm{softmax}(m)_i\\, s_i`. A frozen net diagnoses image and fused mask, and m
is moved to where its loss is *lower*. The paper prints Eq. 4 with the sign of a step uphill.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.diagnosis_first.assisted import AssistedNet
from iavlib.diagnosis_first.errors import DiagnosisFirstError
from iavlib.diagnosis_first.generators import GENERATORS, STEP_SIZES, jitter
from iavlib.training.predict import evaluating

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
        Name in :data:`iavlib.diagnosis_first.GENERATORS`.
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
    return Expertness(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


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
    parts = (weights, fused.clamp(0, 1), before.detach(), after)  # a sum of weights is rounded
    return tuple(part.float().cpu().numpy() for part in parts)


def _loss(net: AssistedNet, images: Tensor, fused: Tensor, diagnosis: Tensor) -> Tensor:
    logits = net(images, fused)["diagnosis"]
    return F.binary_cross_entropy_with_logits(logits, diagnosis, reduction="none")
