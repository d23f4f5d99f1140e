"""Simulated annotators: what a good, an over- or under-segmenting, a wrong or an idle one draws.

Every annotator takes the true label map and returns another. At full strength, for a digit of
28 x 28 pixels (one *unit* a pixel; a larger picture has larger units):

- ``good`` draws the truth;
- ``over`` grows it by 2 units, two dilations by a cross;
- ``under`` takes one unit off the border of its *core* (what is brighter than half; the truth
  itself where there is none), one erosion by a cross;
- ``wrong`` breaks it in two places, each a gap of 5 units across the stroke, and grows what is
  left by 1.5 units;
- ``blank`` draws nothing;
- ``swap`` takes each foreground class for the next one, the last for the first.

Strengths are those of the published examples by area ratio, Dice and recall; ``wrong`` breaks its
digits into two pieces on average, where the published examples have 1.3.

An annotator's *level* is the share of its full-strength errors that it makes, those nearest to
the true border first, so that the error rates of its confusion matrix grow in proportion.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from iavlib.annotators.distortions import KINDS, between
from iavlib.annotators.errors import LabelError

#: Side of the pictures that strengths are given for; a unit is the shorter side over this.
BASE_SIZE = 28
#: The five of the confusion-matrix papers, and those of their multi-class data.
PAPER_ANNOTATORS = ("good", "over", "under", "wrong", "blank")
MULTI_CLASS_ANNOTATORS = ("good", "over", "under", "swap", "blank")


@dataclass(frozen=True)
class SimulatedAnnotator:
    """One simulated annotator.

    Attributes
    ----------
    name : str
    kind : str
        A name of :data:`KINDS`.
    level : float
        Share of its full-strength errors that it makes, from 0 (draws the truth) to 1.
    """

    name: str
    kind: str
    level: float = 1.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise LabelError(
                f"simulated annotator {self.name!r}",
                f"there is no kind {self.kind!r}",
                f"choose among {', '.join(KINDS)}",
            )
        if not 0 <= self.level <= 1:
            raise LabelError(
                f"simulated annotator {self.name!r}",
                f"level {self.level} is not within [0, 1]",
                "give the share of the errors it makes",
            )


def named(annotators: Sequence[str | SimulatedAnnotator], level: float = 1.0):
    """Make simulated annotators of kinds' names, at one level; leave those made before as is.

    Raises
    ------
    LabelError
        If a kind is unknown, a level is not within [0, 1], or two have one name.
    """
    made = tuple(
        SimulatedAnnotator(one, one, level) if isinstance(one, str) else one for one in annotators
    )
    names = [one.name for one in made]
    if not made or len(set(names)) < len(names):
        raise LabelError(
            "simulated annotators", f"names {names}", "give at least one, each a name of its own"
        )
    return made


def crowd(n: int, seed: int = 0, kinds: Sequence[str] = ("good", "over", "under", "wrong")):
    """Make any number of annotators: kinds in turn, each at a level of its own from .2 to 1.

    Parameters
    ----------
    n : int
        At least 1.
    seed : int
    kinds : sequence of str

    Returns
    -------
    tuple of SimulatedAnnotator
        Named by their kind and number.
    """
    levels = np.random.default_rng(seed).uniform(0.2, 1.0, n)
    drawn = [kinds[number % len(kinds)] for number in range(n)]
    return named(
        [
            SimulatedAnnotator(f"{kind}-{number + 1:02d}", kind, round(float(level), 3))
            for number, (kind, level) in enumerate(zip(drawn, levels, strict=True))
        ]
    )


def simulate(
    truth: np.ndarray,
    annotators: Sequence[str | SimulatedAnnotator],
    n_classes: int,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    level: float = 1.0,
    unit: float | None = None,
    core: np.ndarray | None = None,
) -> np.ndarray:
    """Let simulated annotators label pictures whose truth is known.

    What an annotator draws on a picture depends on the seed, the annotator's name and the
    picture's id alone, not on the others in the set.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (n, height, width)
        Labels from 0 (background) to ``n_classes - 1``.
    annotators : sequence of str or SimulatedAnnotator
    n_classes : int
    ids : sequence of str, optional
        Names of the pictures; their position unless given.
    seed : int
    level : float
        Of those annotators that are given by name.
    unit : float, optional
        Pixels a unit of strength has; the shorter side over 28 unless given.
    core : numpy.ndarray of bool, shape (n, height, width), optional
        The part of each picture's foreground that ``under`` starts from.

    Returns
    -------
    numpy.ndarray of int8, shape (n, annotators, height, width)

    Raises
    ------
    LabelError
        If an annotator is unknown, or a class is beyond those declared.
    """
    annotators = named(annotators, level)
    unit = min(truth.shape[1:]) / BASE_SIZE if unit is None else unit
    if truth.size and not 0 <= truth.min() <= truth.max() < n_classes:
        raise LabelError(
            "truth",
            f"classes from {truth.min()} to {truth.max()}, but {n_classes} are declared",
            "declare as many classes as there are, background included",
        )
    ids = [str(number) for number in range(len(truth))] if ids is None else [str(i) for i in ids]
    labels = np.empty((len(truth), len(annotators), *truth.shape[1:]), np.int8)
    for number, (image_id, true) in enumerate(zip(ids, truth, strict=True)):
        inner = None if core is None else core[number]
        for place, one in enumerate(annotators):
            entropy = [seed, zlib.crc32(one.name.encode()), zlib.crc32(image_id.encode())]
            generator = np.random.default_rng(entropy)
            full = KINDS[one.kind](true, n_classes, unit, generator, inner)
            labels[number, place] = between(true, full, one.level, generator)
    return labels
