"""What many runs of task ``comparison`` say: all methods side by side, and paired tests."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from iavlib.experiments.results.across_seeds import finished_runs, interval_of_mean
from iavlib.experiments.sweep import read_predictions
from iavlib.experiments.tasks.comparison import DIFF_FUSED, SEE_THE_MASKS
from iavlib.stats import cluster_mean, holm

#: Measures of the table, and whether more is better.
MEASURES = {
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
    from iavlib.multiannotator import METHODS

    return TITLES[method] if method in TITLES else METHODS[method].title


def comparison_table(runs: pd.DataFrame, intervals: bool = True) -> pd.DataFrame:
    """Average all measures over seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep`; finished runs of the task count.
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
        for name in MEASURES:
            values = some[name].dropna() if name in some else []
            places = (name, f"{name}_low", f"{name}_high") if intervals else (name,)
            rows[key] |= dict(zip(places, interval_of_mean(values), strict=False))
        rows[key] |= {name: some[name].mean() for name in _COSTS} | {"runs": len(some)}
    if not rows:
        return pd.DataFrame(columns=["sees", *MEASURES, *_COSTS, "runs"])
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
    for name in [one for one in MEASURES if one in table and table[one].notna().any()]:
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
    better = MEASURES.get(measure, True)
    means = wide.mean()
    best = means.idxmax() if better else means.idxmin()
    rows = {}
    for method in wide:
        gap = wide[method] - wide[best]
        row = {"best": best, "difference": gap.mean(), "images": len(gap)}
        if method != best and len(gap) > 1:
            found = cluster_mean(gap, gap.index, n_boot, seed)
            row |= {"low": found.low, "high": found.high}
            row["p"] = 1.0 if not gap.any() else float(stats.wilcoxon(gap).pvalue)
        rows[(cohort, method)] = row
    columns = ["best", "difference", "low", "high", "p", "images"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(_KEY)


def _compared(runs: pd.DataFrame) -> pd.DataFrame:
    done = finished_runs(runs)
    return done[done["task"] == "comparison"] if len(done) else done
