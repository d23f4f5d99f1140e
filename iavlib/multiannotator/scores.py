"""How well a method does: against the truth, each annotator, and all of them together.

Dice is averaged over classes, the background among them, as in Zhang et al. (2023);
``dice_foreground`` leaves it out, as do the measures of structures and of lesions: soft Dice is
the mean, over thresholds of .1, .3, .5, .7 and .9, of the Dice of what lies strictly above; hard
Dice is that at .5. Confusion matrices are ``[label, truth]``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from iavlib.core.errors import MethodError
from iavlib.masks import array_dice, class_dice, soft_dice
from iavlib.masks.overlap import SOFT_THRESHOLDS, ged_released, generalised_energy_distance
from iavlib.multiannotator import confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import FUSIONS, fuse, fused_confusion, majority_labels
from iavlib.multiannotator.prediction import Prediction
from iavlib.stats.classification import auroc

_MEANS = ("dice", "dice_foreground", "dice_vote", "ged", "ged_released")
_BINS = 10
#: From which prediction on a pixel counts as disputed though nobody marked it.
DISPUTED = 0.01


def image_scores(prediction: Prediction, dataset: MultiAnnotatorSet) -> pd.DataFrame:
    """Score each image.

    Parameters
    ----------
    prediction : Prediction
    dataset : MultiAnnotatorSet
        The same images in the same order.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``image_id``; ``true`` and ``predicted``, the share of foreground in
        the truth (the majority vote where none is known) and in the consensus; ``dice`` and
        ``dice_foreground`` to the truth (absent without one); ``dice_vote`` to the majority vote;
        ``ged`` (distance of samples from annotators, the mean over foreground classes) and
        ``ged_released`` (the published code's sum, where there are two of each); for every
        annotator ``dice_<name>``, the annotator's label against its prediction (the consensus
        where the method does not model annotators), empty where the image was not labelled.
    """
    predicted, vote, n_classes = prediction.labels, majority_labels(dataset), dataset.n_classes
    truth = vote if dataset.truth is None else dataset.truth
    columns = {
        "image_id": list(dataset.ids),
        "true": (truth > 0).mean(axis=(1, 2)),
        "predicted": (predicted > 0).mean(axis=(1, 2)),
    }
    if dataset.truth is not None:
        scores = class_dice(predicted, truth, n_classes)
        columns |= {"dice": scores.mean(axis=1), "dice_foreground": scores[:, 1:].mean(axis=1)}
    columns["dice_vote"] = class_dice(predicted, vote, n_classes).mean(axis=1)
    columns |= {"ged": [], "ged_released": []}
    for samples, labels in _samples_and_labels(prediction, dataset):
        classes = range(1, n_classes)
        distances = [generalised_energy_distance(samples == k, labels == k) for k in classes]
        columns["ged"].append(float(np.mean(distances)))
        enough = min(len(samples), len(labels)) > 1
        released = ged_released(samples, labels, n_classes) if enough else float("nan")
        columns["ged_released"].append(released)
    for column, name in enumerate(dataset.annotators):
        given = ~dataset.missing[:, column]
        drawn = predicted if prediction.maps is None else prediction.maps[:, column].argmax(axis=1)
        values = np.full(len(dataset), np.nan)
        labels = dataset.labels[given, column]
        values[given] = class_dice(drawn[given], labels, n_classes).mean(axis=1)
        columns[f"dice_{name}"] = values
    return pd.DataFrame(columns)


def _samples_and_labels(prediction: Prediction, dataset: MultiAnnotatorSet):
    """Yield the sampled label maps of each image, and those that annotators gave."""
    triples = zip(prediction.samples, dataset.labels, dataset.missing, strict=True)
    return ((samples, labels[~missing]) for samples, labels, missing in triples)


class Scorer:
    """Compares predictions, which come in batches, with the truth and with each annotator."""

    def __init__(self, dataset: MultiAnnotatorSet):
        self.dataset = dataset
        self._rows: list[pd.DataFrame] = []
        #: Of each batch: sums of matrices over images (the mean of a column within
        #: its class, weighted by pixels; the same over labelled images; the mean over all pixels).
        self._confusion: list[tuple[np.ndarray, ...]] = []

    def add(self, batch: Prediction) -> None:
        """Score some images."""
        some = batch.images_of(self.dataset)
        self._rows.append(image_scores(batch, some))
        if batch.confusion is None:
            return
        by_class = np.where(np.isfinite(batch.confusion), batch.confusion, 0)
        classes = range(some.n_classes)
        pixels = np.stack([(batch.labels == k).sum(axis=(1, 2)) for k in classes], axis=1)
        weighted = by_class * pixels[:, None, None]
        labelled = (weighted * ~some.missing[:, :, None, None]).sum(axis=0)
        plain = batch.confusion_plain.sum(axis=0, dtype=float)
        self._confusion.append((weighted.sum(axis=0), labelled, plain))

    def result(self) -> tuple[pd.DataFrame, dict[str, float], np.ndarray | None]:
        """Return one row per image, the scores of all, and matrices over all (R, C, C) or None.

        Scores are the means of those of images (``annotator_dice`` over annotators and images)
        and, where the method has confusion matrices and a truth is known: ``cm_error`` (root mean
        square, over all images), ``cm_error_plain`` (of the unweighted mean over all pixels), and
        the correlation of estimated with true annotators: ``ranking`` (Spearman, of incompetence),
        ``false_positive_r`` and ``false_negative_r`` (Pearson).
        """
        rows = pd.concat(self._rows, ignore_index=True)
        dice_columns = rows[[f"dice_{name}" for name in self.dataset.annotators]]
        scores = {name: float(rows[name].mean()) for name in _MEANS if name in rows}
        scores["annotator_dice"] = float(np.nanmean(dice_columns.to_numpy()))
        if not self._confusion:
            return rows, scores, None
        weighted, _, plain = zip(*self._confusion, strict=True)
        plain, matrices = sum(plain) / len(rows), confusion.normalised(sum(weighted))
        # A class that is nowhere predicted has no pixels of its own to average over.
        matrices = np.where(np.isfinite(matrices), matrices, plain)
        if self.dataset.truth is not None:
            true = confusion.true_confusion(self.dataset)
            pair = (matrices, true.overall, true.annotators)
            rates = confusion.rate_correlations(*pair)
            scores |= {
                "cm_error": confusion.confusion_error(matrices, true.overall),
                "ranking": confusion.rank_by_competence(*pair).spearman,
                "false_positive_r": rates["false_positive_rate"],
                "false_negative_r": rates["false_negative_rate"],
                "cm_error_plain": confusion.confusion_error(plain, true.overall),
            }
        return rows, scores, matrices

    def own_matrices(self) -> np.ndarray:
        """Return matrices (R, C, C) over the images that each annotator labelled.

        The true ones are of these images alone, so that only these matrices compare with them
        where annotators are missing. NaN where a class is nowhere predicted.
        """
        return confusion.normalised(sum(labelled for _, labelled, _ in self._confusion))


def confusion_facts(
    learnt: np.ndarray, own: np.ndarray, subsets: Mapping[str, MultiAnnotatorSet]
) -> dict[str, Any]:
    """Put estimated and true matrices together, ready for JSON.

    Parameters
    ----------
    learnt : numpy.ndarray, shape (R, C, C)
        Over all images of the test subset.
    own : numpy.ndarray, shape (R, C, C)
        Of :meth:`Scorer.own_matrices`.
    subsets : mapping of str to MultiAnnotatorSet
        With ``train`` and ``test``.

    Returns
    -------
    dict
        ``learnt``; ``true`` of the test subset (None where no truth is known), and then
        ``learnt_own`` and the true ones of the training subset, ``true_train``, and of all
        subsets, ``true_all``: the errors of an annotator with few test images differ there from
        those elsewhere, by chance. ``n_images``: test images that each annotator labelled.
    """
    facts = {"learnt": learnt, "true": None}
    if subsets["test"].truth is not None:
        counts = {
            name: confusion.dataset_counts(some).sum(axis=0) for name, some in subsets.items()
        }
        facts |= {
            "true": confusion.normalised(counts["test"]),
            "learnt_own": own,
            "true_train": confusion.normalised(counts["train"]),
            "true_all": confusion.normalised(sum(counts.values())),
        }
    lists = {name: None if m is None else m.round(6).tolist() for name, m in facts.items()}
    return lists | {"n_images": subsets["test"].counts.tolist()}


def fusion_scores(dataset: MultiAnnotatorSet) -> dict[str, dict]:
    """Score labels that are fused without any network, against the truth.

    Returns
    -------
    dict of str to dict
        Fusion to ``dice``, ``dice_foreground`` and, of STAPLE, ``cm_error``; empty without a
        truth.
    """
    if dataset.truth is None:
        return {}
    scores: dict[str, dict] = {}
    for how in FUSIONS:
        fused = fuse(dataset, how)
        values = class_dice(fused.argmax(axis=1), dataset.truth, dataset.n_classes)
        scores[how] = {"dice": float(values.mean())}
        scores[how]["dice_foreground"] = float(values[:, 1:].mean())
        if "staple" in how:
            matrices = fused_confusion(dataset, fused)
            known = np.isfinite(matrices).all(axis=1, keepdims=True)
            true = np.where(known, confusion.true_confusion(dataset).overall, np.nan)
            scores[how]["cm_error"] = confusion.confusion_error(matrices, true)
    return scores


def of_masks(masks: np.ndarray, dataset: MultiAnnotatorSet) -> Prediction:
    """Make a prediction of masks alone.

    Parameters
    ----------
    masks : numpy.ndarray, shape (n, height, width)
        Probabilities of lesion.
    dataset : MultiAnnotatorSet
        The images they are of.

    Raises
    ------
    MethodError
        If their shape is not that of the images.
    """
    if masks.shape != (len(dataset), *dataset.images.shape[1:3]):
        raise MethodError(f"masks of shape {masks.shape} for {dataset!r}: give one per image")
    consensus = np.stack([1 - masks, masks], axis=1).astype(np.float32)
    samples = (masks > 0.5)[:, None].astype(np.int8)
    return Prediction(dataset.ids, dataset.annotators, consensus, None, samples)


def lesion_scores(
    prediction: Prediction, dataset: MultiAnnotatorSet, diagnosis: np.ndarray
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Score the predicted lesions, and the diagnosis with them.

    Parameters
    ----------
    prediction : Prediction
    dataset : MultiAnnotatorSet
        The same images in the same order, with their diagnosis; two classes.
    diagnosis : numpy.ndarray of float, shape (n,)
        Predicted, by the method itself or by a network that was given the method's masks.

    Returns
    -------
    pandas.DataFrame
        One row per image: ``image_id``, ``true`` and ``predicted`` (of the diagnosis), and of the
        lesion (not averaged with the background): ``soft_dice`` of the probability with the
        annotators' mean vote, ``dice_<annotator>`` of the prediction of that annotator (the
        consensus where annotators are not modelled), ``dice_raters`` (their mean), ``dice_truth``
        where a truth is known, and ``ged`` (samples against annotators).
    dict
        Means of these, ``calibration_error`` (of the probability against the share of annotators,
        over disputed pixels), and ``auroc`` (NaN with fewer than two images of a class).

    Raises
    ------
    MethodError
        If the images are not the same, or there are more classes.
    """
    if list(prediction.ids) != list(dataset.ids) or dataset.n_classes != 2:
        raise MethodError(f"predictions of {len(prediction)} images, not those of {dataset!r}")
    lesion, mean = prediction.consensus[:, 1], dataset.mean_map()
    columns = {"image_id": list(dataset.ids), "true": dataset.diagnosis, "predicted": diagnosis}
    columns["soft_dice"] = soft_dice(np.clip(lesion, 0, 1), mean)
    names = [f"dice_{name}" for name in dataset.annotators]
    for column, name in enumerate(names):
        maps = prediction.consensus if prediction.maps is None else prediction.maps[:, column]
        values = array_dice(maps[:, 1] > 0.5, dataset.labels[:, column] > 0)
        columns[name] = np.where(dataset.missing[:, column], np.nan, values)
    columns["dice_raters"] = np.nanmean(np.stack([columns[name] for name in names]), axis=0)
    if dataset.truth is not None:
        columns["dice_truth"] = array_dice(lesion > 0.5, dataset.truth > 0)
    pairs = _samples_and_labels(prediction, dataset)
    columns["ged"] = [generalised_energy_distance(s > 0, labels > 0) for s, labels in pairs]
    rows = pd.DataFrame(columns)
    metrics = {name: float(rows[name].mean()) for name in list(rows)[3:]}
    metrics["calibration_error"] = reliability(np.clip(lesion, 0, 1), mean).error
    return rows, metrics | {"auroc": diagnosis_auroc(dataset.diagnosis, diagnosis)}


