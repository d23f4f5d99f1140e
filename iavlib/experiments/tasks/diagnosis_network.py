"""Training a network for a diagnosis, with agreement beside it or not, from any start.

Logistic regression on frozen features: the diagnosis that trains no network.

With a frozen backbone two tasks share nothing, so that it is a baseline of the single task only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from iavlib.experiments.config import Experiment
from iavlib.experiments.tasks.diagnosis import (
    MULTITASK,
    NORMALISATIONS,
    DiagnosisSettings,
    make_recipe,
    published_facts,
)
from iavlib.experiments.tasks.image import Learnt, features_over_views, restore_folded_batchnorm
from iavlib.experiments.tasks.task import Log
from iavlib.experiments.tasks.tta import SYMMETRIES, MeanOverViews, turned
from iavlib.models.heads import HeadSpec, build_head
from iavlib.models.model_files import load_network, save_network
from iavlib.models.network import Network, build_network
from iavlib.training.batches import ImageBatches, channel_statistics
from iavlib.training.image_cache import ImageCache, cache_images
from iavlib.training.loop import fit
from iavlib.training.losses import (
    UncertaintyWeighting,
    class_weights,
    classification_loss,
    get_loss,
    multitask_sum,
)
from iavlib.training.objectives import (
    AGREEMENT,
    DIAGNOSIS,
    INPUT,
    WEIGHTING,
    ImageObjective,
    malignant_probability,
    predict_heads,
)
from iavlib.training.optimisation import train_last_stages
from iavlib.training.predict import frozen_features
from iavlib.training.probe import fit_linear_head, fit_probe
from iavlib.training.recipe import Recipe


def train_diagnosis(
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Log
) -> Learnt:
    """Train a network on the training part and predict every image.

    Parameters
    ----------
    experiment : Experiment
        Of the task ``diagnosis`` or ``multitask``.
    table : pandas.DataFrame
        As :func:`iavlib.experiments.tasks.diagnosis.targets`: all images that runs like this one
        look at, which are read together.
    subsets : pandas.Series
        Part of each image that this one uses.
    folder : Path
        Run directory: the checkpoint is read and written there, and the model at the end. Models
        that others start from are beside it.
    log : callable
        Gets a line an epoch.
    """
    settings = experiment.settings.with_defaults(experiment)
    recipe = make_recipe(experiment)
    train = subsets.index[subsets == "train"]
    network = _build(experiment, settings, recipe, table.loc[train, "iaa"], folder)
    cache = cache_images(table["path"], network.weights.input_size, progress=True)
    table = table.loc[subsets.index]
    batches = _batches(experiment, settings, network, cache, table, train)
    training = batches.select(train)
    weights = _class_weights(experiment, settings, table.loc[train, "target"])
    facts = _prepare(settings, recipe, network, cache, training, table.loc[train], experiment.seed)
    facts["class_weights"] = list(weights) if weights is not None else None
    validation = batches.select(subsets.index[subsets == "val"])
    objective = _objective(experiment, settings, recipe, weights, validation)
    history = fit(
        network,
        training,
        objective,
        recipe,
        folder,
        experiment.seed,
        progress=lambda row: log(_describe_epoch(row, recipe)),
    )
    if hasattr(network, WEIGHTING):
        facts["loss_weights"] = list(network.weighting.weights())
        del network.weighting
    found = predict_diagnosis(network, batches, settings, recipe)
    if settings.control != "iaa_input":  # no one can start from it, or use it
        save_network(network, folder)
    used = recipe.to_dict() | settings.to_dict() | facts
    used |= {"device": str(batches.device), "size": cache.size}
    about = asdict(network.weights) | {"is_random": network.weights.is_random}
    return Learnt(found, history, about, used)


def _build(
    experiment: Experiment,
    settings: DiagnosisSettings,
    recipe: Recipe,
    agreement: pd.Series,
    folder: Path,
) -> Network:
    """Build a network with its heads, or take that of the experiment it starts from, strictly."""
    begun = experiment.parent
    if begun is not None:
        network = load_network(folder.parents[1] / begun.task / begun.id)
    else:
        plain = recipe.head if recipe.head in ("paper", "linear") else "paper"
        heads = {DIAGNOSIS: HeadSpec(plain, 2, dropout=recipe.dropout)}
        if experiment.task == MULTITASK:
            median = float(agreement.median())
            start = None if settings.normalise == "published" else median
            heads[AGREEMENT] = HeadSpec(recipe.head, 1, dropout=recipe.dropout, start=start)
        given = (experiment.weights, experiment.seed, experiment.size)
        network = build_network(experiment.backbone, heads, *given)
    if settings.control == "iaa_input":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(experiment.seed)
            spec = network.specs[DIAGNOSIS]
            network.heads[DIAGNOSIS] = build_head(spec, network.n_features + 1)
    if experiment.task != MULTITASK and AGREEMENT in network.heads:
        network.heads[AGREEMENT].requires_grad_(False)
    if settings.combine == "uncertainty" and experiment.task == MULTITASK:
        network.weighting = UncertaintyWeighting(recipe.loss)
    return network


def _batches(
    experiment: Experiment,
    settings: DiagnosisSettings,
    network: Network,
    cache: ImageCache,
    table: pd.DataFrame,
    train: pd.Index,
) -> ImageBatches:
    """Put images and targets together, and note in the network how images are normalised."""
    targets = pd.DataFrame({DIAGNOSIS: table["target"], AGREEMENT: table["iaa"].astype(float)})
    if settings.control == "shuffled_iaa":
        known = targets.loc[train, AGREEMENT].dropna()
        order = np.random.default_rng(experiment.seed).permutation(len(known))
        targets.loc[known.index, AGREEMENT] = known.to_numpy()[order]
    if settings.control == "iaa_input":
        known = targets.loc[train, AGREEMENT]
        targets[INPUT] = (targets[AGREEMENT] - known.mean()) / known.std()
    choice = settings.normalise
    if choice == "published":
        choice = "imapp" if experiment.cohort in ("imapp", "phantom") else "imagenet"
    known = network.weights
    mean, std = (known.mean, known.std) if known.defines_normalisation else (None, None)
    if choice == "train":
        mean = std = None
    elif choice in NORMALISATIONS:
        mean, std = NORMALISATIONS[choice]
    batches = ImageBatches.from_cache(cache, targets, mean, std, train)
    network.weights = network.weights.with_normalisation(batches.mean, batches.std)
    return batches


def _class_weights(experiment: Experiment, settings: DiagnosisSettings, labels: pd.Series):
    if settings.weights_from == "none":
        return None
    if settings.weights_from == "published":
        return published_facts(experiment.cohort, "class_weights")
    return tuple(map(float, class_weights(labels.to_numpy(), 2)))


def _prepare(
    settings: DiagnosisSettings,
    recipe: Recipe,
    network: Network,
    cache: ImageCache,
    training: ImageBatches,
    table: pd.DataFrame,
    seed: int,
) -> dict[str, Any]:
    """Make a network ready to be trained; say what was done."""
    facts: dict[str, Any] = {}
    restored = restore_folded_batchnorm(network, training, recipe, seed)
    if restored:
        facts["restored_batchnorms"] = restored
    if settings.head_init == "fit":
        facts["head_fit"] = _start_heads(settings, network, cache, training, table, seed)
    facts["stages_trained"] = train_last_stages(network.backbone, settings.trainable)
    return facts


def _start_heads(settings, network: Network, cache, training, table, seed: int) -> dict[str, Any]:
    """Fit the heads to features that are means over views; the backbone is as it was after."""
    rows = features_over_views(network, cache, training, settings.tta).to_numpy()
    if settings.control == "iaa_input":
        rows = np.column_stack([rows, training.target(INPUT)])
    groups, chosen = table["cluster"], {}
    labels = training.target(DIAGNOSIS)
    chosen[DIAGNOSIS] = fit_linear_head(
        network.heads[DIAGNOSIS], "logistic", rows, labels, groups, seed
    )
    if AGREEMENT in network.heads and network.specs[AGREEMENT].kind == "linear":
        values = training.target(AGREEMENT)
        chosen[AGREEMENT] = fit_linear_head(
            network.heads[AGREEMENT], "ridge", rows, values, groups, seed
        )
    return chosen


def _objective(
    experiment: Experiment,
    settings: DiagnosisSettings,
    recipe: Recipe,
    weights,
    validation: ImageBatches,
) -> ImageObjective:
    both = experiment.task == MULTITASK
    summed = both and settings.combine == "alpha"
    return ImageObjective(
        validation,
        AGREEMENT if both else None,
        recipe.loss,
        classification_loss(settings.class_loss, (1.0, 1.0) if weights is None else weights),
        partial(multitask_sum, alpha=settings.alpha) if summed else None,
        run_all_heads=settings.mimic_moving_statistics,
        with_input=settings.control == "iaa_input",
        batch_size=recipe.eval_batch_size,
    )


def predict_diagnosis(
    network: Network, batches: ImageBatches, settings: DiagnosisSettings, recipe: Recipe
) -> pd.DataFrame:
    """Predict all images, as the mean over views of each.

    Returns
    -------
    pandas.DataFrame
        Indexed by image id: ``predicted`` (probability of class 1), and ``predicted_iaa`` where
        the network has that head.
    """
    total: dict[str, np.ndarray] = {}
    with_input = settings.control == "iaa_input"
    for quarters, mirrored in SYMMETRIES[: settings.tta]:
        change = partial(turned, quarters=quarters, mirrored=mirrored)
        raw = predict_heads(network, batches, recipe.eval_batch_size, with_input, change)
        found = {"predicted": malignant_probability(raw[DIAGNOSIS])}
        if AGREEMENT in raw:
            point = get_loss(recipe.loss).point(torch.from_numpy(raw[AGREEMENT]))
            found["predicted_iaa"] = point.double().numpy()
        for column, values in found.items():
            total[column] = total.get(column, 0) + values / settings.tta
    return pd.DataFrame(total, index=batches.ids.rename("image_id"))


def _describe_epoch(row: Mapping[str, Any], recipe: Recipe) -> str:
    shown = ("train_loss", "balanced_accuracy", "auroc", "mae")
    told = [f"{key} {row[key]:.4g}" for key in shown if key in row]
    return f"epoch {row['epoch'] + 1} of {recipe.epochs}: {', '.join(told)}, {row['seconds']:.1f} s"


def fit_diagnosis_probe(
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Log
) -> Learnt:
    """Fit the head on the training part and predict every image.

    Parameters
    ----------
    experiment, table, parts, folder, say
        As for :func:`iavlib.experiments.tasks.diagnosis_network.train_diagnosis`; the validation
        part is not used, as patients of the training part are held out to choose the penalty.
    """
    settings = experiment.settings.with_defaults(experiment)
    train = subsets.index[subsets == "train"]
    network = build_network(
        experiment.backbone, {}, experiment.weights, experiment.seed, experiment.size
    )
    cache = cache_images(table["path"], network.weights.input_size, progress=True)
    known = network.weights
    mean, std = NORMALISATIONS.get(settings.normalise, (known.mean, known.std))
    if settings.normalise == "train":  # random weights look at pixels as they are
        mean, std = channel_statistics(cache.pixels, cache.rows(train))
    network.weights = network.weights.with_normalisation(mean, std)
    network.backbone = MeanOverViews(network.backbone, settings.tta)
    features = frozen_features(network, cache, mean, std).loc[subsets.index]
    if settings.control == "iaa_input":
        agreement = table.loc[subsets.index, "iaa"]
        features = features.assign(iaa_input=agreement.to_numpy(np.float32))
    labels, groups = table.loc[train, "target"], table.loc[train, "cluster"]
    probe = fit_probe("logistic", features.loc[train], labels, groups, experiment.seed)
    log(f"logistic regression on {features.shape[1]} features, C {probe.chosen['C']:g}")
    predicted = pd.DataFrame({"predicted": probe.predict(features)}, index=features.index)
    about = asdict(network.weights) | {"is_random": network.weights.is_random}
    used = settings.to_dict() | {"head": "logistic", "size": cache.size} | probe.chosen
    return Learnt(predicted.rename_axis("image_id"), pd.DataFrame(), about, used)
