"""Every pair of masks of one image, sharing what each mask needs once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from iavlib.data.schemas import DISTANCE_METRICS, METRICS
from iavlib.masks.boundary import (
    FORMS,
    Form,
    as_spacing,
    assd_of,
    boundary_f1_of,
    check_tolerance,
    hd95_of,
    hd_of,
    nsd_of,
    surface_distances,
)
from iavlib.masks.overlap import dice_of, jaccard_of, kappa_of
from iavlib.masks.surfaces import PreparedMask, intersection, prepare, prepare_pair

EXTRA_METRICS = ("kappa", "nsd", "boundary_f1")


@dataclass(frozen=True)
class PairOptions:
    """What is computed for a pair of masks, and how.

    Attributes
    ----------
    form : {"pooled", "directed"}
        HD95 and ASSD over both directions' distances together, as IMA++ has them, or the larger
        directed HD95 and the mean of the directed means.
    spacing : float or (float, float)
        Size of a pixel, ``(sy, sx)``; distances are in its units.
    extra : bool
        Whether Cohen's kappa, the normalised surface Dice and the boundary F1 are added.
    tolerance : float
        Of the latter two, in units of ``spacing``.
    """

    form: Form = "pooled"
    spacing: float | tuple[float, float] = 1.0
    extra: bool = False
    tolerance: float = 2.0

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"form is one of {', '.join(FORMS)}, not {self.form!r}")
        object.__setattr__(self, "spacing", as_spacing(self.spacing))
        check_tolerance(self.tolerance)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of a pair, in order."""
        return METRICS + (EXTRA_METRICS if self.extra else ())

    def as_dict(self) -> dict:
        """Return the options as what JSON can hold."""
        return asdict(self)


DEFAULT = PairOptions()


def pair_metrics(a, b, options: PairOptions = DEFAULT) -> dict[str, float]:
    """Return every metric of a pair of masks.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
        Prepare masks that are compared more than once.
    options : PairOptions

    Returns
    -------
    dict of str to float
        :data:`iavlib.data.schemas.METRICS`: ``dice``, ``jaccard``; ``hd``, ``hd95``, ``assd`` in
        units of the spacing; the same ``*_normalized``, divided by the image's diagonal. Both
        masks empty: overlaps 1, distances 0. One empty: overlaps 0, distances NaN, normalised
        distances 1. With ``options.extra`` also :data:`EXTRA_METRICS`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = prepare_pair(a, b)
    common = intersection(a, b)
    values = {
        "dice": dice_of(common, a.area, b.area),
        "jaccard": jaccard_of(common, a.area, b.area),
    }
    values |= _empty(a, b) if a.empty or b.empty else _distances(a, b, options)
    if options.extra:
        values["kappa"] = kappa_of(common, a, b)
    return {metric: values[metric] for metric in options.metrics}


def image_pairs(masks: Mapping[str, object], options: PairOptions = DEFAULT) -> list[dict]:
    """Compare every pair of masks of one image.

    Parameters
    ----------
    masks : mapping of str to array_like or PreparedMask
        The image's masks by ``mask_id``, all of one shape.
    options : PairOptions

    Returns
    -------
    list of dict
        For each unordered pair ``mask_1`` < ``mask_2`` (as strings) and the metrics of
        :func:`pair_metrics`; ordered by ``mask_1``, then ``mask_2``.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    prepared = {str(mask_id): prepare(mask) for mask_id, mask in masks.items()}
    return [
        {
            "mask_1": first,
            "mask_2": second,
            **pair_metrics(prepared[first], prepared[second], options),
        }
        for first, second in combinations(sorted(prepared), 2)
    ]


def _distances(a: PreparedMask, b: PreparedMask, options: PairOptions) -> dict[str, float]:
    ab, ba = surface_distances(a, b, options.spacing)
    values = {
        "hd": hd_of(ab, ba),
        "hd95": hd95_of(ab, ba, options.form),
        "assd": assd_of(ab, ba, options.form),
    }
    sy, sx = options.spacing
    diagonal = float(np.hypot(a.shape[0] * sy, a.shape[1] * sx))
    values |= {f"{metric}_normalized": values[metric] / diagonal for metric in DISTANCE_METRICS}
    if options.extra:
        values["nsd"] = nsd_of(ab, ba, options.tolerance)
        values["boundary_f1"] = boundary_f1_of(ab, ba, options.tolerance)
    return values


def _empty(a: PreparedMask, b: PreparedMask) -> dict[str, float]:
    """Return what holds by convention where there is no surface."""
    both = a.empty and b.empty
    values = dict.fromkeys(DISTANCE_METRICS, 0.0 if both else np.nan)
    values |= {f"{metric}_normalized": 0.0 if both else 1.0 for metric in DISTANCE_METRICS}
    return values | dict.fromkeys(("nsd", "boundary_f1"), 1.0 if both else 0.0)
