"""How far an error lies below a constant guess: the part of a claim that other data can share.

A mean absolute error depends on how much the target varies in the data it was measured on. Its
reduction against the constant median of the same data depends on that far less. A claim with a
``baseline`` (the paper's own constant-median error) is therefore judged on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iavlib.claims.definitions import Claim


@dataclass(frozen=True)
class Reduction:
    """A share by which an error is below that of a constant.

    Parameters
    ----------
    value : float
        1 - error / baseline; negative when the constant is better.
    low, high : float
        Its interval; both are `value` where none is known.
    """

    value: float
    low: float
    high: float

    def holds_against(self, reported: float) -> bool:
        """Tell whether it is as large as the reported one, give or take its interval.

        The interval must lie above zero besides: what is not shown to beat a constant has not
        reproduced a gain over one, however wide its interval.
        """
        return self.low > 0 and self.high >= reported - 1e-12


def reported_reduction(claim: Claim) -> float | None:
    """Return the reduction that a claim reports, None for one without a baseline."""
    if claim.baseline is None or claim.reported is None:
        return None
    return 1 - claim.reported / claim.baseline


def measured_reduction(entry: Mapping[str, Any]) -> Reduction | None:
    """Work out the reduction of a recorded value, None where no baseline was recorded with it.

    Parameters
    ----------
    entry : mapping
        What :func:`iavlib.claims.record` kept. Without an interval of the reduction the ends of
        the value's own interval are set against the baseline, which then counts as known.

    Returns
    -------
    Reduction or None
    """
    baseline = entry.get("baseline")
    if baseline is None:
        return None
    value = 1 - entry["value"] / baseline
    if entry.get("reduction_interval") is not None:
        return Reduction(value, *entry["reduction_interval"])
    if entry["interval"] is not None:
        low, high = entry["interval"]
        return Reduction(value, 1 - high / baseline, 1 - low / baseline)
    return Reduction(value, value, value)
