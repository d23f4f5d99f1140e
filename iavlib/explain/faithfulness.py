"""Does a network need what a map points at? Pixels are covered, or uncovered, in its order."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.explain.perturbation import mean_colour
from iavlib.explain.targets import Target
from iavlib.models.network import Network
from iavlib.training.predict import evaluating

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
