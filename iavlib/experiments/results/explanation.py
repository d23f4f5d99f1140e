"""What runs of task ``explain`` say together.

What runs of task ``explain`` say together, in the words of a page.

Each function says so where no run at hand has measured what it is asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from iavlib import explain
from iavlib.experiments.results.segmentation import finished_runs
from iavlib.experiments.runner import read_predictions
from iavlib.experiments.store import FINISHED, read_facts
from iavlib.experiments.table import STORED
from iavlib.experiments.tasks.explain import example_maps as example_maps
from iavlib.stats.resampling import cluster_bootstrap

GAINS = ("deletion_gain", "insertion_gain")
_CURVES = ("deletion", "insertion", "random_deletion", "random_insertion")
_KEPT = ("kept", "half_area", "opposite")
#: What every row has, so that tables without rows can be asked the same.
_ALWAYS = ("id", "label", "backbone", "seed", "image_id", "subset", "true", "predicted", "target")
_ALWAYS += ("method", "cluster", "total", *_KEPT)


def read_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what finished runs measured.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner` or :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        One row a run, image, target and method; none where nothing is finished.
    """
    finished = finished_runs(runs)
    return read_predictions(finished) if len(finished) else pd.DataFrame(columns=list(_ALWAYS))


def main_label(rows: pd.DataFrame) -> str:
    """Choose whose maps a page describes: of two annotators' images, else of its own data."""
    return "two annotators" if "two annotators" in set(rows["label"]) else "own"


def readability(rows: pd.DataFrame, by=("label", "target", "method")) -> pd.DataFrame:
    """Tell what is left to see of maps.

    Returns
    -------
    pandas.DataFrame
        Index `by`: ``images``, ``empty`` (share of images of whose map nothing is left),
        ``kept`` (mean share of absolute attribution that points in the target's direction; the
        rest is not shown), ``half_area`` (mean share of the image that holds half of a map
        that is not empty) and ``opposite`` (mean rank correlation with the map of the opposite
        direction, before anything is set to 0: -1 where a method tells them apart, near 1 where it
        shows the same whatever is asked).
    """
    images = rows.groupby([*by, "image_id"], sort=False)[list(_KEPT)].mean().astype(float)
    images["empty"] = images["half_area"].isna().astype(float)
    groups = images.groupby(level=list(by), sort=False)
    table = groups[["empty", *_KEPT]].mean()
    table.insert(0, "images", groups.size())
    return table


