r"""One mask from several: majority vote, STAPLE, mean map, a random annotator.

Every function takes the masks of one image as a sequence of arrays of shape (height, width) (0
outside, one positive value inside) or as one array of shape (n, height, width), and raises
:class:`iavlib.core.errors.DataError`, naming the mask, where they are not that.

Spatial STAPLE (Asman and Landman 2012) lets performance vary over the image. STAPLE gives each
annotator one sensitivity and one specificity for the whole image. An annotator who follows the
border well on one side of a lesion and cuts across on the other is then mediocre everywhere.
Spatial STAPLE gives annotator j a smooth *field* of each, estimated at every pixel i from the
pixels in a window :math:`B_i` around it.

With :math:`D_{ij}` the decision of annotator j at pixel i, :math:`W_i` the probability that i is
truly inside, and :math:`\gamma_i` its prior, the two steps alternate until W is stable:

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
far inside or far outside of the lesion and then holds no information on one of the two.

Settled here, because the source leaves room for it:

* The global rates are STAPLE's own, from SimpleITK, and stay fixed. W starts from STAPLE's W.
* The weight of the global rates is a share :math:`\lambda` of the pixels in the window
  (``prior_weight``): they count like :math:`\lambda |B_i|` more pixels of certain truth.
* The window is a square, moved by one pixel at a time, without interpolation between fewer
  places; where it reaches over the image's border it is cut, and :math:`|B_i|` is what is left.
* The prior :math:`\gamma_i` is STAPLE's, taken over the window: the mean of all masks over all
  its pixels. One number for the image fails with small windows: well inside the lesion a window
  has no information on specificity, the chance of being outside stays at :math:`1 - \gamma`, and
  the truth may flip there.
* All pixels count, also those on which the annotators are unanimous, as in STAPLE.
* It ends when no probability changes by more than 1e-4.

A window that covers the image from every pixel gives STAPLE itself, whatever :math:`\lambda`:
STAPLE's result solves both equations then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.ndimage import uniform_filter1d

from iavlib.core.errors import check_choice
from iavlib.masks.overlap import mask_stack
from iavlib.masks.surfaces import bounding_box, count_codes, look_up, row_bands

Ties = Literal["foreground", "background"]
TIES = ("foreground", "background")

#: STAPLE ends when no rate changes by more.
_RATES_TOLERANCE = 1e-7
#: Up to so many masks their patterns are counted in a table of all there could be.
_MOST_COUNTED = 12
#: Probabilities of STAPLE closer than this to one half differ from it by rounding only.
TIE = 1e-9


def mean_map(masks) -> np.ndarray:
    """Return the share of the votes that each pixel gets.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least one.

    Returns
    -------
    numpy.ndarray of float, shape (height, width)
        From 0 (nobody) to 1 (everybody).

    Raises
    ------
    DataError
        If the masks are not binary, two-dimensional and of one shape.
    """
    stack = mask_stack(masks)
    return count_votes(stack) / len(stack)


def count_votes(stack: np.ndarray) -> np.ndarray:
    """Return how many masks of a stack contain each pixel, as small integers."""
    return np.add.reduce(stack, axis=0, dtype=np.min_scalar_type(len(stack)))


def majority_vote(masks, ties: Ties = "foreground") -> np.ndarray:
    """Return the pixels that more than half of the masks contain.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least two.
    ties : {"foreground", "background"}
        The class of a pixel with exactly half of the votes. Foreground, as in IMA++, makes the vote
        of two masks their union; background makes it their intersection.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    DataError
        If there are fewer than two masks, or they are not binary, two-dimensional, of one shape.
    ValueError
        If `ties` has no such value.
    """
    check_choice("ties", ties, TIES)
    stack = mask_stack(masks, min_masks=2)
    needed = len(stack) // 2 + (len(stack) % 2 if ties == "foreground" else 1)
    return count_votes(stack) >= needed


def random_annotator(masks, rng: np.random.Generator | int) -> tuple[np.ndarray, int]:
    """Draw one of the masks, each with the same probability.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least one.
    rng : numpy.random.Generator or int
        Generator, or the seed of one; the same seed draws the same mask.

    Returns
    -------
    mask : numpy.ndarray of bool, shape (height, width)
    index : int
        Which of them it is, from 0.
    """
    stack = mask_stack(masks)
    index = int(np.random.default_rng(rng).integers(len(stack)))
    return stack[index].copy(), index


@dataclass(frozen=True, eq=False)
class Staple:
    """Result of STAPLE.

    Attributes
    ----------
    patterns : numpy.ndarray of unsigned int, shape (height, width)
        Which of the patterns of decisions each pixel has.
    levels : numpy.ndarray of float
        Probability of each pattern to be inside.
    mask : numpy.ndarray of bool, shape (height, width)
        Probability > 0.5.
    sensitivity, specificity : numpy.ndarray of float, shape (n,)
        Of each annotator, against the estimated truth; NaN where there is no truth to be
        sensitive to (nothing marked, everything marked).
    prior : float
        Probability of a pixel to be inside before its masks are considered: the mean of all masks
        over all pixels.
    iterations : int
        As ITK counts them.
    warnings : tuple of str
        Reasons to doubt the result.
    """

    patterns: np.ndarray = field(repr=False)
    levels: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    sensitivity: np.ndarray
    specificity: np.ndarray
    prior: float
    iterations: int
    warnings: tuple[str, ...]

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of each pixel to be inside, float of shape (height, width)."""
        return look_up(self.levels, self.patterns)


