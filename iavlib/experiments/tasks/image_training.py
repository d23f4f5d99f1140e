"""Training the network of an image task, and predicting every image with it.

With a new head the first steps carry large and meaningless gradients into the backbone. The best
linear head for the features as they are is known in closed form (``head_init: fit``), so that
nothing needs to be trained before all layers are. Weights whose batch norms were folded away are
destroyed by the first batch in training mode, unless these get their statistics back or stay as
they are.

A lesion has no top: the image rotated by a quarter or mirrored shows the same, and the mean of the
predictions for several such views varies less than that for one (test-time augmentation).
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from iavlib.experiments.config import Experiment, ProbeRecipe
from iavlib.experiments.tasks import Log, Outcome
from iavlib.experiments.tasks.image import IAA, MULTITASK, make_recipe, published_facts
from iavlib.models import heads
from iavlib.models.model_files import load_network, save_network
from iavlib.models.network import Network, build_network, random_start
from iavlib.training import losses, objectives
from iavlib.training.batches import ImageBatches, channel_statistics
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.loop import fit
from iavlib.training.losses import EDGE
from iavlib.training.objectives import AGREEMENT, DIAGNOSIS, INPUT, WEIGHTING
from iavlib.training.optimisation import train_last_stages
from iavlib.training.predict import frozen_features, predict
from iavlib.training.recipe import Recipe

#: Heads that a task trains.
HEADS = {IAA: (AGREEMENT,), DIAGNOSIS: (DIAGNOSIS,), MULTITASK: (DIAGNOSIS, AGREEMENT)}
#: Mean and standard deviation of the channels, as the published code has them.
NORMALISATIONS = {
    "imapp": ((0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
#: Quarter turns and whether mirrored before; the first one, two, four or all eight are used.
SYMMETRIES = tuple((quarters, mirrored) for quarters in (0, 2, 1, 3) for mirrored in (False, True))
#: Levels of the interval that heads with a distribution give beside their prediction.
INTERVAL = {"lower": 0.05, "upper": 0.95}
#: Images by which folded batch norms are given back their statistics.
_RESTORED_BY = 256
#: Measures that are logged after each epoch.
_LOGGED = ("train_loss", "balanced_accuracy", "auroc", "mae", "pearson")


def rotate(images: torch.Tensor, quarters: int, mirrored: bool) -> torch.Tensor:
    """Rotate square images (B, 3, S, S) by quarter turns, mirrored left to right before."""
    if mirrored:
        images = images.flip(3)
    return images.rot90(quarters, (2, 3)) if quarters else images


class MeanOverViews(nn.Module):
    """A backbone whose features are the mean over the first `n` of :data:`SYMMETRIES`."""

    def __init__(self, backbone: nn.Module, n: int):
        super().__init__()
        self.backbone, self.n = backbone, n

    def extra_repr(self) -> str:
        """Include the number of views: cached features are distinguished by the representation."""
        return f"n={self.n}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of the features (B, F)."""
        views = (self.backbone(rotate(images, *view)) for view in SYMMETRIES[: self.n])
        return sum(views) / self.n


