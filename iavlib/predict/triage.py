"""Which images of a cohort deserve a further annotator, told by runs that had not seen them.

The order is by predicted disagreement. How good it is can be measured, as the annotators of these
images did draw: the share of the total disagreement found among the first images, beside a random
order and beside image statistics that need no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.project import Project
from iavlib.data.cohort import Cohort
from iavlib.experiments.evaluation import (
    STATISTICS,
    add_statistics_baseline,
    image_features,
    per_image,
    predictions_on_test,
    whole_models,
    with_intervals,
)
from iavlib.experiments.lookup import known_results
from iavlib.experiments.store import RunStore
from iavlib.stats.triage import triage_gains

TASK = "iaa"
#: What the order may be by, each a column of the scores.
DISAGREEMENT, UNCERTAINTY, BOTH = "disagreement", "uncertainty", "both"
ORDERS = (DISAGREEMENT, UNCERTAINTY, BOTH)
_SIZE = 224


@dataclass(frozen=True, eq=False)
class Triage:
    """Images in the order in which they deserve a further annotator.

    Parameters
    ----------
    ranking : pandas.DataFrame
        One row an image, the first the most deserving: ``rank``, ``image_id``, ``priority`` (the
        greater, the sooner), ``predicted_dice``, ``lower`` and ``upper`` (90 %, from the
        residuals of other folds), ``spread`` (standard deviation over the models, missing
        for one), ``true_dice`` (of the annotators so far), ``n_masks``, ``malignancy``,
        ``cluster``.
    scores : pandas.DataFrame
        Index ``image_id``; the score of each order that is compared, the first the one used.
    gains : pandas.DataFrame
        See :func:`iavlib.stats.triage_gains`.
    model, origin : str
        Whose predictions are used, and where from: ``here`` or ``stored``.
    random : bool
        Whether that model started from random weights.
    """

    ranking: pd.DataFrame
    scores: pd.DataFrame
    gains: pd.DataFrame
    model: str
    origin: str
    random: bool


def out_of_fold_runs(
    cohort: Cohort, store: RunStore | None = None, project: Project | None = None
) -> pd.DataFrame:
    """Find runs that together predict each image of a cohort without having seen it.

    Parameters
    ----------
    cohort : Cohort
    store : RunStore, optional
        The default one if not given.
    project : Project, optional
        The one of the working folder by default; its stored results count too.

    Returns
    -------
    pandas.DataFrame
        Rows as of :func:`iavlib.experiments.read_results`: complete folds on one state of the
        data, the cohort's own where there are any, else that of most runs.

    Raises
    ------
    ExperimentError
        If there is none.
    """
    runs = whole_models(known_results(TASK, cohort.name, store, project))
    if runs.empty:
        hint = f"'iav train' a list of folds of task {TASK} on it, see book/experiments.md"
        raise ExperimentError(f"cohort {cohort.name!r}", "no runs predict all of its images", hint)
    states = runs["data"].value_counts()
    state = cohort.fingerprint if cohort.fingerprint in states else states.index[0]
    return runs[runs["data"] == state]


def triage(
    cohort: Cohort,
    runs: pd.DataFrame,
    by: str = DISAGREEMENT,
    model: str | None = None,
    statistics: bool = True,
    n_boot: int = 2000,
    seed: int = 0,
) -> Triage:
    """Order the images of a cohort, and measure the order on them.

    Parameters
    ----------
    cohort : Cohort
    runs : pandas.DataFrame
        From :func:`out_of_fold_runs`.
    by : {"disagreement", "uncertainty", "both"}
        1 - predicted Dice; the spread of the models' predictions; or their sum.
    model : str, optional
        Whose predictions; those of the least error unless given, which flatters them a little.
    statistics : bool
        Compare with a ridge regression on image statistics, where images are at hand.
    n_boot, seed : int
        Of the bootstrap over patients.

    Raises
    ------
    ExperimentError
        If there is no such order or model, or one model has no spread.
    """
    if by not in ORDERS:
        raise ExperimentError(f"--by {by}", "is no order", suggest(by, ORDERS))
    tested = predictions_on_test(runs)
    chosen = _choose(tested, model)
    if by != DISAGREEMENT and tested["model"].nunique() < 2:
        told = "takes runs of two models at least, whose predictions can differ"
        raise ExperimentError(f"--by {by}", told, f"use {DISAGREEMENT}, or train another model")
    table = with_intervals(per_image(tested[tested["model"] == chosen])).set_index("image_id")
    wide = tested.pivot_table(index="image_id", columns="model", values="predicted")
    wide = wide.reindex(table.index)
    table["spread"] = wide.std(axis=1, ddof=1) if wide.shape[1] > 1 else float("nan")
    scores = _scores(table, by)
    paths = cohort.images["path"].reindex(table.index)
    if statistics and paths.notna().all():
        scores[STATISTICS] = _statistics(tested, chosen, paths)
    reference = STATISTICS if STATISTICS in scores else None
    draw = {"reference": reference, "n_boot": n_boot, "seed": seed}
    gains = triage_gains(1 - table["true"], scores, table["cluster"], **draw)
    origin = ", ".join(sorted(set(tested.loc[tested["model"] == chosen, "origin"])))
    random = bool(tested.loc[tested["model"] == chosen, "random"].any())
    return Triage(_ranking(table, scores.iloc[:, 0]), scores, gains, chosen, origin, random)


def _choose(tested: pd.DataFrame, model: str | None) -> str:
    names = list(tested["model"].unique())
    if model is not None:
        if model not in names:
            raise ExperimentError(f"--model-name {model!r}", "no such model", suggest(model, names))
        return model
    learnt = tested[~tested["random"]] if (~tested["random"]).any() else tested
    errors = (learnt["true"] - learnt["predicted"]).abs().groupby(learnt["model"]).mean()
    return str(errors.idxmin())


def _scores(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Score the images by every order that can be, the one asked for first."""
    scores = pd.DataFrame({DISAGREEMENT: 1 - table["predicted"]})
    if table["spread"].notna().all():
        scores[UNCERTAINTY] = table["spread"]
        scores[BOTH] = scores[DISAGREEMENT] + scores[UNCERTAINTY]
    return scores[[by, *(name for name in scores if name != by)]]


