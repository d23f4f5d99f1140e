"""Linear heads that begin where a fit to frozen features ends.

A head that begins at random sends noise through the backbone for as long as it takes to learn what
a regression on the features finds at once, and so spoils what the backbone knew.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from iavlib.training.errors import TrainingError
from iavlib.training.probe import fit_probe, linear_coefficients


def fit_linear_head(
    head: nn.Module, kind: str, features: np.ndarray, target: np.ndarray, groups, seed: int = 0
) -> dict[str, float]:
    """Give a linear head the weights of a probe; see :func:`iavlib.training.probe.fit_probe`.

    Parameters
    ----------
    head : torch.nn.Module
        One linear layer, and a dropout perhaps; two outputs for ``logistic``, one for ``ridge``.
    kind : {"logistic", "ridge"}
    features : numpy.ndarray of float, shape (n, k)
        Of the training part.
    target : numpy.ndarray, shape (n,)
        Missing values are left out.
    groups : array_like, shape (n,)
        The patient of each image.
    seed : int
        Of the inner folds that choose how strongly weights are held back.

    Returns
    -------
    dict of str to float
        What was chosen.

    Raises
    ------
    TrainingError
        If the head is another, or as :func:`~iavlib.training.probe.fit_probe`.
    """
    outputs = {"logistic": 2, "ridge": 1}[kind]
    weighty = [part for part in head.modules() if any(True for _ in part.parameters(False))]
    layer = weighty[0] if len(weighty) == 1 else None
    if not isinstance(layer, nn.Linear) or layer.out_features != outputs:
        raise TrainingError(f"only a linear head of {outputs} outputs begins with a {kind} fit")
    known = np.isfinite(np.asarray(target, float))
    features, target = np.asarray(features, float)[known], np.asarray(target)[known]
    probe = fit_probe(kind, features, target, np.asarray(groups)[known], seed)
    if kind == "ridge":
        _fill(layer, (1.0,), *linear_coefficients(probe, features.shape[1]))
    else:
        _fill(layer, (-0.5, 0.5), *_logistic_coefficients(features, target, probe.chosen["C"]))
    return dict(probe.chosen)


def _logistic_coefficients(features, target, strength: float) -> tuple[np.ndarray, float]:
    """Fit the logistic probe once more: probabilities would tell its coefficients too roughly."""
    scale = StandardScaler().fit(features)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    model.fit(scale.transform(features), target)
    slope = model.coef_[0] / scale.scale_
    return slope, float(model.intercept_[0] - slope @ scale.mean_)


@torch.no_grad()
def _fill(layer: nn.Linear, shares: Sequence[float], slope: np.ndarray, bias: float) -> None:
    """Write the same direction into each output, in shares: two logits differ by the whole."""
    share = torch.tensor(shares, dtype=torch.float64)
    layer.weight.copy_(share[:, None] * torch.from_numpy(slope)[None, :])
    layer.bias.copy_(share * bias)
