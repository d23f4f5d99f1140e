"""Finished runs as models for new images: predictions, conformal intervals, ensembles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from iavlib.core.errors import PredictionError, suggest
from iavlib.core.files import load_template
from iavlib.experiments.config import PROBE, from_mapping
from iavlib.experiments.store import METRICS, MODEL, SPEC, Result, RunStore, read_facts, read_json
from iavlib.experiments.tasks.image import MULTITASK, make_recipe
from iavlib.experiments.tasks.image_training import predict_images
from iavlib.models.model_files import load_network
from iavlib.models.network import Network
from iavlib.predict.ood import ALPHA, NEIGHBOURS, OodReference, load_ood_reference
from iavlib.stats import (
    INTERVALS,
    AdaptiveConformal,
    Conformal,
    interval_coverage,
    min_calibration,
    point_errors,
)
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import ImageCache
from iavlib.training.objectives import DIAGNOSIS
from iavlib.training.predict import predict_features

IAA, SEGMENTATION = "iaa", "segmentation"
#: Name of the model that comes with the library.
DEFAULT = "default"
DICE, PROBABILITY = "predicted_dice", "malignancy_probability"
#: How the predictions of several models become one.
_AVERAGE = {DICE: "mean", PROBABILITY: "mean", "dice_low": "min", "dice_high": "max"}
_AVERAGE |= {"ood_distance": "max", "ood_p": "min", "out_of_distribution": "max"}
#: Subsets of a run that its network was not trained on.
SUBSETS = {"val": "validation", "test": "test"}
#: How intervals of each kind are described.
KINDS = {
    "mondrian": "conformal by ranges of predicted agreement (Mondrian)",
    "cqr": "conformalized quantiles, lines in predicted agreement (CQR)",
    "equal": "split-conformal, of equal width",
}


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with everything that its predictions depend on.

    Parameters
    ----------
    run : Result
        The finished run.
    network : Network
    predict_fn : callable
        From batches of images to the table of predictions that the run's task makes of them.
    reference : OodReference, optional
        What new images are compared with, where it is no file beside the run.
    """

    run: Result
    network: Network
    predict_fn: Callable[[ImageBatches], pd.DataFrame]
    reference: OodReference | None = None
    draws = changed = False

    @property
    def name(self) -> str:
        """Task and id of the run."""
        return f"{self.run.experiment.task}/{self.run.facts['id']}"

    @property
    def size(self) -> int:
        """Side of the network's input images in pixels."""
        return self.network.weights.input_size

    @property
    def predicts_agreement(self) -> bool:
        """Whether it was trained to predict agreement."""
        return self.run.experiment.task in (IAA, MULTITASK)

    @property
    def predicts_malignancy(self) -> bool:
        """Whether it was trained to distinguish malignant from benign lesions."""
        return self.run.experiment.task != IAA

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """True and predicted agreement (clipped to [0, 1]) of the run's images, by subset."""
        rows = self.run.predictions
        if self.predicts_malignancy:
            rows = rows.assign(true=rows["true_iaa"], predicted=rows["predicted_iaa"])
        rows = rows[["subset", "true", "predicted"]].dropna()
        return rows.assign(predicted=rows["predicted"].clip(0, 1))

    @property
    def r2(self) -> float:
        """Share of the variance of agreement that it explains on its test images; NaN of none."""
        rows = self.agreement[self.agreement["subset"] == "test"]
        return point_errors(rows["true"], rows["predicted"])["r2"] if len(rows) else float("nan")

    @cached_property
    def training_ids(self) -> frozenset[str]:
        """Ids of the images of its training split."""
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
            One row per image: ``predicted_dice`` (clipped to [0, 1]) and
            ``malignancy_probability``, those that it was trained for.
        """
        table, columns = self.predict_fn(self.batches(pixels)), {}
        if self.predicts_agreement:
            source = "predicted_iaa" if self.predicts_malignancy else "predicted"
            columns[DICE] = table[source].clip(0, 1).to_numpy()
        if self.predicts_malignancy:
            columns[PROBABILITY] = table["predicted"].to_numpy()
        return pd.DataFrame(columns)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the pooled features of some images, without test-time augmentation: (n, F)."""
        return predict_features(self.network, self.batches(pixels))

    def batches(self, pixels: np.ndarray) -> ImageBatches:
        """Put images into batches, normalised as the network's weights require."""
        ids = pd.Index(map(str, range(len(pixels))), name="image_id")
        cache = ImageCache(ids, pixels, Path("new images"))  # in memory only
        weights = self.network.weights
        return ImageBatches.from_cache(cache, pd.DataFrame(index=ids), weights.mean, weights.std)

    def to_input(self, pixels: np.ndarray) -> Tensor:
        """Put images into one normalised batch, shape (n, 3, size, size)."""
        return self.batches(pixels).batch(np.arange(len(pixels)))["images"]


