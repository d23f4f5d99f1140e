"""Fusion by expectation-maximisation over all images, in the manner of AggNet.

AggNet (Albarqouni et al. 2016) alternates between what raters' errors imply of the truth and what
the implied truth implies of raters' errors, with a network's prediction as one voice more. Here
the network is optional: without it every pixel's prior is the share of lesion in its image.
"""

import numpy as np

from iavlib.annotators import MultiAnnotatorSet
from iavlib.diagnosis_first.errors import DiagnosisFirstError
from iavlib.multiannotator.fusion import fuse, fused_confusion, posterior_classes

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
