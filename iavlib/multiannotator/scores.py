"""How well a method does: against the truth, each annotator, and all of them together.

Dice is averaged over classes, the background among them, as in Zhang et al. (2023);
``dice_foreground`` leaves it out. Confusion matrices are ``[label, truth]``.

The measures by which all methods for several raters are compared.

Does a method mimic each annotator, and is it calibrated to their vote? (Guo et al. 2022)

Soft Dice is the mean, over thresholds of .1, .3, .5, .7 and .9, of the Dice of what lies strictly
above; hard Dice is that at .5. Neither counts the background.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from iavlib.core.errors import MethodError
from iavlib.masks.metrics import dice
from iavlib.masks.overlap import SOFT_THRESHOLDS, soft_dice
from iavlib.masks.sets import ged_released, generalised_energy_distance
from iavlib.multiannotator.cohort_sets import majority_labels
from iavlib.multiannotator.confusion import confusion_counts, normalised, true_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import FUSIONS, fuse, fused_confusion
from iavlib.multiannotator.metrics import (
    class_dice,
    confusion_error,
    confusion_error_released,
    dice_matrix,
    rank_annotators,
    rate_correlations,
    reliability,
)
from iavlib.multiannotator.prediction import Prediction
from iavlib.stats.roc import auroc


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

    def add(self, subset: Prediction) -> None:
        """Score the next pictures."""
        some = self.labelled.take(np.arange(self._seen, self._seen + len(subset)))
        self._seen += len(subset)
        self._rows.append(image_scores(subset, some))
        if subset.confusion is None:
            return
        by_class = np.where(np.isfinite(subset.confusion), subset.confusion, 0)
        weighted = by_class * subset.class_pixels()
        self._weighted += weighted.sum(axis=0)
        self._own += (weighted * ~some.missing[:, :, None, None]).sum(axis=0)
        self._plain += subset.confusion_plain.sum(axis=0, dtype=float)
        self._by_image.append(subset.confusion)

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
    learnt: np.ndarray, own: np.ndarray, subsets: Mapping[str, MultiAnnotatorSet]
) -> dict[str, Any]:
    """Put matrices learnt and true together, ready for JSON.

    Parameters
    ----------
    learnt : numpy.ndarray, shape (R, C, C)
        Over all pictures of the test part.
    own : numpy.ndarray, shape (R, C, C)
        Of :meth:`Scorer.own_matrices`.
    subsets : mapping of str to MultiAnnotatorSet
        With ``train`` and ``test``.

    Returns
    -------
    dict
        ``learnt``; ``true`` of the test part (None where no truth is known), and then
        ``learnt_own`` and the true ones of the training part, ``true_train``, and of all parts,
        ``true_all``: an annotator of few test pictures errs there otherwise than elsewhere, by
        chance. ``n_images`` is how many test pictures each annotator labelled.
    """
    counts = subsets["test"].counts.tolist()
    if subsets["test"].truth is None:
        return {"learnt": _listed(learnt), "true": None, "n_images": counts}
    errors = {name: _error_counts(subset) for name, subset in subsets.items()}
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
    subsets: Iterable[Prediction], labelled: MultiAnnotatorSet
) -> tuple[pd.DataFrame, dict[str, float], np.ndarray | None]:
    """Score predictions, such as :meth:`FittedMethod.predict_parts` gives; see :class:`Scorer`."""
    scorer = Scorer(labelled)
    for subset in subsets:
        scorer.add(subset)
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


CONSENSUS, VOTE = "consensus", "mean_vote"
KINDS = {"soft": SOFT_THRESHOLDS, "hard": (0.5,)}
MAPS = ("expectation", "argmax")


class PreferenceScorer:
    """Compares predictions that come in lots with each annotator and with their vote.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
        All pictures, in the order in which they come.
    """

    def __init__(self, labelled: MultiAnnotatorSet):
        self.labelled, self._seen = labelled, 0
        self._sums: dict[tuple[str, str], pd.DataFrame] = {}
        self._counts: dict[tuple[str, str], pd.Series] = {}
        self._shares: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, subset: Prediction) -> None:
        """Score the next pictures."""
        some = self.labelled.take(np.arange(self._seen, self._seen + len(subset)))
        self._seen += len(subset)
        counts = pd.Series([*(~some.missing).sum(axis=0), len(some)], [*some.annotators, VOTE])
        for place, (name, classes) in enumerate(some.structures.items()):
            predicted, models = _of_models(subset, classes)
            for kind, levels in KINDS.items():
                found = dice_matrix(predicted, some, name, models, levels)
                key = (name, kind)
                weighted = (found * counts).fillna(0.0)
                self._sums[key] = weighted + self._sums.get(key, 0.0)
                self._counts[key] = counts + self._counts.get(key, 0)
            for how, values in _shares_of(subset, classes, place).items():
                self._shares.setdefault((name, how), []).append(values.astype(np.float32))

    def matrices(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Return, by structure and kind of Dice, whose prediction agrees how much with whom.

        Rows are the annotators who are predicted (``consensus`` of a method that does not tell
        them apart), columns those who labelled, and their mean vote.
        """
        found: dict[str, dict[str, pd.DataFrame]] = {}
        for (name, kind), sums in self._sums.items():
            counts = self._counts[name, kind]
            found.setdefault(name, {})[kind] = sums / counts.where(counts > 0)
        return found

    def reliability(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        """Return, by structure and map, the table behind its reliability, ready for JSON."""
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        for (name, how), lots in self._shares.items():
            predicted, observed = np.concatenate(lots), self.labelled.mean_map(name)
            if not ((predicted >= 0.01) | (observed > 0)).any():
                continue
            found_here = reliability(predicted.clip(0, 1), observed)
            table = found_here.table.round(6).to_dict("list")
            found.setdefault(name, {})[how] = table | {"error": found_here.error}
        return found

    def result(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the scores of all pictures, and the facts behind them, ready for JSON.

        Scores: for each structure, and the mean over structures under the bare name,

        - ``average``: soft Dice with each annotator of what is predicted of her, the mean over
          annotators; ``average_hard``;
        - ``mean_voting``: soft Dice of the consensus with the share of annotators;
          ``mean_voting_argmax`` where a method gives the most probable agreement class;
        - ``calibration_error`` and ``calibration_error_argmax``, expected, over disputed pixels;
        - of methods that tell annotators apart: ``own_best``, the share of annotators with whom
          their own prediction agrees better than with anybody else; ``own_code_best``, the share
          of whom their own prediction comes nearest; ``swap_gain``, by how much the soft Dice with
          an annotator rises, on average over pairs, when another's code is swapped for hers.
        """
        matrices, tables = self.matrices(), self.reliability()
        rows = {}
        for name, kinds in matrices.items():
            row = _row(kinds["soft"], kinds["hard"], self.labelled.annotators)
            for how, table in tables.get(name, {}).items():
                row[f"calibration_error{_suffix(how)}"] = table["error"]
            rows[name] = row | self._votes(name)
        scores = {name: float(value) for name, value in pd.DataFrame(rows).mean(axis=1).items()}
        if len(rows) > 1:
            scores |= {f"{key}_{name}": v for name, row in rows.items() for key, v in row.items()}
        facts = {
            name: {kind: table.round(6).to_numpy().tolist() for kind, table in kinds.items()}
            for name, kinds in matrices.items()
        }
        return scores, {"dice_matrices": facts, "reliability": tables}

    def _votes(self, name: str) -> dict[str, float]:
        found = {}
        for how in MAPS:
            if lots := self._shares.get((name, how)):
                maps = np.concatenate(lots)[None].astype(float)
                table = dice_matrix(maps, self.labelled, name, [CONSENSUS], SOFT_THRESHOLDS)
                found[f"mean_voting{_suffix(how)}"] = table.loc[CONSENSUS, VOTE]
        return found


def _suffix(how: str) -> str:
    return "" if how == MAPS[0] else f"_{how}"


def _of_models(subset: Prediction, classes: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Take a structure's probabilities out of those of classes: (models, n, height, width)."""
    if subset.maps is None:
        return subset.consensus[:, list(classes)].sum(axis=1)[None], [CONSENSUS]
    maps = subset.maps[:, :, list(classes)].sum(axis=2)
    return np.moveaxis(maps, 1, 0), list(subset.annotators)


def _shares_of(subset: Prediction, classes, place: int) -> dict[str, np.ndarray]:
    """Take the predicted share of annotators: by consensus, and by the most probable class."""
    found = {MAPS[0]: subset.consensus[:, list(classes)].sum(axis=1)}
    if subset.levels is not None:
        largest = subset.levels.shape[2] - 1
        steps = np.arange(largest + 1)[:, None, None]
        found[MAPS[0]] = (subset.levels[:, place] * steps).sum(axis=1) / largest
        found[MAPS[1]] = subset.levels[:, place].argmax(axis=1) / largest
    return found


def _row(soft: pd.DataFrame, hard: pd.DataFrame, annotators: tuple[str, ...]) -> dict[str, float]:
    """Sum up one structure's matrices."""
    found = {}
    for name, table in (("average", soft), ("average_hard", hard)):
        own = [table.iloc[k if len(table) > 1 else 0][one] for k, one in enumerate(annotators)]
        found[name] = float(np.nanmean(own))
    square = soft[list(annotators)].dropna(axis=1)
    known = [one for one in square if one in square.index]
    if len(known) < 2:
        return found
    square = square.loc[known, known].to_numpy()
    diagonal = square.diagonal()
    others = np.where(np.eye(len(known), dtype=bool), -np.inf, square)
    found["own_best"] = float((diagonal > others.max(axis=1)).mean())
    found["own_code_best"] = float((diagonal > others.max(axis=0)).mean())
    apart = ~np.eye(len(known), dtype=bool)
    found["swap_gain"] = float((diagonal[None, :] - square)[apart].mean())
    return found
