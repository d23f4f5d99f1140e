"""Attribution that looks at no feature map: integrated gradients, and covering parts of the image.

Both compare an image with one of a single colour, its own mean. They check what class activation
maps say, which share one feature map and with it their mistakes.

Does a network need what a map points at? Pixels are covered, or uncovered, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.core.errors import ExplainError
from iavlib.explain.cam import Target, frozen
from iavlib.models.network import Network
from iavlib.training.predict import evaluating

INTEGRATED, OCCLUSION = "integrated gradients", "occlusion"


def mean_colour(images: Tensor) -> Tensor:
    """Return images (B, 3, S, S) of one colour each, the mean of the image given."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def integrated_gradients(
    network: Network, images: Tensor, target: Target, steps: int = 16, batch_size: int = 32
) -> np.ndarray:
    """Integrate the gradient along the straight way from the mean colour to the image.

    Parameters
    ----------
    network : Network
    images : torch.Tensor of shape (B, 3, S, S)
        Normalised.
    target : Target
    steps : int
        Points of the way, in the middles of equal pieces.
    batch_size : int
        Points computed at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (B, S, S)
        Summed over colours. The sum over an image is, but for the error of integration, the
        difference of the target's score between the image and its mean colour.

    References
    ----------
    Sundararajan, M., Taly, A. and Yan, Q. (2017). Axiomatic attribution for deep networks. ICML.
    """
    if steps < 1:
        raise ExplainError(f"steps = {steps}", "leave nothing to integrate", "give 1 or more")
    found = np.empty((len(images), *images.shape[2:]), np.float32)
    along = (torch.arange(steps, device=images.device) + 0.5) / steps
    with evaluating(network), frozen(network), torch.enable_grad():
        for number, image in enumerate(images):
            base = mean_colour(image[None])[0]
            total = torch.zeros_like(image)
            for piece in along.split(batch_size):
                points = base + piece[:, None, None, None] * (image - base)
                points = points.detach().requires_grad_()
                score = target.score(network(points)).sum()
                total += torch.autograd.grad(score, points)[0].sum(dim=0)
            found[number] = ((image - base) * total / steps).sum(dim=0).cpu().numpy()
    return found


def occlusion(
    network: Network,
    images: Tensor,
    target: Target,
    window: float = 0.25,
    overlap: int = 2,
    batch_size: int = 64,
) -> np.ndarray:
    """Cover a window of the image with its mean colour, everywhere in turn.

    Parameters
    ----------
    network, images, target
        As for :func:`integrated_gradients`.
    window : float
        Side of the window as a share of the image's.
    overlap : int
        Windows that lie over a pixel in each direction.
    batch_size : int
        Covered images computed at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (B, S, S)
        By how much the score falls where a pixel is covered, the mean over windows that cover it.
    """
    size = images.shape[-1]
    side = max(1, round(window * size))
    step = max(1, side // max(1, overlap))
    starts = sorted({*range(0, size - side + 1, step), size - side})
    corners = [(top, left) for top in starts for left in starts]
    found = np.zeros((len(images), size, size), np.float32)
    seen = np.zeros((size, size), np.float32)
    for top, left in corners:
        seen[top : top + side, left : left + side] += 1
    with evaluating(network), torch.inference_mode():
        whole = target.score(network(images)).cpu()
        for number, image in enumerate(images):
            base = mean_colour(image[None])[0]
            for first in range(0, len(corners), batch_size):
                chosen = corners[first : first + batch_size]
                covered = image.repeat(len(chosen), 1, 1, 1)
                for row, (top, left) in zip(covered, chosen, strict=True):
                    place = (..., slice(top, top + side), slice(left, left + side))
                    row[place] = base[place]
                fall = whole[number] - target.score(network(covered)).cpu()
                for value, (top, left) in zip(fall.tolist(), chosen, strict=True):
                    found[number, top : top + side, left : left + side] += value
    return found / seen


#: Cells in each direction that are taken away together.
CELLS = 14


@dataclass(frozen=True, eq=False)
class Curves:
    """How the score of a target changes.

    Attributes
    ----------
    deletion : numpy.ndarray, shape (steps + 1,)
        Score after the first 0, 1/steps ... 1 of the image was covered, most important first.
    insertion : numpy.ndarray, shape (steps + 1,)
        Score after so much was uncovered.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> float:
        """Mean of the deletion curve; the lower, the more the network needs what went first."""
        return float(np.trapezoid(self.deletion, dx=1 / (len(self.deletion) - 1)))

    @property
    def insertion_area(self) -> float:
        """Mean of the insertion curve; the higher, the more is in what came first."""
        return float(np.trapezoid(self.insertion, dx=1 / (len(self.insertion) - 1)))


def deletion_insertion(
    network: Network, image: Tensor, target: Target, order: np.ndarray, steps: int = 10
) -> Curves:
    """Cover an image cell by cell with its mean colour, and uncover it in the same order.

    Parameters
    ----------
    network : Network
    image : torch.Tensor of shape (3, S, S)
        Normalised.
    target : Target
    order : numpy.ndarray of int
        All cells (row times cells in a row plus column), most important first; as from
        :func:`cell_order` or a random permutation.
    steps : int
        Points of the curves after the first.

    Returns
    -------
    Curves

    References
    ----------
    Petsiuk, V., Das, A. and Saenko, K. (2018). RISE: randomized input sampling for explanation of
    black-box models. BMVC.
    """
    cells, size = round(len(order) ** 0.5), image.shape[-1]
    counts = np.linspace(0, len(order), steps + 1).round().astype(int)
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    gone = torch.from_numpy(rank[None] < counts[:, None]).reshape(-1, 1, cells, cells)
    gone = F.interpolate(gone.float(), (size, size), mode="nearest").to(image)
    base = mean_colour(image[None])
    covered = image * (1 - gone) + base * gone
    uncovered = image * gone + base * (1 - gone)
    with evaluating(network), torch.inference_mode():
        scores = target.score(network(torch.cat([covered, uncovered]))).double().cpu().numpy()
    return Curves(scores[: steps + 1], scores[steps + 1 :])


def cell_order(heat: np.ndarray, cells: int = CELLS) -> np.ndarray:
    """Order the cells of a map (S, S) by their mean, largest first; ties as they are read."""
    given = torch.from_numpy(np.ascontiguousarray(heat, np.float32))[None, None]
    means = F.adaptive_avg_pool2d(given, min(cells, heat.shape[0])).flatten().numpy()
    return np.argsort(-means, kind="stable")
