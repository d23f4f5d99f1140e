"""Intervals about predicted agreement, from the images on which a run was validated.

A finished run as something that predicts: its network, looked at exactly as in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iavlib.core.errors import PredictionError
from iavlib.experiments.config import PROBE, from_mapping
from iavlib.experiments.result import Result, read_facts
from iavlib.experiments.store import METRICS, MODEL, SPEC, RunStore, read_json
from iavlib.experiments.tasks.diagnosis import MULTITASK, make_recipe
from iavlib.experiments.tasks.diagnosis_network import predict_diagnosis
from iavlib.experiments.tasks.image import predict_views
from iavlib.models.model_files import load_network
from iavlib.models.network import Network
from iavlib.stats.conformal import Conformal, split_conformal
from iavlib.stats.regression import interval_coverage
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import ImageCache
from iavlib.training.objectives import AGREEMENT, DIAGNOSIS
from iavlib.training.predict import run_over

IAA = "iaa"
DICE, PROBABILITY = "predicted_dice", "malignancy_probability"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with all that its predictions depend on.

    Parameters
    ----------
    run : Result
        The finished run.
    network : Network
    look : callable
        From batches of images to the table of predictions that the run's task makes of them.
    """

    run: Result
    network: Network
    look: Callable[[ImageBatches], pd.DataFrame]

    @property
    def name(self) -> str:
        """Task and id of the run."""
        return f"{self.run.experiment.task}/{self.run.facts['id']}"

    @property
    def size(self) -> int:
        """Side of the images it looks at, in pixels."""
        return self.network.weights.input_size

    @property
    def tells_agreement(self) -> bool:
        """Whether it was trained to tell agreement."""
        return self.run.experiment.task in (IAA, MULTITASK)

    @property
    def tells_malignancy(self) -> bool:
        """Whether it was trained to tell malignant from benign."""
        return self.run.experiment.task != IAA

    @cached_property
    def learnt_from(self) -> frozenset[str]:
        """Ids of the images of its training part."""
        rows = self.run.predictions
        return frozenset(rows.loc[rows["subset"] == "train", "image_id"])

    def predict(self, pixels: np.ndarray) -> pd.DataFrame:
        """Predict some images.

        Parameters
        ----------
        pixels : numpy.ndarray of uint8, shape (n, size, size, 3)

        Returns
        -------
        pandas.DataFrame
            One row an image: ``predicted_dice`` (clipped to [0, 1]) and
            ``malignancy_probability``, those that it was trained for.
        """
        found = self.look(self.batches(pixels))
        columns = {}
        if self.tells_agreement:
            source = "predicted" if self.run.experiment.task == IAA else "predicted_iaa"
            columns[DICE] = found[source].clip(0, 1).to_numpy()
        if self.tells_malignancy:
            columns[PROBABILITY] = found["predicted"].to_numpy()
        return pd.DataFrame(columns)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the pooled features of some images as they are, not turned: (n, F)."""
        network = self.network
        batches = self.batches(pixels)
        return run_over(network, lambda x: {"features": network.features(x)}, batches)["features"]

    def batches(self, pixels: np.ndarray) -> ImageBatches:
        """Put images into batches, normalised as the network's weights say."""
        ids = pd.Index(map(str, range(len(pixels))), name="image_id")
        cache = ImageCache(ids, pixels, Path("new images"))  # in memory only
        weights = self.network.weights
        targets = pd.DataFrame(index=ids)
        return ImageBatches.from_cache(cache, targets, weights.mean, weights.std)


def load_predictor(name: str, store: RunStore | None = None) -> Predictor:
    """Load the network of a finished run.

    Parameters
    ----------
    name : str
        Folder of the run, or its id in the store.
    store : RunStore, optional
        The default one if not given.

    Raises
    ------
    PredictionError
        If the run is not finished, left no network, or tells neither agreement nor malignancy.
    ExperimentError
        If there is no such run.
    iavlib.core.DataError
        If a file of the network is damaged.
    """
    folder = Path(name)
    if not (folder / SPEC).is_file():
        if folder.is_absolute() or folder.is_dir():
            told = f"holds no {SPEC}" if folder.is_dir() else "is not there"
            raise PredictionError(folder, told, "give the folder of a finished run, or its id")
        folder = (store or RunStore()).find(name)
    if not (folder / METRICS).is_file():
        raise PredictionError(folder, "the run is not finished", f"'iav train {folder.name}'")
    path = folder / SPEC
    experiment, facts = from_mapping(read_json(path), path), read_facts(folder)
    if experiment.task not in (IAA, DIAGNOSIS, MULTITASK):
        told = f"a run of task {experiment.task!r} predicts no agreement and no diagnosis"
        raise PredictionError(folder, told, f"give one of {IAA}, {MULTITASK} or {DIAGNOSIS}")
    if not (folder / MODEL).is_file():
        probe = experiment.recipe.name == PROBE
        why = "a probe leaves no network" if probe else f"its {MODEL} is gone"
        hint = "give a run that trained a network" if probe else f"train it again: {folder.name}"
        raise PredictionError(folder, why, hint)
    network = load_network(folder)
    return Predictor(Result(experiment, folder, facts), network, _looking(experiment, network))