def train_network(
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Log
) -> tuple[Outcome, ImageCache]:
    """Train a network on the training subset and predict every image.

    Parameters
    ----------
    experiment : Experiment
        Of an image task, with a training recipe.
    table : pandas.DataFrame
        As of the task's targets: all images that runs like this one use, which are read together.
    subsets : pandas.Series
        Subset of each image that this one uses.
    folder : Path
        Run directory: the checkpoint is read and written there, and the model at the end. Models
        that others start from are beside it.
    log : callable
        Receives a line per epoch.

    Returns
    -------
    Outcome
        Without scores; its predictions are indexed by image id, as of :func:`predict_images`.
    ImageCache
        The images as the network saw them.
    """
    settings, recipe = experiment.settings.with_defaults(experiment), make_recipe(experiment)
    seed, train = experiment.seed, subsets.index[subsets == "train"]
    targets = _targets(experiment, settings, recipe, table.loc[subsets.index], train)
    network = _build(experiment, settings, recipe, targets, train, folder)
    cache, mean, std = _images(experiment, settings, network, table, train)
    network.weights = network.weights.with_normalisation(mean, std)
    batches = ImageBatches.from_cache(cache, targets, mean, std)
    training, validation = batches.select(train), batches.select(subsets.index[subsets == "val"])
    facts: dict[str, Any] = {"restored_batchnorms": 0}
    if heads.has_folded_batchnorm(network.backbone) and not recipe.freeze_batchnorm:
        order = np.random.default_rng(seed).permutation(len(training))[:_RESTORED_BY]
        plan = np.array_split(order, max(1, len(order) // recipe.eval_batch_size))
        network.to(training.device)
        images = (batch["images"] for batch in training.stream(plan))
        facts["restored_batchnorms"] = heads.restore_batchnorm(network.backbone, images)
    if settings.head_init == "fit":
        from iavlib.training.probe import fit_linear_head

        features = _view_features(network, cache, mean, std, settings.tta).loc[train].to_numpy()
        if settings.control == "iaa_input":
            features = np.column_stack([features, training.target(INPUT)])
        facts["head_fit"] = {}
        for name, head in network.heads.items():
            if name == DIAGNOSIS or network.specs[name].kind == "linear":
                kind = "logistic" if name == DIAGNOSIS else "ridge"
                double = experiment.task == IAA  # as the probe
                values = targets.loc[train, name].to_numpy() if double else training.target(name)
                given = (kind, features, values, table.loc[train, "cluster"], seed)
                facts["head_fit"][name] = fit_linear_head(head, *given)
    if settings.trainable != "all":
        facts["stages_trained"] = train_last_stages(network.backbone, settings.trainable)
    objective, weights = _objective(experiment, settings, recipe, training, validation)
    if experiment.task != IAA:
        facts["class_weights"] = weights and list(weights)

    def report(row: Mapping[str, Any]) -> None:
        measures = ", ".join(f"{name} {row[name]:.4g}" for name in _LOGGED if name in row)
        epoch = f"epoch {row['epoch'] + 1} of {recipe.epochs}"
        log(f"{epoch}: {measures}, {row['seconds']:.1f} s")

    history = fit(network, training, objective, recipe, folder, seed, progress=report)
    if hasattr(network, WEIGHTING):
        facts["loss_weights"] = list(network.weighting.weights())
        del network.weighting
    predictions = predict_images(network, batches, settings, recipe)
    if settings.control != "iaa_input":  # its network takes more than an image
        save_network(network, folder)
    used = recipe.to_dict() | settings.to_dict() | facts
    used |= {"device": str(batches.device), "size": cache.size}
    weights = asdict(network.weights) | {"is_random": network.weights.is_random}
    return Outcome(predictions, {}, history, weights=weights, settings=used), cache


def _targets(experiment, settings, recipe: Recipe, table: pd.DataFrame, train) -> pd.DataFrame:
    """Return the targets of each head by name, and the additional input of a control."""
    agreement = table["target" if experiment.task == IAA else "iaa"].astype(float)
    if recipe.label_transform == "logit":
        inside = agreement.clip(EDGE, 1 - EDGE)
        agreement = np.log(inside / (1 - inside))
    targets = pd.DataFrame({AGREEMENT: agreement})
    if experiment.task != IAA:
        targets[DIAGNOSIS] = table["target"]
    known = targets.loc[train, AGREEMENT].dropna()
    if settings.control == "shuffled_iaa":
        shuffled = np.random.default_rng(experiment.seed).permutation(known.to_numpy())
        targets.loc[known.index, AGREEMENT] = shuffled
    if settings.control == "iaa_input":
        targets[INPUT] = (targets[AGREEMENT] - known.mean()) / known.std()
    return targets


def _build(experiment, settings, recipe: Recipe, targets, train, folder: Path) -> Network:
    """Build a network with its heads, or load that of the experiment it starts from."""
    task, parent = experiment.task, experiment.parent
    if parent is not None:
        network = load_network(folder.parents[1] / parent.task / parent.id)
    else:
        specs: dict[str, heads.HeadSpec] = {}
        if DIAGNOSIS in HEADS[task]:
            plain = recipe.head if recipe.head in ("paper", "linear") else "paper"
            specs[DIAGNOSIS] = heads.HeadSpec(plain, 2, dropout=recipe.dropout)
        if AGREEMENT in HEADS[task]:
            outputs = getattr(settings, "quantiles", 1) if recipe.head == "quantile" else 1
            published = settings.normalise == "published"
            at_median = settings.head_init == "median" if task == IAA else not published
            start = float(targets.loc[train, AGREEMENT].median()) if at_median else None
            specs[AGREEMENT] = heads.HeadSpec(
                recipe.head, outputs, dropout=recipe.dropout, start=start
            )
        given = (experiment.weights, experiment.seed, experiment.size)
        network = build_network(experiment.backbone, specs, *given)
    if settings.control == "iaa_input":
        with random_start(experiment.seed):
            spec = network.specs[DIAGNOSIS]
            network.heads[DIAGNOSIS] = heads.build_head(spec, network.n_features + 1)
    if task == DIAGNOSIS and AGREEMENT in network.heads:
        network.heads[AGREEMENT].requires_grad_(False)
    if task == MULTITASK and settings.combine == "uncertainty":
        network.weighting = losses.UncertaintyWeighting(recipe.loss)
    return network


def _images(
    experiment, settings, network: Network, table: pd.DataFrame, train
) -> tuple[ImageCache, Any, Any]:
    """Read all images; return them with the mean and deviation by which they are normalised.

    Weights that define none (random ones) are given those of the training subset; a probe of
    random weights takes pixels as they are, so that features are the same for every fold.
    """
    cache = cache_images(table["path"], network.weights.input_size, progress=True)
    choice, weights = settings.normalise, network.weights
    if choice == "published":
        choice = "imapp" if experiment.cohort in ("imapp", "phantom") else "imagenet"
    if choice in NORMALISATIONS:
        return cache, *NORMALISATIONS[choice]
    if choice == "weights" and (weights.defines_normalisation or not network.heads):
        return cache, weights.mean, weights.std
    return cache, *channel_statistics(cache.pixels, cache.rows(train))


def _view_features(network: Network, cache: ImageCache, mean, std, n_views: int) -> pd.DataFrame:
    """Return the features of all images, each the mean over views of the image."""
    backbone = network.backbone
    if n_views > 1:
        network.backbone = MeanOverViews(backbone, n_views)
    try:
        return frozen_features(network, cache, mean, std)
    finally:
        network.backbone = backbone


def _objective(experiment, settings, recipe: Recipe, training, validation: ImageBatches):
    """Return what is trained for, and the class weights."""
    common = {"loss_name": recipe.loss, "batch_size": recipe.eval_batch_size}
    if experiment.task == IAA:
        return objectives.ImageObjective(validation, AGREEMENT, **common), None
    weights = None
    if settings.weights_from == "published":
        weights = published_facts(experiment.cohort, "class_weights")
    elif settings.weights_from == "train":
        weights = tuple(map(float, losses.class_weights(training.target(DIAGNOSIS), 2)))
    both = experiment.task == MULTITASK
    summed = both and settings.combine == "alpha"
    objective = objectives.ImageObjective(
        validation,
        AGREEMENT if both else None,
        class_loss=losses.classification_loss(settings.class_loss, weights or (1.0, 1.0)),
        combine=partial(losses.multitask_sum, alpha=settings.alpha) if summed else None,
        run_all_heads=settings.mimic_moving_statistics,
        with_input=settings.control == "iaa_input",
        **common,
    )
    return objective, weights


def predict_images(network: Network, batches: ImageBatches, settings, recipe: Recipe):
    """Predict all images, as the mean over views of each.

    Parameters
    ----------
    network : Network
    batches : ImageBatches
    settings : RegressionSettings or DiagnosisSettings
        With defaults filled in; of the run that trained the network.
    recipe : Recipe
        By which the network was trained.

    Returns
    -------
    pandas.DataFrame
        Indexed by image id. With a head of diagnosis ``predicted`` (probability of class 1), and
        ``predicted_iaa`` where there is that head too; else ``predicted`` (mean Dice), and
        ``lower`` and ``upper`` where the head has a distribution.
    """
    size, total = recipe.eval_batch_size, {}
    with_input = settings.control == "iaa_input"
    for quarters, mirrored in SYMMETRIES[: settings.tta]:
        view = partial(rotate, quarters=quarters, mirrored=mirrored)
        if DIAGNOSIS in network.heads:
            raw = objectives.predict_heads(network, batches, size, with_input, view)
            values = {"predicted": objectives.malignant_probability(raw[DIAGNOSIS])}
            if AGREEMENT in raw:
                values["predicted_iaa"] = _agreement(raw[AGREEMENT], recipe)
        else:
            raw = predict(network, batches, size, lambda images, view=view: network(view(images)))
            values = {"predicted": _agreement(raw[AGREEMENT], recipe)}
            if recipe.head in ("beta", "quantile"):
                levels = list(INTERVAL.values())
                bounds = heads.predicted_quantiles(recipe.head, raw[AGREEMENT], levels)
                values |= dict(zip(INTERVAL, bounds.T, strict=True))
        for column, value in values.items():
            total[column] = total.get(column, 0) + value / settings.tta
    return pd.DataFrame(total, index=batches.ids.rename("image_id"))


def _agreement(raw: np.ndarray, recipe: Recipe) -> np.ndarray:
    values = losses.get_loss(recipe.loss).point(torch.from_numpy(raw)).double().numpy()
    return 1 / (1 + np.exp(-values)) if recipe.label_transform == "logit" else values


def fit_probe_head(
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Log
) -> tuple[Outcome, ImageCache]:
    """Fit a head to frozen features of the training subset and predict every image.

    The regularisation is chosen within the training subset; the validation subset is not used.
    Parameters are as for :func:`train_network`.
    """
    from iavlib.training.probe import fit_probe

    settings = experiment.settings.with_defaults(experiment)
    regression, train = experiment.task == IAA, subsets.index[subsets == "train"]
    # pre-trained weights are the same for every seed: they are read once for all runs of a sweep
    seed = experiment.seed if experiment.weights == "none" else 0
    network = _frozen_network(experiment.backbone, experiment.weights, seed, experiment.size)
    cache, mean, std = _images(experiment, settings, network, table, train)
    table = table.loc[subsets.index]
    features = _view_features(network, cache, mean, std, settings.tta).loc[table.index]
    if settings.control == "iaa_input":
        features = features.assign(iaa_input=table["iaa"].to_numpy(np.float32))
    target = table["target"].copy()
    if settings.control == "shuffled_iaa":
        target[train] = np.random.default_rng(experiment.seed).permutation(target[train].to_numpy())
    kind = ProbeRecipe(**experiment.recipe.settings).head if regression else "logistic"
    groups = table.loc[train, "cluster"]
    probe = fit_probe(kind, features.loc[train], target[train], groups, experiment.seed)
    if not regression:
        log(f"logistic regression on {features.shape[1]} features, C {probe.chosen['C']:g}")
    predictions = pd.DataFrame({"predicted": probe.predict(features)}, index=features.index)
    used = settings.to_dict() | {"head": kind, "size": cache.size, "chosen": probe.chosen}
    used |= {"tried": probe.inner.to_dict("records")}
    weights = network.weights.with_normalisation(mean, std)
    weights = asdict(weights) | {"is_random": weights.is_random}
    predictions = predictions.rename_axis("image_id")
    return Outcome(predictions, {}, weights=weights, settings=used), cache


@lru_cache(maxsize=2)
def _frozen_network(backbone: str, weights: str, seed: int, size: int | None) -> Network:
    return build_network(backbone, {}, weights, seed, size).eval()
