"""Heads on frozen features: seconds a run, once the features are there.

What is done to a network between its making and its training, in whatever task.

With a new head the first steps carry large and meaningless gradients into the backbone. The best
linear head for the features as they are is known in closed form, so that nothing needs to be
trained before all layers are. And weights whose batch norms were folded away are destroyed by the
first batch in training mode, unless these get their statistics back or stay as they are.

How good predictions are, beside those of predictors that have learnt next to nothing.

Learning one number from an image: a network trained whole, or a head on frozen features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from iavlib.core.errors import ExperimentError
from iavlib.core.files import only_one, write_text
from iavlib.core.home import cache_home
from iavlib.experiments.config import PROBE_HEADS, Experiment
from iavlib.experiments.scores import constant_baselines, scores_by_part
from iavlib.experiments.tasks.task import Log
from iavlib.experiments.tasks.tta import SYMMETRIES, MeanOverViews, View
from iavlib.models.heads import (
    HeadSpec,
    has_folded_batchnorm,
    predicted_quantiles,
    restore_batchnorm,
)
from iavlib.models.model_files import save_network
from iavlib.models.network import Network, build_network
from iavlib.stats import fit_statistics_baseline, image_statistics
from iavlib.training.batches import ImageBatches, channel_statistics
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.loop import fit
from iavlib.training.losses import EDGE, get_loss
from iavlib.training.objectives import ImageObjective
from iavlib.training.predict import frozen_features, predict
from iavlib.training.probe import fit_linear_head, fit_probe
from iavlib.training.recipe import Recipe

#: Images by which folded batch norms are given back their statistics.
RESTORED_BY = 256


def restore_folded_batchnorm(
    network: Network, training: ImageBatches, recipe: Recipe, seed: int
) -> int:
    """Give folded batch norms back their statistics, from training images, if they are to move.

    Returns
    -------
    int
        Number of batch norms; 0 where none was folded or the recipe freezes them.
    """
    if recipe.freeze_batchnorm or not has_folded_batchnorm(network.backbone):
        return 0
    order = np.random.default_rng(seed).permutation(len(training))[:RESTORED_BY]
    plan = np.array_split(order, max(1, len(order) // recipe.eval_batch_size))
    network.to(training.device)
    images = (batch["images"] for batch in training.stream(plan))
    return restore_batchnorm(network.backbone, images)


def features_over_views(
    network: Network, cache: ImageCache, training: ImageBatches, n_views: int
) -> pd.DataFrame:
    """Compute features of the training images as means over views, the network untouched.

    Returns
    -------
    pandas.DataFrame
        One row an image of `training`, in its order.
    """
    backbone = network.backbone
    if n_views > 1:
        network.backbone = MeanOverViews(backbone, n_views)
    try:
        features = frozen_features(network, cache, training.mean, training.std)
    finally:
        network.backbone = backbone
    return features.loc[training.ids]


#: Part of the name of what is kept: raise it when the same pixels would give other statistics.
VERSION = 1


Scores = dict[str, dict[str, float]]


def judge(predictions: pd.DataFrame, cache: ImageCache) -> tuple[Scores, dict[str, Scores]]:
    """Judge predictions by part, and the baselines on the same images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``subset``, ``true``, ``predicted`` and ``cluster``.
    cache : ImageCache
        The pixels of these images.

    Returns
    -------
    dict
        Part to metrics: those of :func:`iavlib.stats.point_errors`, and ``reduction``, by what
        share the mean absolute error is below that of the training part's median.
    dict
        The same (without ``reduction``) of ``constant_median``, ``constant_mean`` and
        ``image_statistics``.
    """
    baselines = constant_baselines(predictions)
    baselines["image_statistics"] = statistics_scores(predictions, cache)
    metrics = scores_by_part(predictions)
    for subset, scores in metrics.items():
        median = baselines["constant_median"][subset]["mae"]
        scores["reduction"] = 1 - scores["mae"] / median if median > 0 else float("nan")
    return metrics, baselines


def statistics_scores(predictions: pd.DataFrame, cache: ImageCache) -> Scores:
    """Judge a ridge on statistics of the images, fitted on the training part.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``subset``, ``true`` and ``cluster``.
    cache : ImageCache
        The pixels of these images.

    Returns
    -------
    dict of str to dict
        Part to metrics.
    """
    table = predictions.set_index("image_id")
    features = cached_statistics(cache).loc[table.index]
    train = table["subset"] == "train"
    model = fit_statistics_baseline(
        features[train], table.loc[train, "true"], table.loc[train, "cluster"]
    )
    return scores_by_part(table.assign(predicted=model.predict(features)))


def cached_statistics(cache: ImageCache) -> pd.DataFrame:
    """Compute statistics of cached images once, and keep them beside other caches."""
    path = cache_home() / "statistics" / f"{cache.key}.{VERSION}.csv"
    found = _read(path, cache)
    if found is not None:
        return found
    with only_one(path.with_suffix(".lock"), f"statistics of {len(cache):,} images"):
        found = _read(path, cache)
        if found is None:
            table = image_statistics(cache.pixels, cache.ids)
            write_text(path, table.to_csv())
            found = _read(path, cache)
    return found


def _read(path: Path, cache: ImageCache) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype={"image_id": str}).set_index("image_id")
    return table if len(table) == len(cache) else None


#: Levels of the interval that heads with a distribution give beside their prediction.
INTERVAL = {"lower": 0.05, "upper": 0.95}


@dataclass(frozen=True)
class Learnt:
    """What was learnt.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Indexed by image id: ``predicted``, and ``lower`` and ``upper`` where the head tells.
    history : pandas.DataFrame
        One row an epoch; empty where there are none.
    weights, settings : dict
        As for :class:`iavlib.experiments.Outcome`.
    """

    predictions: pd.DataFrame
    history: pd.DataFrame
    weights: dict[str, Any]
    settings: dict[str, Any]


def train_network(
    experiment: Experiment,
    target: pd.Series,
    subsets: pd.Series,
    paths: pd.Series,
    clusters: pd.Series,
    folder: Path,
    log: Log,
) -> tuple[Learnt, ImageCache]:
    """Train a network on the training part and predict every image.

    Parameters
    ----------
    experiment : Experiment
        Its recipe is a name of :data:`iavlib.training.recipe.RECIPES`.
    target : pandas.Series
        Called as the head is to be; indexed by image id.
    subsets : pandas.Series
        Part of each image, with the same index.
    paths : pandas.Series
        File of each of these images, and of any others that runs like this one look at: they
        are read together.
    clusters : pandas.Series
        Patient of each image.
    folder : Path
        Run directory: the checkpoint is read and written there, and the model at the end.
    log : callable
        Gets a line an epoch.

    Returns
    -------
    Learnt
    ImageCache
        The images as they were looked at.
    """
    if not (subsets == "val").any():
        raise ExperimentError("split", "has no validation part", "give three fractions, or kfold")
    chosen = experiment.settings.with_defaults(experiment).to_dict()
    recipe = experiment.training_recipe()
    name, train_ids = str(target.name), subsets.index[subsets == "train"]
    labels = _to_label(target, recipe)
    head = _head(recipe, chosen, labels[train_ids])
    network = build_network(
        experiment.backbone, {name: head}, experiment.weights, experiment.seed, experiment.size
    )
    cache = cache_images(paths, network.weights.input_size, progress=True)
    mean, std = normalise_by(network, cache, train_ids, chosen["normalise"])
    network.weights = network.weights.with_normalisation(mean, std)
    batches = ImageBatches.from_cache(cache, labels.to_frame(name), mean, std)
    training = batches.select(train_ids)
    restored = restore_folded_batchnorm(network, training, recipe, experiment.seed)
    if chosen["head_init"] == "ridge":
        features = features_over_views(network, cache, training, chosen["tta"]).to_numpy()
        mine, groups = labels[train_ids].to_numpy(), clusters[train_ids]
        fit_linear_head(network.heads[name], "ridge", features, mine, groups, experiment.seed)
    objective = ImageObjective(
        batches.select(subsets.index[subsets == "val"]),
        name,
        recipe.loss,
        batch_size=recipe.eval_batch_size,
    )
    history = fit(
        network,
        training,
        objective,
        recipe,
        folder,
        experiment.seed,
        progress=lambda row: log(_describe_epoch(row, recipe)),
    )
    found = predict_views(network, name, batches, recipe, chosen["tta"])
    save_network(network, folder)
    settings = recipe.to_dict() | chosen | {"device": str(batches.device), "size": cache.size}
    settings |= {"restored_batchnorms": restored}
    weights = asdict(network.weights) | {"is_random": network.weights.is_random}
    return Learnt(found, history, weights, settings), cache


def _head(recipe: Recipe, chosen: Mapping[str, Any], train: pd.Series) -> HeadSpec:
    return HeadSpec(
        recipe.head,
        outputs=chosen["quantiles"] if recipe.head == "quantile" else 1,
        dropout=recipe.dropout,
        start=float(train.median()) if chosen["head_init"] == "median" else None,
    )


def normalise_by(network: Network, cache: ImageCache, train_ids, by: str):
    """Choose mean and deviation: those of the weights, or computed from the training part.

    Parameters
    ----------
    network : Network
    cache : ImageCache
    train_ids : sequence of str
    by : {"weights", "train"}
        Random weights bring none, and are given the training part's.

    Returns
    -------
    tuple of tuple of float
        Mean and standard deviation of red, green and blue.
    """
    known = network.weights
    if by == "weights" and known.defines_normalisation:
        return known.mean, known.std
    return channel_statistics(cache.pixels, cache.rows(train_ids))


def _to_label(target: pd.Series, recipe: Recipe) -> pd.Series:
    if recipe.label_transform == "logit":
        inside = target.clip(EDGE, 1 - EDGE)
        return np.log(inside / (1 - inside))
    return target


def _from_label(values: np.ndarray, recipe: Recipe) -> np.ndarray:
    return 1 / (1 + np.exp(-values)) if recipe.label_transform == "logit" else values


def predict_views(
    network: Network, name: str, batches: ImageBatches, recipe: Recipe, n_views: int
) -> pd.DataFrame:
    """Predict all images, as the mean over views of each.

    Parameters
    ----------
    network : Network
    name : str
        Of the head.
    batches : ImageBatches
    recipe : Recipe
        By which the network was trained.
    n_views : int
        One of :data:`iavlib.experiments.tasks.tta.COUNTS`.

    Returns
    -------
    pandas.DataFrame
        Indexed by image id: ``predicted``, and ``lower`` and ``upper`` where the head tells.
    """
    point = get_loss(recipe.loss).point
    total: dict[str, np.ndarray] = {}
    for view in SYMMETRIES[:n_views]:
        raw = predict(View(network, *view), batches, batch_size=recipe.eval_batch_size)[name]
        found = {"predicted": _from_label(point(torch.from_numpy(raw)).double().numpy(), recipe)}
        if recipe.head in ("beta", "quantile"):
            quantiles = predicted_quantiles(recipe.head, raw, list(INTERVAL.values()))
            found |= {side: quantiles[:, column] for column, side in enumerate(INTERVAL)}
        for column, values in found.items():
            total[column] = total.get(column, 0) + values / n_views
    return pd.DataFrame(total, index=batches.ids.rename("image_id"))


def _describe_epoch(row: Mapping[str, Any], recipe: Recipe) -> str:
    told = [f"{key} {row[key]:.4g}" for key in ("train_loss", "mae", "pearson") if key in row]
    return f"epoch {row['epoch'] + 1} of {recipe.epochs}: {', '.join(told)}, {row['seconds']:.1f} s"


def probe_images(
    experiment: Experiment,
    target: pd.Series,
    subsets: pd.Series,
    paths: pd.Series,
    clusters: pd.Series,
) -> tuple[Learnt, ImageCache]:
    """Fit a head to frozen features of the training part and predict every image.

    How strongly the head is held back is chosen within the training part; the validation part is
    left alone.

    Parameters
    ----------
    experiment : Experiment
        Its recipe is ``probe``; ``overrides`` may set ``head`` (ridge by default), ``tta``
        (features are the mean over so many views) and ``normalise``. Random weights look at
        pixels as they are, unless it says otherwise: features are then the same for every fold.
    target, subsets, clusters : pandas.Series
        Target, part and patient of each image, with the same index.
    paths : pandas.Series
        File of each of these images, and of any others that runs like this one look at: they
        are read together.

    Returns
    -------
    Learnt
        ``settings`` holds what was tried and chosen.
    ImageCache
        The images as they were looked at.
    """
    chosen = experiment.settings.with_defaults(experiment).to_dict()
    kind = experiment.recipe.settings.get("head", PROBE_HEADS[0])
    network = _network(
        experiment.backbone, experiment.weights, experiment.seed, experiment.size, chosen["tta"]
    )
    train = target.index[subsets == "train"]
    cache = cache_images(paths, network.weights.input_size, progress=True)
    mean, std = network.weights.mean, network.weights.std
    if chosen["normalise"] == "train":
        mean, std = normalise_by(network, cache, train, "train")
    features = frozen_features(network, cache, mean, std)
    probe = fit_probe(kind, features.loc[train], target[train], clusters[train], experiment.seed)
    predicted = pd.DataFrame(
        {"predicted": probe.predict(features.loc[target.index])}, index=target.index
    )
    settings: dict[str, Any] = {"head": kind, "tta": chosen["tta"], "size": cache.size}
    settings |= {"chosen": probe.chosen, "tried": probe.inner.to_dict("records")}
    weights = asdict(network.weights.with_normalisation(mean, std))
    weights["is_random"] = network.weights.is_random
    return Learnt(predicted, pd.DataFrame(), weights, settings), cache


def _network(backbone: str, weights: str, seed: int, size: int | None, n_views: int) -> Network:
    # pre-trained weights are the same for every seed: they are read once for all runs of a sweep
    return _build(backbone, weights, seed if weights == "none" else 0, size, n_views)


@lru_cache(maxsize=2)
def _build(backbone: str, weights: str, seed: int, size: int | None, n_views: int) -> Network:
    network = build_network(backbone, {}, weights, seed, size)
    if n_views > 1:
        network.backbone = MeanOverViews(network.backbone, n_views)
    return network.eval()
