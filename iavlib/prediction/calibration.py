"""Intervals about predicted agreement, from the images on which a run was validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from iavlib.prediction.errors import PredictionError
from iavlib.prediction.models import IAA, Predictor
from iavlib.stats import Conformal, interval_coverage, split_conformal

#: Parts of a run that its network did not learn from.
PARTS = ("val", "test")


@dataclass(frozen=True)
class Calibration:
    """Split-conformal intervals of one run.

    Parameters
    ----------
    conformal : Conformal
    part : {"val", "test"}
        The images they are calibrated on.
    n : int
        How many those are.
    checked : dict or None
        On the other part: ``part``, ``n``, ``coverage`` with ``low`` and ``high`` (95 %,
        binomial), and ``width`` (mean). None where that part is empty.
    """

    conformal: Conformal
    part: str
    n: int
    checked: dict[str, Any] | None


def calibrate(predictor: Predictor, alpha: float = 0.1, part: str = "val") -> Calibration:
    """Calibrate intervals on a run's own predictions of one part, and check them on another.

    Parameters
    ----------
    predictor : Predictor
        That tells agreement.
    alpha : float
        Share of truths that may lie outside.
    part : {"val", "test"}
        The validation part is left over by the split; but where the best epoch was chosen on it,
        its errors are a little too small, and intervals a little too narrow. Calibrated on the
        test part they are not, and nothing is left to check them on but the validation part.

    Raises
    ------
    PredictionError
        If the run has too few predictions of that part for this level, so that every interval
        would be the whole range.
    """
    known = _known(predictor)
    mine = known[known["part"] == part]
    fewest = round(1 / alpha - 1)
    if part not in PARTS or len(mine) < fewest:
        told = f"{len(mine)} images of known agreement in part {part!r}"
        mend = f"give a larger alpha, or a run with {fewest} such images or more"
        raise PredictionError(predictor.run.folder, told, mend)
    conformal = split_conformal(mine["true"], mine["predicted"], alpha)
    other = next(name for name in PARTS if name != part)
    return Calibration(conformal, part, len(mine), _check(conformal, known, other))


def _known(predictor: Predictor) -> pd.DataFrame:
    """Give part, true and predicted agreement of the run's images."""
    rows = predictor.run.predictions
    if predictor.run.experiment.task != IAA:
        rows = rows.assign(true=rows["true_iaa"], predicted=rows["predicted_iaa"])
    rows = rows[["part", "true", "predicted"]].dropna()
    return rows.assign(predicted=rows["predicted"].clip(0, 1))


def _check(conformal: Conformal, known: pd.DataFrame, part: str) -> dict[str, Any] | None:
    rows = known[known["part"] == part]
    if rows.empty:
        return None
    ends = conformal.intervals(rows["predicted"])
    whole = interval_coverage(rows["true"], ends["lower"], ends["upper"]).loc["all"]
    names = {"coverage": "coverage", "low": "ci_low", "high": "ci_high", "width": "width_mean"}
    numbers = {name: float(whole[column]) for name, column in names.items()}
    return {"part": part, "n": len(rows)} | numbers
