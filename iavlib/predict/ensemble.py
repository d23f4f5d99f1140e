"""One or several models as one prediction, with all that must be said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.core.errors import PredictionError
from iavlib.predict.model import DICE, PROBABILITY, Calibration, Predictor, calibrate
from iavlib.predict.ood import ALPHA, NEIGHBOURS, Familiarity, load_familiarity

LOW, HIGH = "dice_low", "dice_high"
YES, NO, UNKNOWN = "yes", "no", "unknown"
_PARTS = {"val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models whose predictions are averaged.

    Parameters
    ----------
    predictors : tuple of Predictor
    calibrations : dict of str to Calibration
        By the predictor's name, of those that tell agreement.
    familiar : dict of str to Familiarity
        By the predictor's name, where its file is at hand.
    alpha : float
        Share of truths that may lie outside of the intervals.
    """

    predictors: tuple[Predictor, ...]
    calibrations: Mapping[str, Calibration]
    familiar: Mapping[str, Familiarity]
    alpha: float

    @property
    def sizes(self) -> set[int]:
        """Sides of the images that the models look at, in pixels."""
        return {predictor.size for predictor in self.predictors}

    @property
    def tells_agreement(self) -> bool:
        """Whether a model tells agreement."""
        return bool(self.calibrations)

    def first(self, tells: str) -> Predictor | None:
        """Give the first model of which ``tells_agreement`` or ``tells_malignancy`` is true."""
        return next((one for one in self.predictors if getattr(one, tells)), None)

    def knows(self, image_id: str) -> str:
        """Say of which models an image of this name was in the training part; empty for none."""
        named = [one.name for one in self.predictors if image_id in one.learnt_from]
        return f"{', '.join(named)} learnt from an image of this name" if named else ""

    def predict(self, pixels: Mapping[int, np.ndarray]) -> pd.DataFrame:
        """Predict some images.

        Parameters
        ----------
        pixels : mapping of int to numpy.ndarray of uint8, shape (n, size, size, 3)
            The same images at each of :attr:`sizes`.

        Returns
        -------
        pandas.DataFrame
            One row an image: ``predicted_dice`` and ``malignancy_probability`` (means over the
            models that tell them), ``dice_low`` and ``dice_high`` (from the lowest to the highest
            end of the models' own intervals), ``distance``, ``distance_p`` (the least over the
            models) and ``out_of_distribution`` (yes if it is for any of them, unknown where no
            model can tell). What no model tells is missing.
        """
        means: dict[str, list[np.ndarray]] = {DICE: [], PROBABILITY: []}
        ends, judged = [], []
        for one in self.predictors:
            own = pixels[one.size]
            found = one.predict(own)
            for name in found:
                means[name].append(found[name].to_numpy())
            if one.name in self.calibrations:
                ends.append(self.calibrations[one.name].conformal.intervals(found[DICE]))
            if one.name in self.familiar:
                judged.append(self.familiar[one.name].judge(one.features(own)))
        n = len(next(iter(pixels.values())))
        table = pd.DataFrame(index=range(n))
        for name, values in means.items():
            table[name] = np.mean(values, axis=0) if values else np.nan
        table[LOW] = np.min([e["lower"] for e in ends], axis=0) if ends else np.nan
        table[HIGH] = np.max([e["upper"] for e in ends], axis=0) if ends else np.nan
        return table.join(_judgement(judged, n))


def _judgement(judged: Sequence[pd.DataFrame], n: int) -> pd.DataFrame:
    if not judged:
        nothing = {"distance": np.nan, "distance_p": np.nan, "out_of_distribution": UNKNOWN}
        return pd.DataFrame(nothing, index=range(n))
    apart = np.any([one["out_of_distribution"] for one in judged], axis=0)
    return pd.DataFrame(
        {
            "distance": np.max([one["distance"] for one in judged], axis=0),
            "distance_p": np.min([one["distance_p"] for one in judged], axis=0),
            "out_of_distribution": np.where(apart, YES, NO),
        }
    )


