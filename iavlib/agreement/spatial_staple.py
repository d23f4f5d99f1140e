r"""STAPLE with performance that varies over the image (Asman and Landman 2012).

STAPLE gives each annotator one sensitivity and one specificity for the whole image. An annotator
who follows the border well on one side of a lesion and cuts across on the other is then mediocre
everywhere. Spatial STAPLE gives annotator j a smooth *field* of each, estimated at every pixel i
from the pixels in a window :math:`B_i` around it.

With :math:`D_{ij}` the decision of annotator j at pixel i, :math:`W_i` the probability that i is
truly inside, and :math:`\gamma_i` its prior, the two steps alternate until W stands still:

.. math::

    W_i = \frac{\gamma_i \prod_j p_{ji}^{D_{ij}} (1 - p_{ji})^{1 - D_{ij}}}
               {\gamma_i \prod_j p_{ji}^{D_{ij}} (1 - p_{ji})^{1 - D_{ij}} +
                (1 - \gamma_i) \prod_j q_{ji}^{1 - D_{ij}} (1 - q_{ji})^{D_{ij}}}

.. math::

    p_{ji} = \frac{\lambda |B_i| \bar p_j + \sum_{n \in B_i} W_n D_{nj}}
                  {\lambda |B_i| + \sum_{n \in B_i} W_n}
    \qquad
    q_{ji} = \frac{\lambda |B_i| \bar q_j + \sum_{n \in B_i} (1 - W_n)(1 - D_{nj})}
                  {\lambda |B_i| + \sum_{n \in B_i} (1 - W_n)}

The first is STAPLE's E step with rates that depend on the pixel, the second its M step over the
window, drawn towards the rates :math:`\bar p_j, \bar q_j` of the whole image: a window may lie
far inside or far outside of the lesion and then says nothing about one of the two.

What is settled here, because the idea leaves room for it:

* The global rates are STAPLE's own, from SimpleITK, and stay fixed. W starts from STAPLE's W.
* The weight of the global rates is a share :math:`\lambda` of the pixels in the window
  (``prior_weight``): they count like :math:`\lambda |B_i|` more pixels of certain truth.
* The window is a square, moved by one pixel at a time, without interpolation between fewer
  places; where it reaches over the image's border it is cut, and :math:`|B_i|` is what is left.
* The prior :math:`\gamma_i` is STAPLE's, taken over the window: the mean of all masks over all
  its pixels. One number for the image (``prior="image"``) fails with small windows: well inside
  the lesion a window knows nothing of specificity, the chance of being outside stays at
  :math:`1 - \gamma`, and the truth may flip there. The caller may give numbers, too.
* All pixels count, also those on which the annotators are unanimous, as in STAPLE.
* It ends when no probability changes by more than ``tolerance``.

A window that covers the image from every pixel gives STAPLE itself, whatever :math:`\lambda`:
STAPLE's result solves both equations then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter1d

from iavlib.agreement.consensus import Staple, staple
from iavlib.agreement.stack import mask_stack

# Rates of exactly 0 or 1 would make single pixels impossible (0 / 0) where annotators contradict
# each other with certainty.
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class SpatialStaple:
    """What spatially varying STAPLE makes of several masks.

    Attributes
    ----------
    probability : numpy.ndarray of float, shape (height, width)
        Probability of each pixel to be inside.
    mask : numpy.ndarray of bool, shape (height, width)
        Probability > 0.5.
    sensitivity, specificity : numpy.ndarray of float32, shape (n, height, width)
        Of each annotator around each pixel.
    global_sensitivity, global_specificity : numpy.ndarray of float, shape (n,)
        STAPLE's, over the whole image.
    prior : numpy.ndarray of float, shape (height, width)
        Probability of each pixel to be inside before its own masks are looked at.
    window : int
        Side of the window in pixels.
    prior_weight : float
    iterations : int
        Of the two steps, after STAPLE's own.
    warnings : tuple of str
        Those of the global STAPLE it starts from, and its own.
    """

    probability: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    sensitivity: np.ndarray = field(repr=False)
    specificity: np.ndarray = field(repr=False)
    global_sensitivity: np.ndarray
    global_specificity: np.ndarray
    prior: np.ndarray = field(repr=False)
    window: int
    prior_weight: float
    iterations: int
    warnings: tuple[str, ...]


def spatial_staple(
    masks,
    window: int | None = None,
    prior_weight: float = 0.3,
    prior: str | ArrayLike = "window",
    names: Sequence[str] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
) -> SpatialStaple:
    """Estimate the hidden true mask and each annotator's performance around each pixel.

    The equations, and what is settled here beyond the source, stand at the head of this module.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least two; 0 outside, one positive value inside.
    window : int, optional
        Side of the square window in pixels, odd; an eighth of the image's longer side, rounded
        up to an odd number, unless given.
    prior_weight : float
        How many pixels the global performance counts for, as a share of the window; 0 or more.
        With 0, a window without any probability of truth takes the global performance.
    prior : {"window", "image"} or array_like of float
        Prior probability of a pixel to be inside: the mean of all masks over its window, or over
        the image; or one number, or a map of shape (height, width), within (0, 1).
    names : sequence of str, optional
        What to call the masks in warnings; their position, from 1, unless given.
    max_iterations : int
    tolerance : float
        Largest change of a probability that counts as none.

    Returns
    -------
    SpatialStaple
        Takes about 150 bytes a pixel while it works on five masks.

    Raises
    ------
    DataError
        If there are fewer than two masks, or they are not binary, two-dimensional, of one shape.
    ValueError
        If a setting makes no sense.

    References
    ----------
    Asman, A. J. and Landman, B. A. (2012). Formulating spatially varying performance in the
    statistical fusion framework. IEEE Transactions on Medical Imaging 31(6), 1326-1336.
    """
    stack = mask_stack(masks, names, at_least=2)
    shape = stack.shape[1:]
    side = _check_settings(window, prior_weight, max_iterations, tolerance, shape)
    given = _check_prior(prior, shape)
    start = staple(stack, names)
    model = _LocalRates(stack, start, _Window(side, shape), prior_weight)
    gamma = model.prior(given, start.prior)
    if start.iterations == 0:  # unanimous masks: there is nothing to alternate between
        weights, iterations, told = start.probability, 0, ()
        rates = [(np.full(shape, p), np.full(shape, q)) for p, q in _global_rates(start)]
    else:
        weights, iterations, told = _alternate(model, gamma, start, max_iterations, tolerance)
        rates = list(model.rates(weights))
    return SpatialStaple(
        probability=weights,
        mask=weights > 0.5,
        sensitivity=np.stack([p.astype(np.float32) for p, _ in rates]),
        specificity=np.stack([q.astype(np.float32) for _, q in rates]),
        global_sensitivity=start.sensitivity,
        global_specificity=start.specificity,
        prior=gamma,
        window=side,
        prior_weight=prior_weight,
        iterations=iterations,
        warnings=tuple(f"global STAPLE: {warning}" for warning in start.warnings) + told,
    )


class _Window:
    """Sums over the square window around each pixel, cut at the image's border."""

    def __init__(self, side: int, shape: tuple[int, int]):
        # A window this large reaches every pixel from everywhere; a larger one is no other.
        self.side = min(side, 2 * max(shape) - 1)
        self.size = self.sum(np.ones(shape))

    def sum(self, values: np.ndarray) -> np.ndarray:
        for axis in (1, 0):
            values = uniform_filter1d(values, self.side, axis=axis, mode="constant")
        values *= self.side**2
        return np.maximum(values, 0, out=values)


