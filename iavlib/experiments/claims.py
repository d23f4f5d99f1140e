"""The arithmetic of claims that finished runs measure.

Functions take rows of runs (:func:`iavlib.experiments.select`) or predictions
(:func:`iavlib.experiments.summary.held_out_predictions`) and return what
:func:`iavlib.book.record` takes. A claim over seeds takes three of them. Which runs a page shows,
and how it arranges them, is in its notebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.core.settings import read_yaml
from iavlib.experiments.summary import by_seed, finished_runs
from iavlib.experiments.tasks.annotator_sets import NO_MASK, SIMULATED
from iavlib.stats import mean_interval

#: Runs with different seeds that a claim takes at least.
SEEDS = 3
_ANY = (-np.inf, np.inf)
CORRELATION, SHARE, PER_CENT = (-1, 1), (0, 1), (0, 100)


@dataclass(frozen=True)
class RunData:
    """The data of a claim, where a page shows runs on data that are not on this machine.

    Attributes
    ----------
    name : str
        Of the cohort.
    synthetic : bool
        Whether its images, or the weights that training began from, mean nothing.
    simulated : bool
        Whether the images are real and their annotators simulated.
    """

    name: str
    synthetic: bool
    simulated: bool = False
    #: For :func:`iavlib.book.record`: the manifest need not list these data.
    of_runs: ClassVar[bool] = True

    @classmethod
    def of(cls, runs: pd.DataFrame, trained: bool = False) -> RunData:
        """Describe the data of runs on one cohort.

        Parameters
        ----------
        runs : pandas.DataFrame
        trained : bool
            Whether random weights make the result as good as invented.
        """
        name = str(runs["cohort_name"].iloc[0])
        synthetic = bool(runs["synthetic"].astype(bool).any())
        random = trained and bool(runs["weights_random"].astype(bool).any())
        # the digits' annotators are simulated too
        simulated = name.endswith(SIMULATED) or name.startswith("digits")
        return cls(name, synthetic or random, simulated)


def over_seeds(
    values: pd.Series, within: tuple[float, float] = _ANY, runs: pd.DataFrame | None = None
) -> dict[str, Any] | None:
    """Give ``value``, ``interval``, ``seeds`` and ``n`` of a claim; None with fewer than 3 seeds.

    ``n`` is the number of test images of the `runs`, or of seeds where that is not known.
    """
    if np.isfinite(np.asarray(values, dtype=float)).sum() < SEEDS:
        return None
    mean, n = mean_interval(values, within=within), len(values)
    images = n if runs is None else int(runs.get("n_test", pd.Series([n])).max())
    return {"value": mean.value, "interval": mean.interval, "n": images, "seeds": n}


def difference(runs: pd.DataFrame, first: str, second: str, scale: float = 100) -> pd.Series:
    """Subtract one measure from another by seed; empty where either is missing."""
    if first not in runs or second not in runs:
        return pd.Series(dtype=float)
    values = runs.set_index("seed")
    return (scale * (values[first] - values[second])).dropna()


# Confusion matrices (CM)

#: Dice in per cent and error of confusion matrices on MNIST (Zhang et al. 2023, Tables 1 and 2).
PUBLISHED_CM = read_yaml(Path(__file__).with_name("published_cm.yml"))
#: Digits that MNIST holds for training, of which the paper took its own.
_PUBLISHED_DIGITS = 60_000


def ordering_by_seed(tables: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Correlate the order of methods with the printed one, seed by seed, averaged over tables.

    Parameters
    ----------
    tables : mapping of {"dense", "single"} to pandas.DataFrame
        Runs, by which published table they are compared with.

    Returns
    -------
    pandas.Series
        Mean of Spearman's correlations over tables, for the seeds of all; of each table the
        methods that were printed and run with all its seeds. Empty where a table has fewer than
        three such methods, of which there is no order.
    """
    correlations = []
    for which, runs in tables.items():
        runs = finished_runs(runs)
        if not len(runs):
            return pd.Series(dtype=float)
        dice = runs.pivot_table(index="seed", columns="method", values="dice").dropna(axis=1)
        printed = {name: dice_ for name, (dice_, _) in PUBLISHED_CM[which].items() if name in dice}
        if len(printed) < 3:
            return pd.Series(dtype=float)
        order = dice[list(printed)].T.corrwith(pd.Series(printed), method="spearman")
        correlations.append(order)
    return pd.concat(correlations, axis=1).dropna().mean(axis=1)


