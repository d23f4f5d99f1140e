"""Learning one number from an image: a network trained whole, or a head on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.spec import Experiment
from iavlib.experiments.tasks.preparing import features_over_views, restore_folded_batchnorm
from iavlib.experiments.tasks.settings import split_settings
from iavlib.experiments.tasks.task import Say
from iavlib.experiments.tasks.views import SYMMETRIES, View
from iavlib.models import HeadSpec, Network, build_network, normalisation, save_network
from iavlib.models.heads import predicted_quantiles
from iavlib.training.batches import ImageBatches
from iavlib.training.head_start import fit_linear_head
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.loop import fit
from iavlib.training.losses import EDGE, get_loss
from iavlib.training.objectives import RegressionObjective
from iavlib.training.pixels import channel_statistics
from iavlib.training.predict import predict
from iavlib.training.recipe import Recipe, get_recipe

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
        As for :class:`iavlib.experiments.tasks.Outcome`.
    """

    predictions: pd.DataFrame
    history: pd.DataFrame
    weights: dict[str, Any]
    settings: dict[str, Any]


def train_network(
    experiment: Experiment,
    target: pd.Series,
    parts: pd.Series,
    paths: pd.Series,
    clusters: pd.Series,
    folder: Path,
    say: Say,
) -> tuple[Learnt, ImageCache]:
    """Train a network on the training part and predict every image.

    Parameters
    ----------
    experiment : Experiment
        Its recipe is a name of :data:`iavlib.training.recipe.RECIPES`.
    target : pandas.Series
        Called as the head is to be; indexed by image id.
    parts : pandas.Series
        Part of each image, with the same index.
    paths : pandas.Series
        File of each of these images, and of any others that runs like this one look at: they
        are read together.
    clusters : pandas.Series
        Patient of each image.
    folder : Path
        Run directory: the checkpoint is read and written there, and the model at the end.
    say : callable
        Gets a line an epoch.

    Returns
    -------
    Learnt
    ImageCache
        The images as they were looked at.
    """
    if not (parts == "val").any():
        raise ExperimentError("split", "has no validation part", "give three fractions, or kfold")
    chosen, fields = split_settings(experiment)
    recipe = get_recipe(experiment.recipe, **fields)
    name, train_ids = str(target.name), parts.index[parts == "train"]
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
    if chosen["start"] == "ridge":
        features = features_over_views(network, cache, training, chosen["tta"]).to_numpy()
        mine, groups = labels[train_ids].to_numpy(), clusters[train_ids]
        fit_linear_head(network.heads[name], "ridge", features, mine, groups, experiment.seed)
    objective = RegressionObjective(
        name,
        validation=batches.select(parts.index[parts == "val"]),
        loss_name=recipe.loss,
        batch_size=recipe.eval_batch_size,
    )
    history = fit(
        network,
        training,
        objective,
        recipe,
        folder,
        experiment.seed,
        progress=lambda row: say(_describe_epoch(row, recipe)),
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
        start=float(train.median()) if chosen["start"] == "median" else None,
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
    known = normalisation(network.weights)
    if by == "weights" and known.known:
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
        One of :data:`iavlib.experiments.tasks.views.COUNTS`.

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