def _looking(experiment, network: Network) -> Callable[[ImageBatches], pd.DataFrame]:
    """Say how the run's task looks at images: how often turned, and by which recipe."""
    settings = experiment.settings.with_defaults(experiment)
    if experiment.task == IAA:
        return partial(_agreement, network, experiment.training_recipe(), settings.tta)
    return partial(_diagnosis, network, settings, make_recipe(experiment))


def _agreement(network, recipe, n_views: int, batches: ImageBatches) -> pd.DataFrame:
    return predict_views(network, AGREEMENT, batches, recipe, n_views)


def _diagnosis(network, settings, recipe, batches: ImageBatches) -> pd.DataFrame:
    return predict_diagnosis(network, batches, settings, recipe)


#: Parts of a run that its network did not learn from.
SUBSETS = ("val", "test")


@dataclass(frozen=True)
class Calibration:
    """Split-conformal intervals of one run.

    Parameters
    ----------
    conformal : Conformal
    subset : {"val", "test"}
        The images they are calibrated on.
    n : int
        How many those are.
    checked : dict or None
        On the other part: ``subset``, ``n``, ``coverage`` with ``low`` and ``high`` (95 %,
        binomial), and ``width`` (mean). None where that part is empty.
    """

    conformal: Conformal
    subset: str
    n: int
    checked: dict[str, Any] | None


def calibrate(predictor: Predictor, alpha: float = 0.1, subset: str = "val") -> Calibration:
    """Calibrate intervals on a run's own predictions of one part, and check them on another.

    Parameters
    ----------
    predictor : Predictor
        That tells agreement.
    alpha : float
        Share of truths that may lie outside.
    subset : {"val", "test"}
        The validation part is left over by the split; but where the best epoch was chosen on it,
        its errors are a little too small, and intervals a little too narrow. Calibrated on the
        test part they are not, and nothing is left to check them on but the validation part.

    Raises
    ------
    PredictionError
        If the run has too few predictions of that part for this level, so that every interval
        would be the whole range.
    """
    known = _known(predictor)
    mine = known[known["subset"] == subset]
    fewest = round(1 / alpha - 1)
    if subset not in SUBSETS or len(mine) < fewest:
        told = f"{len(mine)} images of known agreement in part {subset!r}"
        hint = f"give a larger alpha, or a run with {fewest} such images or more"
        raise PredictionError(predictor.run.folder, told, hint)
    conformal = split_conformal(mine["true"], mine["predicted"], alpha)
    other = next(name for name in SUBSETS if name != subset)
    return Calibration(conformal, subset, len(mine), _check(conformal, known, other))


def _known(predictor: Predictor) -> pd.DataFrame:
    """Give part, true and predicted agreement of the run's images."""
    rows = predictor.run.predictions
    if predictor.run.experiment.task != IAA:
        rows = rows.assign(true=rows["true_iaa"], predicted=rows["predicted_iaa"])
    rows = rows[["subset", "true", "predicted"]].dropna()
    return rows.assign(predicted=rows["predicted"].clip(0, 1))


def _check(conformal: Conformal, known: pd.DataFrame, subset: str) -> dict[str, Any] | None:
    rows = known[known["subset"] == subset]
    if rows.empty:
        return None
    ends = conformal.intervals(rows["predicted"])
    whole = interval_coverage(rows["true"], ends["lower"], ends["upper"]).loc["all"]
    names = {"coverage": "coverage", "low": "ci_low", "high": "ci_high", "width": "width_mean"}
    numbers = {name: float(whole[column]) for name, column in names.items()}
    return {"subset": subset, "n": len(rows)} | numbers
