"""Heads that start where a ridge regression on the untouched backbone's features ends.

With a new head the first steps carry large and meaningless gradients into the backbone. The best
linear head for the features as they are is known in closed form, so that nothing needs to be
trained before all layers are.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.tasks.views import MeanOverViews
from iavlib.models import Network
from iavlib.training.features import frozen_features
from iavlib.training.image_cache import ImageCache
from iavlib.training.probe import fit_probe, linear_coefficients


def start_at_ridge(
    network: Network,
    name: str,
    cache: ImageCache,
    target: pd.Series,
    clusters: pd.Series,
    n_views: int,
    seed: int,
) -> dict[str, float]:
    """Put a ridge regression into a head of kind ``linear``; its penalty is chosen by patients.

    Parameters
    ----------
    network : Network
        As it starts, its normalisation settled.
    name : str
        Of the head.
    cache : ImageCache
    target, clusters : pandas.Series
        Of the training part, indexed by image id.
    n_views : int
        Features are the mean over so many views.
    seed : int
        Of the inner folds.

    Returns
    -------
    dict
        What was chosen.

    Raises
    ------
    ExperimentError
        If the head is of another kind.
    """
    if network.specs[name].kind != "linear":
        raise ExperimentError(
            "overrides.start = 'ridge'",
            f"does not fit a head of kind {network.specs[name].kind!r}",
            "set head: linear, or start: median",
        )
    backbone = network.backbone
    if n_views > 1:
        network.backbone = MeanOverViews(backbone, n_views)
    try:
        features = frozen_features(network, cache)
    finally:
        network.backbone = backbone
    mine = features.loc[target.index]
    probe = fit_probe("ridge", mine, target, clusters[target.index], seed)
    weights, bias = linear_coefficients(probe, mine.shape[1])
    layer = next(part for part in network.heads[name] if isinstance(part, nn.Linear))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights)[None])
        layer.bias.fill_(bias)
    return dict(probe.chosen)
