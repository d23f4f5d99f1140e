"""Metrics of a pair of masks: a registry in which each metric is one function.

>>> import numpy as np
>>> from iavlib.masks import register_metric
>>> @register_metric("volume_similarity")
... def volume_similarity(pair):
...     '''One minus the relative difference of the two areas.'''
...     return 1 - abs(pair.a.area - pair.b.area) / (pair.a.area + pair.b.area)
>>> volume_similarity(np.ones((4, 4)), np.ones((4, 4)))
1.0

From then on every table of pairs that is measured here has the column ``volume_similarity``, until
the metric is removed:

>>> from iavlib.masks import METRICS
>>> del METRICS["volume_similarity"]

Masks are arrays of shape (height, width), in which values above 0 are inside, or prepared by
:func:`iavlib.masks.prepare`. Conventions where a mask is empty, by the kind of metric:

========= ================ ================ ==============================
kind      both empty       one empty        also reported
========= ================ ================ ==============================
overlap   1                0
distance  0                NaN              ``<name>_normalized``: divided by the diagonal of
                                            the image; 1 where one mask is empty
========= ================ ================ ==============================

Surfaces are those of :func:`iavlib.masks.mask_surface`; distances are in units of the spacing.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.spatial import KDTree

from iavlib.core.errors import check_choice
from iavlib.masks.overlap import dice_from_counts
from iavlib.masks.surfaces import PreparedMask, intersection, prepare, prepare_pair

Kind = Literal["overlap", "distance"]
#: Whether every table of pairs has a metric, those measured here have it, or it is asked for.
Column = Literal["required", "optional", "extra"]
REDUCTIONS = ("pooled", "directed")
NORMALIZED = "_normalized"


def surface_distances(a, b, spacing=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances from each surface pixel of one mask to the surface of the other.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
        Neither is empty.
    spacing : float or (float, float)

    Returns
    -------
    tuple of numpy.ndarray of float
        From ``a`` to ``b`` and from ``b`` to ``a``; in raster order of the surface pixels.

    Raises
    ------
    ValueError
        If a mask is empty, the shapes differ or the spacing is not positive.
    """
    a, b = prepare_pair(a, b)
    if a.empty or b.empty:
        raise ValueError("an empty mask has no surface")
    spacing = as_spacing(spacing)
    return _directed(a, b, spacing), _directed(b, a, spacing)


def as_spacing(spacing) -> tuple[float, float]:
    """Return spacing as ``(sy, sx)``.

    Raises
    ------
    ValueError
        If it is not one or two positive numbers.
    """
    values = np.asarray(spacing, float)
    if values.shape not in ((), (2,)) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"spacing must be one or two positive numbers (sy, sx), not {spacing!r}")
    sy, sx = np.broadcast_to(values, 2).tolist()
    return sy, sx


def _directed(a: PreparedMask, b: PreparedMask, spacing: tuple[float, float]) -> np.ndarray:
    if spacing[0] != spacing[1]:
        return KDTree(b.points(spacing)).query(a.points(spacing))[0]
    rows, columns = a.surface
    squared = b.nearest.squared(rows + (a.top - b.top), columns + (a.left - b.left))
    distances = np.sqrt(squared, dtype=float)
    return distances if spacing[0] == 1 else distances * spacing[0]