def cm_claims(
    dense: pd.DataFrame, single: pd.DataFrame, two: pd.DataFrame | None = None
) -> dict[str, dict[str, Any]]:
    """Measure the claims of CM on the digits of one source.

    Parameters
    ----------
    dense, single, two : pandas.DataFrame
        Runs with all labels of an image, with one, and with all labels of two classes of digits.

    Returns
    -------
    dict of str to dict
        By claim: ``value``, ``interval``, ``n``, ``seeds`` and ``coverage`` (training digits, of
        the paper's).
    """
    measured = {
        "cm-over-vote": (dense, 100 * by_seed(dense, "cm", less="mode-labels"), _ANY),
        "cm-over-staple": (dense, 100 * by_seed(dense, "cm", less="staple"), _ANY),
        "cm-over-staple-single": (single, 100 * by_seed(single, "cm", less="staple"), _ANY),
        "cm-trace-helps": (dense, 100 * by_seed(dense, "cm", less="cm-no-trace"), _ANY),
        "cm-ordering": (dense, ordering_by_seed({"dense": dense, "single": single}), CORRELATION),
        "cm-ged-table": (dense, by_seed(dense, "cm", "ged"), (0, 2)),
    }
    if two is not None:
        measured["cm-two-classes"] = (two, 100 * by_seed(two, "cm", less="mode-labels"), _ANY)
    for which, runs in (("dense", dense), ("single", single)):
        measured[f"cm-mnist-{which}-dice"] = (runs, 100 * by_seed(runs, "cm"), PER_CENT)
        measured[f"cm-mnist-{which}-error"] = (runs, by_seed(runs, "cm", "cm_error"), SHARE)
    claims = {}
    for name, (runs, values, within) in measured.items():
        if entry := over_seeds(values, within, finished_runs(runs)):
            digits = min(int(runs["n_training"].max()), _PUBLISHED_DIGITS)
            claims[name] = entry | {"coverage": (digits, _PUBLISHED_DIGITS)}
    return claims


# Preferences of annotators (AVAP)

#: Images that the paper's own set holds.
_WHOLE = {"riga": 750}


