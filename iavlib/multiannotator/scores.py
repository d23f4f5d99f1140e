"""How well a method does: against the truth, each annotator, and all of them together.

Dice is averaged over classes, the background among them, as in Zhang et al. (2023);
``dice_foreground`` leaves it out. Confusion matrices are ``[label, truth]``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from iavlib.agreement import generalised_energy_distance
from iavlib.agreement.sets import ged_released
from iavlib.annotators import (
    MultiAnnotatorSet,
    class_dice,
    confusion_error,
    confusion_error_released,
    majority_labels,
    rank_annotators,
    rate_correlations,
    true_confusion,
)
from iavlib.annotators.confusion import confusion_counts, normalised
from iavlib.multiannotator.fusion import FUSIONS, fuse, fused_confusion
from iavlib.multiannotator.prediction import Prediction


def image_scores(prediction: Prediction, labelled: MultiAnnotatorSet) -> pd.DataFrame:
    """Score each picture.

    Parameters
    ----------
    prediction : Prediction
    labelled : MultiAnnotatorSet
        The same pictures in the same order.

    Returns
    -------
    pandas.DataFrame
        One row a picture: ``image_id``; ``true`` and ``predicted``, the share of foreground in
        the truth (the majority vote where none is known) and in the consensus; ``dice`` and
        ``dice_foreground`` to the truth (absent without one); ``dice_vote`` to the majority vote;
        ``ged`` (distance of samples from annotators, the mean over foreground classes) and
        ``ged_released`` (the published code's sum, where there are two of each); for every
        annotator ``dice_<name>``, her label against what is predicted of her (the consensus where
        the method does not tell annotators apart), empty where she labelled nothing.
    """
    predicted, vote = prediction.labels, majority_labels(labelled)
    truth = vote if labelled.truth is None else labelled.truth
    n_classes = labelled.n_classes
    columns = {
        "image_id": list(labelled.ids),
        "true": (truth > 0).mean(axis=(1, 2)),
        "predicted": (predicted > 0).mean(axis=(1, 2)),
    }
    if labelled.truth is not None:
        dice = class_dice(predicted, truth, n_classes)
        columns |= {"dice": dice.mean(axis=1), "dice_foreground": dice[:, 1:].mean(axis=1)}
    columns["dice_vote"] = class_dice(predicted, vote, n_classes).mean(axis=1)
    columns |= _spread(prediction, labelled)
    for place, name in enumerate(labelled.annotators):
        given = ~labelled.missing[:, place]
        of_her = predicted if prediction.maps is None else prediction.maps[:, place].argmax(axis=1)
        dice = np.full(len(labelled), np.nan)
        labels = labelled.labels[given, place]
        dice[given] = class_dice(of_her[given], labels, n_classes).mean(axis=1)
        columns[f"dice_{name}"] = dice
    return pd.DataFrame(columns)


def _spread(prediction: Prediction, labelled: MultiAnnotatorSet) -> dict[str, list[float]]:
    """Compare the spread of samples with that of annotators."""
    found: dict[str, list[float]] = {"ged": [], "ged_released": []}
    foreground = range(1, labelled.n_classes)
    for samples, labels, missing in zip(
        prediction.samples, labelled.labels, labelled.missing, strict=True
    ):
        given = labels[~missing]
        each = [generalised_energy_distance(samples == k, given == k) for k in foreground]
        found["ged"].append(float(np.mean(each)))
        enough = min(len(samples), len(given)) > 1
        sums = ged_released(samples, given, labelled.n_classes) if enough else float("nan")
        found["ged_released"].append(sums)
    return found


class Scorer:
    """Scores predictions that come in lots.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
        All pictures, in the order in which they come.
    """

    def __init__(self, labelled: MultiAnnotatorSet):
        self.labelled = labelled
        self._seen, self._rows = 0, []
        self._weighted: np.ndarray | float = 0.0
        self._plain: np.ndarray | float = 0.0
        self._by_image: list[np.ndarray] = []
        self._own: np.ndarray | float = 0.0

    def add(self, part: Prediction) -> None:
        """Score the next pictures."""
        some = self.labelled.take(np.arange(self._seen, self._seen + len(part)))
        self._seen += len(part)
        self._rows.append(image_scores(part, some))
        if part.confusion is None:
            return
        by_class = np.where(np.isfinite(part.confusion), part.confusion, 0)
        weighted = by_class * part.class_pixels()
        self._weighted += weighted.sum(axis=0)
        self._own += (weighted * ~some.missing[:, :, None, None]).sum(axis=0)
        self._plain += part.confusion_plain.sum(axis=0, dtype=float)
        self._by_image.append(part.confusion)

    def result(self) -> tuple[pd.DataFrame, dict[str, float], np.ndarray | None]:
        """Return one row a picture, the scores of all, and matrices over all (R, C, C) or None.

        Scores are the means of those of pictures (``annotator_dice`` over annotators and
        pictures) and, where the method tells of matrices and a truth is known: ``cm_error`` (root
        mean square, over all pictures), ``cm_error_image`` (each picture's), ``cm_error_plain``
        (the mean over all pixels, weighted by nothing), ``cm_error_released``, and how estimated
        and true annotators go together: ``ranking`` (Spearman, of incompetence),
        ``false_positive_r`` and ``false_negative_r`` (Pearson).
        """
        rows = pd.concat(self._rows, ignore_index=True)
        own = rows[[f"dice_{name}" for name in self.labelled.annotators]]
        scores = {name: float(rows[name].mean()) for name in _MEANS if name in rows}
        scores["annotator_dice"] = float(np.nanmean(own.to_numpy()))
        if not self._by_image:
            return rows, scores, None
        plain = self._plain / len(rows)
        matrices = normalised(self._weighted)
        # A class that is nowhere predicted has no pixels of its own to average over.
        matrices = np.where(np.isfinite(matrices), matrices, plain)
        if self.labelled.truth is not None:
            scores |= confusion_scores(matrices, self.labelled)
            true = true_confusion(self.labelled).by_image
            estimated = np.concatenate(self._by_image)
            true = np.where(np.isfinite(estimated), true, np.nan)
            scores["cm_error_image"] = confusion_error(estimated, true)
            scores["cm_error_plain"] = confusion_error(plain, true_confusion(self.labelled).overall)
        return rows, scores, matrices

    def own_matrices(self) -> np.ndarray:
        """Return matrices (R, C, C) over the pictures that each annotator labelled.

        The true ones are of these alone, so that where annotators are missing only these are of
        the same pictures. NaN where a class is nowhere predicted.
        """
        return normalised(np.asarray(self._own))


_MEANS = ("dice", "dice_foreground", "dice_vote", "ged", "ged_released")


def confusion_scores(matrices: np.ndarray, labelled: MultiAnnotatorSet) -> dict[str, float]:
    """Compare matrices (R, C, C) with the true ones of a set; see :meth:`Scorer.result`."""
    true = true_confusion(labelled).overall
    rates = rate_correlations(matrices, true, labelled.annotators)
    return {
        "cm_error": confusion_error(matrices, true),
        "cm_error_released": confusion_error_released(matrices, labelled),
        "ranking": rank_annotators(matrices, true, labelled.annotators).spearman,
        "false_positive_r": rates["false_positive_rate"],
        "false_negative_r": rates["false_negative_rate"],
    }


def confusion_facts(
    learnt: np.ndarray, own: np.ndarray, parts: Mapping[str, MultiAnnotatorSet]
) -> dict[str, Any]:
    """Put matrices learnt and true together, ready for JSON.

    Parameters
    ----------
    learnt : numpy.ndarray, shape (R, C, C)
        Over all pictures of the test part.
    own : numpy.ndarray, shape (R, C, C)
        Of :meth:`Scorer.own_matrices`.
    parts : mapping of str to MultiAnnotatorSet
        With ``train`` and ``test``.

    Returns
    -------
    dict
        ``learnt``; ``true`` of the test part (None where no truth is known), and then
        ``learnt_own`` and the true ones of the training part, ``true_train``, and of all parts,
        ``true_all``: an annotator of few test pictures errs there otherwise than elsewhere, by
        chance. ``n_images`` is how many test pictures each annotator labelled.
    """
    counts = parts["test"].counts.tolist()
    if parts["test"].truth is None:
        return {"learnt": _listed(learnt), "true": None, "n_images": counts}
    errors = {name: _error_counts(part) for name, part in parts.items()}
    return {
        "learnt": _listed(learnt),
        "true": _listed(normalised(errors["test"])),
        "learnt_own": _listed(own),
        "true_train": _listed(normalised(errors["train"])),
        "true_all": _listed(normalised(sum(errors.values()))),
        "n_images": counts,
    }


def _error_counts(labelled: MultiAnnotatorSet) -> np.ndarray:
    counts = confusion_counts(labelled.truth[:, None], labelled.labels, labelled.n_classes)
    return counts.sum(axis=0)


def _listed(matrices: np.ndarray) -> list:
    return matrices.round(6).tolist()


def overall_scores(
    parts: Iterable[Prediction], labelled: MultiAnnotatorSet
) -> tuple[pd.DataFrame, dict[str, float], np.ndarray | None]:
    """Score predictions, such as :meth:`FittedMethod.predict_parts` gives; see :class:`Scorer`."""
    scorer = Scorer(labelled)
    for part in parts:
        scorer.add(part)
    return scorer.result()


def fusion_scores(labelled: MultiAnnotatorSet, fusions=tuple(FUSIONS)) -> dict[str, dict]:
    """Score labels that are fused without any network, against the truth.

    Returns
    -------
    dict of str to dict
        Fusion to ``dice``, ``dice_foreground`` and, of STAPLE, ``cm_error``; empty without a
        truth.
    """
    if labelled.truth is None:
        return {}
    found = {}
    for how in fusions:
        fused = fuse(labelled, how)
        dice = class_dice(fused.argmax(axis=1), labelled.truth, labelled.n_classes)
        scores = {"dice": dice.mean(), "dice_foreground": dice[:, 1:].mean()}
        if "staple" in how:
            matrices = fused_confusion(labelled, fused)
            known = np.isfinite(matrices).all(axis=1, keepdims=True)
            true = np.where(known, true_confusion(labelled).overall, np.nan)
            scores["cm_error"] = confusion_error(matrices, true)
        found[how] = {name: float(value) for name, value in scores.items()}
    return found