@dataclass(frozen=True)
class PairOptions:
    """What is computed for a pair of masks, and how.

    Attributes
    ----------
    reduction : {"pooled", "directed"}
        How HD95 and ASSD combine the two directions. ``pooled``: percentile and mean of both
        directions' distances together, as medpy (ASSD: from 0.5 on) and IMA++ define them.
        ``directed``: the larger of the two directions' percentiles, as in MONAI and
        MetricsReloaded, and the mean of the two directions' means (also called MASD).
    spacing : float or (float, float)
        Size of a pixel, ``(sy, sx)`` or one number for both.
    extra : bool
        Whether the metrics registered with ``column="extra"`` are computed too: Cohen's kappa,
        the normalised surface Dice and the boundary F1.
    tolerance : float
        Of the latter two, in units of ``spacing``; a distance equal to it is within.

    Raises
    ------
    ValueError
        If an option has no such value.
    """

    reduction: Literal["pooled", "directed"] = "pooled"
    spacing: float | tuple[float, float] = 1.0
    extra: bool = False
    tolerance: float = 2.0

    def __post_init__(self):
        check_choice("reduction", self.reduction, REDUCTIONS)
        object.__setattr__(self, "spacing", as_spacing(self.spacing))
        if not (np.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance must be a number from 0, not {self.tolerance!r}")


DEFAULT = PairOptions()


class MaskPair:
    """Two masks of one image, and what metrics need of them, each computed at most once.

    Attributes
    ----------
    a, b : PreparedMask
    options : PairOptions

    Raises
    ------
    ValueError
        If the shapes of the masks differ.
    """

    def __init__(self, a, b, options: PairOptions = DEFAULT):
        (self.a, self.b), self.options = prepare_pair(a, b), options

    @cached_property
    def common(self) -> int:
        """Number of pixels inside both masks."""
        return intersection(self.a, self.b)

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Surface distances from ``a`` to ``b`` and from ``b`` to ``a``."""
        return surface_distances(self.a, self.b, self.options.spacing)

    @property
    def diagonal(self) -> float:
        """Diagonal of the image in units of the spacing."""
        return float(np.hypot(*np.multiply(self.a.shape, self.options.spacing)))


class Metric:
    """A registered metric of a pair of masks; call it with two masks.

    Attributes
    ----------
    name : str
        Its column in tables of pairs.
    function : callable
        From a :class:`MaskPair`, neither mask empty, to a number.
    kind, column, low, high, version
        As given to :func:`register_metric`.
    """

    def __init__(self, function, name, kind, column, low, high, version):
        functools.update_wrapper(self, function)
        self.function, self.name, self.kind, self.column = function, name, kind, column
        self.low, self.high, self.version = low, high, version

    def __reduce__(self):
        # Another process imports the module that registers the metric.
        return _registered, (self.function.__module__, self.name)

    def __call__(self, a, b, **options) -> float:
        """Return the metric of two masks; options as for :class:`PairOptions`."""
        return self.of(MaskPair(a, b, PairOptions(**options)))[self.name]

    @property
    def columns(self) -> tuple[str, ...]:
        """The metric and, of a distance, its normalised form."""
        return (self.name, *([self.name + NORMALIZED] if self.kind == "distance" else ()))

    def of(self, pair: MaskPair) -> dict[str, float]:
        """Return the value of each of :attr:`columns`."""
        empty = pair.a.empty + pair.b.empty
        if empty:
            both = (1.0,) if self.kind == "overlap" else (0.0, 0.0)
            one = (0.0,) if self.kind == "overlap" else (np.nan, 1.0)
            return dict(zip(self.columns, both if empty == 2 else one, strict=True))
        value = self.function(pair)
        return dict(zip(self.columns, (value, value / pair.diagonal), strict=False))


#: Every registered metric by name.
METRICS: dict[str, Metric] = {}


def register_metric(
    name: str,
    kind: Kind = "overlap",
    column: Column = "optional",
    low: float = 0.0,
    high: float | None = None,
    version: int = 1,
) -> Callable[[Callable[[MaskPair], float]], Metric]:
    """Register a function of a :class:`MaskPair` as a metric (decorator).

    Parameters
    ----------
    name : str
        Its column in tables of pairs. A metric of the same name is replaced.
    kind : {"overlap", "distance"}
        Decides what holds where masks are empty; a distance also has a normalised form.
    column : {"optional", "extra", "required"}
        Whether tables of pairs that are measured here have it (``optional``), or only with
        ``PairOptions(extra=True)``. ``required`` is for metrics that published tables have too.
    low, high : float
        Smallest and largest possible value; an overlap is at most 1 unless given.
    version : int
        Raise it when values change: tables kept in the cache are then measured again.

    Notes
    -----
    With several processes the function must be in a module that they can import.
    """
    largest = high if high is not None else 1.0 if kind == "overlap" else np.inf

    def register(function: Callable[[MaskPair], float]) -> Metric:
        METRICS[name] = Metric(function, name, kind, column, low, largest, version)
        return METRICS[name]

    return register


def selected_metrics(extra: bool = False) -> tuple[Metric, ...]:
    """Return the metrics of a table of pairs, in order of registration; the extra ones last."""
    table = [metric for metric in METRICS.values() if metric.column != "extra"]
    more = [metric for metric in METRICS.values() if metric.column == "extra"]
    return (*table, *(more if extra else ()))


def metric_names(metrics: Iterable[Metric] | None = None) -> tuple[str, ...]:
    """Return the columns of metrics, those of a table of pairs unless given: raw, normalised."""
    metrics = selected_metrics() if metrics is None else tuple(metrics)
    table = [metric for metric in metrics if metric.column != "extra"]
    raw = [metric.name for metric in table]
    normalized = [name for metric in table for name in metric.columns[1:]]
    extra = [name for m in metrics if m.column == "extra" for name in m.columns]
    return (*raw, *normalized, *extra)


def registry_version(extra: bool = False) -> str:
    """Return a text that changes when metrics are added or get another version."""
    return " ".join(f"{metric.name}={metric.version}" for metric in selected_metrics(extra))


def _registered(module: str, name: str) -> Metric:
    importlib.import_module(module)
    return METRICS[name]


@register_metric("dice", column="required")
def dice(pair: MaskPair) -> float:
    """Return the Dice coefficient: twice the intersection over the sum of both areas."""
    return float(dice_from_counts(pair.common, pair.a.area, pair.b.area))


@register_metric("jaccard", column="required")
def jaccard(pair: MaskPair) -> float:
    """Return the Jaccard index (IoU): the intersection over the union."""
    return pair.common / (pair.a.area + pair.b.area - pair.common)


@register_metric("hd", "distance", column="required")
def hd(pair: MaskPair) -> float:
    """Return the Hausdorff distance: the largest distance between the surfaces."""
    ab, ba = pair.distances
    return float(max(ab.max(), ba.max()))


@register_metric("hd95", "distance", column="required")
def hd95(pair: MaskPair) -> float:
    """Return the 95th percentile (linear interpolation) of the surface distances."""
    ab, ba = pair.distances
    if pair.options.reduction == "directed":
        return float(max(np.percentile(ab, 95), np.percentile(ba, 95)))
    return float(np.percentile(np.concatenate([ab, ba]), 95, overwrite_input=True))


@register_metric("assd", "distance", column="required")
def assd(pair: MaskPair) -> float:
    """Return the average symmetric surface distance."""
    ab, ba = pair.distances
    if pair.options.reduction == "directed":
        return float(ab.mean() + ba.mean()) / 2
    return float(ab.sum() + ba.sum()) / (len(ab) + len(ba))


@register_metric("kappa", column="extra", low=-1.0)
def cohens_kappa(pair: MaskPair) -> float:
    """Return Cohen's kappa of two masks, over all pixels of the image.

    Agreement beyond what two annotators with these areas would reach by chance; unlike Dice it
    counts the background and therefore depends on how much of it the image shows. Where chance
    alone agrees everywhere (both full) it is 1.

    References
    ----------
    J. Cohen: A coefficient of agreement for nominal scales. Educ. Psychol. Meas. 20, 1960.
    """
    a, b = pair.a.area, pair.b.area
    pixels = pair.a.shape[0] * pair.a.shape[1]
    by_chance = a * b + (pixels - a) * (pixels - b)
    agreed = pixels - a - b + 2 * pair.common
    if by_chance == pixels**2:
        return 1.0
    return (agreed * pixels - by_chance) / (pixels**2 - by_chance)


@register_metric("nsd", column="extra")
def nsd(pair: MaskPair) -> float:
    """Return the normalised surface Dice: the share of both surfaces within the tolerance.

    Surface pixels are counted; the authors' program weights pieces of contour.

    References
    ----------
    S. Nikolov et al.: Deep learning to achieve clinically applicable segmentation of head and
    neck anatomy for radiotherapy. arXiv:1809.04430, 2018.
    """
    close = [np.count_nonzero(d <= pair.options.tolerance) for d in pair.distances]
    return sum(close) / sum(map(len, pair.distances))


@register_metric("boundary_f1", column="extra")
def boundary_f1(pair: MaskPair) -> float:
    """Return the boundary F1: harmonic mean of the two surfaces' shares within the tolerance.

    References
    ----------
    G. Csurka et al.: What is a good evaluation measure for semantic segmentation? BMVC 2013.
    """
    shares = [np.count_nonzero(d <= pair.options.tolerance) / len(d) for d in pair.distances]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def pair_metrics(
    a, b, options: PairOptions = DEFAULT, metrics: Iterable[Metric] | None = None
) -> dict[str, float]:
    """Return the metrics of a pair of masks.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
        Prepare masks that are compared more than once.
    options : PairOptions
    metrics : iterable of Metric, optional
        All registered for a table of pairs unless given, with ``options.extra`` the extra ones.

    Returns
    -------
    dict of str to float
        In the order of :func:`metric_names`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    metrics = selected_metrics(options.extra) if metrics is None else tuple(metrics)
    pair = MaskPair(a, b, options)
    values = {name: value for metric in metrics for name, value in metric.of(pair).items()}
    return {name: values[name] for name in metric_names(metrics)}


def image_pairs(
    masks: Mapping[str, object],
    options: PairOptions = DEFAULT,
    metrics: Iterable[Metric] | None = None,
) -> list[dict]:
    """Compare every pair of masks of one image.

    Parameters
    ----------
    masks : mapping of str to array_like or PreparedMask
        The image's masks by ``mask_id``, all of one shape.
    options, metrics
        As for :func:`pair_metrics`.

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
        {"mask_1": first, "mask_2": second}
        | pair_metrics(prepared[first], prepared[second], options, metrics)
        for first, second in combinations(sorted(prepared), 2)
    ]