def _statistics(tested: pd.DataFrame, model: str, paths: pd.Series) -> pd.Series:
    """Predict disagreement from image statistics, fitted on the other folds."""
    own = tested[tested["model"] == model]
    with_them = add_statistics_baseline(own, image_features(paths, _SIZE))
    rows = with_them[with_them["model"] == STATISTICS].set_index("image_id")
    return (1 - rows["predicted"]).reindex(paths.index)


def _ranking(table: pd.DataFrame, priority: pd.Series) -> pd.DataFrame:
    names = {"predicted": "predicted_dice", "true": "true_dice"}
    columns = ["priority", "predicted_dice", "lower", "upper", "spread", "true_dice"]
    ranked = table.rename(columns=names).assign(priority=priority)
    ranked = ranked.sort_values("priority", ascending=False, kind="stable")
    columns += [name for name in ("n_masks", "malignancy", "cluster") if name in ranked]
    ranked = ranked[columns].reset_index()
    ranked.insert(0, "rank", range(1, len(ranked) + 1))
    return ranked


def in_words(found: Triage | None) -> dict[str, str]:
    """Say the figures of an order, or that they were not measured.

    Returns
    -------
    dict of str to str
        ``area`` gained over a random order, and ``more`` than statistics of the image gain, with
        intervals; ``tenth``, the share of disagreement among the first tenth of the images.
    """
    words = dict.fromkeys(("area", "more", "tenth"), "(not measured)")
    if found is None:
        return words
    row = found.gains.iloc[0]
    words["tenth"] = f"{row['found_10']:.0%}"
    for name, column in (("area", "area_gained"), ("more", "more_than_reference")):
        if column in row and pd.notna(row[column]):
            low, high = row[f"{column}_low"], row[f"{column}_high"]
            words[name] = f"{row[column]:.3f} ({low:.3f} to {high:.3f})"
    return words


def describe(found: Triage, cohort: Cohort, first: int = 10) -> str:
    """Say in text which images come first, and how good the order is."""
    lines = [
        f"{cohort.name}: {len(found.ranking):,} images, by {found.scores.columns[0]}, predicted by "
        f"{found.model!r} ({found.origin}), each by a run that had not seen it"
    ]
    if cohort.synthetic:
        lines.append("The images are invented: this shows that the code works, and no more.")
    if found.random:
        lines.append("The network started from random weights: this says nothing of trained ones.")
    shown = found.ranking.head(first)[["rank", "image_id", "predicted_dice", "lower", "upper"]]
    lines += ["", shown.to_string(index=False, float_format="{:.3f}".format), ""]
    lines.append(
        "Order, area gained over a random one (95 % interval), found in the first 10, 20 %:"
    )
    for name, row in found.gains.iterrows():
        area = f"{row['area_gained']:.3f} ({row['area_gained_low']:.3f} to "
        area += f"{row['area_gained_high']:.3f})"
        lines.append(f"  {name:<18} {area}  {row['found_10']:.0%}, {row['found_20']:.0%}")
    if "more_than_reference" in found.gains:
        row = found.gains.iloc[0]
        lines.append(
            f"More than {STATISTICS}: {row['more_than_reference']:.3f} "
            f"({row['more_than_reference_low']:.3f} to {row['more_than_reference_high']:.3f})"
        )
    lines.append("Shares are of the total 1 - Dice of the annotators so far.")
    return "\n".join(lines)
