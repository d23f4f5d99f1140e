"""What runs of AVAP and its peers say, beside the published tables (Guo et al. 2022).

The claims of Guo et al. (2022) on every set that was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.core.errors import ExperimentError
from iavlib.experiments.results.segmentation import SEEDS, by_seed, finished_runs, interval_of_mean
from iavlib.experiments.store import PREDICTIONS, read_facts, read_prediction_file
from iavlib.stats import bootstrap_mean

#: The paper's name of each method, and its soft Dice in per cent on RIGA (Table II): averaged over
#: annotators, disc and cup; with their mean vote, disc and cup.
PUBLISHED = {
    "avap": ("AVAP", 96.78, 85.13, 97.88, 87.90),
    "cm": ("CM-Net", 96.51, 82.77, 96.64, 81.96),
    "mh-unet": ("MH-UNet", 96.58, 83.40, 96.91, 84.35),
    "mode-labels": ("MV-UNet", 95.57, 80.95, 97.35, 85.74),
    "every-label": ("LS-UNet", 95.73, 80.81, 97.21, 81.37),
    "separate": ("M1 to MR", None, None, None, None),
}
#: Published and not built here.
NOT_BUILT = {
    "PADL": (96.52, 84.18, 97.65, 87.75),
    "MR-Net": (95.60, 80.31, 97.55, 87.20),
}
#: By how many points AVAP is ahead on the cup, averaged over annotators: of MH-UNet (Table II) and
#: of the best joint loss (Table V).
PUBLISHED_AHEAD = {"avap-average-over-mh": 1.73, "avap-two-step": 1.63}
COLUMNS = ("average disc", "average cup", "vote disc", "vote cup")
MEASURES = ("average", "average_hard", "mean_voting", "own_best", "own_code_best", "swap_gain")
PER_CENT = ("average", "average_hard", "mean_voting", "mean_voting_argmax")


def peers(runs: pd.DataFrame, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Average the runs of one set over seeds, each method under the paper's name too.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of one label, of :func:`iavlib.experiments.runner`.
    measures : sequence of str

    Returns
    -------
    pandas.DataFrame
        Index ``method`` in the paper's order: ``paper`` (its name there), measures (those of
        :data:`PER_CENT` in per cent), the deviation over seeds of the first, and ``runs``.
    """
    runs = finished_runs(runs)
    there = [name for name in measures if name in runs]
    groups = runs.groupby("method")
    table = groups[there].mean()
    table.insert(1, f"{there[0]}_sd", groups[there[0]].std())
    scaled = [name for name in table if name.removesuffix("_sd") in PER_CENT]
    table[scaled] *= 100
    known = [name for name in PUBLISHED if name in table.index]
    table = table.loc[[*known, *(name for name in table.index if name not in PUBLISHED)]]
    names = [PUBLISHED.get(name, ("",))[0] for name in table.index]
    table.insert(0, "paper", names)
    return table.assign(runs=groups.size())


def published_table() -> pd.DataFrame:
    """Return Table II as printed: soft Dice (%) on RIGA."""
    rows = {entry[0]: entry[1:] for entry in PUBLISHED.values() if entry[1] is not None}
    return pd.DataFrame.from_dict(rows | NOT_BUILT, orient="index", columns=list(COLUMNS))


@dataclass(frozen=True)
class Difference:
    """By how much one group of runs scores more than another.

    Attributes
    ----------
    values : pandas.Series
        Of each seed, in per cent points.
    mean, low, high : float
        Mean over seeds with Student's 95 % interval.
    p_seeds : float
        Of the paired t test over seeds.
    image_mean, image_low, image_high : float
        Mean over test images of the difference of scores averaged over seeds, with an interval by
        resampling images; the score is the hard Dice with each annotator, background included, the
        mean over annotators.
    p_images : float
        Of the paired Wilcoxon test over images.
    n_images : int
    """

    values: pd.Series
    mean: float
    low: float
    high: float
    p_seeds: float
    image_mean: float
    image_low: float
    image_high: float
    p_images: float
    n_images: int

    @property
    def words(self) -> str:
        """Mean and interval in a few words, or that there is nothing to compare."""
        if self.values.empty:
            return "(not run)"
        if len(self.values) == 1:
            return f"{self.mean:.2f} (one seed)"
        seeds = f"{len(self.values)} seeds"
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f}, {seeds})"


