"""Confusion matrices of annotators, in each pixel, as part of a network (Zhang et al. 2023).

``A[k, j]`` is the probability that an annotator gives class k to a pixel whose true class is j:
**columns are true classes and sum to one**. With p(x) the probabilities of the true class, the
annotator's label has the probabilities A(x) p(x).

All forms give tensors (B, R, C, C, H, W) of images, annotators, given class, true class and
pixels; forms that do not depend on image or pixel have axes of length one there.

Rank-l factors alone cannot do what they are for when l is 1: every column of the product of a
column and a row, divided by its sum, is the same, so that labels would not depend on the truth.
The released code therefore adds a multiple of the identity before it normalises; so do we, and
``residual=False`` leaves it out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ModelError

#: Keeps sums of columns away from 0.
LEAST = 1e-6


def apply_confusion(confusion: Tensor, probabilities: Tensor) -> Tensor:
    """Compute what annotators would say: (B, R, C, H, W), from A and p of (B, C, H, W)."""
    return (confusion * probabilities[:, None, None]).sum(3)


def mean_trace(confusion: Tensor, at_most: float = 1.0) -> Tensor:
    """Return the trace of each image's and annotator's matrices, averaged over pixels: (B, R).

    Elements of the diagonal count for `at_most` where they are above it.
    """
    diagonal = confusion.diagonal(dim1=2, dim2=3)  # B, R, H, W, C
    return diagonal.clamp_max(at_most).sum(-1).mean((2, 3))


def normalise_columns(positive: Tensor) -> Tensor:
    """Divide columns (axis 2 of B, R, C, C, H, W) by their sums."""
    positive = positive + LEAST
    return positive / positive.sum(2, keepdim=True)


def confusion_entries(width: int, height: int, classes: int, rank: int | None = None) -> int:
    """Count the numbers that describe one annotator's matrices of one image (Table 4).

    Parameters
    ----------
    width, height, classes : int
    rank : int, optional
        Of the low-rank form; the full matrices unless given.
    """
    return width * height * (classes**2 if rank is None else 2 * classes * rank)


def confusion_flops(width: int, height: int, classes: int, rank: int | None = None) -> int:
    """Count the operations of applying one annotator's matrices to one image (Table 4).

    The full product takes L multiplications and L - 1 additions for each of L classes; the
    published count of the low-rank form is 4 L (l - 0.25) - l a pixel.
    """
    if rank is None:
        return width * height * (2 * classes - 1) * classes
    return width * height * (4 * classes * rank - classes - rank)


class _Head(nn.Module):
    """From features to some positive maps an annotator, shared up to the last layers."""

    def __init__(self, features: int, annotators: int, maps: int, blocks: int):
        super().__init__()
        self.annotators, self.maps = annotators, maps
        layers: list[nn.Module] = []
        inputs, groups = features, 1
        for _ in range(blocks):
            outputs = annotators * features
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, groups=groups),
                nn.InstanceNorm2d(outputs, affine=True),
                nn.LeakyReLU(0.01),
            ]
            inputs, groups = outputs, annotators
        layers.append(nn.Conv2d(inputs, annotators * maps, 1, groups=groups))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return F.softplus(self.layers(features)).unflatten(1, (self.annotators, self.maps))

    def start_at(self, values: Tensor) -> None:
        """Let the maps (of shape ``maps``) start near these positive values, in every pixel."""
        last = self.layers[-1]
        with torch.no_grad():
            last.bias.copy_(torch.log(torch.expm1(values)).repeat(self.annotators))


class PixelConfusion(nn.Module):
    """A matrix an annotator and pixel.

    Parameters
    ----------
    features, annotators, classes : int
    blocks : int
        3 x 3 convolutions of each annotator's own before the last one; 0 as the paper's text (all
        but the last layer are shared), 4 as its released code.
    diagonal : float, optional
        Where the diagonal starts, in (0, 1); anywhere near 1 / classes unless given.
    """

    def __init__(self, features, annotators, classes, blocks: int = 0, diagonal=None):
        super().__init__()
        self.classes = classes
        self.head = _Head(features, annotators, classes**2, blocks)
        if diagonal is not None:
            self.head.start_at(_near_identity(classes, diagonal).flatten())

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, R, C, C, H, W) of features (B, F, H, W)."""
        positive = self.head(features).unflatten(2, (self.classes, self.classes))
        return normalise_columns(positive)