class _LocalRates:
    """The M step: sensitivity and specificity of each annotator around each pixel."""

    def __init__(self, stack: np.ndarray, start: Staple, window: _Window, prior_weight: float):
        self.stack, self.window = stack, window
        self.start = _global_rates(start)
        self.pooled = prior_weight * window.size
        self.marked = [window.sum(mask.astype(float)) for mask in stack]

    def prior(self, given: str | np.ndarray, overall: float) -> np.ndarray:
        """Return the prior of each pixel, from what was asked for."""
        if not isinstance(given, str):
            return given
        if given == "image":
            return np.full(self.window.size.shape, overall)
        # The sums carry rounding, so that the share may leave [0, 1] by as much.
        return np.clip(np.mean(self.marked, axis=0) / self.window.size, 0, 1)

    def rates(self, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the two fields of each annotator that the probabilities imply."""
        inside = self.window.sum(weights)
        outside = self.window.size - inside
        for mask, marked, (p, q) in zip(self.stack, self.marked, self.start, strict=True):
            hits = self.window.sum(weights * mask)
            yield self._ratio(hits, inside, p), self._ratio(outside - marked + hits, outside, q)

    def _ratio(self, right: np.ndarray, all_: np.ndarray, overall: float) -> np.ndarray:
        total = all_ + self.pooled
        rate = np.full(total.shape, overall)
        np.divide(right + overall * self.pooled, total, out=rate, where=total > _LEAST)
        return np.clip(rate, _LEAST, 1 - _LEAST, out=rate)


def _alternate(
    model: _LocalRates, gamma, start: Staple, max_iterations: int, tolerance: float
) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Repeat M and E step until no probability changes.

    Returns
    -------
    tuple
        Probabilities, iterations, warnings.
    """
    weights = start.probability
    for iteration in range(1, max_iterations + 1):
        inside, outside = gamma.copy(), 1 - gamma
        for mask, (p, q) in zip(model.stack, model.rates(weights), strict=True):
            inside *= np.where(mask, p, 1 - p)
            outside *= np.where(mask, 1 - q, q)
        updated = inside / (inside + outside)
        change = float(np.abs(updated - weights).max())
        weights = updated
        if change <= tolerance:
            return weights, iteration, ()
    return weights, max_iterations, (f"stopped after {max_iterations} iterations, not converged",)


def _global_rates(start: Staple) -> list[tuple[float, float]]:
    return list(zip(start.sensitivity, start.specificity, strict=True))


def _check_settings(window, prior_weight, max_iterations, tolerance, shape) -> int:
    """Raise where a setting makes no sense; return the side of the window."""
    side = max(shape) // 8 | 1 if window is None else window
    if side != int(side) or side < 1 or side % 2 == 0:
        raise ValueError(f"window must be an odd number of pixels, not {window}")
    if not (np.isfinite(prior_weight) and prior_weight >= 0):
        raise ValueError(f"prior_weight must be 0 or more, not {prior_weight}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, not {tolerance}")
    return int(side)


def _check_prior(prior: str | ArrayLike, shape: tuple[int, int]) -> str | np.ndarray:
    if isinstance(prior, str):
        if prior not in ("window", "image"):
            raise ValueError(f"prior must be 'window', 'image' or numbers, not {prior!r}")
        return prior
    values = np.asarray(prior, dtype=float)
    if values.shape not in ((), shape):
        raise ValueError(f"prior must be a number or a map of shape {shape}, not {values.shape}")
    if not ((values > 0) & (values < 1)).all():
        raise ValueError("prior must lie within (0, 1) everywhere")
    return np.broadcast_to(values, shape)
