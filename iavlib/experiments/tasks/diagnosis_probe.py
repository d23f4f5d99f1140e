"""Logistic regression on frozen features: the diagnosis that trains no network.

With a frozen backbone two tasks share nothing, so that it is a baseline of the single task only.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.experiments.spec import Experiment
from iavlib.experiments.tasks.diagnosis_settings import NORMALISATIONS, read_settings
from iavlib.experiments.tasks.regression import Learnt
from iavlib.experiments.tasks.task import Say
from iavlib.experiments.tasks.views import MeanOverViews
from iavlib.models import build_network, normalisation
from iavlib.training.features import frozen_features
from iavlib.training.image_cache import cache_images
from iavlib.training.pixels import channel_statistics
from iavlib.training.probe import fit_probe


def fit_diagnosis_probe(
    experiment: Experiment, table: pd.DataFrame, parts: pd.Series, folder: Path, say: Say
) -> Learnt:
    """Fit the head on the training part and predict every image.

    Parameters
    ----------
    experiment, table, parts, folder, say
        As for :func:`iavlib.experiments.tasks.diagnosis_network.train_diagnosis`; the validation
        part is not used, as patients of the training part are held out to choose the penalty.
    """
    settings, _ = read_settings(experiment)
    train = parts.index[parts == "train"]
    network = build_network(
        experiment.backbone, {}, experiment.weights, experiment.seed, experiment.size
    )
    cache = cache_images(table["path"], network.weights.input_size, progress=True)
    known = normalisation(network.weights)
    mean, std = NORMALISATIONS.get(settings.normalise, (known.mean, known.std))
    if settings.normalise == "train":  # random weights look at pixels as they are
        mean, std = channel_statistics(cache.pixels, cache.rows(train))
    network.weights = network.weights.with_normalisation(mean, std)
    network.backbone = MeanOverViews(network.backbone, settings.tta)
    features = frozen_features(network, cache, mean, std).loc[parts.index]
    if settings.control == "iaa_input":
        agreement = table.loc[parts.index, "iaa"]
        features = features.assign(iaa_input=agreement.to_numpy(np.float32))
    labels, groups = table.loc[train, "target"], table.loc[train, "cluster"]
    probe = fit_probe("logistic", features.loc[train], labels, groups, experiment.seed)
    say(f"logistic regression on {features.shape[1]} features, C {probe.chosen['C']:g}")
    predicted = pd.DataFrame({"predicted": probe.predict(features)}, index=features.index)
    about = asdict(network.weights) | {"is_random": network.weights.is_random}
    used = settings.to_json() | {"head": "logistic", "size": cache.size} | probe.chosen
    return Learnt(predicted.rename_axis("image_id"), pd.DataFrame(), about, used)
