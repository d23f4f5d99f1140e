"""Recording what a notebook measured for a claim."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from typing import Any

from iavlib.book.claim_definitions import NEED_INTERVAL, ClaimError, load_claims
from iavlib.core.errors import suggest
from iavlib.core.project import RUN_VARIABLE, find_project

#: Key of what is pending that the manifest takes off.
OF_RUNS = "of_runs"

_pending: list[dict[str, Any]] = []


def record(
    claim: str,
    value: float,
    *,
    cohort: Any,
    n: int,
    interval: Sequence[float] | None = None,
    note: str | None = None,
    coverage: Sequence[int] | None = None,
    baseline: float | None = None,
    reduction_interval: Sequence[float] | None = None,
    simulated: bool = False,
) -> None:
    """Keep a measured value for a claim until the notebook writes its manifest.

    Parameters
    ----------
    claim : str
        Id of a claim in ``book/claims.yml``.
    value : float
        What was measured: the statistic for means and coefficients, p for tests.
    cohort : Cohort
        The data it was measured on; its ``name`` and ``synthetic`` are kept. A
        user's own data may be recorded: the ledger leaves it out. Where it has a true ``of_runs``
        (:class:`iavlib.experiments.claims.RunData`), the manifest need not list it:
        runs may be stored ones, of data that are not on this machine.
    n : int
        Number of units (pairs, images, runs) behind the value.
    interval : pair of float, optional
        Lower and upper end of its interval; needed where the claim is about a sign.
    note : str, optional
        Anything a reader of the value must know.
    coverage : pair of int, optional
        How many of the paper's units were at hand, and of how many, for instance
        ``(1053, 2394)`` images; the scorecard says so.
    baseline : float, optional
        For an error: that of the constant median on these data and these very units. Needed where
        the claim has a baseline; elsewhere the scorecard shows the reduction beside the value.
    reduction_interval : pair of float, optional
        Interval of the relative reduction, 1 - value / baseline, as
        :func:`iavlib.stats.relative_reduction` gives it. Without it the ends of `interval` are set
        against `baseline`, as though that were known exactly.
    simulated : bool
        The images are real, their annotators simulated. Such a value is flagged apart, and one
        with real annotators goes before it.

    Raises
    ------
    ClaimError
        If the id is unknown, a number is not finite, the interval is upside
        down or missing where it is needed, `n` is not a positive whole number,
        `coverage` is not (part, whole), or `baseline` is not positive or missing
        where it is needed. In a run by `iav run`, also if the same claim is recorded twice
        on the same data; interactively the later value replaces the earlier.
    ProjectError
        Outside a project folder.
    """
    claims = load_claims(find_project().claims)
    if claim not in claims:
        raise ClaimError(f"no claim {claim!r} in book/claims.yml; {suggest(claim, claims)}")
    place = f"claims.record({claim!r})"
    if interval is None and claims[claim].kind in NEED_INTERVAL:
        raise ClaimError(f"{place}: a claim about a sign needs interval=(low, high)")
    if baseline is None and (claims[claim].baseline is not None or reduction_interval is not None):
        raise ClaimError(f"{place}: needs baseline=, the constant median's error on the same data")
    entry = {
        "id": claim,
        "value": _finite(value, f"{place}: value"),
        "interval": _interval(interval, f"{place}: interval"),
        "n": _count(n, f"{place}: n"),
        "cohort": str(cohort.name),
        "synthetic": bool(cohort.synthetic),
        "note": note,
        "coverage": _coverage(coverage, f"{place}: coverage"),
        "baseline": None if baseline is None else _positive(baseline, f"{place}: baseline"),
        "reduction_interval": _interval(reduction_interval, f"{place}: reduction_interval"),
        "simulated": bool(simulated),
        OF_RUNS: bool(getattr(cohort, "of_runs", False)),
    }
    _keep(entry, place)


def _keep(entry: dict[str, Any], place: str) -> None:
    for position, earlier in enumerate(_pending):
        if (earlier["id"], earlier["cohort"]) == (entry["id"], entry["cohort"]):
            if os.environ.get(RUN_VARIABLE):
                raise ClaimError(f"{place}: already recorded on {entry['cohort']}; record it once")
            _pending[position] = entry
            return
    _pending.append(entry)


def take_pending() -> list[dict[str, Any]]:
    """Hand over what was recorded since the last call, and forget it."""
    taken = list(_pending)
    _pending.clear()
    return taken


def _finite(value: Any, place: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ClaimError(f"{place} must be one number, not {value!r}")
    if isinstance(value, numbers.Integral):
        return int(value)
    if not math.isfinite(value):
        raise ClaimError(f"{place} is {value}; a claim cannot be judged on that, find out why")
    return float(value)


def _positive(value: Any, place: str) -> float:
    number = float(_finite(value, place))
    if number <= 0:
        raise ClaimError(f"{place} must be positive, not {value!r}")
    return number


def _interval(interval: Sequence[float] | None, place: str) -> list[float | int] | None:
    if interval is None:
        return None
    ends = list(interval)
    if len(ends) != 2:
        raise ClaimError(f"{place} must be (low, high), not {ends!r}")
    low, high = (_finite(end, place) for end in ends)
    if low > high:
        raise ClaimError(f"{place} ({low}, {high}) is upside down")
    return [low, high]


def _coverage(coverage: Sequence[int] | None, place: str) -> list[int] | None:
    if coverage is None:
        return None
    counts = list(coverage)
    if len(counts) != 2:
        raise ClaimError(f"{place} must be (at hand, of how many), not {counts!r}")
    subset, whole = (_count(count, place) for count in counts)
    if subset > whole:
        raise ClaimError(f"{place} says {subset} of {whole}; swap the two")
    return [subset, whole]


def _count(n: Any, place: str) -> int:
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
        raise ClaimError(f"{place} must be a positive whole number, not {n!r}")
    return int(n)
