"""Where attribution lies, beside where it would lie if it were unrelated to the image.

Regions are where annotators agree, where the border is and where they differ, at the size and
aspect ratio of the network's input.

Two kinds of chance: attribution spread evenly has the region's area as its share. And a network may
attend to the middle of every image, where lesions are, so that a map is also compared with the
mean map of the *other* images.
"""

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
CHANCES = ("area", "others")


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one image, as boolean arrays of shape (S, S).

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
        Mask of each annotator.
    """

    lesion: np.ndarray
    band: np.ndarray
    disagreement: np.ndarray | None
    cause: np.ndarray | None
    masks: tuple[np.ndarray, ...]

    def named(self) -> dict[str, np.ndarray]:
        """Return those of :data:`REGIONS` that exist and are not empty."""
        regions = {name: getattr(self, name) for name in REGIONS}
        return {name: each for name, each in regions.items() if each is not None and each.any()}


def make_regions(masks: Sequence[np.ndarray], band: float = BAND, cause=None) -> Regions:
    """Derive the regions of an image from its masks.

    Parameters
    ----------
    masks : sequence of numpy.ndarray of bool, shape (S, S)
        At least one.
    band : float
        Half the width of the border band, as a share of the side.
    cause : numpy.ndarray of bool, optional
        Kept as it is.
    """
    masks = tuple(np.asarray(mask, bool) for mask in masks)
    if not masks or not 0 < band < 1:
        problem = f"{len(masks)} masks and a band of {band}"
        raise ExplainError("regions", problem, "give at least one mask and a band in (0, 1)")
    stack, several = np.stack(masks), len(masks) > 1
    lesion = majority_vote(stack) if several else masks[0]
    near = border_distance(lesion) <= band * lesion.shape[0]
    differ = stack.any(axis=0) & ~stack.all(axis=0) if several else None
    return Regions(lesion, near, differ, cause, masks)


def border_distance(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the border of a mask, in pixels; infinite without one."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf)
    inside, outside = (ndimage.distance_transform_edt(each) for each in (mask, ~mask))
    return inside + outside - 0.5  # the border runs between two pixels


def usable_images(cohort: Cohort) -> pd.Index:
    """List the images with a file and at least one mask file that fits it."""
    masks = cohort.masks.dropna(subset="path").groupby("image_id")["path"].first()
    both = cohort.images[["path", "geometry"]].assign(mask=masks).dropna(subset=["path", "mask"])
    rows = both.itertuples(index=False)
    kept = [fits(image_size(r.path), image_size(r.mask), r.geometry) for r in rows]
    return pd.Index(both.index[np.array(kept, bool)], name="image_id")


def read_regions(cohort: Cohort, image_id: str, size: int, band: float = BAND) -> Regions:
    """Read the masks of one image and derive its regions.

    Parameters
    ----------
    cohort : Cohort
        Of a phantom, ``extras["truth"]`` defines the cause of disagreement.
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
    paths = cohort.masks.loc[cohort.masks["image_id"] == image_id, "path"].dropna()
    if paths.empty:
        raise ExplainError(f"image {image_id!r}", "has no mask here", "explain another")
    values, shape = LabelValues.of(cohort), (size, size)
    masks = [read_labels(path, shape, values) > 0 for path in paths]
    if len(set(mask_sizes(paths.to_dict()).values())) > 1:
        problem = "has masks of different sizes"
        raise ExplainError(f"image {image_id!r}", problem, "replace the one that does not fit")
    cause = None
    if "ambiguity" in cohort.extras.get("truth", ()):
        row = cohort.extras["truth"].loc[image_id]
        truth = read_labels(row["path"], shape, values) > 0
        cause = ambiguous_zone(truth, row["ambiguity"], row["halo"])
    return make_regions(masks, band, cause)