def faithfulness(rows: pd.DataFrame, n_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Compare areas under deletion and insertion curves with those of random smooth maps.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of :func:`read_rows`; those without curves do not count.
    n_boot, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    pandas.DataFrame
        Index ``target``, ``method``: ``images``, and for each of :data:`GAINS` its mean, ``_low``
        and ``_high`` (95 %), in units of the score. Positive is better than random.
    """
    if "deletion" not in rows:
        rows = rows.assign(**dict.fromkeys((*GAINS, *_CURVES), np.nan))
    known = rows.dropna(subset=["deletion", "insertion", "half_area"]).copy()
    known["deletion_gain"] = known["random_deletion"] - known["deletion"]
    known["insertion_gain"] = known["insertion"] - known["random_insertion"]
    found = {}
    for key, group in known.groupby(["target", "method"], sort=False):
        images = group.groupby("image_id")[list(GAINS)].mean()
        clusters = group.groupby("image_id")["cluster"].first()
        row = {"images": len(images)}
        for gain in GAINS:
            ends = _interval(images[gain].to_numpy(), clusters[images.index], n_boot, seed)
            row |= {gain: images[gain].mean(), f"{gain}_low": ends[0], f"{gain}_high": ends[1]}
        found[key] = row
    ends = [f"{gain}{end}" for gain in GAINS for end in ("", "_low", "_high")]
    return explain.grouped_table(found, ["target", "method"], ["images", *ends])


def _interval(values: np.ndarray, clusters: pd.Series, n_boot: int, seed: int):
    if clusters.nunique() < 2:
        return float("nan"), float("nan")
    drawn = cluster_bootstrap(
        lambda weights: weights @ values / weights.sum(axis=1), clusters.to_numpy(), n_boot, seed
    )
    return float(drawn.low), float(drawn.high)


def levels(rows: pd.DataFrame, method: str) -> dict[str, float]:
    """Correlate what is in a map with what was predicted, over images.

    Returns
    -------
    dict of str to float
        ``total``: Pearson's r of the signed mean of an image's map and the prediction;
        ``displayed``: the same of the area that holds half of the map, which is what remains
        to be seen once maps are scaled from 0 to 1. NaN where one of them does not vary.
    """
    own = rows[rows["method"] == method].dropna(subset=["total", "predicted"])
    found = {}
    for name, column in (("total", "total"), ("displayed", "half_area")):
        both = own[[column, "predicted"]].dropna()
        varies = len(both) > 2 and (both.std() > 0).all()
        found[name] = float(both.corr().iloc[0, 1]) if varies else float("nan")
    return found


def method_agreement(runs: pd.DataFrame) -> pd.DataFrame:
    """Average the runs' mean rank correlations between methods; images count alike."""
    tables, counts = [], []
    for row in finished_runs(runs).to_dict("records"):
        facts = read_facts(Path(row["folder"]))
        tables.append(pd.DataFrame(facts["settings"]["agreement"]).astype(float))
        counts.append(facts["metrics"]["test"]["images"])
    if not tables:
        return pd.DataFrame()
    total = sum(n * table.fillna(0) for n, table in zip(counts, tables, strict=True))
    known = sum(n * table.notna() for n, table in zip(counts, tables, strict=True))
    mean = total / known.where(known > 0)
    return mean.loc[list(tables[0].columns), list(tables[0].columns)]


def cascades(runs: pd.DataFrame) -> pd.DataFrame:
    """Average what was left of maps while weights were destroyed.

    Returns
    -------
    pandas.DataFrame
        ``stage``, ``method``, ``spearman``, ``ssim``: means over runs, in the order of destruction;
        ``networks``: how many runs.
    """
    frames = []
    for row in finished_runs(runs).to_dict("records"):
        settings = read_facts(Path(row["folder"]))["settings"]
        frames.append(pd.DataFrame(settings["cascade"]))
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=["stage", "method", "spearman", "ssim", "networks"])
    together = pd.concat(frames).groupby(["stage", "method"], sort=False)
    means = together[["spearman", "ssim"]].mean()
    return means.assign(networks=together.size()).reset_index()


