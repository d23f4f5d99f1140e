"""Heads on frozen features, fitted in seconds, with the regularisation chosen by cross-validation.

Every kind computes a path: the same head for each value of a grid of regularisation, together where
that is cheaper. The value is chosen by cross-validation within the training split in which no
group (patient) is divided.

A linear head of a network can begin where such a fit ends. A head that begins at random sends noise
through the backbone for as long as it takes to learn what a regression on the features finds at
once, and so spoils what the backbone knew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import Tensor, nn

from iavlib.core.errors import TrainingError

FOLDS = 5
HIDDEN, DROPOUT, BATCH = 64, 0.5, 64
RATE, DECAY = 1e-3, 1e-2
#: Networks whose mean predicts; they differ in where they start and in what they drop. While the
#: number of epochs is being chosen, one is enough.
MEMBERS = 3

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Probe:
    """A head on frozen features.

    Attributes
    ----------
    kind : str
    chosen : dict
        What the inner cross-validation chose.
    inner : pandas.DataFrame
        One row per value tried: the value, and its error in the inner cross-validation (mean
        absolute error; log loss of ``logistic``).
    """

    kind: str
    chosen: dict[str, float]
    inner: pd.DataFrame
    _scale: StandardScaler = field(repr=False)
    _predict: Predict = field(repr=False)

    def predict(self, features) -> np.ndarray:
        """Predict the target, not clamped, or the probability of class 1.

        Parameters
        ----------
        features : array_like of float, shape (n, k)

        Returns
        -------
        numpy.ndarray of float, shape (n,)
        """
        return self._predict(self._scale.transform(np.asarray(features, float)))


def fit_probe(kind: str, features, target, groups, seed: int = 0) -> Probe:
    """Fit a head to the training split.

    Parameters
    ----------
    kind : {"ridge", "svr", "network", "logistic"}
        ``ridge``: linear, squared error. ``svr``: support vectors with a Gaussian kernel,
        absolute error beyond .02. ``network``: one hidden layer with much dropout, absolute
        error, mean of three. ``logistic``: logistic regression with balanced classes.
    features : array_like of float, shape (n, k)
        Standardised here, by the training images of each fold.
    target : array_like, shape (n,)
        Numbers, or 0 and 1 for ``logistic``.
    groups : array_like, shape (n,)
        The patient of each image.
    seed : int
        Of the inner folds, and of the network's start, dropout and batches.

    Returns
    -------
    Probe

    Raises
    ------
    TrainingError
        If the kind is unknown, numbers of rows differ, a value is missing, a class is, or there
        are fewer than two groups.
    """
    features, target, groups = np.asarray(features, float), np.asarray(target), np.asarray(groups)
    _check(kind, features, target, groups)
    path, grid, error = _KINDS[kind]
    target = target.astype(float)
    errors, seen = np.zeros(len(grid)), 0
    for inside, outside in _inner_folds(kind, target, groups, seed):
        scale = StandardScaler().fit(features[inside])
        heads = path(scale.transform(features[inside]), target[inside], grid, seed)
        held_out = scale.transform(features[outside])
        errors += [error(head(held_out), target[outside]).sum() for head in heads]
        seen += len(outside)
    best = grid[int(np.argmin(errors))]
    scale = StandardScaler().fit(features)
    (head,) = path(scale.transform(features), target, [best], seed)
    return Probe(kind, dict(best), pd.DataFrame(grid).assign(error=errors / seen), scale, head)


def _inner_folds(kind: str, target, groups, seed: int):
    folds, splitter = min(FOLDS, len(pd.unique(groups))), GroupKFold
    if kind == "logistic":
        folds = min(folds, max(int(np.bincount(target.astype(int)).min()), 2))
        splitter = StratifiedGroupKFold
    split = splitter(folds, shuffle=True, random_state=seed).split(groups, target, groups)
    split = [(a, b) for a, b in split if kind != "logistic" or len(np.unique(target[a])) == 2]
    if not split:
        raise TrainingError("no inner fold has both classes: give more patients of each")
    return split


def _check(kind: str, features, target, groups) -> None:
    if kind not in _KINDS:
        raise TrainingError(f"there is no probe {kind!r}; known: {', '.join(_KINDS)}")
    if features.ndim != 2 or not len(features) == len(target) == len(groups):
        given = f"features {features.shape}, {len(target)} targets and {len(groups)} groups"
        raise TrainingError(f"{given} do not belong together")
    bad = ~np.isfinite(features).all(1) | pd.isna(target)
    if bad.any():
        rows = ", ".join(map(str, np.flatnonzero(bad)[:5]))
        raise TrainingError(f"{bad.sum()} rows have a missing feature or target: rows {rows}")
    if pd.isna(groups).any():
        raise TrainingError("a group is missing: an image without a patient is its own group")
    if len(pd.unique(groups)) < 2:
        raise TrainingError("the inner cross-validation needs two groups or more")
    if kind == "logistic" and set(np.unique(target)) != {0, 1}:
        raise TrainingError(f"logistic takes classes 0 and 1, both, not {np.unique(target)[:5]}")


def ridge_path(features, target, grid: Sequence[dict], seed: int) -> list[Predict]:
    """Ridge regressions for many penalties from one eigendecomposition of the rows' products."""
    mean = target.mean()
    values, vectors = eigh(features @ features.T)
    rotated = vectors.T @ (target - mean)
    penalties = np.array([each["alpha"] for each in grid])
    dual = vectors @ (rotated[:, None] / (np.maximum(values, 0)[:, None] + penalties))
    weights = features.T @ dual
    return [lambda x, w=w: x @ w + mean for w in weights.T]


