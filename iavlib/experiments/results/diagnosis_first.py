"""What many runs of tasks ``diagnosis-first`` and ``take-give`` say; AUROCs and Dice in points.

What runs of tasks ``diagnosis-first`` and ``take-give`` measured for the claims of DiFF.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.experiments.results.diagnosis import RunData
from iavlib.experiments.results.segmentation import SEEDS, finished_runs, in_words, interval_of_mean
from iavlib.experiments.tasks.diagnosed_sets import PERMUTED, TRUE
from iavlib.experiments.tasks.labelled_data import SIMULATED

POINTS = 100
#: How AUROCs with a mask are averaged: the net it was optimised on, the other nets, and these with
#: masks that a network drew from the image.
JUDGES = ("source", "others", "clinic")


def best_runs(quick: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Take the full scale, part by part, where it has as many seeds as a claim takes.

    Parameters
    ----------
    quick, full : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner` and of :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        A part is a task and a label; what the full scale lacks stays that of `quick`.
    """
    key = ["task", "label"]
    done = finished_runs(full)
    seeds = done.groupby(key)["seed"].nunique() if len(done) else pd.Series(dtype=int)
    there = set(seeds[seeds >= SEEDS].index)
    chosen = [
        rows[[(one in there) == wanted for one in zip(*(rows[name] for name in key), strict=True)]]
        for rows, wanted in ((done, True), (quick, False))
        if len(rows)
    ]
    return pd.concat(chosen, ignore_index=True) if chosen else quick


def runs_of(runs: pd.DataFrame, task: str, label: str | None = None) -> pd.DataFrame:
    """Return the finished runs of a task, of one label where it is given."""
    found = finished_runs(runs, label)
    return found[found["task"] == task].dropna(axis=1, how="all") if len(found) else found


def auroc_by_mask(runs: pd.DataFrame) -> pd.DataFrame:
    """Average AUROCs (points) over runs, by mask and by who judges it.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of task ``diagnosis-first``, on one cohort.

    Returns
    -------
    pandas.DataFrame
        Index ``mask``: for each of :data:`JUDGES` the mean, and ``<judge>_low`` and
        ``<judge>_high``, Student's interval over runs; ``runs``.
    """
    masks = [name.removeprefix("others_") for name in runs if name.startswith("others_")]
    rows = {}
    for mask in masks:
        rows[mask] = {}
        for judge in JUDGES:
            values = POINTS * runs.get(f"{judge}_{mask}", pd.Series(dtype=float)).dropna()
            ends = interval_of_mean(values)
            names = (judge, f"{judge}_low", f"{judge}_high")
            rows[mask] |= dict(zip(names, ends, strict=True))
        rows[mask]["runs"] = len(runs)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("mask")


def difference(runs: pd.DataFrame, first: str, second: str, scale: float = POINTS) -> pd.Series:
    """Subtract one measure from another, run by run; empty where either is missing."""
    if first not in runs or second not in runs:
        return pd.Series(dtype=float)
    values = runs.set_index("seed")
    return (scale * (values[first] - values[second])).dropna()


