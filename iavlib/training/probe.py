"""Heads on frozen features, fitted in seconds; how strongly they are held back is chosen inside.

Every kind gives a path: the same head for each value of what holds it back, computed together
where that is cheaper. Which value is used is decided by cross-validation within the training part
in which no group (patient) is torn apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from iavlib.training.errors import TrainingError
from iavlib.training.probe_network import network_path

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