def svr_path(features, target, grid: Sequence[dict], seed: int) -> list[Predict]:
    """Support vector regressions; the kernel is computed once for each of its widths."""
    # Features are standardised: a gamma of 1 here is scikit-learn's "scale".
    widths = {each["gamma"]: each["gamma"] / features.shape[1] for each in grid}
    kernels = {gamma: rbf_kernel(features, gamma=width) for gamma, width in widths.items()}

    def fit(gamma: float, **options) -> Predict:
        model = SVR(kernel="precomputed", **options).fit(kernels[gamma], target)
        return lambda x: model.predict(rbf_kernel(x, features, gamma=widths[gamma]))

    return [fit(**each) for each in grid]


def logistic_path(features, target, grid: Sequence[dict], seed: int) -> list[Predict]:
    """Logistic regressions with balanced classes."""

    models = [_logistic(features, target, **each) for each in grid]
    return [lambda x, model=model: model.predict_proba(x)[:, 1] for model in models]


def _logistic(features, target, C: float) -> LogisticRegression:
    return LogisticRegression(C=C, class_weight="balanced", max_iter=1000).fit(features, target)


def network_path(
    features: np.ndarray, target: np.ndarray, grid: Sequence[dict], seed: int
) -> list[Predict]:
    """Small networks trained by absolute error, as they were after some numbers of epochs.

    Absolute error rather than squared: the median is predicted, and agreement has a long tail
    towards 0.
    """
    x = torch.from_numpy(features.astype(np.float32))
    y = torch.from_numpy(target.astype(np.float32))
    epochs = [each["epochs"] for each in grid]
    count = MEMBERS if len(epochs) == 1 else 1
    with torch.random.fork_rng(devices=[]):
        members = [_train(x, y, set(epochs), 1000 * seed + i) for i in range(count)]

    def mean_after(n: int) -> Predict:
        def predict(some: np.ndarray) -> np.ndarray:
            given, total = torch.from_numpy(some.astype(np.float32)), 0.0
            net = _build(some.shape[1]).eval()
            with torch.inference_mode():
                for member in members:
                    net.load_state_dict(member[n])
                    total = total + net(given)[:, 0].numpy().astype(float)
            return total / len(members)

        return predict

    return [mean_after(n) for n in epochs]