def pretrained_first(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the finished runs whose encoder was trained before, where there are some; else all."""
    runs = finished_runs(runs)
    if not len(runs):
        return runs
    learnt = ~runs["weights_random"].astype(bool)
    return runs[learnt] if learnt.any() else runs


def comparisons(runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Pair the runs of one set as the claims of AVAP do.

    Returns
    -------
    dict of str to (pandas.DataFrame, pandas.DataFrame)
        Claim to the runs that are to score more and those that are to score less; pairs of which
        one side was not run are left out. Of several joint losses the best on average is taken.
    """
    main, runs = pretrained_first(runs), finished_runs(runs)
    if not len(runs):
        return {}
    of = {name: main[main["method"] == name] for name in ("avap", "mh-unet", "avap-features")}
    joint = main[main["method"] == "avap-joint"]
    if len(joint) and "joint_weight" in joint:
        weights = joint["joint_weight"].fillna(0.5)
        joint = joint[weights == joint.groupby(weights)["average"].mean().idxmax()]
    started = runs[(runs["method"] == "avap") & (runs["backbone"] != "unet")]
    random = started["weights_random"].astype(bool)
    pairs = {
        "avap-average-over-mh": (of["avap"], of["mh-unet"]),
        "avap-two-step": (of["avap"], joint),
        "avap-encoding-over-features": (of["avap"], of["avap-features"]),
        "avap-pretraining": (started[~random], started[random]),
    }
    return {name: pair for name, pair in pairs.items() if len(pair[0]) and len(pair[1])}


def points_ahead(first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """Subtract the soft Dice of two groups of runs by seed (points), several of a seed averaged."""
    pair = map(finished_runs, (first, second))
    scores = [rows.groupby("seed")["average"].mean() for rows in pair]
    return (100 * (scores[0] - scores[1])).dropna()


def avap_claims(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure the claims of AVAP on the runs of one set.

    Returns
    -------
    dict of str to dict
        By claim: ``value``, ``interval``, ``n`` and ``seeds``.
    """
    measured = {name: (points_ahead(*pair), _ANY) for name, pair in comparisons(runs).items()}
    main = pretrained_first(runs)
    vote = "mean_voting_cup" if "mean_voting_cup" in main else "mean_voting"
    measured["avap-own-annotator-best"] = (by_seed(main, "avap", "own_best"), SHARE)
    measured["avap-mean-voting"] = (100 * by_seed(main, "avap", vote), PER_CENT)
    entries = {name: over_seeds(*pair, main) for name, pair in measured.items()}
    return {name: entry for name, entry in entries.items() if entry}


def coverage(cohort: str, n_images: int) -> tuple[int, int] | None:
    """Return how many images of the paper's own set are at hand, and of how many; None if all."""
    whole = _WHOLE.get(cohort, n_images)
    return (n_images, whole) if n_images < whole else None


# Masks for the diagnosis (DiFF)

#: Images of the paper's experiment with several masks per image.
_PAPER_IMAGES = 1600
_INFLATED = "masks of test images are made with their diagnosis; nets not optimised on judge"
_ALONE = "from test images alone"


def range_over_raters(runs: pd.DataFrame, kind: str = "trained") -> pd.Series:
    """Measure by how many points the best rater's masks beat the worst one's.

    The largest less the smallest of several AUROCs is above 0 by chance alone. Here the best and
    the worst rater are named by the *other* runs, and their difference is taken in each run.

    Returns
    -------
    pandas.Series
        By seed; empty with fewer than two runs or raters.
    """
    columns = [name for name in runs if name.startswith(f"{kind}_") and not name.endswith(NO_MASK)]
    table = runs.set_index("seed")[columns].dropna(axis=1) if columns else pd.DataFrame()
    if len(table) < 2 or table.shape[1] < 2:
        return pd.Series(dtype=float)
    ranges = {}
    for seed, row in table.iterrows():
        others = table.drop(index=seed).mean()
        ranges[seed] = 100 * (row[others.idxmax()] - row[others.idxmin()])
    return pd.Series(ranges, dtype=float)


def by_blocks(runs: pd.DataFrame, measure: str = "soft_dice") -> pd.DataFrame:
    """Arrange a measure by seed and connected blocks (``B1 B2``, say); versions give them alike."""
    from iavlib.models.assisted import block_names

    named = runs["blocks"].map(lambda x: block_names(x if isinstance(x, str) else int(x)))
    return runs.assign(blocks=named).pivot_table(index="seed", columns="blocks", values=measure)


def gain_of_blocks(runs: pd.DataFrame, measure: str = "soft_dice_learnt") -> pd.Series:
    """Subtract the measure without connected blocks from that with B1 to B3, by seed (points)."""
    table = by_blocks(runs, measure)
    if not {"none", "B1 B2 B3"} <= set(table):
        return pd.Series(dtype=float)
    return (100 * (table["B1 B2 B3"] - table["none"])).dropna()


def order_of_blocks(runs: pd.DataFrame, measure: str = "soft_dice") -> pd.Series:
    """Correlate the number of blocks connected from B1 on with the measure, by seed (Spearman)."""
    table = by_blocks(runs, measure)
    table = table[[one for one in ("B1", "B1 B2", "B1 B2 B3", "B1 B2 B3 B4") if one in table]]
    table = table.dropna()
    if table.shape[1] < 3:
        return pd.Series(dtype=float)
    numbers = [name.count("B") for name in table]
    order = {seed: stats.spearmanr(numbers, row).statistic for seed, row in table.iterrows()}
    return pd.Series(order, dtype=float).dropna()


def diff_claims(
    fused: pd.DataFrame, blocks: pd.DataFrame, learnt: pd.DataFrame, generator: str = "expg"
) -> pd.DataFrame:
    """Measure the claims of DiFF on each cohort.

    Parameters
    ----------
    fused, blocks, learnt : pandas.DataFrame
        Finished runs of fused masks, of connected blocks, and of Take and Give that learnt DF-GT.
    generator : str
        How expertness maps are written.

    Returns
    -------
    pandas.DataFrame
        ``claim``, ``cohort`` (:class:`RunData`), ``values`` (by seed), ``entry``: what is to be
        recorded, None with fewer than three seeds or with encoders that had learnt nothing.
    """
    rows = []

    def add(claim: str, runs: pd.DataFrame, values: pd.Series, note: str) -> None:
        n_images = min(int(runs["n_images"].max()), _PAPER_IMAGES)
        entry = (
            over_seeds(values, runs=runs) if not runs["weights_random"].astype(bool).any() else None
        )
        facts = {"coverage": (n_images, _PAPER_IMAGES), "note": note}
        data = RunData.of(runs)
        entry = entry and entry | facts | {"simulated": data.simulated}
        if len(values):
            rows.append({"claim": claim, "cohort": data, "values": values, "entry": entry})

    for runs in _by_cohort(fused):
        name = f"heldout_nets_{generator}"
        waves = "share of the variance of weights beyond a quarter of a cycle a pixel"
        shift = difference(runs, f"high_{generator}", "high_pixel", 1)
        ranges = range_over_raters(runs)
        add("diff-raters-differ", runs, ranges, "raters named by the other seeds")
        add("diff-fusion-auc", runs, difference(runs, name, "heldout_nets_majority"), _INFLATED)
        add("diff-expg-smooth", runs, shift, waves)
        add("diff-expg-generalises", runs, difference(runs, name, "heldout_nets_pixel"), _INFLATED)
    for runs in _by_cohort(blocks):
        add("diff-tg-dice", runs, gain_of_blocks(runs), _ALONE)
        add("diff-tg-blocks", runs, order_of_blocks(runs), _ALONE)
    for runs in _by_cohort(learnt):
        add("diff-auc", runs, 100 * runs.set_index("seed")["auroc"].dropna(), _ALONE)
    return pd.DataFrame(rows, columns=["claim", "cohort", "values", "entry"])


def _by_cohort(runs: pd.DataFrame) -> Iterable[pd.DataFrame]:
    groups = runs.groupby("cohort_name") if len(runs) else ()
    return [group.dropna(axis=1, how="all") for _, group in groups]
