"""What runs of task ``explain`` say together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib import explain
from iavlib.data.cohort import Cohort
from iavlib.experiments.result import read_facts
from iavlib.experiments.results.across_seeds import finished_runs
from iavlib.experiments.store import MODEL
from iavlib.experiments.sweep import read_predictions
from iavlib.stats.resampling import cluster_bootstrap

GAINS = ("deletion_gain", "insertion_gain")
_CURVES = ("deletion", "insertion", "random_deletion", "random_insertion")
_KEPT = ("kept", "half_area", "opposite")
#: What every row has, so that tables without rows can be asked the same.
_ALWAYS = ("id", "label", "backbone", "seed", "image_id", "part", "true", "predicted", "target")
_ALWAYS += ("method", "cluster", "total", *_KEPT)


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its maps, as the network saw it.

    Attributes
    ----------
    image_id : str
    picture : numpy.ndarray of uint8, shape (S, S, 3)
    maps : dict of str to numpy.ndarray, shape (S, S)
        By method or target, scaled from 0 to 1.
    masks : tuple of numpy.ndarray of bool, shape (S, S)
    lesion, disagreement : numpy.ndarray of bool, or None
        As of :class:`iavlib.explain.Regions`.
    predicted : float
    """

    image_id: str
    picture: np.ndarray
    maps: dict[str, np.ndarray]
    masks: tuple[np.ndarray, ...]
    lesion: np.ndarray
    disagreement: np.ndarray | None
    predicted: float


def read_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what finished runs measured.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep` or :func:`iavlib.experiments.read_results`.

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


def example_maps(
    run: pd.Series, cohort: Cohort, shown: dict[str, tuple[str, str]], n: int = 3
) -> list[Example]:
    """Explain some images of a run anew, to look at them.

    Parameters
    ----------
    run : pandas.Series
        A finished row of :func:`iavlib.experiments.sweep`.
    cohort : Cohort
        Its images.
    shown : dict of str to (str, str)
        Title to target and method.
    n : int
        How many, evenly spaced from the lowest to the highest prediction.

    Returns
    -------
    list of Example
        Empty where the network is not on this machine, as with stored results.
    """
    folder = Path(run["folder"]).parents[1] / str(run["start"])
    if not (folder / MODEL).is_file():
        return []
    from iavlib.experiments.tasks.explaining import explain_examples

    rows = read_rows(pd.DataFrame([run])).drop_duplicates("image_id").sort_values("predicted")
    places = np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)
    ids = rows["image_id"].iloc[places].tolist()
    found = explain_examples(folder, cohort, rows["image_id"].tolist(), ids, shown)
    return [Example(*one) for one in found]