class LowRankConfusion(nn.Module):
    """A matrix an annotator and pixel, of two factors of a low rank and a multiple of identity.

    Parameters
    ----------
    features, annotators, classes, rank : int
    blocks : int
        As for :class:`PixelConfusion`.
    residual : bool
        Whether the multiple of identity is there, as in the released code but not in the paper.
    """

    def __init__(self, features, annotators, classes, rank=1, blocks=0, residual: bool = True):
        super().__init__()
        if not 1 <= rank <= classes:
            raise ModelError(
                f"rank {rank} of a {classes} x {classes} matrix: 1 to {classes} can be"
            )
        self.classes, self.rank, self.residual = classes, rank, residual
        self.head = _Head(features, annotators, 2 * classes * rank + residual, blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, R, C, C, H, W) of features (B, F, H, W)."""
        maps, half = self.head(features), self.classes * self.rank
        given = maps[:, :, :half].unflatten(2, (self.classes, self.rank))
        true = maps[:, :, half : 2 * half].unflatten(2, (self.rank, self.classes))
        # An einsum would multiply tiny matrices one pixel at a time, which takes far longer.
        product = (given.unsqueeze(4) * true.unsqueeze(2)).sum(3)
        if self.residual:
            identity = torch.eye(self.classes, device=maps.device)[..., None, None]
            product = product + maps[:, :, -1, None, None] * identity
        return normalise_columns(product)


class GlobalConfusion(nn.Module):
    """One matrix an annotator, for all images and pixels; before softplus it starts as identity.

    With that start, of the released code, the diagonal is .65 with two classes, .39 with four.
    Its numbers move ten times as fast as others at the same learning rate: each of them alone has
    to go from 0 to where softplus is nearly nothing, and a short training would end on the way.
    """

    SPEED = 10.0

    def __init__(self, annotators: int, classes: int, diagonal: float | None = None):
        super().__init__()
        start = torch.eye(classes)
        if diagonal is not None:
            start = torch.log(torch.expm1(_near_identity(classes, diagonal)))
        self.raw = nn.Parameter(start.repeat(annotators, 1, 1) / self.SPEED)

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, R, C, C, 1, 1)."""
        matrices = normalise_columns(F.softplus(self.raw * self.SPEED)[None, ..., None, None])
        return matrices.expand(len(features), -1, -1, -1, -1, -1)


class FixedConfusion(nn.Module):
    """Matrices that are known and not learnt; identity until :meth:`set` is called."""

    def __init__(self, annotators: int, classes: int):
        super().__init__()
        self.register_buffer("matrices", torch.eye(classes).repeat(annotators, 1, 1))

    def set(self, matrices) -> None:
        """Take matrices (R, C, C); a column of NaN (a class that never occurs) stays identity."""
        given = torch.as_tensor(matrices, dtype=self.matrices.dtype)
        self.matrices.copy_(torch.where(given.isnan(), self.matrices.cpu(), given))

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, R, C, C, 1, 1)."""
        return self.matrices[None, ..., None, None].expand(len(features), -1, -1, -1, -1, -1)


def _near_identity(classes: int, diagonal: float) -> Tensor:
    if not 0 < diagonal < 1 or math.isclose(diagonal, 1):
        raise ModelError(f"a diagonal starts within (0, 1), not at {diagonal}")
    others = (1 - diagonal) / (classes - 1)
    return torch.full((classes, classes), others) + (diagonal - others) * torch.eye(classes)
