"""Where attribution lies, beside where it would lie if it knew nothing of the image.

Two kinds of chance: attribution spread evenly has the region's area as its share. And a network may
look at the middle of every image, where lesions are, so that a map is also compared with the mean
map of the *other* images.

Where in an image annotators agree, where the border is, and where they differ.

All regions are at the size at which the network looks at the image, squashed as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from iavlib.core.errors import ExplainError
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_size
from iavlib.masks.consensus import majority_vote
from iavlib.multiannotator.cohort_sets import LabelValues, fits, mask_sizes, read_labels
from iavlib.stats.resampling import cluster_bootstrap

REGIONS = ("lesion", "band", "disagreement", "cause")
#: Half the width of the border band, as a share of the image's side.
BAND = 0.05


@dataclass(frozen=True, eq=False)
class Regions:
    """Parts of one image, as boolean arrays of shape (S, S).

    Attributes
    ----------
    lesion : numpy.ndarray
        Majority vote; of two masks their union, of one the mask.
    band : numpy.ndarray
        Pixels no further from the lesion's border than the band's half width, on both sides.
    disagreement : numpy.ndarray or None
        Pixels that some annotators marked and others did not; None with a single mask.
    cause : numpy.ndarray or None
        Of a phantom, where its border was drawn ambiguous.
    masks : tuple of numpy.ndarray
        What each annotator marked.
    """

    lesion: np.ndarray
    band: np.ndarray
    disagreement: np.ndarray | None
    cause: np.ndarray | None
    masks: tuple[np.ndarray, ...]

    def named(self) -> dict[str, np.ndarray]:
        """Give those of :data:`REGIONS` that there are and that are not empty."""
        every = {name: getattr(self, name) for name in REGIONS}
        return {name: one for name, one in every.items() if one is not None and one.any()}


def make_regions(masks: Sequence[np.ndarray], band: float = BAND, cause=None) -> Regions:
    """Derive the regions of an image from its masks.

    Parameters
    ----------
    masks : sequence of numpy.ndarray of bool, shape (S, S)
        At least one.
    band : float
        Half the width of the border band, as a share of the side.
    cause : numpy.ndarray of bool, optional
        Taken over as it is.
    """
    masks = tuple(np.asarray(one, bool) for one in masks)
    if not masks or not 0 < band < 1:
        told = f"{len(masks)} masks and a band of {band}"
        raise ExplainError("regions", told, "give at least one mask and a band in (0, 1)")
    stack = np.stack(masks)
    lesion = majority_vote(stack) if len(masks) > 1 else masks[0]
    near = border_distance(lesion) <= band * lesion.shape[0]
    differ = stack.any(axis=0) & ~stack.all(axis=0) if len(masks) > 1 else None
    return Regions(lesion, near, differ, cause, masks)


def border_distance(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the border of a mask, in pixels; infinite without one."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf)
    inside, outside = (ndimage.distance_transform_edt(one) for one in (mask, ~mask))
    return inside + outside - 0.5  # the border runs between two pixels


def usable_images(cohort: Cohort) -> pd.Index:
    """List the images with a file over which at least one mask at hand lies."""
    here = cohort.images[cohort.images["path"].notna()]
    masks = cohort.masks[cohort.masks["path"].notna()].groupby("image_id")["path"]
    both = here[["path", "geometry"]].assign(mask=masks.first()).dropna(subset="mask")
    kept = [
        row.Index
        for row in both.itertuples()
        if fits(image_size(row.path), image_size(row.mask), row.geometry)
    ]
    return pd.Index(kept, name="image_id")


def read_regions(cohort: Cohort, image_id: str, size: int, band: float = BAND) -> Regions:
    """Read the masks of one image and derive its regions.

    Parameters
    ----------
    cohort : Cohort
        Of a phantom, ``extras["truth"]`` tells the cause of disagreement.
    image_id : str
        One of :func:`usable_images`.
    size : int
        Side to which masks are squashed, by nearest neighbour.
    band : float
        See :func:`make_regions`.

    Raises
    ------
    ExplainError
        If the image has no mask here.
    DataError
        If a file is no mask.
    """
    own = cohort.masks[(cohort.masks["image_id"] == image_id) & cohort.masks["path"].notna()]
    if own.empty:
        raise ExplainError(f"image {image_id!r}", "has no mask here", "explain another")
    values, shape = LabelValues.of(cohort), (size, size)
    masks = [read_labels(path, shape, values) > 0 for path in own["path"]]
    if len(set(mask_sizes(own["path"].to_dict()).values())) > 1:
        told = "has masks of different sizes"
        raise ExplainError(f"image {image_id!r}", told, "replace the one that does not fit")
    cause = None
    if "ambiguity" in cohort.extras.get("truth", ()):
        facts = cohort.extras["truth"].loc[image_id]
        truth = read_labels(facts["path"], shape, values) > 0
        cause = ambiguous_zone(truth, facts["ambiguity"], facts["halo"])
    return make_regions(masks, band, cause)


def ambiguous_zone(truth: np.ndarray, ambiguity: float, halo: float) -> np.ndarray:
    """Return where a phantom's picture leaves open what belongs to the lesion.

    Parameters
    ----------
    truth : numpy.ndarray of bool, shape (S, S)
    ambiguity : float
        Width of the border in units of log radius: the colour of the lesion fades in over it.
    halo : float
        Log radius by which the faint outer zone exceeds the border; 0 without one.

    Returns
    -------
    numpy.ndarray of bool
        Within the ambiguity (times the lesion's mean radius, but at least a pixel) of the border,
        and the halo.
    """
    radius = np.sqrt(truth.sum() / np.pi)
    distance = border_distance(truth)
    inner = max(ambiguity * radius, 1.0)
    outer = max(inner, (np.exp(halo) - 1) * radius)
    return np.where(truth, distance <= inner, distance <= outer)


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
        By names of :data:`iavlib.explain.localisation.REGIONS`; those left out are not measured.

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
