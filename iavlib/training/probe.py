"""Heads on frozen features, fitted in seconds; how strongly they are held back is chosen inside.

Every kind gives a path: the same head for each value of what holds it back, computed together
where that is cheaper. Which value is used is decided by cross-validation within the training part
in which no group (patient) is torn apart.

A small network on frozen features, whose number of epochs is what holds it back.

Linear heads that begin where a fit to frozen features ends.

A head that begins at random sends noise through the backbone for as long as it takes to learn what
a regression on the features finds at once, and so spoils what the backbone knew.
"""

from __future__ import annotations

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

HIDDEN, DROPOUT, BATCH = 64, 0.5, 64
RATE, DECAY = 1e-3, 1e-2
#: Networks whose mean predicts; they differ in where they start and in what they drop. While the
#: number of epochs is being chosen, one is enough.
MEMBERS = 3


def network_path(
    features: np.ndarray, target: np.ndarray, grid: Sequence[dict], seed: int
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Train small networks by absolute error, and keep them as they were after some epochs.

    Absolute error rather than squared: what is wanted is the median, and agreement has a long
    tail towards 0.

    Parameters
    ----------
    features : numpy.ndarray, shape (n, k)
        Standardised.
    target : numpy.ndarray, shape (n,)
    grid : sequence of dict
        Each with ``epochs``.
    seed : int

    Returns
    -------
    list of callable
        One for each number of epochs: from features, shape (m, k), to predictions, shape (m,).
    """
    x = torch.from_numpy(features.astype(np.float32))
    y = torch.from_numpy(target.astype(np.float32))
    wanted = [each["epochs"] for each in grid]
    count = MEMBERS if len(wanted) == 1 else 1
    with torch.random.fork_rng(devices=[]):
        members = [_train(x, y, set(wanted), 1000 * seed + i) for i in range(count)]
    return [
        lambda some, nets=tuple(member[epochs] for member in members): _mean(nets, some)
        for epochs in wanted
    ]


def _train(x: Tensor, y: Tensor, wanted: set[int], seed: int) -> dict[int, dict[str, Tensor]]:
    torch.default_generator.manual_seed(seed)
    net = _build(x.shape[1])
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.fill_(float(y.median()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    kept = {}
    for epoch in range(1, max(wanted) + 1):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            (net(x[rows])[:, 0] - y[rows]).abs().mean().backward()
            optimizer.step()
        if epoch in wanted:
            kept[epoch] = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return kept


def _build(n_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(n_features, HIDDEN),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, 1),
    )


def _mean(states: Sequence[dict[str, Tensor]], features: np.ndarray) -> np.ndarray:
    x, total = torch.from_numpy(features.astype(np.float32)), 0.0
    net = _build(features.shape[1]).eval()
    with torch.inference_mode():
        for state in states:
            net.load_state_dict(state)
            total = total + net(x)[:, 0].numpy().astype(float)
    return total / len(states)


FOLDS = 5
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


def fit_probe(kind: str, features, target, groups, seed: int = 0, folds: int = FOLDS) -> Probe:
    """Fit a head to the training part.

    Parameters
    ----------
    kind : {"ridge", "svr", "network", "logistic"}
        ``ridge``: linear, squared error. ``svr``: support vectors with a Gaussian kernel,
        absolute error beyond .02. ``network``: one hidden layer with much dropout, absolute
        error, mean of three. ``logistic``: logistic regression with balanced classes.
    features : array_like of float, shape (n, k)
        Standardised here, by the training part of each fold.
    target : array_like, shape (n,)
        Numbers, or 0 and 1 for ``logistic``.
    groups : array_like, shape (n,)
        The patient of each image.
    seed : int
        Of the inner folds, and of what the network draws.
    folds : int
        Inner folds; fewer where there are fewer groups.

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
    for inside, outside in _inner_folds(kind, target, groups, folds, seed):
        scale = StandardScaler().fit(features[inside])
        heads = path(scale.transform(features[inside]), target[inside], grid, seed)
        held = scale.transform(features[outside])
        errors += [error(head(held), target[outside]).sum() for head in heads]
        seen += len(outside)
    best = grid[int(np.argmin(errors))]
    scale = StandardScaler().fit(features)
    (head,) = path(scale.transform(features), target, [best], seed)
    inner = pd.DataFrame(grid).assign(error=errors / seen)
    return Probe(kind, dict(best), inner, scale, head)


def linear_coefficients(probe: Probe, n_features: int) -> tuple[np.ndarray, float]:
    """Return the weights and the bias of a ridge on features as they are, not standardised.

    Raises
    ------
    TrainingError
        If the head is not linear.
    """
    if probe.kind != "ridge":
        raise TrainingError(f"a {probe.kind!r} head has no coefficients; take 'ridge'")
    bias = float(probe.predict(np.zeros((1, n_features)))[0])
    return probe.predict(np.eye(n_features)) - bias, bias


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
    heads = []
    for each in grid:
        model = SVR(kernel="precomputed", C=each["C"], epsilon=each["epsilon"])
        model.fit(kernels[each["gamma"]], target)
        heads.append(
            lambda x, model=model, width=widths[each["gamma"]]: model.predict(
                rbf_kernel(x, features, gamma=width)
            )
        )
    return heads


def logistic_path(features, target, grid: Sequence[dict], seed: int) -> list[Predict]:
    """Logistic regressions with balanced classes."""
    heads = []
    for each in grid:
        model = LogisticRegression(C=each["C"], class_weight="balanced", max_iter=1000)
        model.fit(features, target)
        heads.append(lambda x, model=model: model.predict_proba(x)[:, 1])
    return heads


def _absolute(predicted, true) -> np.ndarray:
    return np.abs(predicted - true)


def _log_loss(predicted, true) -> np.ndarray:
    share = np.clip(np.where(true == 1, predicted, 1 - predicted), 1e-12, 1)
    return -np.log(share)


def _inner_folds(kind: str, target, groups, folds: int, seed: int):
    folds = min(folds, len(pd.unique(groups)))
    if kind == "logistic":
        smaller = int(np.bincount(target.astype(int)).min())
        splitter = StratifiedGroupKFold(
            min(folds, max(smaller, 2)), shuffle=True, random_state=seed
        )
    else:
        splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    split = list(splitter.split(groups, target, groups))
    if kind == "logistic":
        split = [(a, b) for a, b in split if len(np.unique(target[a])) == 2]
    if not split:
        raise TrainingError("no inner fold has both classes: give more patients of each")
    return split


def _check(kind: str, features, target, groups) -> None:
    if kind not in _KINDS:
        raise TrainingError(f"there is no probe {kind!r}; known: {', '.join(_KINDS)}")
    if features.ndim != 2 or not len(features) == len(target) == len(groups):
        raise TrainingError(
            f"features of shape {features.shape}, {len(target)} targets and {len(groups)} groups "
            "do not belong together"
        )
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
#: The kinds there are.
PROBES = tuple(_KINDS)


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
    weighty = [subset for subset in head.modules() if any(True for _ in subset.parameters(False))]
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