def load_predictor(name: str, store: RunStore | None = None) -> Predictor:
    """Load the network of a finished run.

    Parameters
    ----------
    name : str
        Folder of the run, or its id in the store; ``default`` is the model that comes with the
        library (:mod:`iavlib.predict.packaged`).
    store : RunStore, optional
        The default one if not given.

    Raises
    ------
    PredictionError
        If the run is not finished, saved no network, or predicts neither agreement nor
        malignancy.
    ExperimentError
        If there is no such run.
    DataError
        If a file of the network is damaged.
    """
    if name == DEFAULT:
        from iavlib.predict.packaged import load_default_model

        return load_default_model()
    try:
        run = finished_run(name, store)
        experiment = run.experiment
        if experiment.task == SEGMENTATION:
            problem = "a segmentation is applied alone, not with other models"
            raise PredictionError(run.folder, problem, "give this one run to 'iav predict'")
        network, recipe = load_network(run.folder), make_recipe(experiment)
    except FileNotFoundError as error:
        problem = f"{Path(error.filename or name).name} disappeared while the run was read"
        raise PredictionError(name, problem, "give a run that nobody removes") from error
    settings = experiment.settings.with_defaults(experiment)
    predict_fn = partial(predict_images, network, settings=settings, recipe=recipe)
    return Predictor(run, network, predict_fn)


def finished_run(name: str, store: RunStore | None = None) -> Result:
    """Read a finished run that saved a network, by its folder or its id in the store.

    Raises
    ------
    PredictionError
        If it is not finished, saved no network, or its task predicts nothing of new images.
    ExperimentError
        If there is no such run.
    """
    folder = Path(name)
    if not (folder / SPEC).is_file():
        if folder.is_absolute() or folder.is_dir():
            problem = f"holds no {SPEC}" if folder.is_dir() else "does not exist"
            raise PredictionError(folder, problem, "give the folder of a finished run, or its id")
        folder = (store or RunStore()).find(name)
    if not (folder / METRICS).is_file():
        raise PredictionError(folder, "the run is not finished", f"'iav train {folder.name}'")
    values = read_json(folder / SPEC)
    if folder.resolve().parents[1] != (store or RunStore()).root:
        values = values | {"plugins": []}  # what somebody else's run names is not imported
    experiment, facts = from_mapping(values, folder / SPEC), read_facts(folder)
    if experiment.task not in (IAA, DIAGNOSIS, MULTITASK, SEGMENTATION):
        problem = f"a run of task {experiment.task!r} predicts nothing of new images"
        hint = f"give one of {IAA}, {MULTITASK}, {DIAGNOSIS} or {SEGMENTATION}"
        raise PredictionError(folder, problem, hint)
    if not (folder / MODEL).is_file():
        if experiment.recipe.name == PROBE:
            hint = "give a run that trained a network"
            raise PredictionError(folder, "a probe saves no network", hint)
        raise PredictionError(folder, f"its {MODEL} is missing", f"train it again: {folder.name}")
    return Result(experiment, folder, facts)


@dataclass(frozen=True)
class Calibration:
    """Conformal intervals of one run.

    Parameters
    ----------
    conformal : Conformal or AdaptiveConformal
    kind : {"mondrian", "cqr", "equal"}
        How they were calibrated.
    subset : {"val", "test"}
        The images on which they are calibrated.
    n : int
        Number of those images.
    checked : dict or None
        On the other subset: ``subset``, ``n``, ``coverage`` with ``low`` and ``high`` (95 %,
        binomial), ``width`` (mean), and ``n_lowest``, ``coverage_lowest`` of the fifth with the
        lowest predictions. None where that subset is empty.
    """

    conformal: Conformal | AdaptiveConformal
    kind: str
    subset: str
    n: int
    checked: dict[str, Any] | None


