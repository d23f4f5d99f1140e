"""The measures by which all methods for several raters are compared."""

import numpy as np
import pandas as pd

from iavlib.agreement import dice, generalised_energy_distance, soft_dice
from iavlib.annotators import MultiAnnotatorSet, reliability
from iavlib.multiannotator.errors import MethodError
from iavlib.multiannotator.prediction import Prediction
from iavlib.stats import auroc


def of_masks(masks: np.ndarray, labelled: MultiAnnotatorSet) -> Prediction:
    """Make a prediction of masks alone.

    Parameters
    ----------
    masks : numpy.ndarray, shape (n, height, width)
        Probabilities of lesion.
    labelled : MultiAnnotatorSet
        The images they are of.

    Raises
    ------
    MethodError
        If they do not lie over the images.
    """
    if masks.shape != (len(labelled), *labelled.images.shape[1:3]):
        raise MethodError(f"masks of shape {masks.shape} for {labelled!r}: give one an image")
    consensus = np.stack([1 - masks, masks], axis=1).astype(np.float32)
    samples = (masks > 0.5)[:, None].astype(np.int8)
    return Prediction(labelled.ids, labelled.annotators, consensus, None, samples)


def judge_prediction(
    prediction: Prediction,
    labelled: MultiAnnotatorSet,
    diagnosis: np.ndarray,
    scores: np.ndarray,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Judge what a method says of lesions.

    Parameters
    ----------
    prediction : Prediction
    labelled : MultiAnnotatorSet
        The same images in the same order; two classes.
    diagnosis : numpy.ndarray of int, shape (n,)
    scores : numpy.ndarray of float, shape (n,)
        Of a diagnosis net that was given the method's masks.

    Returns
    -------
    pandas.DataFrame
        One row an image: ``image_id``, ``true`` and ``predicted`` (diagnosis and score), and of
        the lesion (not averaged with the background): ``soft_dice`` of the probability with the
        raters' mean vote (thresholds .1 to .9), ``dice_<rater>`` of what is predicted of that
        rater (the consensus where raters are not told apart), ``dice_raters`` (their mean),
        ``dice_truth`` where a truth is known, and ``ged`` (samples against raters).
    dict
        Means of these, ``calibration_error`` (of the probability against the share of raters, over
        disputed pixels), and ``auroc`` (NaN with fewer than two images of a class).

    Raises
    ------
    MethodError
        If the pictures are not the same, or there are more classes.
    """
    if list(prediction.ids) != list(labelled.ids) or labelled.n_classes != 2:
        raise MethodError(f"predictions of {len(prediction)} pictures, not those of {labelled!r}")
    lesion, mean = prediction.consensus[:, 1], labelled.mean_map()
    columns = {
        "image_id": list(labelled.ids),
        "true": diagnosis,
        "predicted": scores,
        "soft_dice": [soft_dice(*pair) for pair in zip(np.clip(lesion, 0, 1), mean, strict=True)],
    }
    columns |= _of_raters(prediction, labelled)
    if labelled.truth is not None:
        pairs = zip(lesion > 0.5, labelled.truth > 0, strict=True)
        columns["dice_truth"] = [dice(*pair) for pair in pairs]
    given = zip(prediction.samples, labelled.labels, labelled.missing, strict=True)
    columns["ged"] = [generalised_energy_distance(s > 0, one[~gone] > 0) for s, one, gone in given]
    rows = pd.DataFrame(columns)
    named = [name for name in rows if name.startswith(("soft_dice", "dice_", "ged"))]
    metrics = {name: float(rows[name].mean()) for name in named}
    metrics["calibration_error"] = reliability(np.clip(lesion, 0, 1), mean).error
    enough = np.bincount(np.asarray(diagnosis, int), minlength=2).min() > 1
    found = auroc(diagnosis, scores).value if enough else float("nan")
    return rows, metrics | {"auroc": float(found)}


def _of_raters(prediction: Prediction, labelled: MultiAnnotatorSet) -> dict[str, np.ndarray]:
    """Compare with each rater's own masks; NaN where she marked nothing."""
    found = {}
    for place, name in enumerate(labelled.annotators):
        maps = prediction.consensus if prediction.maps is None else prediction.maps[:, place]
        drawn = maps[:, 1] > 0.5
        given = zip(drawn, labelled.labels[:, place], labelled.missing[:, place], strict=True)
        values = [np.nan if gone else dice(a, b > 0) for a, b, gone in given]
        found[f"dice_{name}"] = np.array(values)
    # every image has a rater
    return {**found, "dice_raters": np.nanmean(np.stack(list(found.values())), axis=0)}
