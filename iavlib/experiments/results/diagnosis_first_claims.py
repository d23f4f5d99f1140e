"""What runs of tasks ``diagnosis-first`` and ``take-give`` measured for the claims of DiFF."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.experiments.results.across_seeds import SEEDS
from iavlib.experiments.results.diagnosis_first import (
    POINTS,
    difference,
    gain_of_blocks,
    order_of_blocks,
    range_over_raters,
)
from iavlib.experiments.results.run_data import RunData
from iavlib.experiments.tasks.labelled_data import SIMULATED

#: Images of the paper's experiment with several masks an image.
PAPER_IMAGES = 1600


def enough(values: Iterable[float]) -> bool:
    """Tell whether there are as many seeds as a claim takes."""
    return int(np.isfinite(np.asarray(list(values), float)).sum()) >= SEEDS


@dataclass(frozen=True, eq=False)
class Measured:
    """What runs measured for one claim.

    Attributes
    ----------
    claim : str
    cohort : RunData
    values : pandas.Series
        By seed.
    coverage : (int, int)
        Images at hand, and those of the paper.
    note : str
    pretrained : bool
        Whether all encoders began with weights that had learnt something.
    """

    claim: str
    cohort: RunData
    values: pd.Series
    coverage: tuple[int, int]
    note: str
    pretrained: bool

    @property
    def can_be_judged(self) -> bool:
        """Whether there are enough seeds, of a network such as the paper means."""
        return self.pretrained and enough(self.values)


_INFLATED = "masks of test images are made with their diagnosis; nets not optimised on judge"
_ALONE = "from test images alone"


def measured_claims(
    fused: pd.DataFrame, blocks: pd.DataFrame, learnt: pd.DataFrame, generator: str = "expg"
) -> list[Measured]:
    """Collect what was measured for the claims of DiFF, on each cohort.

    Parameters
    ----------
    fused, blocks, learnt : pandas.DataFrame
        Runs of fused masks, of connected blocks, and of Take and Give that learnt DF-GT.
    generator : str
        How expertness maps are written.
    """
    found = []
    for cohort, rows in _by_cohort(fused):
        name = f"others_{generator}"
        measured = {
            "diff-raters-differ": (range_over_raters(rows), "raters named by the other seeds"),
            "diff-fusion-auc": (difference(rows, name, "others_majority"), _INFLATED),
            "diff-expg-smooth": (
                difference(rows, f"high_{generator}", "high_pixel", 1),
                "share of the variance of weights beyond a quarter of a cycle a pixel",
            ),
            "diff-expg-generalises": (difference(rows, name, "others_pixel"), _INFLATED),
        }
        found += [_measured(claim, cohort, rows, *told) for claim, told in measured.items()]
    for cohort, rows in _by_cohort(blocks):
        told = {"diff-tg-dice": gain_of_blocks(rows), "diff-tg-blocks": order_of_blocks(rows)}
        found += [_measured(c, cohort, rows, values, _ALONE) for c, values in told.items()]
    for cohort, rows in _by_cohort(learnt):
        values = POINTS * rows.set_index("seed")["auroc"].dropna()
        found.append(_measured("diff-auc", cohort, rows, values, _ALONE))
    return [one for one in found if len(one.values)]


def _by_cohort(runs: pd.DataFrame) -> Iterable[tuple[RunData, pd.DataFrame]]:
    if not len(runs):
        return
    for name, rows in runs.groupby("cohort_name"):
        synthetic = bool(rows["synthetic"].any())
        yield RunData(name, synthetic, name.endswith(SIMULATED)), rows.dropna(axis=1, how="all")


def _measured(claim: str, cohort: RunData, rows: pd.DataFrame, values, note: str) -> Measured:
    coverage = (min(int(rows["n_images"].max()), PAPER_IMAGES), PAPER_IMAGES)
    pretrained = not bool(rows["weights_random"].any())
    return Measured(claim, cohort, values, coverage, note, pretrained)
