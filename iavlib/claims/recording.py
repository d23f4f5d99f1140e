"""Recording what a notebook measured for a claim."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from typing import Any

from iavlib.claims.definitions import NEED_INTERVAL, ClaimError, load_claims
from iavlib.execution.errors import suggest
from iavlib.execution.project import find_project

#: Names the file in which `iav run` tells a notebook's kernel about its run.
RUN_VARIABLE = "IAV_RUN"

_pending: list[dict[str, Any]] = []


def record(
    claim: str,
    value: float,
    *,
    cohort: Any,
    n: int,
    interval: Sequence[float] | None = None,
    note: str | None = None,
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
        user's own data may be recorded: the ledger leaves it out.
    n : int
        Number of units (pairs, images, runs) behind the value.
    interval : pair of float, optional
        Lower and upper end of its interval; needed where the claim is about a sign.
    note : str, optional
        Anything a reader of the value must know.

    Raises
    ------
    ClaimError
        If the id is unknown, a number is not finite, the interval is upside
        down or missing where it is needed, or `n` is not a positive whole
        number. In a run by `iav run`, also if the same claim is recorded twice
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
    entry = {
        "id": claim,
        "value": _finite(value, f"{place}: value"),
        "interval": None if interval is None else _interval(interval, place),
        "n": _count(n, place),
        "cohort": str(cohort.name),
        "synthetic": bool(cohort.synthetic),
        "note": note,
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


def _interval(interval: Sequence[float], place: str) -> list[float | int]:
    ends = list(interval)
    if len(ends) != 2:
        raise ClaimError(f"{place}: interval must be (low, high), not {ends!r}")
    low, high = (_finite(end, f"{place}: interval") for end in ends)
    if low > high:
        raise ClaimError(f"{place}: interval ({low}, {high}) is upside down")
    return [low, high]


def _count(n: Any, place: str) -> int:
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
        raise ClaimError(f"{place}: n must be a positive whole number, not {n!r}")
    return int(n)