def staple(masks, names: Sequence[str] | None = None, max_iterations: int | None = 1000) -> Staple:
    """Estimate the hidden true mask and each annotator's performance by STAPLE.

    STAPLE takes the truth T of every pixel as hidden, each annotator j as having one sensitivity
    p_j and one specificity q_j over the whole image, pixels and annotators as independent, and
    alternates between W = P(T = 1 | masks, p, q) and the p, q that W implies, starting from
    W = mean of the masks, until p and q change by less than 1e-7. Pixels that the same annotators
    marked share their W, so that the steps run over the at most 2^n patterns of decisions and take
    no time; the result is SimpleITK's.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least two.
    names : sequence of str, optional
        Names of the masks in warnings; their position, from 1, unless given.
    max_iterations : int or None
        Where to stop; None for no limit. STAPLE on two masks that hardly overlap needs thousands
        of iterations to move the probability in its third digit.

    Returns
    -------
    Staple
        Unanimous masks are returned as they are, with a warning: ITK would divide 0 by 0 if they
        are all empty or all full, and call the result empty.

    Raises
    ------
    DataError
        If there are fewer than two masks, or they are not binary, two-dimensional, of one shape.
    ValueError
        If `max_iterations` makes no sense.

    Notes
    -----
    With two annotators the masks show three frequencies and the model has four unknowns: what
    comes out depends on where it starts. Two nested masks stay at the start: the probability of
    every disputed pixel is exactly one half, and rounding decides whether the consensus is the
    larger or the smaller mask (463 of the 2,130 images of IMA++ with two masks). Where a
    probability is one half to rounding, SimpleITK is run, whose rounding made the published masks.
    Of two disjoint masks the larger is kept whole; if they are equally large, nothing is. All this
    is reported in `warnings`.

    References
    ----------
    Warfield, S. K., Zou, K. H. and Wells, W. M. (2004). Simultaneous truth and performance level
    estimation (STAPLE). IEEE Transactions on Medical Imaging 23(7), 903-921.
    """
    stack = mask_stack(masks, names, min_masks=2)
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    labels = [f"mask {n}" for n in range(1, len(stack) + 1)] if names is None else list(names)
    prior = np.count_nonzero(stack) / stack.size
    if all(np.array_equal(mask, stack[0]) for mask in stack):
        return _unanimous(stack, prior)
    patterns, marked, count = _patterns(stack)
    levels, *rates, iterations = _run_patterns(marked, count, max_iterations)
    if (np.abs(levels[count > 0] - 0.5) < TIE).any():
        levels, *rates, iterations = _run_itk(stack, patterns, len(count), max_iterations)
    sensitivity, specificity = rates
    stopped = max_iterations is not None and iterations >= max_iterations
    warnings = _input_warnings(stack, labels)
    drawn = [label for mask, label in zip(stack, labels, strict=True) if mask.any()]
    rates = sensitivity[stack.any(axis=(1, 2))]
    warnings += _output_warnings(levels, count, rates, drawn, iterations if stopped else None)
    mask = look_up(levels > 0.5, patterns)
    rates = (sensitivity, specificity, prior, iterations)
    return Staple(patterns, levels, mask, *rates, tuple(warnings))


def _run_patterns(marked, count, max_iterations: int | None):
    """Alternate the two steps over the patterns of decisions, each counted as often as it occurs.

    The probabilities are those of the E step before the last M step, as in ITK; 0 for patterns
    that do not occur.
    """
    occur = count > 0
    n, marked, count, levels = len(marked), marked[:, occur], count[occur], np.zeros(len(count))
    weight = marked.mean(axis=0)
    prior = weight @ count / count.sum()
    before, iteration = np.full((2, n), -10.0), 0
    with np.errstate(divide="ignore", invalid="ignore"):
        while max_iterations is None or iteration < max_iterations:
            inside, outside = weight * count, (1 - weight) * count
            p, q = marked @ inside / inside.sum(), (1 - marked) @ outside / outside.sum()
            likely = prior * np.where(marked, p[:, None], 1 - p[:, None]).prod(axis=0)
            other = (1 - prior) * np.where(marked, 1 - q[:, None], q[:, None]).prod(axis=0)
            weight, iteration = likely / (likely + other), iteration + 1
            change = np.abs(np.stack([p, q]) - before).max()
            before = np.stack([p, q])
            if not change >= _RATES_TOLERANCE:
                iteration -= 1  # as ITK counts them
                break
    levels[occur] = weight
    return levels, p, q, iteration


