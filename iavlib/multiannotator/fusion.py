"""One label map out of several annotators', as probabilities of classes to learn from.

Each image is fused by itself, from the annotators it has; where it has one, fusing returns that
annotator's label. STAPLE is defined for two classes: with more, each foreground class is fused
against all others, and what remains is background; probabilities are divided by their sum where
that exceeds one. A pixel to which STAPLE gives no probability (0 / 0) takes the share of the votes.

Expectation-maximisation fuses a whole set at once, in the manner of AggNet (Albarqouni et al.
2016): it alternates between what annotators' errors imply of the truth and what the implied truth
implies of annotators' errors. AggNet has a network's prediction as one more vote; here every
pixel's prior is the share of each class in its image.
"""

from collections.abc import Callable

import numpy as np

from iavlib.core.errors import MethodError, suggest
from iavlib.masks.consensus import spatial_staple, staple
from iavlib.multiannotator.dataset import MultiAnnotatorSet


def fuse(dataset: MultiAnnotatorSet, how: str) -> np.ndarray:
    """Fuse the labels of each image's annotators.

    Parameters
    ----------
    dataset : MultiAnnotatorSet
    how : {"mean", "mode", "staple", "spatial-staple"}
        Share of annotators; the class most of them chose (ties as :func:`majority_labels`);
        STAPLE, with one sensitivity and one specificity per annotator and image; or with a field
        of each.

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
    return FUSIONS[how](dataset).astype(np.float32)


def majority_labels(dataset: MultiAnnotatorSet) -> np.ndarray:
    """Return the class most annotators chose, in each pixel.

    With two classes a tie is foreground, as everywhere in this package; with more, the lowest
    foreground class among the most voted.

    Returns
    -------
    numpy.ndarray of int8, shape (n, height, width)
    """
    classes = np.array([*range(1, dataset.n_classes), 0], np.int8)
    votes = np.stack([(dataset.labels == number).sum(axis=1) for number in classes])
    return classes[votes.argmax(axis=0)]


def cup_to_disc_ratio(disc: np.ndarray, cup: np.ndarray) -> np.ndarray:
    """Return the vertical cup-to-disc ratio (vCDR), by which glaucoma is suspected.

    Parameters
    ----------
    disc, cup : numpy.ndarray of bool, shape (n, height, width)

    Returns
    -------
    numpy.ndarray of float, shape (n,)
        Rows from the first to the last of the cup over those of the disc; NaN without a disc, 0
        without a cup.
    """
    heights = []
    for masks in (cup, disc):
        rows = masks.any(axis=2)
        last = rows.shape[1] - rows[:, ::-1].argmax(axis=1)
        heights.append(np.where(rows.any(axis=1), last - rows.argmax(axis=1), 0))
    return np.where(heights[1] > 0, heights[0] / np.maximum(heights[1], 1), np.nan)


def fused_confusion(dataset: MultiAnnotatorSet, fused: np.ndarray) -> np.ndarray:
    """Return how annotators confuse the classes if fused probabilities are the truth.

    Parameters
    ----------
    dataset : MultiAnnotatorSet
    fused : numpy.ndarray, shape (n, classes, height, width)

    Returns
    -------
    numpy.ndarray of float, shape (annotators, classes, classes)
        ``[label, truth]``; of STAPLE's probabilities these are its specificities and
        sensitivities, pooled over images. NaN for a class without probability, and for an
        annotator without labels.
    """
    counts = np.zeros((len(dataset.annotators), dataset.n_classes, dataset.n_classes))
    for label in range(dataset.n_classes):
        drawn = (dataset.labels == label).astype(np.float32)
        counts[:, label] = np.einsum("nrhw,nchw->rc", drawn, fused, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1e-12), np.nan)


def posterior_classes(prior: np.ndarray, confusion: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Multiply a network's prediction by the evidence of each label (a product of experts).

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


def _mean(dataset: MultiAnnotatorSet) -> np.ndarray:
    n_given = (~dataset.missing).sum(axis=1)[:, None, None]
    classes = range(dataset.n_classes)
    return np.stack([(dataset.labels == k).sum(axis=1) / n_given for k in classes], axis=1)


def _mode(dataset: MultiAnnotatorSet) -> np.ndarray:
    majority = majority_labels(dataset)
    return np.stack([majority == k for k in range(dataset.n_classes)], axis=1)


def _by_staple(dataset: MultiAnnotatorSet, estimate: Callable) -> np.ndarray:
    """Fuse each image and foreground class by an estimate with a ``probability``."""
    fused = np.zeros((len(dataset), dataset.n_classes, *dataset.labels.shape[2:]))
    for row, (labels, missing) in enumerate(zip(dataset.labels, dataset.missing, strict=True)):
        for number in range(1, dataset.n_classes):
            masks = labels[~missing] == number
            if len(masks) == 1:
                fused[row, number] = masks[0]
                continue
            probability = estimate(masks).probability
            fused[row, number] = np.where(np.isfinite(probability), probability, masks.mean(axis=0))
    fused /= np.maximum(fused.sum(axis=1, keepdims=True), 1)
    fused[:, 0] = np.maximum(0, 1 - fused[:, 1:].sum(axis=1))
    return fused


FUSIONS: dict[str, Callable[[MultiAnnotatorSet], np.ndarray]] = {
    "mean": _mean,
    "mode": _mode,
    "staple": lambda dataset: _by_staple(dataset, staple),
    "spatial-staple": lambda dataset: _by_staple(dataset, spatial_staple),
}

#: Priors are kept this far from certainty, so that labels can still change them.
_MAX_PRIOR = 0.98
_MAX_ROUNDS = 20
_TOLERANCE = 1e-4


def expectation_maximisation(dataset: MultiAnnotatorSet) -> np.ndarray:
    """Fuse the labels of a set; each annotator has one confusion matrix over the whole set.

    It ends after 20 rounds, or when no element of a matrix changes by 1e-4 or more.

    Returns
    -------
    numpy.ndarray of float32, shape (n, classes, height, width)
    """
    fused = fuse(dataset, "mean")
    # The share of each class in an image, the same in all its pixels.
    prior = np.broadcast_to(fused.mean((2, 3), keepdims=True), fused.shape)
    prior = np.clip(prior, 1 - _MAX_PRIOR, _MAX_PRIOR)
    previous = None
    for _ in range(_MAX_ROUNDS):
        matrices = np.nan_to_num(fused_confusion(dataset, fused), nan=1 / dataset.n_classes)
        if previous is not None and np.abs(matrices - previous).max() < _TOLERANCE:
            break
        previous, confusion = matrices, matrices[..., None, None]
        pairs = zip(prior, dataset.labels, strict=True)
        fused = np.stack([posterior_classes(one, confusion, labels) for one, labels in pairs])
    return fused.astype(np.float32)
