"""What many runs of task ``segmentation`` say, beside the published figures.

What runs that differ in their seed say together: which are finished, means, and intervals.

What CM learnt of annotators: matrices, error rates, and the truth recovered from labels.

What many runs of task ``comparison`` say: all methods side by side, and paired tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.core.errors import ExperimentError
from iavlib.experiments.runner import read_predictions
from iavlib.experiments.store import FINISHED, read_facts
from iavlib.experiments.tasks.annotators import DIFF_FUSED, SEE_THE_MASKS
from iavlib.multiannotator.confusion import rate_correlations
from iavlib.stats import bootstrap_mean, holm

#: Runs with different seeds that a claim takes at least.
SEEDS = 3


def finished_runs(runs: pd.DataFrame, label: str | None = None) -> pd.DataFrame:
    """Return the rows that are finished, of one label where it is given."""
    found = runs[runs["status"] == FINISHED] if len(runs) else runs
    return found if label is None or not len(found) else found[found["label"] == label]


def by_seed(runs: pd.DataFrame, method: str, measure: str = "dice", less: str = "") -> pd.Series:
    """Return a measure of a method for each seed, less that of another method where one is given.

    Returns
    -------
    pandas.Series
        Indexed by seed; empty where nothing was measured.
    """
    runs = finished_runs(runs)
    if measure not in runs:
        return pd.Series(dtype=float)
    values = runs[runs["method"] == method].set_index("seed")[measure]
    if less:
        values = values - runs[runs["method"] == less].set_index("seed")[measure]
    return values.dropna()


def interval_of_mean(
    values: Iterable[float], level: float = 0.95, within: tuple[float, float] | None = None
) -> tuple[float, float, float]:
    """Return mean and Student's interval; ends are NaN with fewer than two values.

    Of few values that lie far apart the interval reaches beyond what can be; `within` cuts it.
    """
    values = np.asarray(list(values), float)
    if len(values) < 2:
        mean = float(values[0]) if len(values) else float("nan")
        return mean, float("nan"), float("nan")
    mean, spread = float(values.mean()), values.std(ddof=1) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * spread)
    lowest, highest = within or (-np.inf, np.inf)
    return mean, max(mean - half, lowest), min(mean + half, highest)


def in_words(
    values: Iterable[float], digits: int = 2, within: tuple[float, float] | None = None
) -> str:
    """Say a mean with its interval over seeds, or that there is one seed, or none."""
    values = list(values)
    if not values:
        return "(not run)"
    mean, low, high = interval_of_mean(values, within=within)
    if len(values) == 1:
        return f"{mean:.{digits}f} (one seed)"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, {len(values)} seeds)"


def range_in_words(values: Iterable[float], digits: int = 1) -> str:
    """Say the smallest and the largest value, or that there is none."""
    values = list(values)
    if not values:
        return "(not run)"
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


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
        Of :func:`iavlib.experiments.runner` and :func:`iavlib.experiments.read_results`.
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
        Rows of :func:`iavlib.experiments.runner`; only finished ones count.
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


#: Which error rates are correlated, as matrices that a run tells of.
COMPARED = {
    "learnt, all test images; true, her test images": ("learnt", "true"),
    "learnt and true, her test images": ("learnt_own", "true"),
    "learnt, all test images; true, all her images": ("learnt", "true_all"),
    "true, her test images; true, her training images": ("true", "true_train"),
}
#: What a correlation, and a Dice in per cent, can be.
CORRELATION, PER_CENT = (-1, 1), (0, 100)
#: Digits that MNIST holds for training, of which the paper took its own.
PUBLISHED_DIGITS = 60_000
#: Fusions of labels without a network that a recovered truth is compared with.
FUSED = {"majority vote": "fused_mode_dice", "STAPLE": "fused_staple_dice"}


def read_confusion(folder: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read the matrices of a finished run, here or stored.

    Returns
    -------
    annotators : list of str
    learnt, true : numpy.ndarray, shape (annotators, classes, classes)
        ``[label, truth]``, of the test part; NaN where the truth is not known.

    Raises
    ------
    ExperimentError
        If its method learns no matrices.
    """
    settings = read_facts(Path(folder))["settings"]
    found = settings.get("confusion")
    if not found:
        told = f"method {settings.get('method')!r} learns no matrices"
        raise ExperimentError(folder, told, "read a run of a method that does")
    learnt = np.array(found["learnt"], dtype=float)
    true = np.full_like(learnt, np.nan) if found["true"] is None else found["true"]
    return settings["annotators"], learnt, np.array(true, dtype=float)


