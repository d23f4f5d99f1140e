"""What any model must beat: a constant, and a few statistics of the pixels.

A baseline is fitted on the training part alone, as a model is. The regularisation of the ridge is
chosen inside that part, by folds that divide no patient's images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.samples import check_aligned, cluster_codes, finite_values

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = [
    "RIDGE_PENALTIES",
    "StatisticsBaseline",
    "constant_baseline",
    "fit_statistics_baseline",
    "out_of_fold",
    "out_of_fold_constant",
    "out_of_fold_statistics",
]

Constant = Literal["median", "mean"]

#: Penalties tried for standardised features, weakest first.
RIDGE_PENALTIES = tuple(float(10**power) for power in np.arange(-2, 5.5, 0.5))

_CONSTANTS: dict[str, Callable] = {"median": np.median, "mean": np.mean}


def constant_baseline(true: ArrayLike, kind: Constant = "median") -> float:
    """Fit the best constant prediction on a training part.

    Parameters
    ----------
    true : array_like of float, shape (n,)
        True values of the training part.
    kind : {"median", "mean"}
        The median has the least mean absolute error of all constants, the mean the least mean
        squared error.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        When `kind` is neither, or a value is not finite.
    """
    if kind not in _CONSTANTS:
        raise ValueError(f"kind must be 'median' or 'mean', not {kind!r}")
    return float(_CONSTANTS[kind](finite_values(true, "true values")))


@dataclass(frozen=True, eq=False)
class StatisticsBaseline:
    """A ridge regression on standardised features, as :func:`fit_statistics_baseline` made it.

    Attributes
    ----------
    penalty : float
        The one chosen.
    errors : Series
        Cross-validated mean absolute error of each penalty tried; empty when one was given.
    features : tuple of str
        Names of the features, in their order.
    """

    penalty: float
    errors: pd.Series
    features: tuple[str, ...]
    bounds: tuple[float, float] | None
    model: Pipeline = field(repr=False)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Predict each row, clipped to the bounds that were set when fitting.

        Raises
        ------
        KeyError
            When a feature is missing.
        ValueError
            When one is not finite.
        """
        raw = self.model.predict(_matrix(features, self.features))
        return raw if self.bounds is None else np.clip(raw, *self.bounds)

    @property
    def coefficients(self) -> pd.Series:
        """Change of the prediction for one standard deviation of each feature."""
        return pd.Series(self.model[-1].coef_, index=list(self.features), name="coefficient")


