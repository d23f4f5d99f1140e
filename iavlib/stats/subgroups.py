"""A diagnosis by sex, age and site: each subgroup with its counts, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.classification import classification_scores
from iavlib.stats.diagnosis_samples import diagnosis_sample
from iavlib.stats.factors import natural_key

#: First year of each age band but the first.
AGE_LIMITS = (30, 45, 60, 75)

#: Level of rows whose factor is missing.
NOT_RECORDED = "not recorded"

_SCORES = ("auroc", "balanced_accuracy", "sensitivity", "specificity")


def age_bands(age: pd.Series, limits: tuple[int, ...] = AGE_LIMITS) -> pd.Series:
    """Sort ages into bands.

    Parameters
    ----------
    age : Series of float
        Years; ISIC rounds them to five. Missing ages stay missing.
    limits : tuple of int
        First year of each band but the first; a band includes its first year.

    Returns
    -------
    Series
        Ordered categories such as "under 30", "30-44", "75 and over".

    Raises
    ------
    ValueError
        When an age lies outside 0 to 120, or the limits do not rise.
    """
    years = pd.to_numeric(age)
    wrong = years[(years < 0) | (years > 120)]
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} ages lie outside 0 to 120, for instance {wrong.iloc[0]:g} at "
            f"{wrong.index[0]!r}: correct them, or make them missing"
        )
    if list(limits) != sorted(set(limits)):
        raise ValueError(f"limits must rise, not {limits}")
    between = [f"{low}-{high - 1}" for low, high in pairwise(limits)]
    labels = [f"under {limits[0]}", *between, f"{limits[-1]} and over"]
    return pd.cut(years, [-np.inf, *limits, np.inf], right=False, labels=labels)


def scores_by_group(
    malignant: ArrayLike,
    probability: ArrayLike,
    groups: Mapping[str, ArrayLike] | pd.DataFrame,
    threshold: float = 0.5,
    clusters: ArrayLike | None = None,
    fewest: int = 10,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Measure a diagnosis within each subgroup.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
    groups : DataFrame or mapping of str to array_like
        Factors such as sex, age band and site, with the level of each row; a missing level
        becomes "not recorded", a subgroup like any other.
    threshold : float
        The same in all subgroups.
    clusters : array_like, shape (n,), optional
        Patients.
    fewest : int
        Rows of *each* class below which a subgroup is not measured; two are needed at least.
    n_boot, seed, level
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        Index ``factor``, ``level``, the first row ("all", "all"); levels in their categories'
        order, or in natural order. Columns ``n``, ``n_malignant``, ``n_clusters``; ``auroc``,
        ``balanced_accuracy``, ``sensitivity`` and ``specificity``, each with ``_low`` and
        ``_high``; ``note``, which is empty or says that there are too few rows of which class.
        Intervals are not corrected for how many subgroups there are.

    Raises
    ------
    OneClassError
        When a class is missing altogether.
    ValueError
        When a factor has another index or length than the rows, as well as what
        :func:`iavlib.stats.classification.classification_scores` raises.
    """
    if fewest < 2:
        raise ValueError(f"fewest must be at least 2, not {fewest}")
    factors = {name: groups[name] for name in groups}
    sample = diagnosis_sample(malignant, probability, clusters, **factors)
    members = {("all", "all"): np.ones(len(sample), dtype=bool)}
    for name, labels in factors.items():
        if len(labels) != len(sample):
            raise ValueError(f"{len(sample)} rows but {len(labels)} levels of {name!r}")
        members |= {(name, text): member for text, member in _levels(labels).items()}
    rows = {}
    for key, member in members.items():
        subset = sample.malignant[member], sample.score[member], sample.clusters[member]
        rows[key] = _measure(*subset, threshold, fewest, (n_boot, seed, level))
    index = pd.MultiIndex.from_tuples(rows, names=["factor", "level"])
    return pd.DataFrame(list(rows.values()), index=index)


def _levels(labels: ArrayLike) -> dict[str, np.ndarray]:
    """Rows of each level, in order, those without one last."""
    column = labels if isinstance(labels, pd.Series) else pd.Series(labels)
    if isinstance(column.dtype, pd.CategoricalDtype):
        names = [name for name in column.cat.categories if (column == name).any()]
    else:
        names = sorted(column.dropna().unique(), key=natural_key)
    members = {str(name): (column == name).fillna(False).to_numpy(dtype=bool) for name in names}
    absent = column.isna().to_numpy()
    return members | ({NOT_RECORDED: absent} if absent.any() else {})


def _measure(malignant, score, clusters, threshold: float, fewest: int, settings: tuple) -> dict:
    """One row of the table: counts, and scores unless a class is too small."""
    n, n_malignant = len(malignant), int(malignant.sum())
    n_clusters = len(np.unique(clusters))
    row = {"n": n, "n_malignant": n_malignant, "n_clusters": n_clusters}
    empty = {f"{name}{end}": np.nan for name in _SCORES for end in ("", "_low", "_high")}
    counts = {"malignant": n_malignant, "benign": n - n_malignant}
    few = [f"{count} {name}" for name, count in counts.items() if count < fewest]
    if few or n_clusters < 2:
        few = few or ["1 patient"]
        return row | empty | {"note": f"too few: {', '.join(few)}"}
    n_boot, seed, level = settings
    table = classification_scores(malignant, score, threshold, clusters, n_boot, seed, level)
    for name in _SCORES:
        values = table.loc[name, ["estimate", "ci_low", "ci_high"]]
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return row | {"note": ""}
