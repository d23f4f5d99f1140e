"""Is a predicted agreement map right about how many annotators mark a pixel?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed share of annotators.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a bin of predicted shares that holds pixels: ``low``, ``high`` (the bin), ``n``
        (pixels), ``predicted`` and ``observed`` (means within it).
    error : float
        Expected calibration error: the mean over pixels of the distance between the two means of
        their bin.
    largest : float
        The largest of those distances.
    """

    table: pd.DataFrame
    error: float
    largest: float


def reliability(
    predicted: np.ndarray,
    observed: np.ndarray,
    bins: int | Sequence[float] = 10,
    where: Literal["disputed", "all"] = "disputed",
    threshold: float = 0.01,
) -> Reliability:
    """Compare predicted agreement maps with the annotators' own.

    Parameters
    ----------
    predicted : array_like of float in [0, 1]
        Predicted share of the annotators who mark each pixel.
    observed : array_like of float in [0, 1], same shape
        Share of them who did.
    bins : int or sequence of float
        Bins of one width, or their edges from 0 to 1. A value on an edge belongs to the bin
        above; 1 to the last.
    where : {"disputed", "all"}
        Which pixels count: those where prediction or annotators are not certainly outside, or
        all. Counting all makes any map of a small structure well calibrated, by its background.
    threshold : float
        From which prediction a pixel counts as disputed though nobody marked it.

    Raises
    ------
    ValueError
        If shapes differ, values are NaN or not within [0, 1], edges do not rise from 0 to 1, or
        no pixel counts.
    """
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    if predicted.shape != observed.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {observed.shape}")
    for name, values in (("predicted", predicted), ("observed", observed)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} shares are not all within [0, 1]")
    if where not in ("disputed", "all"):
        raise ValueError(f"where is 'disputed' or 'all', not {where!r}")
    edges = np.linspace(0, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, float)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or (np.diff(edges) <= 0).any():
        raise ValueError("edges of bins must rise from 0 to 1")
    counted = np.ones(predicted.shape, bool)
    if where == "disputed":
        counted = (predicted >= threshold) | (observed > 0)
    if not counted.any():
        raise ValueError("no pixel counts: nobody marked any, and none is predicted")
    return _binned(predicted[counted], observed[counted], edges)


def _binned(predicted: np.ndarray, observed: np.ndarray, edges: np.ndarray) -> Reliability:
    # Rounding must not take a share such as 0.3 out of the bin that begins there.
    places = np.searchsorted(edges, predicted + 1e-9, side="right") - 1
    places = np.clip(places, 0, len(edges) - 2)
    n = np.bincount(places, minlength=len(edges) - 1)
    filled = n > 0
    means = [
        np.bincount(places, values, len(edges) - 1)[filled] / n[filled]
        for values in (predicted, observed)
    ]
    table = pd.DataFrame(
        {
            "low": edges[:-1][filled],
            "high": edges[1:][filled],
            "n": n[filled],
            "predicted": means[0],
            "observed": means[1],
        }
    )
    away = np.abs(means[0] - means[1])
    return Reliability(table, float(np.average(away, weights=n[filled])), float(away.max()))