def ambiguous_zone(truth: np.ndarray, ambiguity: float, halo: float) -> np.ndarray:
    """Return where a phantom's picture leaves the border of the lesion open.

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
    radius, distance = np.sqrt(truth.sum() / np.pi), border_distance(truth)
    inner = max(ambiguity * radius, 1.0)
    outer = max(inner, (np.exp(halo) - 1) * radius)
    return np.where(truth, distance <= inner, distance <= outer)


_RATIO = ("n", "share", "chance", "ratio", "ci_low", "ci_high", "pointing")


def shares(heat: np.ndarray, region: np.ndarray) -> float:
    """Return the share of a map (S, S), not negative, in a region; NaN of an empty map."""
    total = float(heat.sum())
    return float(heat[region].sum()) / total if total > 0 else float("nan")


def half_area(heat: np.ndarray) -> float:
    """Return the smallest share of the image that holds half of a map; NaN of an empty map.

    0.5 is a map without any structure; the smaller, the more concentrated.
    """
    values = np.sort(heat, axis=None)[::-1].astype(float)
    total = values.sum()
    reached = int(np.searchsorted(values.cumsum(), total / 2)) + 1
    return reached / values.size if total > 0 else float("nan")


def hit(heat: np.ndarray, region: np.ndarray) -> float:
    """Play the pointing game: 1 if the largest value lies in the region, else 0.

    Where several pixels share the largest value, the share of them that do.
    """
    return float(region[heat == heat.max()].mean()) if heat.max() > 0 else float("nan")


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
    measures = {"half_area": half_area(heat)}
    for name, region in regions.items():
        measures[f"share_{name}"] = shares(heat, region)
        measures[f"area_{name}"] = float(region.mean())
        measures[f"hit_{name}"] = hit(heat, region)
    return measures


class OtherMaps:
    """The mean map of all images but one, of equal weight each, without keeping them."""

    def __init__(self):
        self.total: np.ndarray | float = 0.0
        self.n = 0

    def add(self, heat: np.ndarray) -> None:
        """Add a map; an empty one does not count."""
        if heat.sum() > 0:
            self.total = self.total + heat / heat.sum(dtype=float)
            self.n += 1

    def share(self, region: np.ndarray, own: float) -> float:
        """Return the share of the other images' mean map in a region.

        Parameters
        ----------
        region : numpy.ndarray of bool, shape (S, S)
        own : float
            Share of the image's own map, which was added before; NaN if it was empty.
        """
        others = self.n - (not np.isnan(own))
        if others < 1:
            return float("nan")
        return float((self.total[region].sum() - np.nan_to_num(own)) / others)


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
        One row per image, target and method, with the columns of :func:`measure`, ``image_id``,
        ``cluster`` (patient) and ``others_<region>`` (see :class:`OtherMaps`). Rows of one image
        and group, as of several networks, are averaged first.
    chance : {"area", "others"}
        Reference of the share.
    by : sequence of str
        Columns that define groups.
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
        by_image = group.groupby("image_id")
        for region in (name for name in REGIONS if f"share_{name}" in group):
            columns = [f"share_{region}", f"{chance}_{region}", f"hit_{region}"]
            images = by_image[columns].mean().dropna()
            if len(images):
                clusters = by_image["cluster"].first()[images.index].to_numpy()
                found[(*key, region)] = _ratio(*images.to_numpy().T, clusters, n_boot, seed)
    return grouped_table(found, [*by, "region"], _RATIO)


def grouped_table(
    found: Mapping[tuple[str, ...], Mapping[str, float]],
    names: Sequence[str],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Put rows by group into a table that has its index and columns even without rows."""
    levels = list(zip(*found, strict=True)) or [[] for _ in names]
    index = pd.MultiIndex.from_arrays(levels, names=names)
    return pd.DataFrame(list(found.values()), index=index, columns=list(columns))


def _ratio(share, chance, hits, clusters, n_boot: int, seed: int) -> dict[str, float]:
    means = {"share": share.mean(), "chance": chance.mean(), "pointing": hits.mean()}
    row = dict.fromkeys(_RATIO, float("nan")) | {"n": len(share)} | means

    def ratio(weights: np.ndarray) -> np.ndarray:
        below = weights @ chance
        return np.divide(weights @ share, below, where=below > 0, out=np.full(len(below), np.nan))

    if chance.any():
        row["ratio"] = share.mean() / chance.mean()
        if len(set(clusters)) > 1:
            drawn = cluster_bootstrap(ratio, clusters, n_boot, seed)
            row |= {"ci_low": float(drawn.low), "ci_high": float(drawn.high)}
    return row
