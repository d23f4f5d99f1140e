"""Does a map explain the network? Pixels are covered in its order, learned weights destroyed.

Does a network need what a map points at? Pixels are covered, or uncovered, in its order. And is
the map about what the network has learned? Its weights are shuffled, and maps compared.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
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

#: Cells in each direction that are covered together.
CELLS = 14


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores of a target while an image is covered and uncovered.

    Attributes
    ----------
    deletion : numpy.ndarray, shape (steps + 1,)
        Score after the first 0, 1/steps ... 1 of the image was covered, most important first.
    insertion : numpy.ndarray, shape (steps + 1,)
        Score after the same shares were uncovered.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> float:
        """Mean of the deletion curve; the lower, the more the network needs what came first."""
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
    gone = torch.from_numpy(np.argsort(order)[None] < counts[:, None])
    gone = gone.reshape(-1, 1, cells, cells).float()
    gone = F.interpolate(gone, (size, size), mode="nearest").to(image)
    base = mean_colour(image[None])
    variants = torch.cat([image * (1 - gone) + base * gone, image * gone + base * (1 - gone)])
    with evaluating(network), torch.inference_mode():
        scores = target.score(network(variants)).double().cpu().numpy()
    return Curves(scores[: steps + 1], scores[steps + 1 :])


def cell_order(heat: np.ndarray) -> np.ndarray:
    """Order the cells of a map (S, S) by their mean, largest first; ties in reading order."""
    given = torch.from_numpy(np.ascontiguousarray(heat, np.float32))[None, None]
    means = F.adaptive_avg_pool2d(given, min(CELLS, heat.shape[0])).flatten().numpy()
    return np.argsort(-means, kind="stable")


#: Maps that still resemble each other more than this, by rank correlation, once nothing learned is
#: left depend on the image, not on the network.
ALIKE = 0.5


def in_cells(maps: np.ndarray) -> np.ndarray:
    """Average maps (B, h, w) within cells, so that maps of any resolution can be compared."""
    size = -(-max(maps.shape[1], CELLS) // CELLS) * CELLS  # a multiple, so that cells are equal
    return enlarge(maps, size).reshape(len(maps), CELLS, size // CELLS, CELLS, -1).mean(axis=(2, 4))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two maps over pixels; NaN where one has a single value."""
    flat = np.ptp(first) == 0 or np.ptp(second) == 0
    return float("nan") if flat else float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def structural(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity (SSIM) of two maps (S, S), each scaled from 0 to 1."""
    from skimage.metrics import structural_similarity  # slow to import

    maps = displayed(np.stack([first, second])).astype(float)
    window = min(7, len(first) - 1 + len(first) % 2)
    return float(structural_similarity(*maps, data_range=1.0, win_size=window))


def randomised(network: Network, seed: int = 0) -> Iterator[tuple[str, Network]]:
    """Destroy what a network has learned, from the heads down, stage by stage.

    The entries of each weight are shuffled within their tensor, so that their distribution stays
    and nothing learned does; normalisations keep their statistics. Heads first, then stages as
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
        The same object, destroyed further each time.
    """
    generator, broken = torch.Generator().manual_seed(seed), copy.deepcopy(network)

    def shuffle(modules: Iterable[nn.Module]) -> None:
        weights = (weight for module in modules for weight in module.parameters())
        with torch.no_grad():
            for weight in (weight for weight in weights if weight.ndim > 1):
                flat = weight.flatten()
                order = torch.randperm(len(flat), generator=generator).to(weight.device)
                weight.copy_(flat[order].reshape(weight.shape))

    shuffle([broken.heads])
    yield "heads", broken
    for number, stage in reversed(list(enumerate(backbone_stages(broken.backbone), 1))):
        shuffle(stage)
        yield f"stage {number}", broken


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
        One row per stage and method, in the order of destruction: ``stage``, ``method``,
        ``spearman`` and ``ssim`` (means over images; an image whose map became flat does not
        count, and the mean of none is 0: nothing is left of it).

    References
    ----------
    Adebayo, J. et al. (2018). Sanity checks for saliency maps. NeurIPS.
    """
    before = {method: in_cells(maps) for method, maps in explain(network).items()}
    rows = []
    for stage, broken in randomised(network, seed):
        for method, maps in explain(broken).items():
            pairs = list(zip(before[method], in_cells(maps), strict=True))
            ssim = float(np.mean([structural(*pair) for pair in pairs]))
            ranks = _mean_correlation(pairs)
            row = {"stage": stage, "method": method, "ssim": ssim}
            rows.append(row | {"spearman": 0.0 if np.isnan(ranks) else ranks})
    return pd.DataFrame(rows, columns=["stage", "method", "spearman", "ssim"])


def _mean_correlation(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Average rank correlations over images, without those of a flat map; NaN without any."""
    ranks = np.array([rank_correlation(*pair) for pair in pairs])
    known = ranks[np.isfinite(ranks)]
    return float(known.mean()) if len(known) else float("nan")


def method_agreement(maps: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare methods on the same images.

    Parameters
    ----------
    maps : dict of str to numpy.ndarray, shape (B, h, w)
        With their signs, each of its own resolution.

    Returns
    -------
    pandas.DataFrame
        Mean rank correlation over images (NaN where no pair has one), methods by methods.
    """
    cells = {method: in_cells(each) for method, each in maps.items()}
    names, each = list(cells), list(cells.values())
    table = [[_mean_correlation(zip(a, b, strict=True)) for b in each] for a in each]
    return pd.DataFrame(table, names, names)