def _patterns(stack):
    """Group pixels by who marked them.

    Returns the pattern of each pixel (height, width), which masks mark a pattern (n, patterns) as 0
    or 1, and its pixels (patterns,). In pattern 0 nobody marks anything.
    """
    n, box = len(stack), bounding_box(stack.any(axis=0))
    inner = stack[:, *box]
    if n > _MOST_COUNTED:  # more patterns than anything to count them in
        marked, place, count = np.unique(
            inner.reshape(n, -1), axis=1, return_inverse=True, return_counts=True
        )
        marked, count = np.column_stack([np.zeros(n), marked]), np.append(0, count)
        place = place.reshape(inner.shape[1:]) + 1
    else:
        place = np.zeros(inner.shape[1:], np.min_scalar_type((1 << n) - 1))
        for number, mask in enumerate(inner):
            place |= np.left_shift(mask, number, dtype=place.dtype)
        marked = ((np.arange(1 << n) >> np.arange(n)[:, None]) & 1).astype(float)
        count = count_codes(place, 1 << n)
    patterns = np.zeros(stack.shape[1:], np.min_scalar_type(len(count) - 1))
    patterns[box] = place
    count[0] += patterns.size - place.size
    return patterns, marked, count


def _run_itk(stack, patterns, n_patterns: int, max_iterations: int | None):
    """Call SimpleITK; the package is large, so it is imported only here."""
    import SimpleITK

    estimate = SimpleITK.STAPLEImageFilter()
    estimate.SetForegroundValue(1)
    if max_iterations is not None:
        estimate.SetMaximumIterations(max_iterations)
    images = [SimpleITK.GetImageFromArray(mask.view(np.uint8)) for mask in stack]
    result = estimate.Execute(images)
    levels = np.zeros(n_patterns)  # pixels of one pattern have one probability
    probability = SimpleITK.GetArrayViewFromImage(result)
    for band, values in zip(row_bands(patterns), row_bands(probability), strict=True):
        levels[band] = values
    rates = (np.array(estimate.GetSensitivity()), np.array(estimate.GetSpecificity()))
    return levels, *rates, int(estimate.GetElapsedIterations())


def _unanimous(stack: np.ndarray, prior: float) -> Staple:
    mask = stack[0].copy()
    kind = "empty" if not mask.any() else "full" if mask.all() else "equal"
    warnings = f"all masks are {kind}: there is nothing to estimate"
    rates = np.ones((2, len(stack)))
    rates[0] = np.nan if kind == "empty" else 1.0
    rates[1] = np.nan if kind == "full" else 1.0
    levels = np.array([0.0, 1.0])
    return Staple(mask.view(np.uint8), levels, mask, *rates, prior, 0, (warnings,))


def _input_warnings(stack: np.ndarray, labels: Sequence[str]) -> list[str]:
    warnings = []
    for mask, label in zip(stack, labels, strict=True):
        if not mask.any():
            warnings.append(f"{label} is empty")
        elif mask.all():
            warnings.append(f"{label} covers the whole image")
    if len(stack) == 2:
        warnings.append("two masks cannot identify four rates: the result depends on the start")
        common = np.count_nonzero(stack[0] & stack[1])
        areas = [np.count_nonzero(mask) for mask in stack]
        if common == 0 and min(areas):
            warnings.append("the masks are disjoint")
        elif common == min(areas):
            warnings.append("the masks are nested: rounding chooses between the two")
    return warnings


def _output_warnings(levels, count, sensitivity, labels, stopped_at: int | None) -> list[str]:
    undecided = count[np.abs(levels - 0.5) < TIE].sum()
    undefined = count[np.isnan(levels)].sum()
    outvoted = [label for label, rate in zip(labels, sensitivity, strict=True) if rate < 1e-6]
    found = {
        f"{undecided} pixels have probability 1/2 to rounding": undecided,
        f"{undefined} pixels have no probability (0 / 0)": undefined,
        "the consensus is empty though not all masks are": not (count[levels > 0.5]).any(),
        f"taken as wrong wherever the truth is: {', '.join(outvoted)}": outvoted,
        f"stopped after {stopped_at} iterations, not converged": stopped_at is not None,
    }
    return [warning for warning, applies in found.items() if applies]


