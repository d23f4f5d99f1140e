"""Several runs of a model together: each image predicted by runs that were not trained on it."""

import pandas as pd

from iavlib import stats
from iavlib.core.errors import ExperimentError
from iavlib.experiments.runner import read_predictions
from iavlib.experiments.scores import cached_statistics
from iavlib.experiments.store import FINISHED


def model_names(runs: pd.DataFrame) -> pd.Series:
    """Name the model of each run by its label, and by its backbone where the label has several.

    A run without a label is named by backbone and recipe.
    """
    several = runs.groupby("label")["backbone"].transform("nunique") > 1
    label = runs["label"].where(~several, runs["label"] + ", " + runs["backbone"])
    return label.where(runs["label"] != "", runs["backbone"] + ", " + runs["recipe"])


def learning_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Arrange the runs of models that were also trained on shares of the images.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``n_train`` (the mean over runs of one share, which differ by a few images) and
        ``error``, as :func:`iavlib.plots.curves` takes them.
    """
    done = runs[runs["status"] == FINISHED]
    done = done.assign(model=model_names(done))
    mine = done[done["model"].isin(done.loc[done["train_share"] < 1, "model"])]
    size = mine.groupby(["model", "train_share"])["n_train"].transform("mean").round().astype(int)
    return mine.assign(n_train=size, error=mine["mae"])[["model", "n_train", "error"]]


def errors_by_backbone(runs: pd.DataFrame, measure: str = "mae") -> pd.DataFrame:
    """Arrange finished runs' errors by seed (rows) and backbone (columns).

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner` or :func:`iavlib.experiments.read_results`.
    measure : str
        A column.

    Returns
    -------
    pandas.DataFrame
        Empty where nothing is finished; NaN where one run is missing.
    """
    done = runs[runs["status"] == FINISHED]
    if done.empty:
        return pd.DataFrame()
    return done.pivot_table(index="seed", columns="backbone", values=measure, sort=False)


def lead(errors: pd.DataFrame, model: str) -> dict:
    """Compare the error of a model with the best of the others, over seeds.

    Returns
    -------
    dict
        ``value`` (its error minus that of the other with the least mean error, negative where it
        is best) and ``interval`` (t interval over seeds).
    """
    whole = errors.dropna()
    other = whole.drop(columns=model).mean().idxmin()
    difference = stats.mean_interval(whole[model] - whole[other])
    return {"value": difference.value, "interval": difference.interval}


#: Name of the model that knows statistics of the images and no network.
STATISTICS = "image statistics"
_ENDS = ("estimate", "ci_low", "ci_high")


def predictions_on_test(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what finished runs predicted on their test subsets.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner` or :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        One row per image and run: ``model`` (:func:`model_names`), ``run``,
        ``seed``, ``fold``, ``image_id``, ``true``, ``predicted`` (clipped to [0, 1]), ``constant``
        (the median of the run's training subset), ``random`` (whether its weights were), ``origin``
        (``here`` or ``stored``), and what else ``predictions.csv`` holds.

    Raises
    ------
    ExperimentError
        If no run is finished.
    """
    finished = runs[runs["status"] == FINISHED]
    if finished.empty:
        reasons = "; ".join(sorted(set(runs.get("reason", ())) - {""})[:3]) or f"of {len(runs)}"
        raise ExperimentError("experiments", f"none is finished ({reasons})", "see 'iav runs'")
    everything = read_predictions(finished)
    training = everything[everything["subset"] == "train"]
    constant = training.groupby("id")["true"].median()
    runs = finished.drop_duplicates("id").set_index("id")
    about = pd.DataFrame(
        {
            "model": model_names(runs),
            "fold": runs.get("split_fold", 0),
            "constant": constant,
            "random": runs["weights_random"].astype(bool),
            "origin": runs["origin"],
        }
    )
    tested = everything[everything["subset"] == "test"].join(about, on="id")
    tested = tested.drop(columns=["subset", "label"]).rename(columns={"id": "run"})
    tested["predicted"] = tested["predicted"].clip(0, 1)
    first = ["model", "run", "seed", "fold", "image_id", "true", "predicted", "constant"]
    first += ["random", "origin"]
    others = tested.columns.difference(first, sort=False)
    return tested[[*first, *others]].reset_index(drop=True)


def complete_folds(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the models whose finished runs are all the folds of their split.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner` or :func:`iavlib.experiments.read_results`, of
        splits of kind ``kfold``.

    Returns
    -------
    pandas.DataFrame
        Those rows; a model of which a fold is missing would be evaluated on other images.
    """
    done = runs[runs["status"] == FINISHED]
    if done.empty:
        return done
    keys = [model_names(done), done["seed"]]
    n_folds = done.groupby(keys)["split_fold"].transform("nunique")
    return done[n_folds == done["split_folds"]]


def whole_models(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the models whose runs together predict every image, each trained on other images.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows as of :func:`complete_folds`, of any splits; it may be empty.

    Returns
    -------
    pandas.DataFrame
        Those of complete folds, without runs on a share of the training subset.
    """
    if runs.empty:
        return runs
    return complete_folds(runs[(runs["split_kind"] == "kfold") & (runs["train_share"] == 1)])


def image_features(paths: pd.Series, size: int = 224) -> pd.DataFrame:
    """Compute statistics of images at the size of the networks' input, or read cached ones.

    Parameters
    ----------
    paths : pandas.Series
        File of each image, indexed by image id.
    size : int
        In pixels.

    Returns
    -------
    pandas.DataFrame
        As :func:`iavlib.stats.image_baselines`, indexed by image id.
    """
    from iavlib.training.image_cache import cache_images

    return cached_statistics(cache_images(paths, size, progress=True))


def add_baseline(
    tested: pd.DataFrame,
    features: pd.DataFrame,
    name: str = STATISTICS,
    held_out: pd.Series | None = None,
) -> pd.DataFrame:
    """Add a ridge regression on facts about the images, fitted on the images of the other folds.

    Parameters
    ----------
    tested : pandas.DataFrame
        From :func:`predictions_on_test`, of runs that together tested each image.
    features : pandas.DataFrame
        Numbers indexed by image id, for instance of :func:`image_features`. Images that it lacks,
        or of which a number is missing, are not predicted.
    name : str
        Name of the new model.
    held_out : pandas.Series, optional
        Group of each image by its id. Each group is predicted by a regression fitted on the images
        of other groups and other patients; by default the groups are the folds.

    Returns
    -------
    pandas.DataFrame
        `tested` with rows of a model called `name`, one per image. It is `tested` itself where
        fewer than two groups, or two patients, are left to fit on.
    """
    base = tested.drop_duplicates("image_id").set_index("image_id", drop=False)
    features = features.reindex(base.index).dropna()
    base = base.loc[features.index]
    groups = base["fold"] if held_out is None else held_out.reindex(base.index)
    predicted = pd.Series(index=base.index, dtype=float)
    for group in groups.dropna().unique():
        own = groups == group
        others = base[~own & ~base["cluster"].isin(base.loc[own, "cluster"])]
        if len(others["cluster"].unique()) > 1:
            known = features.loc[others.index]
            model = stats.fit_statistics_baseline(known, others["true"], others["cluster"])
            predicted[own] = model.predict(features[own])
    rows = base.assign(model=name, run="", predicted=predicted, random=False, origin="here")
    rows = rows[predicted.notna()]
    return pd.concat([tested, rows], ignore_index=True) if len(rows) else tested


def model_table(tested: pd.DataFrame, n_boot: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Measure each model's error over all images that its runs tested.

    Parameters
    ----------
    tested : pandas.DataFrame
        From :func:`predictions_on_test`. An image that several runs of a model tested counts once,
        by the mean of their predictions.
    n_boot, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    pandas.DataFrame
        Index ``model``, the least error first: ``n`` images, ``estimate``, ``ci_low``, ``ci_high``
        (mean absolute error), ``median_mae`` (of the constant median on the same images),
        ``reduction`` with ``reduction_low`` and ``reduction_high``, ``pearson`` with
        ``pearson_low`` and ``pearson_high``, ``random`` and ``origin``.
    """
    rows = {name: _measure(group, n_boot, seed) for name, group in tested.groupby("model")}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table = table.astype({"n": int, "runs": int, "random": bool})
    return table.sort_values("estimate")


def _measure(group: pd.DataFrame, n_boot: int, seed: int) -> dict:
    images = per_image(group)
    draw = {"clusters": images["cluster"], "n_boot": n_boot, "seed": seed}
    errors = stats.regression_errors(images["true"], images["predicted"], **draw)
    less = stats.relative_reduction(images["true"], images["predicted"], images["constant"], **draw)
    row = {"n": len(images), "runs": group["run"].nunique(), **errors.loc["mae", list(_ENDS)]}
    row["median_mae"] = (images["true"] - images["constant"]).abs().mean()
    row |= {"reduction": less.value, "reduction_low": less.low, "reduction_high": less.high}
    names = ("pearson", "pearson_low", "pearson_high")
    row |= dict(zip(names, errors.loc["pearson", list(_ENDS)], strict=True))
    origin = ", ".join(sorted(set(group["origin"])))
    return row | {"random": group["random"].any(), "origin": origin}


def per_image(group: pd.DataFrame) -> pd.DataFrame:
    """Return one row per image of one model: the mean prediction of the runs that tested it."""
    first = {name: "first" for name in group if name not in ("predicted", "constant", "image_id")}
    means = {"predicted": "mean", "constant": "mean"}
    return group.groupby("image_id").agg(first | means).reset_index()


def with_intervals(
    images: pd.DataFrame, alpha: float = 0.1, kind: str = "mondrian"
) -> pd.DataFrame:
    """Add conformal intervals ``lower`` and ``upper``, from the residuals of the other folds.

    Parameters
    ----------
    images : pandas.DataFrame
        From :func:`per_image`, of two folds or more.
    alpha, kind
        As for :func:`iavlib.stats.out_of_fold_intervals`.
    """
    columns = images["true"], images["predicted"], images["fold"]
    ends = stats.out_of_fold_intervals(*columns, alpha, kind=kind)
    return images.assign(lower=ends["lower"].to_numpy(), upper=ends["upper"].to_numpy())