def calibrate(
    predictor: Predictor, alpha: float = 0.1, subset: str = "val", kind: str = "mondrian"
) -> Calibration:
    """Calibrate intervals on a run's predictions of one subset, and check them on the other.

    Parameters
    ----------
    predictor : Predictor
        It must predict agreement.
    alpha : float
        Share of true values that may lie outside the intervals.
    subset : {"val", "test"}
        Where the best epoch was chosen on the validation images, errors on them are slightly too
        small and intervals slightly too narrow. Intervals calibrated on the test images do not
        have this bias, but only the validation images are left to check them on.
    kind : {"mondrian", "cqr", "equal"}
        Intervals of each range of predictions by itself (:func:`iavlib.stats.mondrian_intervals`),
        calibrated quantiles (:func:`iavlib.stats.quantile_intervals`), or intervals of equal
        width. The run's predictions are all that is needed, so that any finished run will do.

    Raises
    ------
    PredictionError
        If the run has too few predictions of that subset for this level, so that every interval
        would be the whole range, or if there is no such kind.
    """
    if kind not in INTERVALS:
        raise PredictionError(
            f"--intervals {kind}", "there is no such kind", suggest(kind, INTERVALS)
        )
    rows = predictor.agreement
    own = rows[rows["subset"] == subset]
    # of quantiles, half of the images are calibrated on
    min_images = min_calibration(alpha) * (2 if kind == "cqr" else 1)
    if subset not in SUBSETS or len(own) < min_images:
        problem = f"{len(own)} images of known agreement in subset {subset!r}"
        hint = f"give a larger alpha (--alpha), or a run with at least {min_images} such images"
        raise PredictionError(predictor.run.folder, problem, hint)
    conformal = INTERVALS[kind](own["true"], own["predicted"], alpha)
    (other,) = SUBSETS.keys() - {subset}
    rows, checked = rows[rows["subset"] == other], None
    if len(rows):
        bounds = conformal.intervals(rows["predicted"])
        lowest = rows["predicted"].rank(method="first") <= len(rows) / 5
        table = interval_coverage(rows["true"], bounds["lower"], bounds["upper"], lowest)
        names = {"coverage": "coverage", "low": "ci_low", "high": "ci_high", "width": "width_mean"}
        checked = {"subset": other, "n": len(rows), "n_lowest": int(lowest.sum())}
        checked |= {name: float(table.loc["all", column]) for name, column in names.items()}
        checked["coverage_lowest"] = float(table["coverage"].get(True, float("nan")))
    return Calibration(conformal, kind, subset, len(own), checked)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models whose predictions are averaged.

    Parameters
    ----------
    predictors : tuple of Predictor
    calibrations : dict of str to Calibration
        Of the models that predict agreement, by name.
    references : dict of str to OodReference
        Of the models that have one, by name.
    alpha : float
        Share of true values that may lie outside the intervals.
    """

    predictors: tuple[Predictor, ...]
    calibrations: Mapping[str, Calibration]
    references: Mapping[str, OodReference]
    alpha: float

    @property
    def sizes(self) -> set[int]:
        """Sides of the models' input images in pixels."""
        return {predictor.size for predictor in self.predictors}

    def trained_on(self, image_id: str) -> str:
        """Name the models whose training images include one of this name; empty for none."""
        names = [model.name for model in self.predictors if image_id in model.training_ids]
        return f"an image of this name was used to train {', '.join(names)}" if names else ""

    def write_masks(self, place: int, row: Mapping[str, Any], out: Path) -> list[tuple[str, str]]:
        """Write no mask: these networks draw none."""
        return []

    def predict(self, pixels: Mapping[int, np.ndarray]) -> pd.DataFrame:
        """Predict some images.

        Parameters
        ----------
        pixels : mapping of int to numpy.ndarray of uint8, shape (n, size, size, 3)
            The same images at each of :attr:`sizes`.

        Returns
        -------
        pandas.DataFrame
            One row per image: ``predicted_dice`` and ``malignancy_probability`` (means over the
            models that predict them), ``dice_low`` and ``dice_high`` (lowest and highest limit of
            the models' intervals), ``ood_distance`` (largest) and ``ood_p`` (smallest over the
            models), and ``out_of_distribution`` (``yes`` if it is for any model, ``unknown``
            where no model can tell). What no model predicts is missing.
        """
        tables = []
        for model in self.predictors:
            images = pixels[model.size]
            table = model.predict(images)
            if model.name in self.calibrations:
                bounds = self.calibrations[model.name].conformal.intervals(table[DICE])
                table["dice_low"], table["dice_high"] = bounds["lower"], bounds["upper"]
            if model.name in self.references:
                table = table.join(self.references[model.name].score(model.features(images)))
            tables.append(table)
        table = pd.concat(tables).reindex(columns=list(_AVERAGE))
        flag = "out_of_distribution"
        table[flag] = table[flag].astype(float)
        table = table.groupby(level=0).agg(_AVERAGE)
        table[flag] = table[flag].map({1.0: "yes", 0.0: "no"}).astype(object).fillna("unknown")
        return table


def make_ensemble(
    predictors: Sequence[Predictor], alpha: float = 0.1, subset: str = "val", kind: str = "mondrian"
) -> Ensemble:
    """Calibrate the models and load their out-of-distribution references.

    Parameters
    ----------
    predictors : sequence of Predictor
    alpha, subset, kind
        As for :func:`calibrate`.

    Raises
    ------
    PredictionError
        If a model is given twice, or cannot be calibrated.
    DataError
        If a file beside a model is damaged.
    """
    names = [model.name for model in predictors]
    if len(set(names)) < len(names):
        raise PredictionError("--model", "a run is given twice", "give each once")
    of_agreement = [model for model in predictors if model.predicts_agreement]
    calibrations = {model.name: calibrate(model, alpha, subset, kind) for model in of_agreement}
    loaded = {m.name: m.reference or load_ood_reference(m) for m in predictors}
    references = {name: reference for name, reference in loaded.items() if reference}
    return Ensemble(tuple(predictors), calibrations, references, alpha)


def describe(ensemble: Ensemble) -> list[str]:
    """Describe how predictions are made, one sentence or two per fact."""
    facts = {"subsets": SUBSETS, "kinds": KINDS, "neighbours": NEIGHBOURS, "alpha": ALPHA}
    facts["infinity"] = np.inf
    template = load_template("iavlib.predict", "facts.txt")
    return template.render(ensemble=ensemble, **facts).splitlines()


def limitations(ensemble: Ensemble) -> list[str]:
    """List the warnings that a reader must see beside the numbers."""
    template = load_template("iavlib.predict", "limitations.txt")
    return template.render(ensemble=ensemble).splitlines()
