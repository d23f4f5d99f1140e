"""What is done to a network between its making and its training, in whatever task.

With a new head the first steps carry large and meaningless gradients into the backbone. The best
linear head for the features as they are is known in closed form, so that nothing needs to be
trained before all layers are. And weights whose batch norms were folded away are destroyed by the
first batch in training mode, unless these get their statistics back or stay as they are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from iavlib.experiments.tasks.views import MeanOverViews
from iavlib.models import Network, has_folded_batchnorm, restore_batchnorm
from iavlib.training.batches import ImageBatches
from iavlib.training.features import frozen_features
from iavlib.training.image_cache import ImageCache
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
