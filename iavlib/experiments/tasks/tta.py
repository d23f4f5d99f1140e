"""Predictions averaged over the ways in which a photograph of skin can be turned.

A lesion has no top: the image turned by a quarter or mirrored shows the same, and the mean of what
a network says of several such views varies less than what it says of one (test-time averaging).
"""

from __future__ import annotations

import torch
from torch import nn

#: Quarter turns and whether mirrored before; the first two, four or all eight are used.
SYMMETRIES = tuple((quarters, mirrored) for quarters in (0, 2, 1, 3) for mirrored in (False, True))
COUNTS = (1, 2, 4, 8)


def turned(images: torch.Tensor, quarters: int, mirrored: bool) -> torch.Tensor:
    """Turn square images (B, 3, S, S) by quarters of a circle, mirrored left to right before."""
    if mirrored:
        images = images.flip(3)
    return images.rot90(quarters, (2, 3)) if quarters else images


class View(nn.Module):
    """A network that looks at each image turned.

    Parameters
    ----------
    network : torch.nn.Module
        Takes images (B, 3, S, S).
    quarters, mirrored : int and bool
        See :func:`turned`.
    """

    def __init__(self, network: nn.Module, quarters: int, mirrored: bool):
        super().__init__()
        self.network, self.quarters, self.mirrored = network, quarters, mirrored

    def forward(self, images: torch.Tensor):
        """Give what the network gives for the turned images."""
        return self.network(turned(images, self.quarters, self.mirrored))


class MeanOverViews(nn.Module):
    """A backbone whose features are the mean over several views of each image.

    Parameters
    ----------
    backbone : torch.nn.Module
        From images (B, 3, S, S) to a tensor.
    n : int
        One of :data:`COUNTS`.
    """

    def __init__(self, backbone: nn.Module, n: int):
        super().__init__()
        self.backbone, self.n = backbone, n

    def extra_repr(self) -> str:
        """Tell how many views: features of another number are kept apart by it."""
        return f"n={self.n}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the mean of the features (B, F)."""
        views = (self.backbone(turned(images, *view)) for view in SYMMETRIES[: self.n])
        return sum(views) / self.n
