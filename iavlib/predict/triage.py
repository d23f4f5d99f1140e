"""Which images of a cohort most need a further annotator, by runs not trained on them.

The order is by predicted disagreement. Its quality can be measured, because the annotators of
these images are known: the share of the total disagreement among the first images, compared with
a random order and with image statistics that need no network.
"""

from dataclasses import dataclass

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.files import load_template
from iavlib.core.project import Project
from iavlib.data.cohort import Cohort
from iavlib.experiments import evaluation
from iavlib.experiments.lookup import known_results
from iavlib.experiments.store import RunStore
from iavlib.stats.triage import triage_gains

TASK = "iaa"
#: Possible orders, each a column of the scores.
ORDERS = DISAGREEMENT, UNCERTAINTY, BOTH = "disagreement", "uncertainty", "both"


@dataclass(frozen=True, eq=False)
class Triage:
    """Images in the order of their need for a further annotator.

    Parameters
    ----------
    ranking : pandas.DataFrame
        One row per image, the greatest need first: ``rank``, ``image_id``, ``priority`` (higher
        is sooner), ``predicted_dice``, ``lower`` and ``upper`` (90 %, from the residuals of other
        folds), ``spread`` (standard deviation over the models, missing for one model),
        ``true_dice`` (of the annotators so far), ``n_masks``, ``malignancy``, ``cluster``.
    scores : pandas.DataFrame
        Index ``image_id``; the score of each order that is compared, the first one is used.
    gains : pandas.DataFrame
        See :func:`iavlib.stats.triage_gains`.
    model, origin : str
        Label of the model, and where its predictions are from: ``here`` or ``stored``.
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
    """Find runs that together predict each image of a cohort without having been trained on it.

    Parameters
    ----------
    cohort : Cohort
    store : RunStore, optional
        The default one if not given.
    project : Project, optional
        The one of the working folder by default; its stored results are included.

    Returns
    -------
    pandas.DataFrame
        Rows as of :func:`iavlib.experiments.read_results`: complete folds on one state of the
        data, the cohort's own where there are any, else the most frequent one.

    Raises
    ------
    ExperimentError
        If there is none.
    """
    runs = evaluation.whole_models(known_results(TASK, cohort.name, store, project))
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
    """Order the images of a cohort, and measure the quality of the order.

    Parameters
    ----------
    cohort : Cohort
    runs : pandas.DataFrame
        From :func:`out_of_fold_runs`.
    by : {"disagreement", "uncertainty", "both"}
        1 - predicted Dice; the standard deviation of the models' predictions; or their sum.
    model : str, optional
        Label of the model whose predictions are used; by default the one with the least mean
        absolute error, which makes the measured quality slightly optimistic.
    statistics : bool
        Compare with a ridge regression on image statistics, where images are available.
    n_boot, seed : int
        Of the bootstrap over patients.

    Raises
    ------
    ExperimentError
        If the order or model does not exist, or the spread of a single model is requested.
    """
    if by not in ORDERS:
        raise ExperimentError(f"--by {by}", "unknown order", suggest(by, ORDERS))
    tested = evaluation.predictions_on_test(runs)
    names = list(tested["model"].unique())
    if model is None:
        pretrained = tested[~tested["random"]] if not tested["random"].all() else tested
        errors = (pretrained["true"] - pretrained["predicted"]).abs()
        model = str(errors.groupby(pretrained["model"]).mean().idxmin())
    elif model not in names:
        raise ExperimentError(f"--model-name {model!r}", "no such model", suggest(model, names))
    if by != DISAGREEMENT and len(names) < 2:
        problem = "needs runs of at least two models, whose predictions can differ"
        raise ExperimentError(f"--by {by}", problem, f"use {DISAGREEMENT}, or train another model")
    own = tested[tested["model"] == model]
    table = evaluation.with_intervals(evaluation.per_image(own)).set_index("image_id")
    by_model = tested.pivot_table(index="image_id", columns="model", values="predicted")
    table["spread"] = by_model.std(axis=1, ddof=1).reindex(table.index)  # missing for one model
    scores = pd.DataFrame({DISAGREEMENT: 1 - table["predicted"]})
    if table["spread"].notna().all():
        scores[UNCERTAINTY] = table["spread"]
        scores[BOTH] = scores[DISAGREEMENT] + scores[UNCERTAINTY]
    scores = scores[[by, *scores.columns.drop(by)]]
    paths = cohort.images["path"].reindex(table.index)
    if statistics and paths.notna().all():
        features = evaluation.image_features(paths)
        fitted = evaluation.add_baseline(own, features).set_index("image_id")
        predicted = fitted.loc[fitted["model"] == evaluation.STATISTICS, "predicted"]
        scores[evaluation.STATISTICS] = (1 - predicted).reindex(table.index)
    reference = evaluation.STATISTICS if evaluation.STATISTICS in scores else None
    draw = {"reference": reference, "n_boot": n_boot, "seed": seed}
    gains = triage_gains(1 - table["true"], scores, table["cluster"], **draw)
    table = table.rename(columns={"predicted": "predicted_dice", "true": "true_dice"})
    ranking = table.assign(priority=scores[by])
    ranking = ranking.sort_values("priority", ascending=False, kind="stable").reset_index()
    ranking["rank"] = range(1, len(ranking) + 1)
    columns = ["rank", "image_id", "priority", "predicted_dice", "lower", "upper", "spread"]
    columns += ["true_dice", "n_masks", "malignancy", "cluster"]
    ranking = ranking[[name for name in columns if name in ranking]]
    origin = ", ".join(sorted(set(own["origin"])))
    return Triage(ranking, scores, gains, model, origin, bool(own["random"].any()))


def describe(result: Triage, cohort: Cohort, first: int = 10) -> str:
    """Report the first images of an order and its quality as text."""
    shown = result.ranking.head(first)[["rank", "image_id", "predicted_dice", "lower", "upper"]]
    table = shown.to_string(index=False, float_format="{:.3f}".format)
    facts = {
        "gains": result.gains.to_dict("index"),
        "statistics": evaluation.STATISTICS,
        "table": table,
    }
    template = load_template("iavlib.predict", "triage.txt")
    return template.render(result=result, cohort=cohort, **facts).rstrip("\n")
