"""Where attribution lies, beside where it would lie if it knew nothing of the image.

Two kinds of chance: attribution spread evenly has the region's area as its share. And a network may
look at the middle of every image, where lesions are, so that a map is also compared with the mean
map of the *other* images.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from iavlib.explain.regions import REGIONS
from iavlib.stats.resampling import cluster_bootstrap

CHANCES = ("area", "others")
_RATIO = ("n", "share", "chance", "ratio", "ci_low", "ci_high", "pointing")


def shares(heat: np.ndarray, region: np.ndarray) -> float:
    """Return which share of a map (S, S), not negative, lies in a region; NaN of an empty map."""
    total = float(heat.sum())
    return float(heat[region].sum()) / total if total > 0 else float("nan")


def half_area(heat: np.ndarray) -> float:
    """Return the smallest share of the image that holds half of a map; NaN of an empty map.

    0.5 is a map without any structure; the smaller, the more concentrated.
    """
    values = np.sort(heat, axis=None)[::-1].astype(float)
    total = values.sum()
    if total <= 0:
        return float("nan")
    reached = int(np.searchsorted(values.cumsum(), total / 2)) + 1
    return reached / values.size


def hit(heat: np.ndarray, region: np.ndarray) -> float:
    """Play the pointing game: 1 if the largest value lies in the region, else 0.

    Where several pixels share the largest value, the share of them that do.
    """
    if heat.max() <= 0:
        return float("nan")
    return float(region[heat == heat.max()].mean())


def measure(heat: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Measure one map.

    Parameters
    ----------
    heat : numpy.ndarray, shape (S, S)
        Not negative.
    regions : mapping of str to numpy.ndarray of bool
        By names of :data:`iavlib.explain.regions.REGIONS`; those left out are not measured.

    Returns
    -------
    dict of str to float
        ``half_area``, and for each region ``share_<region>``, ``area_<region>`` and
        ``hit_<region>``.
    """
    found = {"half_area": half_area(heat)}
    for name, region in regions.items():
        found[f"share_{name}"] = shares(heat, region)
        found[f"area_{name}"] = float(region.mean())
        found[f"hit_{name}"] = hit(heat, region)
    return found


class OtherMaps:
    """The mean map of all images but one, of equal weight each, without keeping them."""

    def __init__(self):
        self.total: np.ndarray | float = 0.0
        self.n = 0

    def add(self, heat: np.ndarray) -> None:
        """Count a map in; an empty one does not count."""
        if heat.sum() > 0:
            self.total = self.total + heat / heat.sum(dtype=float)
            self.n += 1

    def share(self, region: np.ndarray, own: float) -> float:
        """Return the share of the other images' mean map in a region.

        Parameters
        ----------
        region : numpy.ndarray of bool, shape (S, S)
        own : float
            Share of the image's own map, which was counted in; NaN if it was empty.
        """
        others = self.n - (own == own)
        if others < 1:
            return float("nan")
        return float((self.total[region].sum() - (own if own == own else 0)) / others)


def attribution_ratios(
    rows: pd.DataFrame,
    chance: str = "area",
    by: Sequence[str] = ("target", "method"),
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare shares of attribution with chance, over images.

    Parameters
    ----------
    rows : pandas.DataFrame
        One row an image, target and method, with the columns of :func:`measure`, ``image_id``,
        ``cluster`` (patient) and ``others_<region>`` (see :class:`OtherMaps`). Rows of one image
        and group, as of several networks, are averaged first.
    chance : {"area", "others"}
        What a share is compared with.
    by : sequence of str
        Columns whose values are measured apart.
    n_boot, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    pandas.DataFrame
        Index `by` and ``region``: ``n`` images, ``share`` and ``chance`` (means), ``ratio`` of the
        two means with ``ci_low`` and ``ci_high`` (95 %), and ``pointing`` (share of images whose
        largest value lies in the region). Regions that no image has are left out; without
        rows the table is empty.
    """
    if chance not in CHANCES:
        raise ValueError(f"chance={chance!r}: use one of {', '.join(map(repr, CHANCES))}")
    found = {}
    for key, group in rows.groupby(list(by), sort=False):
        for region in (name for name in REGIONS if f"share_{name}" in group):
            columns = [f"share_{region}", f"{chance}_{region}", f"hit_{region}"]
            clusters = group.groupby("image_id")["cluster"].first()
            images = group.groupby("image_id")[columns].mean().dropna()
            if len(images):
                values = images.to_numpy().T
                found[(*key, region)] = _ratio(*values, clusters[images.index], n_boot, seed)
    return grouped_table(found, [*by, "region"], _RATIO)


def grouped_table(
    found: Mapping[tuple[str, ...], Mapping[str, float]],
    names: Sequence[str],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Put rows by group in a table that has its index and columns even if nothing was found."""
    levels = list(zip(*found, strict=True)) or [[] for _ in names]
    index = pd.MultiIndex.from_arrays(levels, names=names)
    return pd.DataFrame(list(found.values()), index=index, columns=list(columns))


def _ratio(share, chance, hits, clusters, n_boot: int, seed: int) -> dict[str, float]:
    row = {"n": len(share), "share": share.mean(), "chance": chance.mean()}
    row |= {"ratio": share.mean() / chance.mean() if chance.any() else float("nan")}
    row |= {"ci_low": float("nan"), "ci_high": float("nan"), "pointing": hits.mean()}
    if len(set(clusters)) > 1 and chance.any():

        def ratio(weights: np.ndarray) -> np.ndarray:
            below = weights @ chance
            return np.divide(
                weights @ share, below, where=below > 0, out=np.full(len(below), np.nan)
            )

        drawn = cluster_bootstrap(ratio, clusters.to_numpy(), n_boot, seed)
        row |= {"ci_low": float(drawn.low), "ci_high": float(drawn.high)}
    return row