def raters_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Average AUROCs (points) by whose masks are given.

    Returns
    -------
    pandas.DataFrame
        Index ``rater``: ``given`` (nets trained with the majority's masks), ``own`` (nets trained
        with that rater's, where there are any), each with ``_low`` and ``_high`` over runs.
    """
    names = [name.removeprefix("given_") for name in runs if name.startswith("given_")]
    rows = {}
    for name in names:
        rows[name] = {}
        for kind in ("given", "own"):
            values = POINTS * runs.get(f"{kind}_{name}", pd.Series(dtype=float)).dropna()
            places = (kind, f"{kind}_low", f"{kind}_high")
            rows[name] |= dict(zip(places, interval_of_mean(values), strict=True))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rater")


def range_over_raters(runs: pd.DataFrame, kind: str = "own") -> pd.Series:
    """Tell by how many points the best rater's masks beat the worst one's, without looking twice.

    The largest less the smallest of several AUROCs is above 0 by chance alone. Here the best and
    the worst rater are named by the *other* runs, and their difference is taken in each run.

    Returns
    -------
    pandas.Series
        By seed; empty with fewer than two runs or raters.
    """
    columns = [name for name in runs if name.startswith(f"{kind}_")]
    table = runs.set_index("seed")[columns].dropna(axis=1) if columns else pd.DataFrame()
    if len(table) < 2 or table.shape[1] < 2:
        return pd.Series(dtype=float)
    found = {}
    for seed, row in table.iterrows():
        others = table.drop(index=seed).mean()
        found[seed] = POINTS * (row[others.idxmax()] - row[others.idxmin()])
    return pd.Series(found, dtype=float)


def fine_waves(runs: pd.DataFrame) -> pd.DataFrame:
    """Average the share of fine waves, and the loss of the source net, by way of writing maps.

    Returns
    -------
    pandas.DataFrame
        Index ``generator``: ``high`` with ``high_low`` and ``high_high``, ``loss`` and
        ``loss_before``.
    """
    rows = {}
    for name in [one.removeprefix("high_") for one in runs if one.startswith("high_")]:
        ends = interval_of_mean(runs[f"high_{name}"].dropna())
        rows[name] = dict(zip(("high", "high_low", "high_high"), ends, strict=True))
        rows[name] |= {
            "loss": runs[f"loss_{name}"].mean(),
            "loss_before": runs["loss_before"].mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("generator")


def leak_table(runs: pd.DataFrame, generator: str = "expg") -> pd.DataFrame:
    """Compare the gain over the majority with true and with permuted diagnoses.

    Returns
    -------
    pandas.DataFrame
        Index ``diagnosis`` (``true``, ``permuted``): the gain (points) by each of :data:`JUDGES`,
        with ``_low`` and ``_high`` over runs, and ``runs``.
    """
    rows = {}
    for name, some in runs.groupby(_diagnosis_of(runs)):
        rows[name] = {"runs": len(some)}
        for judge in JUDGES:
            gains = difference(some, f"{judge}_{generator}", f"{judge}_majority")
            places = (judge, f"{judge}_low", f"{judge}_high")
            rows[name] |= dict(zip(places, interval_of_mean(gains), strict=True))
    order = [name for name in (TRUE, PERMUTED) if name in rows]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(order).rename_axis("diagnosis")


def blocks_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Average Dice and AUROC (points) by the number of connected blocks.

    Returns
    -------
    pandas.DataFrame
        Index ``blocks``, 0 for Baseline-Seg and Baseline-Dia: ``soft_dice`` and ``auroc``, each
        with ``_low`` and ``_high`` over runs; ``n_parameters`` and ``runs``.
    """
    rows = {}
    for blocks, some in _with_blocks(runs).groupby("blocks"):
        rows[blocks] = {"n_parameters": some["n_parameters"].mean(), "runs": len(some)}
        for name in ("soft_dice", "auroc"):
            ends = interval_of_mean(POINTS * some[name].dropna())
            rows[blocks] |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("blocks")


def gain_of_blocks(runs: pd.DataFrame, measure: str = "soft_dice") -> pd.Series:
    """Subtract the measure without connected blocks from that with all four, by seed (points)."""
    table = _by_blocks(runs, measure)
    if not {0, 4} <= set(table):
        return pd.Series(dtype=float)
    return (POINTS * (table[4] - table[0])).dropna()


def order_of_blocks(runs: pd.DataFrame, measure: str = "soft_dice") -> pd.Series:
    """Correlate the number of connected blocks (1 to 4) with the measure, by seed (Spearman)."""
    table = _by_blocks(runs, measure)
    table = table[[name for name in table if name > 0]].dropna()
    if table.shape[1] < 3:
        return pd.Series(dtype=float)
    found = {s: stats.spearmanr(table.columns, row).statistic for s, row in table.iterrows()}
    return pd.Series(found, dtype=float).dropna()


def _with_blocks(runs: pd.DataFrame) -> pd.DataFrame:
    given = runs.get("blocks", pd.Series(index=runs.index, dtype=float))
    return runs.assign(blocks=given.fillna(4).astype(int))


def _by_blocks(runs: pd.DataFrame, measure: str) -> pd.DataFrame:
    if not len(runs):
        return pd.DataFrame()
    return _with_blocks(runs).pivot_table(index="seed", columns="blocks", values=measure)


def gains_in_words(runs: pd.DataFrame, judge: str, diagnosis: str, generator: str = "expg") -> str:
    """Say the gain over the majority (points) with true or permuted diagnoses."""
    return in_words(_gains(runs, judge, diagnosis, generator), 1)


def gain_is_gone(runs: pd.DataFrame, judge: str, generator: str = "expg") -> str:
    """Say whether the gain with permuted diagnoses can be told from none.

    Returns
    -------
    str
        ``is above 0``, ``is below 0`` or ``cannot be told from 0``, by the interval over seeds;
        ``is of too few seeds to be judged`` with fewer than a claim takes.
    """
    gains = _gains(runs, judge, PERMUTED, generator)
    if len(gains) < SEEDS:
        return "is of too few seeds to be judged"
    _, low, high = interval_of_mean(gains)
    if low > 0:
        return "is above 0"
    return "is below 0" if high < 0 else "cannot be told from 0"


def _gains(runs: pd.DataFrame, judge: str, diagnosis: str, generator: str) -> pd.Series:
    some = runs[_diagnosis_of(runs) == diagnosis]
    return difference(some, f"{judge}_{generator}", f"{judge}_majority")


def _diagnosis_of(runs: pd.DataFrame) -> pd.Series:
    """Tell of each run whether its diagnoses are true, as they are by default, or permuted."""
    which = runs.get("diagnosis", pd.Series(index=runs.index, dtype=object))
    return which.fillna(TRUE)


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