def rate_agreement(runs: pd.DataFrame) -> pd.DataFrame:
    """Correlate the error rates that CM learnt with the true ones, measured in several ways.

    A run's own figure compares matrices over all test pictures with errors on the pictures that an
    annotator labelled among them. Where she labelled few, these errors are a matter of chance, and
    the correlation of true rates with true rates of other pictures says how high any can be.

    Parameters
    ----------
    runs : pandas.DataFrame
        Finished runs of one method on one set whose truth is known.

    Returns
    -------
    pandas.DataFrame
        Index ``compared``; of false-positive and false-negative rates Pearson's r across
        annotators, the mean over seeds with its interval, and ``runs``. Ways that no run tells of
        are left out.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for folder in runs["folder"]:
        settings = read_facts(Path(folder))["settings"]
        matrices = settings["confusion"]
        for told, (first, second) in COMPARED.items():
            if matrices.get(first) is not None and matrices.get(second) is not None:
                pair = [np.array(matrices[name], dtype=float) for name in (first, second)]
                correlations = rate_correlations(*pair, settings["annotators"])
                found.setdefault(told, []).append(correlations)
    rows = {told: _rates_row(pd.DataFrame(values)) for told, values in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("compared")


def _rates_row(values: pd.DataFrame) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in values:
        short = name.removesuffix("_rate")
        ends = interval_of_mean(values[name].dropna(), within=CORRELATION)
        row |= dict(zip((f"{short}_r", f"{short}_low", f"{short}_high"), ends, strict=True))
    return row | {"runs": len(values)}


def recovered(runs: pd.DataFrame, method: str = "cm") -> pd.DataFrame:
    """Compare the truth that a method recovers from images' own labels with that of fusions.

    Parameters
    ----------
    runs : pandas.DataFrame
        Runs of sets whose truth is known, by ``label``.
    method : str

    Returns
    -------
    pandas.DataFrame
        Index ``set`` and ``against`` (:data:`FUSED`): Dice of the method (prediction and labels,
        combined by Bayes' rule) and of the fusion of the same labels; by how many points it is
        ahead, the mean over seeds with its interval; in how many of the ``runs`` it is.
    """
    rows = {}
    for label, some in finished_runs(runs).groupby("label", sort=False):
        ours = 100 * by_seed(some, method, "dice_with_labels")
        for told, column in FUSED.items():
            theirs = 100 * by_seed(some, method, column)
            ahead = (ours - theirs).dropna()
            if len(ahead):
                points, low, high = interval_of_mean(ahead)
                rows[label, told] = {
                    method: ours.mean(),
                    "fused": theirs.mean(),
                    "points": points,
                    "low": low,
                    "high": high,
                    "ahead": int((ahead > 0).sum()),
                    "runs": len(ahead),
                }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["set", "against"])
    return table


def ahead_in_words(table: pd.DataFrame, which: str, against: str) -> str:
    """Say by how much a row of :func:`recovered` is ahead, or that it was not run."""
    if (which, against) not in table.index:
        return "(not run)"
    row = table.loc[which, against]
    if row["runs"] == 1:
        return f"{row['points']:.2f} points (one seed)"
    told = f"{row['points']:.2f} points ({row['low']:.2f} to {row['high']:.2f}"
    return f"{told}; ahead in {row['ahead']:.0f} of {row['runs']:.0f} runs)"


def claim_values(dense: pd.DataFrame, single: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure the claims on the digits of one source.

    Parameters
    ----------
    dense, single : pandas.DataFrame
        Runs with all labels of an image, and with one.

    Returns
    -------
    dict of str to dict
        Claim to ``value``, ``interval`` (over seeds), ``n`` (seeds) and ``coverage`` (training
        digits, of the paper's), as :func:`iavlib.book.record` takes them; only what at least
        three seeds say.
    """
    order = ordering_by_seed({"dense": dense, "single": single})
    gain = 100 * by_seed(dense, "cm", less="cm-no-trace")
    measured = {
        "cm-trace-helps": (dense, gain, None),
        "cm-ordering": (dense, order, CORRELATION),
        "cm-ged-table": (dense, by_seed(dense, "cm", "ged"), (0, 2)),
    }
    for which, runs in (("dense", dense), ("single", single)):
        measured[f"cm-mnist-{which}-dice"] = (runs, 100 * by_seed(runs, "cm"), PER_CENT)
        measured[f"cm-mnist-{which}-error"] = (runs, by_seed(runs, "cm", "cm_error"), (0, 1))
    found = {}
    for name, (runs, values, within) in measured.items():
        if len(values) >= SEEDS:
            mean, *ends = interval_of_mean(values, within=within)
            used = min(int(runs["n_training"].max()), PUBLISHED_DIGITS)
            coverage = (used, PUBLISHED_DIGITS)
            found[name] = {"value": mean, "interval": ends, "n": len(values), "coverage": coverage}
    return found


#: Measures of the table, and whether more is better.
COMPARISON_MEASURES = {
    "soft_dice": True,
    "dice_raters": True,
    "dice_truth": True,
    "ged": False,
    "calibration_error": False,
    "auroc": True,
}
_COSTS = ("n_parameters", "method_seconds")
#: Method to its usual name, where its own title does not say what it is beside the others.
TITLES = {
    "fuse-mode": "majority vote",
    "fuse-mean": "mean vote",
    "fuse-staple": "STAPLE",
    "fuse-spatial-staple": "spatial STAPLE",
    "fuse-diff": "DF-GT",
    "diff": "DiFF",
    "mode-labels": "MV-UNet",
    "every-label": "LS-UNet",
    "mean-labels": "U-Net on mean votes",
    "staple": "U-Net on STAPLE",
    "spatial-staple": "U-Net on spatial STAPLE",
    "separate": "one U-Net a rater",
}
_KEY = ["cohort_name", "method"]
SEEN = {"image": "the image", "masks": "its masks", "diagnosis": "its masks and diagnosis"}


def seen_by(method: str) -> str:
    """Say what of a test image a method is given."""
    if method == DIFF_FUSED:
        return SEEN["diagnosis"]
    return SEEN["masks"] if method in SEE_THE_MASKS else SEEN["image"]


def title_of(method: str) -> str:
    """Return a method's usual name."""
    from iavlib.multiannotator.methods import METHODS

    return TITLES[method] if method in TITLES else METHODS[method].title


def comparison_table(runs: pd.DataFrame, intervals: bool = True) -> pd.DataFrame:
    """Average all measures over seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner`; finished runs of the task count.
    intervals : bool
        Whether Student's interval over seeds stands beside each measure, as ``_low`` and ``_high``.

    Returns
    -------
    pandas.DataFrame
        Index ``cohort_name`` and ``method``: ``sees``, :data:`MEASURES`, ``n_parameters``,
        ``method_seconds`` (of the processor, training and prediction) and ``runs``; methods that
        see alike together, the best soft Dice first.
    """
    runs = _compared(runs)
    rows = {}
    for key, some in runs.groupby(_KEY, sort=False):
        rows[key] = {"sees": seen_by(key[1])}
        for name in COMPARISON_MEASURES:
            values = some[name].dropna() if name in some else []
            places = (name, f"{name}_low", f"{name}_high") if intervals else (name,)
            rows[key] |= dict(zip(places, interval_of_mean(values), strict=False))
        rows[key] |= {name: some[name].mean() for name in _COSTS} | {"runs": len(some)}
    if not rows:
        return pd.DataFrame(columns=["sees", *COMPARISON_MEASURES, *_COSTS, "runs"])
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(_KEY)
    order = ["cohort_name", "sees", "soft_dice"]
    return table.sort_values(order, ascending=[True, False, False])


def in_cells(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Write a table of :func:`comparison_table` for a page: each interval beside its mean.

    Returns
    -------
    pandas.DataFrame of str
        Measures that nothing has are left out.
    """
    cells = table[["sees"]].copy()
    for name in [one for one in COMPARISON_MEASURES if one in table and table[one].notna().any()]:
        ends = (table.get(f"{name}_{end}", pd.Series(index=table.index)) for end in ("low", "high"))
        rows = zip(table[name], *ends, strict=True)
        cells[name] = [_cell(*row, digits) for row in rows]
    cells["n_parameters"] = [f"{number:,.0f}" for number in table["n_parameters"]]
    cells["method_seconds"] = [f"{number:.1f}" for number in table["method_seconds"]]
    return cells.assign(seeds=[str(number) for number in table["runs"]])


def _cell(mean: float, low: float, high: float, digits: int) -> str:
    if pd.isna(mean):
        return ""
    ends = "" if pd.isna(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{mean:.{digits}f}{ends}"


def raters_dice(runs: pd.DataFrame) -> pd.DataFrame:
    """Average the Dice to each rater's own masks over seeds.

    Returns
    -------
    pandas.DataFrame
        Index ``cohort_name`` and ``method``, in the order of :func:`comparison_table`; a column a
        rater, empty where she marked nothing of a set.
    """
    runs = _compared(runs)
    names = [one for one in runs if one.startswith("dice_")]
    names = [one for one in names if one not in ("dice_raters", "dice_truth")]
    if not len(runs) or not names:
        return pd.DataFrame()
    means = runs.groupby(_KEY)[names].mean().rename(columns=lambda one: one.removeprefix("dice_"))
    return means.loc[comparison_table(runs, intervals=False).index].sort_index(axis=1)


def paired_tests(
    runs: pd.DataFrame, measure: str = "soft_dice", n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare each method with the best that sees no more of the test images, image by image.

    The values of an image are averaged over seeds, so that it counts once.

    Parameters
    ----------
    runs : pandas.DataFrame
    measure : str
        A column of the runs' predictions: of each image.
    n_boot, seed
        Of the interval, which resamples images.

    Returns
    -------
    pandas.DataFrame
        Index ``cohort_name`` and ``method``: ``best`` (the method compared with), ``difference``
        to it, ``low`` and ``high``, ``p`` (Wilcoxon's signed ranks), ``p_holm`` within the cohort,
        ``images``.
    """
    runs = _compared(runs)
    if not len(runs):
        return pd.DataFrame(columns=["best", "difference", "low", "high", "p", "p_holm", "images"])
    values = read_predictions(runs).merge(runs[["id", *_KEY]], on="id")
    means = values.groupby([*_KEY, "image_id"])[measure].mean()
    tables = []
    for cohort, some in means.groupby(level=0):
        wide = some.droplevel(0).unstack("method")
        for names in wide.columns.to_series().groupby(seen_by).groups.values():
            tables.append(_against_best(wide[list(names)].dropna(), measure, n_boot, seed, cohort))
    table = pd.concat(tables)
    corrected = [
        holm(rows["p"].dropna())["p_holm"]
        for _, rows in table.groupby(level=0)
        if rows["p"].notna().any()
    ]
    return table.assign(p_holm=pd.concat(corrected) if corrected else float("nan"))


def _against_best(wide: pd.DataFrame, measure: str, n_boot: int, seed: int, cohort) -> pd.DataFrame:
    better = COMPARISON_MEASURES.get(measure, True)
    means = wide.mean()
    best = means.idxmax() if better else means.idxmin()
    rows = {}
    for method in wide:
        gap = wide[method] - wide[best]
        row = {"best": best, "difference": gap.mean(), "images": len(gap)}
        if method != best and len(gap) > 1:
            found = bootstrap_mean(gap, gap.index, n_boot, seed)
            row |= {"low": found.low, "high": found.high}
            row["p"] = 1.0 if not gap.any() else float(stats.wilcoxon(gap).pvalue)
        rows[(cohort, method)] = row
    columns = ["best", "difference", "low", "high", "p", "images"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(_KEY)


def _compared(runs: pd.DataFrame) -> pd.DataFrame:
    done = finished_runs(runs)
    return done[done["task"] == "comparison"] if len(done) else done
