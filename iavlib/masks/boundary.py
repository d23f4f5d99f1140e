"""Distances between the surfaces of two masks, and how much of the surfaces lies close.

Both masks empty: every distance is 0, every share of surface 1. One empty: distances are NaN,
shares 0. Masks are arrays of shape (height, width), in which values above 0 are inside, or
prepared by :func:`iavlib.masks.prepare`. ``spacing`` is the size of a pixel, ``(sy, sx)`` or
one number for both; distances are in its units. The surface is that of
:func:`iavlib.masks.surfaces.mask_surface`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from iavlib.masks.surfaces import PreparedMask, prepare_pair

Form = Literal["pooled", "directed"]
FORMS = ("pooled", "directed")


def hd(a, b, spacing=1.0) -> float:
    """Return the Hausdorff distance, the largest from any surface pixel to the other surface.

    Raises
    ------
    ValueError
        If the shapes differ or the spacing is not positive.
    """
    return _between(a, b, spacing, hd_of, when_both_empty=0.0, when_one_empty=np.nan)


def hd95(a, b, spacing=1.0, form: Form = "pooled") -> float:
    """Return the 95th percentile of the distances between the surfaces.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
    spacing : float or (float, float)
    form : {"pooled", "directed"}
        Percentile of both directions' distances together, as medpy and IMA++ have it, or the
        larger of the two directions' percentiles, as MONAI and MetricsReloaded have it. The
        percentile is interpolated linearly.

    Raises
    ------
    ValueError
        If the shapes differ, the spacing is not positive, or the form is unknown.
    """
    _check_form(form)
    return _between(
        a,
        b,
        spacing,
        lambda ab, ba: hd95_of(ab, ba, form),
        when_both_empty=0.0,
        when_one_empty=np.nan,
    )


def assd(a, b, spacing=1.0, form: Form = "pooled") -> float:
    """Return the average symmetric surface distance.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
    spacing : float or (float, float)
    form : {"pooled", "directed"}
        Mean of both directions' distances together, as medpy from 0.5 on and IMA++ have it, or
        the mean of the two directions' means (also called MASD), as medpy had it before.

    Raises
    ------
    ValueError
        If the shapes differ, the spacing is not positive, or the form is unknown.
    """
    _check_form(form)
    return _between(
        a,
        b,
        spacing,
        lambda ab, ba: assd_of(ab, ba, form),
        when_both_empty=0.0,
        when_one_empty=np.nan,
    )


def nsd(a, b, tolerance: float, spacing=1.0) -> float:
    """Return the normalised surface Dice, the share of both surfaces within the tolerance.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
    tolerance : float
        In units of ``spacing``; a distance equal to it is within.
    spacing : float or (float, float)

    Raises
    ------
    ValueError
        If the shapes differ, the spacing is not positive, or the tolerance negative.

    Notes
    -----
    After Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and
    neck anatomy (2018). Surface pixels are counted; their program weighs pieces of contour.
    """
    check_tolerance(tolerance)
    return _between(
        a,
        b,
        spacing,
        lambda ab, ba: nsd_of(ab, ba, tolerance),
        when_both_empty=1.0,
        when_one_empty=0.0,
    )


def boundary_f1(a, b, tolerance: float, spacing=1.0) -> float:
    """Return the boundary F1, harmonic mean of the two surfaces' shares within the tolerance.

    Parameters
    ----------
    a, b : array_like, shape (height, width), or PreparedMask
    tolerance : float
        In units of ``spacing``; a distance equal to it is within.
    spacing : float or (float, float)

    Raises
    ------
    ValueError
        If the shapes differ, the spacing is not positive, or the tolerance negative.

    References
    ----------
    G. Csurka et al.: What is a good evaluation measure for semantic segmentation? BMVC 2013.
    """
    check_tolerance(tolerance)
    return _between(
        a,
        b,
        spacing,
        lambda ab, ba: boundary_f1_of(ab, ba, tolerance),
        when_both_empty=1.0,
        when_one_empty=0.0,
    )


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
        raise ValueError(f"spacing is one or two positive numbers (sy, sx), not {spacing!r}")
    sy, sx = np.broadcast_to(values, 2).tolist()
    return sy, sx


def check_tolerance(tolerance: float) -> None:
    """Raise ValueError if the tolerance is no finite number from 0."""
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is a number from 0, not {tolerance!r}")


def hd_of(ab: np.ndarray, ba: np.ndarray) -> float:
    """Return the Hausdorff distance from both directions' surface distances."""
    return float(max(ab.max(), ba.max()))


def hd95_of(ab: np.ndarray, ba: np.ndarray, form: Form) -> float:
    """Return HD95 from both directions' surface distances."""
    if form == "directed":
        return float(max(np.percentile(ab, 95), np.percentile(ba, 95)))
    return float(np.percentile(np.concatenate([ab, ba]), 95, overwrite_input=True))


def assd_of(ab: np.ndarray, ba: np.ndarray, form: Form) -> float:
    """Return ASSD from both directions' surface distances."""
    if form == "directed":
        return float(ab.mean() + ba.mean()) / 2
    return float(ab.sum() + ba.sum()) / (len(ab) + len(ba))


def nsd_of(ab: np.ndarray, ba: np.ndarray, tolerance: float) -> float:
    """Return the normalised surface Dice from both directions' surface distances."""
    close = np.count_nonzero(ab <= tolerance) + np.count_nonzero(ba <= tolerance)
    return close / (len(ab) + len(ba))


def boundary_f1_of(ab: np.ndarray, ba: np.ndarray, tolerance: float) -> float:
    """Return the boundary F1 from both directions' surface distances."""
    precision, recall = (np.count_nonzero(d <= tolerance) / len(d) for d in (ab, ba))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _directed(a: PreparedMask, b: PreparedMask, spacing: tuple[float, float]) -> np.ndarray:
    if spacing[0] != spacing[1]:
        return b.tree(spacing).query(a.points(spacing))[0]
    rows, columns = a.surface
    squared = b.nearest.squared(rows + (a.top - b.top), columns + (a.left - b.left))
    distances = np.sqrt(squared, dtype=float)
    return distances if spacing[0] == 1 else distances * spacing[0]


def _between(a, b, spacing, statistic: Callable, when_both_empty: float, when_one_empty: float):
    a, b = prepare_pair(a, b)
    spacing = as_spacing(spacing)
    if a.empty or b.empty:
        return when_both_empty if a.empty and b.empty else when_one_empty
    return statistic(_directed(a, b, spacing), _directed(b, a, spacing))


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise ValueError(f"form is one of {', '.join(FORMS)}, not {form!r}")