def difference(first: pd.DataFrame, second: pd.DataFrame, measure: str = "average") -> Difference:
    """Compare two groups of runs, seed by seed and image by image.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Finished runs of one set. Several of one seed in a group (the joint losses) count by their
        mean.
    measure : str

    Returns
    -------
    Difference
        Of NaN where nothing can be compared.
    """
    scores = [_of_seeds(rows, measure) for rows in (first, second)]
    values = (100 * (scores[0] - scores[1])).dropna()
    mean, low, high = interval_of_mean(values)
    p = stats.ttest_1samp(values, 0).pvalue if len(values) > 1 and np.ptp(values) > 0 else np.nan
    images = [_of_images(rows) for rows in (first, second)]
    apart = (100 * (images[0] - images[1])).dropna()
    found = [np.nan] * 3
    p_images = np.nan
    if len(apart) > 1 and (apart != 0).any():
        estimate = bootstrap_mean(apart, apart.index, n_boot=2000)
        found = [estimate.value, estimate.low, estimate.high]
        p_images = stats.wilcoxon(apart).pvalue
    return Difference(values, mean, low, high, float(p), *found, float(p_images), len(apart))


def differences(pairs: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """Put differences into a table: one row a comparison, points of Dice, and the printed ones."""
    rows = {}
    for name, (first, second) in pairs.items():
        found = difference(finished_runs(first), finished_runs(second))
        rows[name] = {
            "paper": PUBLISHED_AHEAD.get(name, np.nan),
            "points": found.mean,
            "low": found.low,
            "high": found.high,
            "p_seeds": found.p_seeds,
            "seeds": len(found.values),
            "image_points": found.image_mean,
            "image_low": found.image_low,
            "image_high": found.image_high,
            "p_images": found.p_images,
            "images": found.n_images,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("comparison")


def pretrained_first(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the finished runs whose encoder was trained before, where there are some; else all."""
    runs = finished_runs(runs)
    if not len(runs):
        return runs
    learnt = ~runs["weights_random"].astype(bool)
    return runs[learnt] if learnt.any() else runs


def _of_seeds(runs: pd.DataFrame, measure: str) -> pd.Series:
    if not len(runs) or measure not in runs:
        return pd.Series(dtype=float)
    return runs.groupby("seed")[measure].mean()


def _of_images(runs: pd.DataFrame) -> pd.Series:
    """Average each test image's Dice over annotators and runs; index ``image_id``."""
    found = []
    for folder in runs["folder"] if len(runs) else ():
        rows = read_prediction_file(Path(folder) / PREDICTIONS)
        rows = rows[rows["subset"] == "test"].set_index("image_id")
        names = [f"dice_{name}" for name in read_facts(Path(folder))["settings"]["annotators"]]
        found.append(rows[names].mean(axis=1))
    return pd.concat(found, axis=1).mean(axis=1) if found else pd.Series(dtype=float)


def read_matrix(folder: str | Path, kind: str = "soft", structure: str = "") -> pd.DataFrame:
    """Read whose prediction agrees how much with whom, in a finished run's test part.

    Parameters
    ----------
    folder : str or Path
        Of the run, here or stored.
    kind : {"soft", "hard"}
    structure : str
        The first unless given.

    Returns
    -------
    pandas.DataFrame
        Rows are those predicted (one row where a method does not tell annotators apart), columns
        annotators and ``mean_vote``. NaN for an annotator who labelled nothing there.

    Raises
    ------
    ExperimentError
        If the run holds no such matrix.
    """
    settings = _settings(folder, "dice_matrices")
    matrices = settings["dice_matrices"]
    structure = structure or next(iter(matrices))
    if structure not in matrices or kind not in matrices[structure]:
        told = f"no {kind} matrix of {structure!r}; there are {', '.join(matrices)}"
        raise ExperimentError(folder, told, "name one of these")
    values, names = np.array(matrices[structure][kind], dtype=float), settings["annotators"]
    rows = names if len(values) == len(names) else ["consensus"]
    index = pd.Index(rows, name="model")
    return pd.DataFrame(values, index=index, columns=[*names, "mean_vote"])


def read_reliability(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read predicted against observed shares of annotators, by map, of the first structure."""
    tables = _settings(folder, "reliability")["reliability"]
    maps = next(iter(tables.values()), {})
    return {
        how: pd.DataFrame({key: one for key, one in table.items() if key != "error"}).assign(
            error=table["error"]
        )
        for how, table in maps.items()
    }


def _settings(folder: str | Path, key: str) -> dict[str, Any]:
    settings = read_facts(Path(folder))["settings"]
    if key not in settings:
        raise ExperimentError(folder, f"holds no {key}", "run the experiment again")
    return settings


def measure_of(runs: pd.DataFrame, method: str, measure: str) -> pd.Series:
    """Return a measure of a method by seed, in per cent where it is a Dice."""
    scale = 100 if measure in PER_CENT or measure == "swap_gain" else 1
    return scale * by_seed(runs, method, measure)


#: Images that a set's source holds: those of RIGA, and of IMA++ with several annotators.
WHOLE = {"riga": 750, "isic_two_annotators": 2394}
#: Claims that a difference is above 0.
SIGNS = (
    "avap-average-over-mh",
    "avap-two-step",
    "avap-encoding-over-features",
    "avap-pretraining",
)


def comparisons(runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Pair the runs of one set as the claims do.

    Returns
    -------
    dict of str to (pandas.DataFrame, pandas.DataFrame)
        Claim to the runs that are to score more and those that are to score less; pairs of which
        one side was not run are left out. Of several joint losses the best on average is taken.
    """
    main, runs = pretrained_first(runs), finished_runs(runs)
    if not len(runs):
        return {}
    avap = main[main["method"] == "avap"]
    joint = main[main["method"] == "avap-joint"]
    if len(joint) and "joint_weight" in joint:
        weights = joint["joint_weight"].fillna(0.5)
        best = joint.groupby(weights)["average"].mean().idxmax()
        joint = joint[weights == best]
    started = runs[(runs["method"] == "avap") & (runs["backbone"] != "unet")]
    random = started["weights_random"].astype(bool)
    pairs = {
        "avap-average-over-mh": (avap, main[main["method"] == "mh-unet"]),
        "avap-two-step": (avap, joint),
        "avap-encoding-over-features": (avap, main[main["method"] == "avap-features"]),
        "avap-pretraining": (started[~random], started[random]),
    }
    return {name: pair for name, pair in pairs.items() if len(pair[0]) and len(pair[1])}


def claim_values(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure the claims on the runs of one set.

    Returns
    -------
    dict of str to dict
        Claim to ``value``, ``interval`` (over seeds) and ``n`` (seeds), as
        :func:`iavlib.book.record` takes them; only what at least three seeds say.
    """
    found = {}
    for name, (first, second) in comparisons(runs).items():
        apart = difference(first, second)
        if len(apart.values) >= SEEDS:
            ends = (apart.low, apart.high)
            found[name] = {"value": apart.mean, "interval": ends, "n": len(apart.values)}
    main = pretrained_first(runs)
    vote = "mean_voting_cup" if "mean_voting_cup" in main else "mean_voting"
    wanted = {"avap-own-annotator-best": ("own_best", 1), "avap-mean-voting": (vote, 100)}
    for name, (measure, scale) in wanted.items():
        values = scale * by_seed(main, "avap", measure) if len(main) else pd.Series(dtype=float)
        if len(values) >= SEEDS:
            mean, *ends = interval_of_mean(values, within=(0, scale))
            found[name] = {"value": mean, "interval": tuple(ends), "n": len(values)}
    return found


def claims_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Measure the claims on every set that was run: one row a set and claim.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of any labels.

    Returns
    -------
    pandas.DataFrame
        Index ``set`` and ``claim``: ``value``, its interval over seeds, ``seeds``.
    """
    rows = {}
    for label, some in finished_runs(runs).groupby("label", sort=False):
        for claim, found in claim_values(some).items():
            low, high = found["interval"]
            row = {"value": found["value"], "low": low, "high": high, "seeds": found["n"]}
            rows[label, claim] = row
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "seeds"])
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["set", "claim"])
    return table


def against(table: pd.DataFrame) -> str:
    """Name the rows of :func:`claims_table` about a sign whose interval is wholly below 0.

    Without any such row they are none, and where nothing was run it is said so.
    """
    if table.empty:
        return "(nothing was run with enough seeds)"
    signs = table[table.index.isin(SIGNS, level="claim")]
    found = signs.index[signs["high"] < 0]
    return "; ".join(f"{claim} on {label}" for label, claim in found) or "none"


def coverage(cohort: str, n_images: int) -> tuple[int, int] | None:
    """Say how many images of a set's whole are at hand, where the whole is larger."""
    whole = WHOLE.get(cohort, n_images)
    return (n_images, whole) if n_images < whole else None
