"""Attribution that looks at no feature map: integrated gradients, and covering parts of the image.

Both compare an image with one of a single colour, its own mean. They check what class activation
maps say, which share one feature map and with it their mistakes.
"""

import numpy as np
import torch
from torch import Tensor

from iavlib.explain.errors import ExplainError
from iavlib.explain.layers import frozen
from iavlib.explain.targets import Target
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
