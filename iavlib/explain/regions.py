"""Where in an image annotators agree, where the border is, and where they differ.

All regions are at the size at which the network looks at the image, squashed as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from iavlib.agreement.consensus import majority_vote
from iavlib.annotators.cohort_files import LabelValues, fits, mask_sizes, read_labels
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_size
from iavlib.explain.errors import ExplainError

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