def sanity_verdicts(cascade: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Judge methods by what is left of their maps when nothing learnt is left.

    Parameters
    ----------
    cascade : pandas.DataFrame
        Of :func:`cascades`.
    limit : float
        A method passes whose remaining rank correlation is smaller, whatever its sign.

    Returns
    -------
    pandas.DataFrame
        Index ``method``: ``heads`` (rank correlation when only the heads are destroyed), ``left``
        (when everything is), ``passes``.
    """
    order = list(dict.fromkeys(cascade["stage"]))
    if not order:
        return pd.DataFrame(columns=["heads", "left", "passes"])
    wide = cascade.pivot(index="method", columns="stage", values="spearman")
    wide = wide.loc[list(dict.fromkeys(cascade["method"]))]
    table = pd.DataFrame({"heads": wide[order[0]], "left": wide[order[-1]]})
    return table.assign(passes=table["left"].abs() < limit)


def best_known(runs: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Take each label's runs of the full scale where all are finished, else those at hand.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of this scale.
    full : pandas.DataFrame
        Of the scale paper, from :func:`iavlib.experiments.read_results`.
    """
    done = [
        group
        for label, group in full.groupby("label", sort=False)
        if len(finished_runs(group)) == len(group)
    ]
    labels = {label for group in done for label in group["label"]}
    mine = runs[~runs["label"].isin(labels)]
    return pd.concat([*done, mine], ignore_index=True)


#: In the words of a page, for what no run at hand has measured.
UNMEASURED = "(not measured)"


def coverage_in_words(known: pd.DataFrame) -> str:
    """Say which of the runs that a page reads are at hand, and what is missing.

    Parameters
    ----------
    known : pandas.DataFrame
        Of :func:`best_known`.
    """
    done = known[known["status"] == FINISHED]
    if done.empty:
        return (
            "Not run: none of the runs that this page reads is finished or stored here, and what "
            'they would measure stands as "(not measured)" or is left empty.'
        )
    missing = [label for label in known["label"].unique() if label not in set(done["label"])]
    stored = int((done["origin"] == STORED).sum()) if "origin" in done else 0
    told = f"{len(done)} of {len(known)} runs are at hand, {stored} of them stored results."
    return told + (f" Not run: {', '.join(missing)}." if missing else "")


def readability_in_words(format_table: pd.DataFrame, label: str) -> dict[str, str]:
    """Say what plain and centred Grad-CAM keep, and whether others tell directions apart.

    Parameters
    ----------
    readable : pandas.DataFrame
        Of :func:`readability`.
    label : str
        Whose maps.

    Returns
    -------
    dict of str to str
        ``kept_`` and ``empty_`` of ``lowers_plain``, ``lowers_centred``, ``raises_plain`` and
        ``raises_centred``; ``opposite_`` of methods that keep positive gradients only.
    """
    columns = ["kept", "empty", "opposite"]

    def words(target: str, method: str, column: str, form: str) -> str:
        key = (label, target, method)
        value = format_table.loc[key, column] if key in format_table.index else float("nan")
        return format(value, form) if np.isfinite(value) else UNMEASURED

    found = {}
    for name, target in (("lowers", explain.LOWERS), ("raises", explain.RAISES)):
        for short, method in (("plain", "Grad-CAM"), ("centred", explain.CENTRED)):
            for column in columns[:2]:
                found[f"{column}_{name}_{short}"] = words(target, method, column, ".0%")
    for method in ("Grad-CAM++", "Layer-CAM"):
        found[f"opposite_{method}"] = words(explain.LOWERS, method, "opposite", ".2f")
    return found


def number_in_words(value: float) -> str:
    """Say a number with two digits, or that it was not measured."""
    return f"{value:.2f}" if np.isfinite(value) else UNMEASURED


def best_deletion_in_words(gains: pd.DataFrame) -> str:
    """Name the method of the largest gain by deletion, with its interval."""
    if gains.empty:
        return UNMEASURED
    target, method = gains["deletion_gain"].idxmax()
    row = gains.loc[(target, method)]
    ends = f"{row['deletion_gain_low']:.3f} to {row['deletion_gain_high']:.3f}"
    told = f"{row['deletion_gain']:.3f} ({ends})" if "nan" not in ends else "one patient only"
    return f"{method} ({target}): {told}, {int(row['images'])} images"


def verdicts_in_words(verdicts: pd.DataFrame, passes: bool) -> str:
    """Name the methods that pass (or fail) the sanity check, with what is left of their maps."""
    if verdicts.empty:
        return UNMEASURED
    chosen = verdicts[verdicts["passes"] == passes]
    return ", ".join(f"{name} ({left:.2f})" for name, left in chosen["left"].items()) or "none"


def ratio_in_words(ratios: pd.DataFrame, *key: str) -> str:
    """Say a ratio of :func:`iavlib.explain.attribution_ratios` with its interval and images."""
    if key not in ratios.index:
        return UNMEASURED
    row = ratios.loc[key]
    if not np.isfinite(row["ratio"]):
        return UNMEASURED
    ends = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}, "
    ends = ends if np.isfinite(row["ci_low"]) else ""
    return f"{row['ratio']:.2f} ({ends}{int(row['n'])} images)"
