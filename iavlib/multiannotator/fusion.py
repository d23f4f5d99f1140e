"""One label map out of several annotators', as probabilities of classes to learn from.

Each picture is fused by itself, from the annotators it has; where it has one, fusing gives that
one's label. STAPLE knows two classes: with more, each foreground class is fused against all
others, and what remains is background; probabilities are divided by their sum where that exceeds
one. A pixel to which STAPLE gives no probability (0 / 0) takes the share of the votes.

Fusion by expectation-maximisation over all images, in the manner of AggNet.

AggNet (Albarqouni et al. 2016) alternates between what raters' errors imply of the truth and what
the implied truth implies of raters' errors, with a network's prediction as one voice more. Here
the network is optional: without it every pixel's prior is the share of lesion in its image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iavlib.core.errors import DiagnosisFirstError, MethodError, suggest
from iavlib.masks.consensus import spatial_staple, staple
from iavlib.multiannotator.cohort_sets import majority_labels
from iavlib.multiannotator.dataset import MultiAnnotatorSet


def fuse(labelled: MultiAnnotatorSet, how: str) -> np.ndarray:
    """Fuse the labels of each picture's annotators.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
    how : {"mean", "mode", "staple", "spatial-staple"}
        Share of annotators; the class most of them chose (ties as
        :func:`iavlib.multiannotator.majority_labels`); STAPLE, whose annotators have one sensitivity
        and one specificity a picture; or a field of each.

    Returns
    -------
    numpy.ndarray of float32, shape (n, classes, height, width)
        Summing to 1 over classes.

    Raises
    ------
    MethodError
        If there is no such fusion.
    """
    if how not in FUSIONS:
        raise MethodError(f"there is no fusion {how!r}; {suggest(how, FUSIONS)}")
    return FUSIONS[how](labelled).astype(np.float32)


def fused_confusion(labelled: MultiAnnotatorSet, fused: np.ndarray) -> np.ndarray:
    """Return how annotators confuse the classes if fused probabilities are the truth.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
    fused : numpy.ndarray, shape (n, classes, height, width)

    Returns
    -------
    numpy.ndarray of float, shape (annotators, classes, classes)
        ``[label, truth]``; of STAPLE's probabilities these are its specificities and
        sensitivities, pooled over pictures. NaN for a class without probability, and for an
        annotator without labels.
    """
    counts = np.zeros((len(labelled.annotators), labelled.n_classes, labelled.n_classes))
    for given in range(labelled.n_classes):
        drawn = (labelled.labels == given).astype(np.float32)
        counts[:, given] = np.einsum("nrhw,nchw->rc", drawn, fused, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1e-12), np.nan)


def posterior_classes(prior: np.ndarray, confusion: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Multiply what a network expects by what each annotator's label tells (product of experts).

    Parameters
    ----------
    prior : numpy.ndarray, shape (classes, height, width)
    confusion : numpy.ndarray, shape (annotators, classes, classes, height or 1, width or 1)
        ``[label, truth]``.
    labels : numpy.ndarray of int, shape (annotators, height, width)
        Missing where -1.

    Returns
    -------
    numpy.ndarray of float, shape (classes, height, width)
        Proportional to the prior times, for each label k that was given, the row ``A[k, :]`` of
        its annotator; summing to 1.
    """
    logs = np.log(np.maximum(prior, 1e-12)).astype(float)
    for matrix, label in zip(confusion, labels, strict=True):
        if label[0, 0] >= 0:
            matrix = np.broadcast_to(matrix, (*matrix.shape[:2], *label.shape))
            row = np.take_along_axis(matrix, label[None, None].astype(np.int64), axis=0)[0]
            logs += np.log(np.maximum(row, 1e-12))
    odds = np.exp(logs - logs.max(axis=0))
    return odds / odds.sum(axis=0)


def _mean(labelled: MultiAnnotatorSet) -> np.ndarray:
    n_given = (~labelled.missing).sum(axis=1)[:, None, None]
    shares = [(labelled.labels == one).sum(axis=1) / n_given for one in range(labelled.n_classes)]
    return np.stack(shares, axis=1)


def _mode(labelled: MultiAnnotatorSet) -> np.ndarray:
    voted = majority_labels(labelled)
    return np.stack([voted == one for one in range(labelled.n_classes)], axis=1)


def _by_staple(labelled: MultiAnnotatorSet, estimate: Callable) -> np.ndarray:
    """Fuse each picture and foreground class by an estimate with a ``probability``."""
    fused = np.zeros((len(labelled), labelled.n_classes, *labelled.labels.shape[2:]))
    for number, (labels, missing) in enumerate(zip(labelled.labels, labelled.missing, strict=True)):
        given = labels[~missing]
        for one in range(1, labelled.n_classes):
            masks = given == one
            if len(masks) == 1:
                fused[number, one] = masks[0]
                continue
            probability = estimate(masks).probability
            votes = masks.mean(axis=0)
            fused[number, one] = np.where(np.isfinite(probability), probability, votes)
    fused /= np.maximum(fused.sum(axis=1, keepdims=True), 1)
    fused[:, 0] = np.maximum(0, 1 - fused[:, 1:].sum(axis=1))
    return fused


def _staple(labelled: MultiAnnotatorSet) -> np.ndarray:
    return _by_staple(labelled, staple)


def _spatial_staple(labelled: MultiAnnotatorSet) -> np.ndarray:
    return _by_staple(labelled, spatial_staple)


FUSIONS: dict[str, Callable[[MultiAnnotatorSet], np.ndarray]] = {
    "mean": _mean,
    "mode": _mode,
    "staple": _staple,
    "spatial-staple": _spatial_staple,
}


_SURE = 0.98


def expectation_maximisation(
    labelled: MultiAnnotatorSet,
    prior: np.ndarray | None = None,
    rounds: int = 20,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """Fuse the labels of a set.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
        Each rater has one confusion matrix over the whole set.
    prior : numpy.ndarray, shape (n, classes, height, width), optional
        What a network predicts of the images.
    rounds : int
        At most.
    tolerance : float
        It ends when no rater's matrix changes by more.

    Returns
    -------
    numpy.ndarray of float32, shape (n, classes, height, width)

    Raises
    ------
    DiagnosisFirstError
        If the prior has another shape.
    """
    fused = fuse(labelled, "mean")
    if prior is not None and prior.shape != fused.shape:
        raise DiagnosisFirstError(f"a prior of shape {prior.shape}: give {fused.shape}")
    # The share of lesion in an image, the same in all its pixels.
    plain = np.broadcast_to(fused.mean((2, 3), keepdims=True), fused.shape)
    prior = np.clip(plain if prior is None else prior, 1 - _SURE, _SURE)
    before = None
    for _ in range(rounds):
        matrices = np.nan_to_num(fused_confusion(labelled, fused), nan=1 / labelled.n_classes)
        if before is not None and np.abs(matrices - before).max() < tolerance:
            break
        before = matrices
        confusion = matrices[..., None, None]
        lots = zip(prior, labelled.labels, strict=True)
        fused = np.stack([posterior_classes(one, confusion, labels) for one, labels in lots])
    return fused.astype(np.float32)
