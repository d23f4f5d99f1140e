"""Judging one measured value against one claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iavlib.claims.definitions import Claim
from iavlib.claims.reductions import Reduction, reported_reduction

REPRODUCED = "reproduced"
PARTLY = "partly"
CONTRADICTED = "contradicted"
NOT_RUN = "not run"

#: A p-value that misses a paper's stricter threshold still supports it partly below this.
CONVENTIONAL_LEVEL = 0.05

Interval = Sequence[float] | None


def judge(
    claim: Claim,
    measured: float,
    interval: Interval = None,
    reduction: Reduction | None = None,
) -> str:
    """Compare a measured value with a claim.

    Parameters
    ----------
    claim : Claim
        What is claimed and how to compare.
    measured : float
        The measured value, finite.
    interval : pair of float, optional
        Its interval; without one a claim about a sign is reproduced partly at best.
    reduction : Reduction, optional
        Measured reduction of an error against a constant, for a claim with a baseline; without it
        such a claim is reproduced partly at best.

    Returns
    -------
    str
        ``"reproduced"``, ``"partly"`` or ``"contradicted"``:

        - *equal*: the same number, else contradicted.
        - *close*: within the tolerance; partly when the interval holds the
          reported number or the value is within twice the tolerance.
        - *p-below*: below the threshold; partly when below .05.
        - *p-above*: above the threshold, else contradicted.
        - *negative*, *positive*: the whole interval on that side of zero;
          partly when only the value is.
        - *at-most*, *at-least*: on that side of the limit, give or take the
          tolerance; partly when the interval reaches the limit or the value is
          within twice the tolerance.

        A claim with a baseline is judged on two counts instead: the value is
        within the tolerance of the reported one, and its reduction against the
        constant median of its own data is as large as the reported one, give or
        take its interval, which must lie above zero. Both: reproduced; one:
        partly; neither: contradicted.
    """
    alone = _RULES[claim.kind](claim, measured, interval)
    reported = reported_reduction(claim)
    if reported is None:
        return alone
    close = alone == REPRODUCED
    gained = reduction is not None and reduction.holds_against(reported)
    return _graded(close and gained, close or gained)


def _graded(fully: bool, half: bool = False) -> str:
    return REPRODUCED if fully else PARTLY if half else CONTRADICTED


def _within(distance: float, allowed: float) -> bool:
    """Compare with a grain of slack, so that .786 is within .005 of .781 in binary too."""
    return distance <= allowed * (1 + 1e-9) + 1e-12


def _equal(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured == claim.reported)


def _close(claim: Claim, measured: float, interval: Interval) -> str:
    distance, tolerance = abs(measured - claim.reported), claim.options["tolerance"]
    covered = interval is not None and interval[0] <= claim.reported <= interval[1]
    return _graded(_within(distance, tolerance), covered or _within(distance, 2 * tolerance))


def _p_below(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured < claim.options["threshold"], measured < CONVENTIONAL_LEVEL)


def _p_above(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured > claim.options["threshold"])


def _negative(_: Claim, measured: float, interval: Interval) -> str:
    return _graded(interval is not None and interval[1] < 0, measured < 0)


def _positive(_: Claim, measured: float, interval: Interval) -> str:
    return _graded(interval is not None and interval[0] > 0, measured > 0)


def _at_most(claim: Claim, measured: float, interval: Interval) -> str:
    limit, tolerance = claim.options.get("limit", claim.reported), claim.options.get("tolerance", 0)
    reaches = interval is not None and interval[0] <= limit
    excess = measured - limit
    return _graded(_within(excess, tolerance), reaches or _within(excess, 2 * tolerance))


def _at_least(claim: Claim, measured: float, interval: Interval) -> str:
    limit, tolerance = claim.options.get("limit", claim.reported), claim.options.get("tolerance", 0)
    reaches = interval is not None and interval[1] >= limit
    shortfall = limit - measured
    return _graded(_within(shortfall, tolerance), reaches or _within(shortfall, 2 * tolerance))


_RULES: dict[str, Callable[[Claim, float, Interval], str]] = {
    "equal": _equal,
    "close": _close,
    "p-below": _p_below,
    "p-above": _p_above,
    "negative": _negative,
    "positive": _positive,
    "at-most": _at_most,
    "at-least": _at_least,
}
