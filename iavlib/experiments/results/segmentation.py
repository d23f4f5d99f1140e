"""What many runs of task ``segmentation`` say, beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.experiments.results.across_seeds import SEEDS, finished_runs

#: Dice in per cent and error of confusion matrices on MNIST (Zhang et al. 2023, Tables 1 and 2).
PUBLISHED = {
    "dense": {
        "mean-labels": (38.36, None),
        "mode-labels": (62.89, None),
        "prob-unet": (65.12, None),
        "separate": (70.44, None),
        "staple": (78.03, 0.1241),
        "spatial-staple": (78.96, 0.1195),
        "cm-global": (79.21, 0.1132),
        "cm-no-trace": (79.63, 0.1125),
        "cm": (82.92, 0.0893),
        "cm-oracle": (83.29, 0.0238),
    },
    "single": {
        "every-label": (32.79, None),
        "staple": (54.07, 0.2617),
        "spatial-staple": (56.73, 0.2384),
        "cm-global": (59.01, 0.1953),
        "cm-no-trace": (74.48, 0.1538),
        "cm": (76.48, 0.1329),
    },
}
#: Labels fused without a network, dense (Table 1).
PUBLISHED_FUSED = {"mean": 41.94, "mode": 58.52}
#: What labels of runs with the published network and numbers of pictures end with.
PUBLISHED_SCALE = ", as published"
#: Dice to the truth of what sees the test picture's own labels: votes, STAPLE, CM by Bayes' rule.
WITH_LABELS = ("fused_mode_dice", "fused_staple_dice", "dice_with_labels")
MEASURES = ("dice", "dice_foreground", "cm_error", "annotator_dice", "ged", "ged_released")


def enough_seeds(runs: pd.DataFrame, label: str, method: str = "cm") -> bool:
    """Tell whether a method has finished runs of as many seeds as a claim takes."""
    found = finished_runs(runs, label)
    return len(found) > 0 and found.loc[found["method"] == method, "seed"].nunique() >= SEEDS


def best_scale(runs: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the finished runs of a label at the published scale where CM has enough, else ours."""
    published = label + PUBLISHED_SCALE
    if enough_seeds(runs, published):
        return finished_runs(runs, published).assign(label=label)
    return finished_runs(runs, label)


def best_runs(
    here: pd.DataFrame, full: pd.DataFrame, label: str, method: str = "cm"
) -> pd.DataFrame:
    """Choose between the runs of this scale and those of the full one, done here or elsewhere.

    Parameters
    ----------
    here, full : pandas.DataFrame
        Of :func:`iavlib.experiments.sweep` and :func:`iavlib.experiments.read_results`.
    label, method : str
        Which runs are to have enough seeds; those at the published scale count for their label.

    Returns
    -------
    pandas.DataFrame
        All of `full`, whatever their label, where it has enough seeds; else `here`.
    """
    labels = (label, label + PUBLISHED_SCALE)
    return full if any(enough_seeds(full, one, method) for one in labels) else here


def method_table(
    runs: pd.DataFrame,
    by: str | Sequence[str] = "method",
    measures: Sequence[str] = MEASURES,
) -> pd.DataFrame:
    """Average runs over seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep`; only finished ones count.
    by : str or sequence of str
        Columns that tell models apart.
    measures : sequence of str

    Returns
    -------
    pandas.DataFrame
        For each measure its mean and ``<measure>_sd`` (of seeds; missing for one), and ``runs``;
        best Dice first.
    """
    runs = finished_runs(runs)
    there = [name for name in measures if name in runs]
    if not len(runs):
        return pd.DataFrame(columns=[*there, "runs"])
    groups = runs.groupby(by, sort=False)
    table = groups[there].mean().join(groups[there].std().add_suffix("_sd"))
    ordered = [name for one in there for name in (one, f"{one}_sd")]
    table = table[ordered].assign(runs=groups.size())
    return table.sort_values("dice", ascending=False) if "dice" in table else table


def beside_published(table: pd.DataFrame, which: str) -> pd.DataFrame:
    """Put measured Dice (in per cent) and errors beside the published ones.

    Parameters
    ----------
    table : pandas.DataFrame
        Of :func:`method_table`, by method.
    which : {"dense", "single"}

    Returns
    -------
    pandas.DataFrame
        The methods that were run, in the published order, those that were not published last.
    """
    known = PUBLISHED[which]
    order = [name for name in known if name in table.index]
    order += [name for name in table.index if name not in known]
    chosen = table.loc[order]
    columns = {"dice_paper": [known.get(name, (np.nan, None))[0] for name in order]}
    columns["dice"] = 100 * chosen["dice"]
    columns["dice_sd"] = 100 * chosen["dice_sd"]
    columns["error_paper"] = [known.get(name, (None, None))[1] for name in order]
    if "cm_error" in chosen:
        columns |= {"error": chosen["cm_error"], "error_sd": chosen["cm_error_sd"]}
    found = pd.DataFrame(columns, index=pd.Index(order, name="method")).astype(float)
    return found.assign(runs=chosen["runs"])


def ordering(table: pd.DataFrame) -> float:
    """Return Spearman's correlation of measured and published Dice over the methods of both.

    Parameters
    ----------
    table : pandas.DataFrame
        Of :func:`beside_published`. With fewer than three methods in both there is no order: NaN.
    """
    both = table.dropna(subset=["dice", "dice_paper"])
    if len(both) < 3:
        return float("nan")
    return float(stats.spearmanr(both["dice"], both["dice_paper"]).statistic)


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
    found = []
    for which, runs in tables.items():
        runs = finished_runs(runs)
        if not len(runs):
            return pd.Series(dtype=float)
        dice = runs.pivot_table(index="seed", columns="method", values="dice").dropna(axis=1)
        printed = {name: value for name, (value, _) in PUBLISHED[which].items() if name in dice}
        if len(printed) < 3:
            return pd.Series(dtype=float)
        found.append(dice[list(printed)].T.corrwith(pd.Series(printed), method="spearman"))
    return pd.concat(found, axis=1).dropna().mean(axis=1)


def fused_labels(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the Dice of labels fused without a network, from the runs' own baselines.

    Returns
    -------
    pandas.DataFrame
        Index ``fusion``: ``dice`` (per cent) and ``dice_paper``.
    """
    runs = finished_runs(runs)
    rows = {}
    for name in [one for one in runs if one.startswith("fused_") and one.endswith("_dice")]:
        fusion = name.removeprefix("fused_").removesuffix("_dice")
        values = runs[name].dropna()
        if len(values):
            rows[fusion] = {"dice_paper": PUBLISHED_FUSED.get(fusion), "dice": 100 * values.mean()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["dice_paper", "dice"])
    return table.astype(float).rename_axis("fusion")
