"""Heads on frozen features: seconds a run, once the features are there."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pandas as pd

from iavlib.experiments.spec import Experiment
from iavlib.experiments.tasks.regression import Learnt, normalise_by
from iavlib.experiments.tasks.settings import PROBE_HEADS, split_settings
from iavlib.experiments.tasks.views import MeanOverViews
from iavlib.models import Network, build_network
from iavlib.training.features import frozen_features
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.probe import fit_probe


def probe_images(
    experiment: Experiment,
    target: pd.Series,
    parts: pd.Series,
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
    target, parts, clusters : pandas.Series
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
    chosen, fields = split_settings(experiment)
    kind = fields.get("head", PROBE_HEADS[0])
    network = _network(
        experiment.backbone, experiment.weights, experiment.seed, experiment.size, chosen["tta"]
    )
    train = target.index[parts == "train"]
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
