"""Learning one number from an image: a network trained whole, or a head on frozen features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from iavlib.experiments.spec import Experiment
from iavlib.experiments.tasks.settings import split_settings
from iavlib.experiments.tasks.task import Say
from iavlib.experiments.tasks.views import SYMMETRIES, View
from iavlib.models import HeadSpec, Network, build_network, normalisation, save_network
from iavlib.models.heads import predicted_quantiles
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.loop import fit
from iavlib.training.losses import EDGE, get_loss
from iavlib.training.objectives import RegressionObjective
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


def open_images(paths: pd.Series, size: int) -> ImageCache:
    """Read images once for all runs; see :func:`iavlib.training.image_cache.cache_images`."""
    return cache_images(paths, size, progress=True)


def train_network(
    experiment: Experiment,
    target: pd.Series,
    parts: pd.Series,
    paths: pd.Series,
    folder: Path,
    say: Say,
) -> Learnt:
    """Train a network on the training part and predict every image.

    Parameters
    ----------
    experiment : Experiment
        Its recipe is a name of :data:`iavlib.training.recipe.RECIPES`.
    target : pandas.Series
        Called as the head is to be; indexed by image id.
    parts, paths : pandas.Series
        Part and file of each image, with the same index.
    folder : Path
        Run directory: the checkpoint is read and written there, and the model at the end.
    say : callable
        Gets a line an epoch.
    """
    chosen, fields = split_settings(experiment)
    recipe = get_recipe(experiment.recipe, **fields)
    name, train_ids = str(target.name), parts.index[parts == "train"]
    labels = _to_label(target, recipe)
    head = HeadSpec(
        recipe.head,
        outputs=chosen["quantiles"] if recipe.head == "quantile" else 1,
        dropout=recipe.dropout,
        start=float(labels[train_ids].median()) if chosen["start"] == "median" else None,
    )
    network = _network(experiment, {name: head})
    cache = open_images(paths, network.weights.input_size)
    batches = _batches(network, cache, labels.to_frame(name), train_ids, chosen["normalise"])
    objective = RegressionObjective(
        name,
        validation=batches.select(parts.index[parts == "val"]),
        loss_name=recipe.loss,
        batch_size=recipe.eval_batch_size,
    )
    history = fit(
        network,
        batches.select(train_ids),
        objective,
        recipe,
        folder,
        experiment.seed,
        progress=lambda row: say(_describe_epoch(row, recipe)),
    )
    found = _predict_views(network, name, batches, recipe, chosen["tta"])
    save_network(network, folder)
    settings = recipe.to_dict() | chosen | {"device": str(batches.device), "size": cache.size}
    return Learnt(found, history, _about_weights(network), settings)


def _network(experiment: Experiment, heads: Mapping[str, HeadSpec]) -> Network:
    return build_network(
        experiment.backbone, heads, experiment.weights, experiment.seed, experiment.size
    )


def _batches(
    network: Network, cache: ImageCache, targets: pd.DataFrame, train_ids, normalise: str
) -> ImageBatches:
    """Put images and targets together, and note in the network how images are normalised."""
    known = normalisation(network.weights)
    own = normalise == "train" or not known.known
    mean, std = (None, None) if own else (known.mean, known.std)
    batches = ImageBatches.from_cache(cache, targets, mean, std, train_ids)
    network.weights = network.weights.with_normalisation(batches.mean, batches.std)
    return batches


def _to_label(target: pd.Series, recipe: Recipe) -> pd.Series:
    if recipe.label_transform == "logit":
        inside = target.clip(EDGE, 1 - EDGE)
        return np.log(inside / (1 - inside))
    return target


def _from_label(values: np.ndarray, recipe: Recipe) -> np.ndarray:
    return 1 / (1 + np.exp(-values)) if recipe.label_transform == "logit" else values


def _predict_views(
    network: Network, name: str, batches: ImageBatches, recipe: Recipe, n_views: int
) -> pd.DataFrame:
    """Predict all images, as the mean over views of each."""
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


def _about_weights(network: Network) -> dict[str, Any]:
    return asdict(network.weights) | {"is_random": network.weights.is_random}


def _describe_epoch(row: Mapping[str, Any], recipe: Recipe) -> str:
    told = [f"{key} {row[key]:.4g}" for key in ("train_loss", "mae", "pearson") if key in row]
    return f"epoch {row['epoch'] + 1} of {recipe.epochs}: {', '.join(told)}, {row['seconds']:.1f} s"
