"""Losses of a diagnosis written plainly in numpy: what the trained ones are tested against.

Logits have shape (n, K) with labels 0 to K - 1; with two classes label 1 is malignant. All return
the loss of each row unless they say otherwise. :mod:`iavlib.training.losses` has
the same in PyTorch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    r"""Minus the log probability of the label, :math:`-\log \mathrm{softmax}(z)_y`."""
    z = np.asarray(logits, dtype=float)
    top = z.max(axis=1, keepdims=True)
    norm = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
    return norm - z[np.arange(len(z)), np.asarray(labels)]


def weighted_cross_entropy(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> float:
    """Mean cross-entropy with class weights, divided by the weights of the rows there.

    So that the loss is a weighted mean; focal losses here are plain means instead.
    """
    w = np.asarray(weights, dtype=float)[np.asarray(labels)]
    return float((w * cross_entropy(logits, labels)).sum() / w.sum())


def focal_published(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike, gamma: float = 2.0
) -> np.ndarray:
    r"""Focal loss as the paper's code has it: the class weight is inside the exponent.

    With :math:`\mathrm{CE} = -\log p_y` the modulating factor is taken of the *weighted*
    cross-entropy,

    .. math::
        \ell = (1 - e^{-w_y \mathrm{CE}})^\gamma\, w_y \mathrm{CE}
             = (1 - p_y^{w_y})^\gamma\, w_y \mathrm{CE},

    so that a rare class (weight above 1) stays longer in sight when it is easy, and a frequent
    one (weight below 1) fades sooner. The batch's loss is the plain mean.
    """
    weighted = np.asarray(weights, dtype=float)[np.asarray(labels)] * cross_entropy(logits, labels)
    return (-np.expm1(-weighted)) ** gamma * weighted


def focal_textbook(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike, gamma: float = 2.0
) -> np.ndarray:
    r"""Focal loss of Lin et al., :math:`\ell = \alpha_y (1 - p_y)^\gamma\, \mathrm{CE}`.

    The batch's loss is the plain mean.

    References
    ----------
    Lin, T.-Y. et al. (2017). Focal loss for dense object detection. ICCV.
    """
    entropy = cross_entropy(logits, labels)
    alpha = np.asarray(weights, dtype=float)[np.asarray(labels)]
    return alpha * (-np.expm1(-entropy)) ** gamma * entropy


def multitask_sum(diagnosis: float, regression: float, alpha: float) -> float:
    r"""The paper's sum of two losses, :math:`\alpha L_D + (1 - \alpha) L_R` (its eq. 3)."""
    return alpha * diagnosis + (1 - alpha) * regression


def uncertainty_weighted(
    diagnosis: float, regression: float, log_variances: ArrayLike, half: bool = False
) -> float:
    r"""Two losses weighted by learned uncertainties :math:`s = \log \sigma^2` of both tasks.

    .. math::
        e^{-s_D} L_D + \tfrac12 s_D + c\, e^{-s_R} L_R + \tfrac12 s_R

    The first two terms are the authors' approximation of a softmax whose logits are divided by
    :math:`\sigma_D^2`; the last two the negative log-likelihood of a normal error, where c is 1/2
    for the squared error (`half`) and 1 for smooth L1, which within an error of 1 is half the
    squared error already.

    References
    ----------
    Kendall, A., Gal, Y. and Cipolla, R. (2018). Multi-task learning using uncertainty to weigh
    losses for scene geometry and semantics. CVPR, eq. 7 and 10.
    """
    s_diagnosis, s_regression = np.asarray(log_variances, dtype=float)
    factor = 0.5 if half else 1.0
    of_diagnosis = np.exp(-s_diagnosis) * diagnosis + s_diagnosis / 2
    return float(of_diagnosis + factor * np.exp(-s_regression) * regression + s_regression / 2)