def fit_statistics_baseline(
    features: pd.DataFrame,
    true: ArrayLike,
    clusters: ArrayLike | None = None,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    folds: int = 5,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> StatisticsBaseline:
    """Fit a ridge regression on a table of features, its penalty chosen within.

    Parameters
    ----------
    features : DataFrame, shape (n, k)
        One row an image of the training part, for instance
        :func:`iavlib.stats.prediction.image_statistics.image_statistics`.
    true : array_like of float, shape (n,)
    clusters : array_like, shape (n,), optional
        Patients, whose rows stay in one fold; without it each row by itself.
    penalties : sequence of float
        The one with the least mean absolute error over the folds is taken, the strongest among
        equals. With a single one nothing is cross-validated.
    folds : int
        At most; fewer where there are fewer clusters.
    bounds : pair of float, optional
        Predictions are clipped to them.

    Returns
    -------
    StatisticsBaseline

    Raises
    ------
    ValueError
        When rows do not fit each other, a value is not finite, a penalty is not positive, or
        there are fewer than two clusters to choose among several penalties.
    """
    check_aligned(features=features, true=true, clusters=clusters)
    names = tuple(map(str, features.columns))
    matrix = _matrix(features, names)
    target = finite_values(true, "true values")
    if len(target) != len(matrix):
        raise ValueError(f"{len(matrix)} rows of features but {len(target)} true values")
    if not len(penalties) or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive numbers, one at least, not {penalties}")
    codes, n_clusters = cluster_codes(clusters, len(target))
    errors = pd.Series(dtype=float, name="mae")
    if len(penalties) > 1:
        if n_clusters < 2:
            raise ValueError("one cluster only: give a single penalty, or more patients")
        errors = _penalty_errors(matrix, target, codes, penalties, min(folds, n_clusters), bounds)
        penalty = float(errors.iloc[::-1].idxmin())
    else:
        penalty = float(penalties[0])
    model = _ridge(penalty).fit(matrix, target)
    return StatisticsBaseline(penalty, errors, names, bounds, model)


def out_of_fold(
    predict: Callable[[np.ndarray, np.ndarray], ArrayLike | float], folds: ArrayLike
) -> np.ndarray:
    """Predict every row by what was fitted on the rows of the other folds.

    Parameters
    ----------
    predict : callable
        Takes the positions of the training rows and of the rows to be predicted; returns the
        predictions of the latter, or one number for all.
    folds : array_like, shape (n,)
        Fold of each row.

    Returns
    -------
    ndarray of float, shape (n,)

    Raises
    ------
    ValueError
        When there is a single fold, or a row has none.
    """
    codes, n_folds = cluster_codes(folds, len(folds))
    if n_folds < 2:
        raise ValueError("one fold only: nothing is left to fit on")
    predicted = np.empty(len(codes))
    for fold in range(n_folds):
        inside = codes == fold
        predicted[inside] = predict(np.flatnonzero(~inside), np.flatnonzero(inside))
    return predicted


def out_of_fold_constant(
    true: ArrayLike, folds: ArrayLike, kind: Constant = "median"
) -> np.ndarray:
    """Predict every row by the constant of the other folds; see :func:`constant_baseline`."""
    check_aligned(true=true, folds=folds)
    target = finite_values(true, "true values")
    return out_of_fold(lambda train, _: constant_baseline(target[train], kind), folds)


def out_of_fold_statistics(
    features: pd.DataFrame,
    true: ArrayLike,
    folds: ArrayLike,
    clusters: ArrayLike | None = None,
    **settings,
) -> np.ndarray:
    """Predict every row by the ridge of the other folds; see :func:`fit_statistics_baseline`."""
    check_aligned(features=features, true=true, folds=folds, clusters=clusters)
    target = finite_values(true, "true values")
    codes, _ = cluster_codes(clusters, len(target))

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        model = fit_statistics_baseline(
            features.iloc[train], target[train], codes[train], **settings
        )
        return model.predict(features.iloc[test])

    return out_of_fold(predict, folds)


def _penalty_errors(matrix, target, codes, penalties, folds, bounds) -> pd.Series:
    """Mean absolute error of each penalty over folds that divide no cluster."""
    from sklearn.model_selection import GroupKFold

    parts = list(GroupKFold(folds).split(matrix, target, codes))
    errors = {}
    for penalty in sorted(penalties):
        absolute = np.empty(len(target))
        for train, test in parts:
            guess = _ridge(penalty).fit(matrix[train], target[train]).predict(matrix[test])
            guess = guess if bounds is None else np.clip(guess, *bounds)
            absolute[test] = np.abs(guess - target[test])
        errors[penalty] = absolute.mean()
    return pd.Series(errors, name="mae").rename_axis("penalty")


def _ridge(penalty: float) -> Pipeline:
    """Standardise on the training rows, then ridge; constant features do no harm."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def _matrix(features: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Give the named features as an array, or say which is missing or not finite."""
    table = features.rename(columns=str)
    absent = [name for name in names if name not in table]
    if absent:
        raise KeyError(f"no feature {', '.join(absent)} in the table")
    matrix = table[list(names)].to_numpy(dtype=float)
    row, column = next(zip(*np.nonzero(~np.isfinite(matrix)), strict=True), (None, None))
    if row is not None:
        raise ValueError(
            f"feature {names[column]!r} of row {table.index[row]!r} is NaN or infinite: leave the "
            "image out, or mend the feature"
        )
    return matrix