#: Spatial STAPLE has converged when no probability changes by more.
TOLERANCE = 1e-4
# Rates of exactly 0 or 1 would make single pixels impossible (0 / 0) where annotators contradict
# each other with certainty.
_SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class SpatialStaple:
    """Result of spatially varying STAPLE.

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
        Probability of each pixel to be inside before its own masks are considered.
    window : int
        Side of the window in pixels.
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
    iterations: int
    warnings: tuple[str, ...]


def spatial_staple(
    masks,
    window: int | None = None,
    prior_weight: float = 0.3,
    names: Sequence[str] | None = None,
    max_iterations: int = 100,
) -> SpatialStaple:
    """Estimate the hidden true mask and each annotator's performance around each pixel.

    The equations, and what is settled here beyond the source, are in the docstring of this module.

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
    names : sequence of str, optional
        Names of the masks in warnings; their position, from 1, unless given.
    max_iterations : int

    Returns
    -------
    SpatialStaple
        It takes about 150 bytes per pixel for five masks.

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
    stack = mask_stack(masks, names, min_masks=2)
    shape = stack.shape[1:]
    side = max(shape) // 8 | 1 if window is None else window
    if side != int(side) or side < 1 or side % 2 == 0:
        raise ValueError(f"window must be an odd number of pixels, not {window}")
    if not (np.isfinite(prior_weight) and prior_weight >= 0):
        raise ValueError(f"prior_weight must be 0 or more, not {prior_weight}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    start = staple(stack, names)
    local = _LocalRates(stack, start, int(side), prior_weight)
    weights, iteration, change = start.probability, 0, np.inf
    # Unanimous masks leave nothing to alternate between: STAPLE took no iteration.
    while start.iterations and change > TOLERANCE and iteration < max_iterations:
        inside, outside = local.prior.copy(), 1 - local.prior
        for mask, (p, q) in zip(stack, local.rates(weights), strict=True):
            inside *= np.where(mask, p, 1 - p)
            outside *= np.where(mask, 1 - q, q)
        updated = inside / (inside + outside)
        change = float(np.abs(updated - weights).max())
        weights, iteration = updated, iteration + 1
    warnings = [f"global STAPLE: {warning}" for warning in start.warnings]
    if start.iterations and change > TOLERANCE:
        warnings.append(f"stopped after {iteration} iterations, not converged")
    rates = list(local.rates(weights)) if start.iterations else local.start
    fields = (
        np.stack([np.broadcast_to(r, shape).astype(np.float32) for r in kind])
        for kind in zip(*rates, strict=True)
    )
    facts = {"prior": local.prior, "window": int(side), "iterations": iteration}
    overall = {f"global_{name}": getattr(start, name) for name in ("sensitivity", "specificity")}
    return SpatialStaple(
        weights, weights > 0.5, *fields, **overall, **facts, warnings=tuple(warnings)
    )


class _LocalRates:
    """The M step: sensitivity and specificity of each annotator around each pixel."""

    def __init__(self, stack: np.ndarray, start: Staple, side: int, prior_weight: float):
        # A window that reaches every pixel from everywhere; a larger one gives the same sums.
        self.side = min(side, 2 * max(stack.shape[1:]) - 1)
        self.stack, self.size = stack, self._sum(np.ones(stack.shape[1:]))
        self.start = list(zip(start.sensitivity, start.specificity, strict=True))
        self.pooled = prior_weight * self.size
        self.marked = [self._sum(mask.astype(float)) for mask in stack]
        # The sums carry rounding, so that the share may leave [0, 1] by as much.
        self.prior = np.clip(np.mean(self.marked, axis=0) / self.size, 0, 1)

    def rates(self, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the two fields of each annotator that the probabilities imply."""
        inside = self._sum(weights)
        outside = self.size - inside
        for mask, marked, (p, q) in zip(self.stack, self.marked, self.start, strict=True):
            hits = self._sum(weights * mask)
            yield self._ratio(hits, inside, p), self._ratio(outside - marked + hits, outside, q)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the square window around each pixel, cut at the image's border."""
        for axis in (1, 0):
            values = uniform_filter1d(values, self.side, axis=axis, mode="constant")
        values *= self.side**2
        return np.maximum(values, 0, out=values)

    def _ratio(self, right: np.ndarray, possible: np.ndarray, overall: float) -> np.ndarray:
        total = possible + self.pooled
        rate = np.full(total.shape, overall)
        np.divide(right + overall * self.pooled, total, out=rate, where=total > _SMALLEST)
        return np.clip(rate, _SMALLEST, 1 - _SMALLEST, out=rate)