def make_ensemble(
    predictors: Sequence[Predictor], alpha: float = 0.1, subset: str = "val"
) -> Ensemble:
    """Calibrate the models and find what new images are compared with.

    Parameters
    ----------
    predictors : sequence of Predictor
    alpha, part
        As for :func:`iavlib.predict.model.calibrate`.

    Raises
    ------
    PredictionError
        If a model is given twice, or cannot be calibrated.
    DataError
        If a file beside a model is damaged.
    """
    names = [one.name for one in predictors]
    if len(set(names)) < len(names):
        raise PredictionError("--model", "a run is given twice", "give each once")
    calibrations = {
        one.name: calibrate(one, alpha, subset) for one in predictors if one.tells_agreement
    }
    found = {one.name: load_familiarity(one) for one in predictors}
    familiar = {name: one for name, one in found.items() if one is not None}
    return Ensemble(tuple(predictors), calibrations, familiar, alpha)


def describe(ensemble: Ensemble) -> list[str]:
    """Say how predictions are made, a sentence each."""
    facts = []
    for one in ensemble.predictors:
        spec, run = one.run.experiment, one.run.facts
        facts.append(
            f"Run {one.name} ({spec.backbone}, {spec.recipe}), learnt from "
            f"{run['n'].get('train', 0):,} images of {run['cohort']}, finished {run['finished']}; "
            f"images are scaled to {one.size} x {one.size} pixels."
        )
        if one.name in ensemble.calibrations:
            facts.append(_interval(ensemble.calibrations[one.name], ensemble.alpha))
        if one.name in ensemble.familiar:
            facts.append(_familiar(ensemble.familiar[one.name]))
        if one.name in ensemble.familiar and ensemble.familiar[one.name].centre:
            facts.append(
                "Its heat maps are centred Grad-CAM: what lowers or raises the prediction against "
                "that of the mean validation image. Colours cannot be compared between images."
            )
    if len(ensemble.predictors) > 1:
        facts.append(
            "Predictions are means over the runs that make them; an interval runs from the lowest "
            "to the highest end of the runs' intervals, so it holds the truth more often than each."
        )
    return facts


def _interval(calibration: Calibration, alpha: float) -> str:
    subset, checked = _PARTS[calibration.subset], calibration.checked
    told = (
        f"Its {1 - alpha:.0%} intervals are split-conformal, calibrated on the {calibration.n:,} "
        f"images of its {subset} part, and hold for images like those"
    )
    if checked is None:
        return told + "."
    return (
        f"{told}; on the {checked['n']:,} images of its {_PARTS[checked['subset']]} part they held "
        f"the truth in {checked['coverage']:.1%} (95 % interval {checked['low']:.1%} to "
        f"{checked['high']:.1%}) at a mean width of {checked['width']:.2f}."
    )


def _familiar(familiar: Familiarity) -> str:
    return (
        f"An image is out of distribution when its features are farther from those of the "
        f"{NEIGHBOURS}th nearest of {len(familiar.features):,} training images than those of "
        f"{1 - ALPHA:.0%} of {len(familiar.validation):,} validation images are (distance above "
        f"{familiar.threshold:.3f}); p is the share of these that are as far. An image that is not "
        "flagged is not thereby one that the network knows."
    )


def warn(ensemble: Ensemble) -> list[str]:
    """Say what a reader must know before believing a number."""
    warnings = []
    for one in ensemble.predictors:
        if one.run.facts["synthetic"]:
            warnings.append(
                f"Run {one.name} learnt from invented images ({one.run.facts['cohort']}): its "
                "predictions of photographs mean nothing."
            )
        elif one.run.facts["weights_random"]:
            warnings.append(f"Run {one.name} started from random weights.")
        if one.name not in ensemble.familiar:
            warnings.append(
                f"Nobody can say whether an image is like those that run {one.name} learnt from: "
                f"where these are, 'iav runs familiarity {one.name}' keeps what it takes."
            )
    return warnings
