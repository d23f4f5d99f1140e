"""Does a map explain the network? Pixels are covered in its order, learned weights destroyed.

Does a network need what a map points at? Pixels are covered, or uncovered, in its order. And is
the map about what the network has learned? Its weights are shuffled, and maps compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.explain.attribution import Target, displayed, enlarge, mean_colour
from iavlib.models.network import Network
from iavlib.training.optimisation import backbone_stages
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


#: Maps that still resemble each other more than this, by rank correlation, once nothing learnt is
#: left are of the image, not of the network.
ALIKE = 0.5


def in_cells(maps: np.ndarray, cells: int = CELLS) -> np.ndarray:
    """Average maps (B, h, w) within cells: (B, cells, cells).

    Methods differ in how fine their maps are; what is compared is where they point.
    """
    size = -(-max(maps.shape[1], cells) // cells) * cells  # a multiple, so that cells are equal
    large = enlarge(maps, size)
    return large.reshape(len(maps), cells, size // cells, cells, -1).mean(axis=(2, 4))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two maps over pixels; NaN where one has a single value."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def structural(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity (SSIM) of two maps (S, S), each scaled from 0 to 1."""
    from skimage.metrics import structural_similarity  # slow to import

    one, other = displayed(np.stack([first, second])).astype(float)
    window = min(7, one.shape[0] - 1 + one.shape[0] % 2)
    return float(structural_similarity(one, other, data_range=1.0, win_size=window))


def randomised(network: Network, seed: int = 0) -> Iterator[tuple[str, Network]]:
    """Destroy what a network has learnt, from the heads down, stage by stage.

    The entries of each weight are dealt out anew within their tensor, so that sizes stay as they
    were and nothing learnt does; normalisations keep their statistics. Heads first, then stages as
    :func:`iavlib.training.optimisation.backbone_stages` lists them, the last first.

    Parameters
    ----------
    network : Network
        Left as it is.
    seed : int

    Yields
    ------
    str
        What was destroyed last.
    Network
        One and the same, destroyed further each time.
    """
    generator = torch.Generator().manual_seed(seed)
    broken = copy.deepcopy(network)
    stages = backbone_stages(broken.backbone)
    _shuffle(broken.heads, generator)
    yield "heads", broken
    for number in reversed(range(len(stages))):
        for subset in stages[number]:
            _shuffle(subset, generator)
        yield f"stage {number + 1}", broken


def _shuffle(subset: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for weight in subset.parameters():
            if weight.ndim > 1:
                flat = weight.flatten()
                order = torch.randperm(len(flat), generator=generator).to(weight.device)
                weight.copy_(flat[order].reshape(weight.shape))


def cascade(
    network: Network, explain: Callable[[Network], dict[str, np.ndarray]], seed: int = 0
) -> pd.DataFrame:
    """Compare maps of a network with those of networks that are destroyed step by step.

    Parameters
    ----------
    network : Network
    explain : callable
        Network to maps by method, each of shape (B, h, w), with their signs.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row a stage and method, in the order of destruction: ``stage``, ``method``, ``spearman``
        and ``ssim`` (means over images; an image whose map became flat does not count, and the
        mean of none is 0: nothing is left of it).

    References
    ----------
    Adebayo, J. et al. (2018). Sanity checks for saliency maps. NeurIPS.
    """
    before, rows = explain(network), []
    for stage, broken in randomised(network, seed):
        for method, maps in explain(broken).items():
            both = in_cells(before[method]), in_cells(maps)
            rows.append({"stage": stage, "method": method} | _alike(*both))
    return pd.DataFrame(rows)


def _alike(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    pairs = list(zip(before, after, strict=True))
    ranks = np.array([rank_correlation(*pair) for pair in pairs])
    known = ranks[np.isfinite(ranks)]
    ssim = float(np.mean([structural(*pair) for pair in pairs]))
    return {"spearman": float(known.mean()) if len(known) else 0.0, "ssim": ssim}


def method_agreement(maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare methods on the same images.

    Parameters
    ----------
    maps : dict of str to numpy.ndarray, shape (B, h, w)
        With their signs, each as fine as it is.

    Returns
    -------
    pandas.DataFrame
        Mean rank correlation over images (NaN where no pair has one), methods by methods.
    """
    found = pd.DataFrame(np.nan, list(maps), list(maps))
    cells = {method: in_cells(one) for method, one in maps.items()}
    for first in cells:
        for second in cells:
            pairs = zip(cells[first], cells[second], strict=True)
            ranks = [rank_correlation(*pair) for pair in pairs]
            known = [one for one in ranks if np.isfinite(one)]
            if known:
                found.loc[first, second] = float(np.mean(known))
    return found
