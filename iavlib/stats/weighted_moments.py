"""Means, covariances and ranks of rows with frequency weights, many weight vectors at once.

All take weights of shape (b, n), none negative: replicate `b` is the sample in which row `i` is
there `weights[b, i]` times. They are the inside of bootstrapped statistics, and take their
arguments as checked.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "varies",
    "weighted_correlation",
    "weighted_mean",
    "weighted_ranks",
    "weighted_second_moments",
]


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of values (n,) or of several columns of them (n, k), for each replicate."""
    return weights @ values / weights.sum(axis=-1)


def weighted_second_moments(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Weighted variances and covariance; `x` and `y` are (1, n), or (b, n) as the weights."""
    total = weights.sum(axis=-1, keepdims=True)
    dx = x - (weights * x).sum(axis=-1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=-1, keepdims=True) / total
    total = total[..., 0]
    return tuple((weights * a * b).sum(axis=-1) / total for a, b in ((dx, dx), (dy, dy), (dx, dy)))


def weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation of each replicate; NaN where one of both is constant."""
    var_x, var_y, both = weighted_second_moments(x, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(both / np.sqrt(var_x * var_y), -1, 1)
    return np.where(varies(var_x, x) & varies(var_y, y), r, np.nan)


def varies(variance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Tell variances from what rounding leaves of constant values."""
    return variance > (1e-12 * max(float(np.abs(values).max()), 1e-300)) ** 2


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks of rows that are there as often as their weight, shape (b, n)."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(inverse[order]) > 0])
    at_value = np.add.reduceat(weights[:, order], starts, axis=1)
    below = np.cumsum(at_value, axis=1) - at_value
    return (below + (at_value + 1) / 2)[:, inverse]