def diagnosis_auroc(true: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve; NaN with fewer than two images of a class."""
    enough = np.bincount(np.asarray(true, int), minlength=2).min() > 1
    return float(auroc(true, scores).value) if enough else float("nan")


def dice_matrix(
    predicted: np.ndarray,
    dataset: MultiAnnotatorSet,
    structure: str | None = None,
    models: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return the mean Dice of every model's masks with every annotator's.

    Parameters
    ----------
    predicted : numpy.ndarray, shape (models, n, height, width)
        Of the structure: masks (bool or int, 1 inside) or, with ``thresholds``, probabilities.
    dataset : MultiAnnotatorSet
        The same images; each annotator counts on those that the annotator labelled.
    structure : str, optional
        The set's first by default.
    models : sequence of str, optional
        Their names; those of the annotators by default, where they are as many.
    thresholds : sequence of float, optional
        Of the soft Dice: the mean, over thresholds, of the Dice of what is strictly above.

    Returns
    -------
    pandas.DataFrame
        Index ``model``, columns annotators, and ``mean_vote``: the Dice with the pixels that at
        least half of each image's annotators marked or, with ``thresholds``, the soft Dice with
        the share of them. NaN for an annotator who labelled nothing.

    Raises
    ------
    ValueError
        If the shapes do not fit, or probabilities are given without thresholds.
    """
    structure = structure or next(iter(dataset.structures))
    predicted = np.asarray(predicted)
    size = (len(dataset), *dataset.images.shape[1:3])
    if predicted.ndim != 4 or predicted.shape[1:] != size:
        raise ValueError(f"predictions of shape {predicted.shape}, not (models, {size})")
    if predicted.dtype.kind == "f" and thresholds is None:
        raise ValueError("probabilities need thresholds")
    masks, share = dataset.structure(structure), dataset.mean_map(structure)
    vote = share >= 0.5 if thresholds is None else share
    levels = (0.5,) if thresholds is None else thresholds

    def mean_dice(maps: np.ndarray, others: np.ndarray) -> float:
        dices = np.mean([array_dice(maps > level, others > level) for level in levels], axis=0)
        return dices.mean() if len(dices) else np.nan

    given = [*enumerate(~dataset.missing.T)]
    rows = [
        [mean_dice(maps[some], masks[some, column] == 1) for column, some in given]
        + [mean_dice(maps, vote)]
        for maps in predicted
    ]
    index = pd.Index(list(dataset.annotators if models is None else models), name="model")
    return pd.DataFrame(rows, index=index, columns=[*dataset.annotators, "mean_vote"])


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed share of annotators.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per bin of predicted shares that holds pixels: ``low``, ``high`` (the bin), ``n``
        (pixels), ``predicted`` and ``observed`` (means within it).
    error : float
        Expected calibration error: the mean over pixels of the distance between the two means of
        their bin.
    """

    table: pd.DataFrame
    error: float


def reliability(
    predicted: np.ndarray, observed: np.ndarray, where: Literal["disputed", "all"] = "disputed"
) -> Reliability:
    """Compare predicted agreement maps with the annotators' own, in ten bins of equal width.

    Parameters
    ----------
    predicted : array_like of float in [0, 1]
        Predicted share of the annotators who mark each pixel. A value on the edge of two bins
        belongs to the upper one.
    observed : array_like of float in [0, 1], same shape
        Share of them who did.
    where : {"disputed", "all"}
        Which pixels count: those that an annotator marked or whose prediction is at least 0.01, or
        all. Counting all makes any map of a small structure well calibrated, by its background.

    Raises
    ------
    ValueError
        If shapes differ, values are NaN or not within [0, 1], or no pixel counts.
    """
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    if predicted.shape != observed.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {observed.shape}")
    for name, values in (("predicted", predicted), ("observed", observed)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} shares are not all within [0, 1]")
    if where not in ("disputed", "all"):
        raise ValueError(f"where is 'disputed' or 'all', not {where!r}")
    counted = (predicted >= DISPUTED) | (observed > 0) | (where == "all")
    if not counted.any():
        raise ValueError("no pixel counts: nobody marked any, and none is predicted")
    predicted, observed = predicted[counted], observed[counted]
    edges = np.linspace(0, 1, _BINS + 1)
    # Rounding must not take a share such as 0.3 out of the bin that begins there.
    bins = (np.searchsorted(edges, predicted + 1e-9, side="right") - 1).clip(0, _BINS - 1)
    n = np.bincount(bins, minlength=_BINS)
    filled = n > 0
    means = [np.bincount(bins, v, _BINS)[filled] / n[filled] for v in (predicted, observed)]
    columns = {"low": edges[:-1][filled], "high": edges[1:][filled], "n": n[filled]}
    table = pd.DataFrame(columns | dict(zip(("predicted", "observed"), means, strict=True)))
    return Reliability(table, float(np.average(np.abs(means[0] - means[1]), weights=n[filled])))


CONSENSUS, VOTE = "consensus", "mean_vote"
KINDS = {"soft": SOFT_THRESHOLDS, "hard": (0.5,)}
#: How the share of annotators follows from predicted levels, with the suffix of its scores.
MAPS = {"expectation": "", "argmax": "_argmax"}


class PreferenceScorer:
    """Compares predictions, which come in batches, with each annotator and their mean vote.

    The mean vote is the share of the annotators (Guo et al. 2022).
    """

    def __init__(self, dataset: MultiAnnotatorSet):
        self.dataset = dataset
        self._sums: dict[tuple[str, str], pd.DataFrame] = {}
        self._shares: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, batch: Prediction) -> None:
        """Score some images."""
        some = batch.images_of(self.dataset)
        counts = _label_counts(some)
        for number, (name, classes) in enumerate(some.structures.items()):
            columns, models = list(classes), [CONSENSUS]
            consensus = batch.consensus[:, columns].sum(axis=1)
            maps = consensus[None]
            if batch.maps is not None:
                models = list(batch.annotators)
                maps = np.moveaxis(batch.maps[:, :, columns].sum(axis=2), 1, 0)
            for kind, levels in KINDS.items():
                sums = (dice_matrix(maps, some, name, models, levels) * counts).fillna(0.0)
                self._sums[name, kind] = sums + self._sums.get((name, kind), 0.0)
            shares = {"expectation": consensus}
            if batch.levels is not None:
                predicted, n = batch.levels[:, number], batch.levels.shape[2] - 1
                steps = np.arange(n + 1)[:, None, None]
                shares = {"expectation": (predicted * steps).sum(axis=1) / n}
                shares["argmax"] = predicted.argmax(axis=1) / n
            for how, values in shares.items():
                self._shares.setdefault((name, how), []).append(values.astype(np.float32))

    def matrices(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Return, by structure and kind of Dice, the agreement of each prediction with each label.

        Rows are the annotators who are predicted (``consensus`` of a method that does not model
        them), columns those who labelled, and their mean vote.
        """
        counts = _label_counts(self.dataset)
        means = {key: sums / counts.where(counts > 0) for key, sums in self._sums.items()}
        return {name: {kind: means[name, kind] for kind in KINDS} for name, _ in means}

    def result(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the scores of all images, and the tables behind them, ready for JSON.

        Scores: for each structure, and the mean over structures under the bare name,

        - ``average``: soft Dice of the prediction of each annotator with that annotator, the mean
          over annotators; ``average_hard``;
        - ``mean_voting``: soft Dice of the consensus with the share of annotators;
          ``mean_voting_argmax`` where a method gives the most probable agreement class;
        - ``calibration_error`` and ``calibration_error_argmax``, expected, over disputed pixels;
        - of methods that model annotators: ``own_best``, the share of annotators with whom their
          own prediction agrees better than with anybody else; ``own_code_best``, the share of
          those to whom their own prediction is the nearest; ``swap_gain``, the mean over pairs of
          the gain in soft Dice with an annotator when another's code is exchanged for the own one.
        """
        matrices, tables = self.matrices(), {}
        rows = {name: _preferences(**kinds) for name, kinds in matrices.items()}
        for (name, how), batches in self._shares.items():
            predicted, observed = np.concatenate(batches), self.dataset.mean_map(name)
            if ((predicted >= DISPUTED) | (observed > 0)).any():
                measured = reliability(predicted.clip(0, 1), observed)
                table = measured.table.round(6).to_dict("list") | {"error": measured.error}
                tables.setdefault(name, {})[how] = table
                rows[name][f"calibration_error{MAPS[how]}"] = measured.error
            maps = predicted[None].astype(float)
            table = dice_matrix(maps, self.dataset, name, [CONSENSUS], SOFT_THRESHOLDS)
            rows[name][f"mean_voting{MAPS[how]}"] = table.loc[CONSENSUS, VOTE]
        scores = {name: float(value) for name, value in pd.DataFrame(rows).mean(axis=1).items()}
        if len(rows) > 1:
            scores |= {f"{key}_{name}": v for name, row in rows.items() for key, v in row.items()}
        facts = {
            name: {kind: table.round(6).to_numpy().tolist() for kind, table in kinds.items()}
            for name, kinds in matrices.items()
        }
        return scores, {"dice_matrices": facts, "reliability": tables}


def _label_counts(dataset: MultiAnnotatorSet) -> pd.Series:
    """Count the images that each annotator labelled, and all of them."""
    return pd.concat([dataset.counts, pd.Series({VOTE: len(dataset)})])


def _preferences(soft: pd.DataFrame, hard: pd.DataFrame) -> dict[str, float]:
    """Summarise one structure's matrices."""
    scores = {}
    for name, table in (("average", soft), ("average_hard", hard)):
        values = table.drop(columns=VOTE).to_numpy()
        scores[name] = float(np.nanmean(values[0] if len(values) == 1 else values.diagonal()))
    known = [name for name in soft.drop(columns=VOTE).dropna(axis=1) if name in soft.index]
    if len(known) < 2:
        return scores
    square = soft.loc[known, known].to_numpy()
    diagonal, same = square.diagonal(), np.eye(len(known), dtype=bool)
    others = np.where(same, -np.inf, square)
    scores["own_best"] = float((diagonal > others.max(axis=1)).mean())
    scores["own_code_best"] = float((diagonal > others.max(axis=0)).mean())
    scores["swap_gain"] = float((diagonal[None, :] - square)[~same].mean())
    return scores
