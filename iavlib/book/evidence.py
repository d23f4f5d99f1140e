"""How a measurement bears on a claim: in which setting it was made, and what its interval says.

Two labels, never one. The *setting* says how near the measurement is to what the source did, the
*evidence* what the interval says about the claimed effect and about the smallest effect that would
matter, which ``book/claims.yml`` states with its reason. The sign of an estimate decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iavlib.book.recording import Comparison

#: From the one that can judge a source's number to the one that is farthest from it.
SETTINGS = SAME, OTHER_PROTOCOL, OTHER_DATA, SIMULATED = (
    *("same data and protocol", "same data, other protocol"),
    *("other or partial data", "simulated annotators"),
)
EVIDENCE = SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_COMPARABLE, NOT_RUN = (
    *("supported", "not supported", "inconclusive", "not comparable", "not run"),
)
#: What the evidence is called where data and protocol are the source's own, and nowhere else.
REPRODUCED = {SUPPORTED: "reproduced", NOT_SUPPORTED: "not reproduced"}

#: Kinds about an effect in one direction.
EFFECTS = ("positive", "negative", "reduction")

Interval = Sequence[float] | None
_ANY = (-math.inf, math.inf)


def judge(
    compare: Comparison, claimed: float | None, value: float, interval: Interval = None
) -> str:
    """Say what a measured value and its 95 % interval mean for a claim.

    Parameters
    ----------
    compare : Comparison
        Kind of the claim, with its smallest effect of interest.
    claimed : float or None
        The effect or level that the source reports, or that follows from its numbers.
    value : float
        The measured value; for the kind *reduction* the share by which an error is below that of a
        constant.
    interval : pair of float, optional
        Its interval; without one only *equal* and *p-below* are more than inconclusive.

    Returns
    -------
    str
        *supported*, *not supported* or *inconclusive*. With s for the smallest effect that matters:

        - *equal*: supported within the rounding of the printed number, else not supported.
        - *p-below*: supported below the threshold, else inconclusive: a large p shows nothing.
        - *positive*, *reduction* (and *negative*, mirrored): supported if the whole interval is
          above s; not supported if it is below the claimed effect, or below s where no size was
          claimed.
        - *equivalent* ("do not differ"): two one-sided tests, supported if the whole interval is
          within s of the claimed value (0 where none is); not supported if it leaves that value
          out.
        - *at-least* (and *at-most*, mirrored): supported if the whole interval is above the claimed
          level less s; not supported if it is below the claimed level.
    """
    kind = compare.kind
    if kind == "equal":
        # a little more, so that .786 is within .005 of .781 in binary too
        near = abs(value - claimed) <= (compare.tolerance or 0) * (1 + 1e-9) + 1e-12
        return SUPPORTED if near else NOT_SUPPORTED
    if kind == "p-below":
        return SUPPORTED if value < compare.threshold else INCONCLUSIVE
    if interval is None:
        return INCONCLUSIVE
    low, high = interval
    smallest, level = compare.smallest, claimed
    if kind in ("negative", "at-most"):
        low, high, level = -high, -low, None if claimed is None else -claimed
    if kind == "equivalent":
        centre = claimed or 0
        holds = centre - smallest <= low and high <= centre + smallest
        excluded = not low <= centre <= high
    elif kind in EFFECTS:
        holds, excluded = low > smallest, high < (smallest if level is None else level)
    else:
        holds, excluded = low > level - smallest, high < level
    return SUPPORTED if holds else NOT_SUPPORTED if excluded else INCONCLUSIVE


def usable_interval(
    value: float, interval: Interval, within: Sequence[float] | None = None
) -> list[float] | None:
    """Return an interval, None where it is none: of no width, or beyond the possible range."""
    if interval is None:
        return None
    (low, high), (least, largest) = map(float, interval), within or _ANY
    slack = 1e-9 * max(1, abs(value))
    is_one = high - low > slack and low >= least - slack and high <= largest + slack
    return list(interval) if is_one else None


def standard_error(
    value: float, interval: Interval, seeds: int | None = None, within: Interval = None
) -> float | None:
    """Work the standard error out from a 95 % interval.

    Parameters
    ----------
    value : float
    interval : pair of float
    seeds : int, optional
        Where the interval is Student's t over runs with this many seeds; else it is taken as
        normal.
    within : pair of float, optional
        Possible range: an arm that was cut there says nothing of the error.

    Returns
    -------
    float or None
        None without an interval, or where both its arms were cut.
    """
    if interval is None:
        return None
    (low, high), (least, largest) = map(float, interval), within or _ANY
    arms = [value - low] * (low > least) + [high - value] * (high < largest)
    return sum(arms) / len(arms) / _critical(seeds)[0] if arms else None


def detectable_effect(
    value: float, interval: Interval, seeds: int | None = None, within: Interval = None
) -> float | None:
    """Return the minimal detectable effect of a measurement as precise as this.

    That is the effect which the two-sided test at 5 % against zero (or the claimed level) finds
    with 80 % probability. Parameters are those of :func:`standard_error`.

    Examples
    --------
    >>> from iavlib.book.evidence import detectable_effect
    >>> round(detectable_effect(0.35, (-1.22, 2.04)), 1)
    2.3
    """
    error = standard_error(value, interval, seeds, within)
    return None if error is None else error * _critical(seeds)[1]


def pool(values: Sequence[float], errors: Sequence[float]) -> tuple[float, list[float]]:
    """Average an effect over data sets that may differ in it.

    Parameters
    ----------
    values, errors : sequence of float
        Effect of each of two data sets or more, and its standard error.

    Returns
    -------
    float, list of float
        Random-effects mean, and its 95 % interval by Student's t with one degree of freedom less
        than there are sets: two leave one, and a very wide interval.
    """
    from iavlib.stats import random_effects_mean

    mean = random_effects_mean(values, errors)
    half = _critical(len(values))[0] * mean["se"]
    return mean["estimate"], [mean["estimate"] - half, mean["estimate"] + half]


@cache
def _critical(seeds: int | None) -> tuple[float, float]:
    """Return the 97.5 % quantile of t, and how many errors away an effect is found in 80 %."""
    from scipy import optimize, stats

    left = (seeds or 10_000) - 1  # as good as normal
    limit = float(stats.t.ppf(0.975, left))
    missed = lambda shift: 0.8 - stats.nct.sf(limit, left, shift)  # noqa: E731
    return limit, float(optimize.brentq(missed, 0, 50 * limit))