def _train(x: Tensor, y: Tensor, kept: set[int], seed: int) -> dict[int, dict[str, Tensor]]:
    torch.default_generator.manual_seed(seed)
    net = _build(x.shape[1])
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.fill_(float(y.median()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    states = {}
    for epoch in range(1, max(kept) + 1):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            (net(x[rows])[:, 0] - y[rows]).abs().mean().backward()
            optimizer.step()
        if epoch in kept:
            states[epoch] = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return states


def _build(n_features: int) -> nn.Sequential:
    hidden = [nn.Dropout(DROPOUT), nn.Linear(n_features, HIDDEN), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1))


def _absolute(predicted, true) -> np.ndarray:
    return np.abs(predicted - true)


def _log_loss(predicted, true) -> np.ndarray:
    return -np.log(np.clip(np.where(true == 1, predicted, 1 - predicted), 1e-12, 1))


_RIDGE = [{"alpha": float(alpha)} for alpha in np.logspace(1, 5, 17)]
_SVR = [{"C": C, "gamma": gamma, "epsilon": 0.02} for gamma in (0.1, 0.3) for C in (0.1, 0.3, 1.0)]
_NETWORK = [{"epochs": epochs} for epochs in (3, 6, 9, 12, 16)]
_LOGISTIC = [{"C": C} for C in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)]
_KINDS = {
    "ridge": (ridge_path, _RIDGE, _absolute),
    "svr": (svr_path, _SVR, _absolute),
    "network": (network_path, _NETWORK, _absolute),
    "logistic": (logistic_path, _LOGISTIC, _log_loss),
}


def fit_linear_head(
    head: nn.Module, kind: str, features: np.ndarray, target: np.ndarray, groups, seed: int = 0
) -> dict[str, float]:
    """Set the weights of a linear head to those of a probe; see :func:`fit_probe`.

    Parameters
    ----------
    head : torch.nn.Module
        One linear layer, and a dropout perhaps; two outputs for ``logistic``, one for ``ridge``.
    kind : {"logistic", "ridge"}
    features : numpy.ndarray of float, shape (n, k)
        Of the training split.
    target : numpy.ndarray, shape (n,)
        Missing values are left out.
    groups : array_like, shape (n,)
        The patient of each image.
    seed : int
        Of the inner folds by which the regularisation is chosen.

    Returns
    -------
    dict of str to float
        What was chosen.

    Raises
    ------
    TrainingError
        If the head is another, or as :func:`fit_probe`.
    """
    outputs = {"logistic": 2, "ridge": 1}[kind]
    layers = [module for module in head.modules() if any(True for _ in module.parameters(False))]
    linear = len(layers) == 1 and isinstance(layers[0], nn.Linear)
    if not linear or layers[0].out_features != outputs:
        raise TrainingError(f"only a linear head of {outputs} outputs begins with a {kind} fit")
    known = np.isfinite(np.asarray(target, float))
    features, target = np.asarray(features, float)[known], np.asarray(target)[known]
    probe = fit_probe(kind, features, target, np.asarray(groups)[known], seed)
    if kind == "ridge":  # coefficients for features as they are, not standardised
        bias = float(probe.predict(np.zeros((1, features.shape[1])))[0])
        slope, shares = probe.predict(np.eye(features.shape[1])) - bias, (1.0,)
    else:  # fitted once more, since coefficients from probabilities would be too imprecise
        scale = StandardScaler().fit(features)
        model = _logistic(scale.transform(features), target, probe.chosen["C"])
        slope, shares = model.coef_[0] / scale.scale_, (-0.5, 0.5)  # logits differ by the whole
        bias = float(model.intercept_[0] - slope @ scale.mean_)
    share = torch.tensor(shares, dtype=torch.float64)
    with torch.no_grad():
        layers[0].weight.copy_(share[:, None] * torch.from_numpy(slope)[None, :])
        layers[0].bias.copy_(share * bias)
    return dict(probe.chosen)
