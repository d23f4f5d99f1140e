"""One mask out of several: majority vote, STAPLE, mean map, a random annotator.

Every function takes the masks of one image as a sequence of arrays of shape (height, width) (0
outside, one positive value inside) or as one array of shape (n, height, width), and raises
:class:`iavlib.data.errors.DataError`, naming the mask, where they are not that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from iavlib.agreement.stack import mask_stack

Ties = Literal["foreground", "background"]

#: Votes (and probabilities of STAPLE) closer than this to the half are a tie: what tells them
#: apart is rounding.
TIE = 1e-9


def mean_map(masks, weights: ArrayLike | None = None) -> np.ndarray:
    """Return the share of the votes that each pixel gets.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least one.
    weights : array_like of float, shape (n,), optional
        Weight of each mask's vote, not negative; equal unless given.

    Returns
    -------
    numpy.ndarray of float, shape (height, width)
        From 0 (nobody) to 1 (everybody).

    Raises
    ------
    DataError
        If the masks are not binary, two-dimensional and of one shape.
    ValueError
        If the weights are not one finite number a mask, or all zero.
    """
    stack = mask_stack(masks)
    return _votes(stack, weights)


def majority_vote(masks, weights: ArrayLike | None = None, ties: Ties = "foreground") -> np.ndarray:
    """Return the pixels that more than half of the votes are for.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least two.
    weights : array_like of float, shape (n,), optional
        Weight of each mask's vote, not negative; equal unless given.
    ties : {"foreground", "background"}
        What becomes of a pixel with exactly half of the votes (to rounding, 1e-9 of the total).
        Foreground, as in IMA++, makes the vote of two masks their union; background makes it
        their intersection.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    DataError
        If there are fewer than two masks, or they are not binary, two-dimensional, of one shape.
    ValueError
        If the weights are not one finite number a mask, or all zero; if `ties` is neither.
    """
    if ties not in ("foreground", "background"):
        raise ValueError(f"ties must be 'foreground' or 'background', not {ties!r}")
    share = _votes(mask_stack(masks, at_least=2), weights)
    return share >= 0.5 - TIE if ties == "foreground" else share > 0.5 + TIE


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
    return stack[index], index


@dataclass(frozen=True, eq=False)
class Staple:
    """What STAPLE makes of several masks.

    Attributes
    ----------
    probability : numpy.ndarray of float, shape (height, width)
        Probability of each pixel to be inside, given the masks.
    mask : numpy.ndarray of bool, shape (height, width)
        Probability > 0.5.
    sensitivity, specificity : numpy.ndarray of float, shape (n,)
        Of each annotator, against the estimated truth; NaN where there is no truth to be
        sensitive to (nothing marked, everything marked).
    prior : float
        Probability of a pixel to be inside before its masks are looked at: the mean of all masks
        over all pixels, times the confidence.
    iterations : int
        As ITK counts them.
    warnings : tuple of str
        What makes the result doubtful; empty where nothing does.
    """

    probability: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    sensitivity: np.ndarray
    specificity: np.ndarray
    prior: float
    iterations: int
    warnings: tuple[str, ...]


def staple(
    masks,
    names: Sequence[str] | None = None,
    confidence: float = 1.0,
    max_iterations: int | None = 1000,
) -> Staple:
    """Estimate the hidden true mask and each annotator's performance with SimpleITK's STAPLE.

    STAPLE takes the truth T of every pixel as hidden, each annotator j as having one sensitivity
    p_j and one specificity q_j over the whole image, pixels and annotators as independent, and
    alternates between W = P(T = 1 | masks, p, q) and the p, q that W implies, starting from
    W = mean of the masks, until p and q change by less than 1e-7.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        At least two.
    names : sequence of str, optional
        What to call the masks in warnings; their position, from 1, unless given.
    confidence : float
        Factor on the prior, in (0, 1]; ITK's default is 1.
    max_iterations : int or None
        Where to stop; None for ITK's own limit, about 4 billion. STAPLE on two masks that hardly
        overlap needs thousands of iterations, each a pass over the whole image, to move the
        probability in its third digit.

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
        If `confidence` or `max_iterations` make no sense.

    Notes
    -----
    With two annotators the masks show three frequencies and the model has four unknowns: what
    comes out depends on where it starts. Two nested masks stay at the start: the probability of
    every disputed pixel is exactly one half, and rounding decides whether the consensus is the
    larger or the smaller mask (463 of the 2,130 images of IMA++ with two masks). Of two disjoint
    masks the larger is kept whole. Both are told in `warnings`.

    References
    ----------
    Warfield, S. K., Zou, K. H. and Wells, W. M. (2004). Simultaneous truth and performance level
    estimation (STAPLE). IEEE Transactions on Medical Imaging 23(7), 903-921.
    """
    stack = mask_stack(masks, names, at_least=2)
    if not 0 < confidence <= 1:
        raise ValueError(f"confidence must lie in (0, 1], not {confidence}")
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    labels = [f"mask {n}" for n in range(1, len(stack) + 1)] if names is None else list(names)
    prior = float(stack.mean()) * confidence
    if (stack == stack[0]).all():
        return _unanimous(stack, prior)
    probability, sensitivity, specificity, iterations = _run_itk(stack, confidence, max_iterations)
    stopped = max_iterations is not None and iterations >= max_iterations
    told = _input_warnings(stack, labels)
    drawn = [label for mask, label in zip(stack, labels, strict=True) if mask.any()]
    rates = sensitivity[stack.any(axis=(1, 2))]
    told += _output_warnings(probability, rates, drawn, iterations if stopped else None)
    return Staple(
        probability, probability > 0.5, sensitivity, specificity, prior, iterations, tuple(told)
    )


def _votes(stack: np.ndarray, weights: ArrayLike | None) -> np.ndarray:
    n = len(stack)
    if weights is None:
        return np.add.reduce(stack, axis=0, dtype=np.uint16) / n
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (n,):
        raise ValueError(f"{n} masks need {n} weights, not an array of shape {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(f"weights must be finite, not negative and not all 0: {weights.tolist()}")
    share = np.zeros(stack.shape[1:])
    for mask, weight in zip(stack, weights / weights.sum(), strict=True):
        share += weight * mask
    # Rounding must not take a unanimous pixel above 1.
    return np.minimum(share, 1.0)


def _run_itk(stack, confidence: float, max_iterations: int | None):
    """Call SimpleITK; the package is large, so it is imported only here."""
    import SimpleITK

    estimate = SimpleITK.STAPLEImageFilter()
    estimate.SetForegroundValue(1)
    estimate.SetConfidenceWeight(confidence)
    if max_iterations is not None:
        estimate.SetMaximumIterations(max_iterations)
    images = [SimpleITK.GetImageFromArray(mask.view(np.uint8)) for mask in stack]
    probability = SimpleITK.GetArrayFromImage(estimate.Execute(images))
    rates = (np.array(estimate.GetSensitivity()), np.array(estimate.GetSpecificity()))
    return probability, *rates, int(estimate.GetElapsedIterations())


def _unanimous(stack: np.ndarray, prior: float) -> Staple:
    mask = stack[0].copy()
    kind = "empty" if not mask.any() else "full" if mask.all() else "equal"
    told = f"all masks are {kind}: there is nothing to estimate"
    rates = np.ones((2, len(stack)))
    rates[0] = np.nan if kind == "empty" else 1.0
    rates[1] = np.nan if kind == "full" else 1.0
    return Staple(mask.astype(float), mask, *rates, prior, 0, (told,))


def _input_warnings(stack: np.ndarray, labels: Sequence[str]) -> list[str]:
    told = []
    for mask, label in zip(stack, labels, strict=True):
        if not mask.any():
            told.append(f"{label} is empty")
        elif mask.all():
            told.append(f"{label} covers the whole image")
    if len(stack) == 2:
        told.append("two masks cannot identify four rates: the result depends on the start")
        common = np.count_nonzero(stack[0] & stack[1])
        areas = [np.count_nonzero(mask) for mask in stack]
        if common == 0 and min(areas):
            told.append("the masks are disjoint")
        elif common == min(areas):
            told.append("the masks are nested: rounding chooses between the two")
    return told


def _output_warnings(probability, sensitivity, labels, stopped_at: int | None) -> list[str]:
    told = []
    undecided = int(np.count_nonzero(np.abs(probability - 0.5) < TIE))
    if undecided:
        told.append(f"{undecided} pixels have probability 1/2 to rounding")
    if np.isnan(probability).any():
        told.append(f"{int(np.isnan(probability).sum())} pixels have no probability (0 / 0)")
    if not (probability > 0.5).any():
        told.append("the consensus is empty though not all masks are")
    outvoted = [label for label, rate in zip(labels, sensitivity, strict=True) if rate < 1e-6]
    if outvoted:
        told.append(f"taken as wrong wherever the truth is: {', '.join(outvoted)}")
    if stopped_at is not None:
        told.append(f"stopped after {stopped_at} iterations, not converged")
    return told
