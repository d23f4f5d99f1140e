"""Are predictions distributed as the truth, and do they differ between malignant and benign?

The released evaluation of the agreement study concatenates three runs on the same test images
before it tests them. That triples n without a new image: every true value is there three times,
and p-values come out too small. Here each run is tested by itself; the pooled row and Fisher's
combination are computed too, so that the effect can be seen, and say so in their label.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats.associations import association
from iavlib.stats.effects import rank_biserial
from iavlib.stats.samples import check_aligned, finite_values

#: Labels of the two rows that put runs together as the released evaluation does.
POOLED = "runs concatenated (as published)"
COMBINED = "Fisher's combination (as published)"

_P_VALUES = ("ks_p", "mwu_p", "pearson_p", "spearman_p")


def compare_distributions(true: ArrayLike, predicted: ArrayLike) -> pd.Series:
    """Compare predicted with true values, as two samples and as pairs.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)

    Returns
    -------
    Series
        - ``n``: rows;
        - ``ks``, ``ks_p``: two-sample Kolmogorov-Smirnov (exact up to 10,000 rows);
        - ``mwu``, ``mwu_p``: Mann-Whitney U of the predictions, two-sided normal approximation
          with tie and continuity correction, and ``rank_biserial``, positive when predictions
          tend to be larger;
        - ``pearson``, ``pearson_p``, ``spearman``, ``spearman_p``: predicted with true;
        - ``sd_ratio``: standard deviation of the predictions over that of the truth.

    Raises
    ------
    ValueError
        When lengths or indexes differ, there are fewer than three rows, or a value is not finite.

    Notes
    -----
    The first two take predictions and truth as independent samples, as the papers do, although
    they are of the same images. A large p-value does not make the predictions good: true values
    in another order have the same distribution. The correlations are NaN for constant predictions.
    """
    check_aligned(true=true, predicted=predicted)
    truth, guess = finite_values(true, "true values"), finite_values(predicted, "predicted values")
    if len(truth) != len(guess) or len(truth) < 3:
        raise ValueError(
            f"{len(truth)} true and {len(guess)} predicted values: give three or more of each, "
            "row by row"
        )
    ks = stats.ks_2samp(guess, truth)
    mwu = stats.mannwhitneyu(guess, truth, method="asymptotic")
    varied = np.ptp(truth) > 0 and np.ptp(guess) > 0
    pearson = stats.pearsonr(guess, truth) if varied else (np.nan, np.nan)
    spearman = stats.spearmanr(guess, truth) if varied else (np.nan, np.nan)
    values = {
        "n": len(truth),
        **{"ks": ks.statistic, "ks_p": ks.pvalue},
        **{"mwu": mwu.statistic, "mwu_p": mwu.pvalue},
        "rank_biserial": rank_biserial(guess, truth),
        **{"pearson": pearson[0], "pearson_p": pearson[1]},
        **{"spearman": spearman[0], "spearman_p": spearman[1]},
        "sd_ratio": guess.std() / truth.std() if np.ptp(truth) > 0 else np.nan,
    }
    return pd.Series(values, dtype=float)


def predictions_against_truth(runs: pd.DataFrame) -> pd.DataFrame:
    """Test each run's predictions against the truth, and all runs as the released code does.

    Parameters
    ----------
    runs : DataFrame
        Predictions of all runs, one row an image and run: ``run``, ``image_id``, ``true``,
        ``predicted``.

    Returns
    -------
    DataFrame
        One row a run, then, of two or more, :data:`POOLED` and :data:`COMBINED`. Columns as
        :func:`compare_distributions`, with ``n_images``, the number of different images, after
        ``n``. The combination has p-values only. Fisher's method takes the tests as independent,
        which runs on the same images are not.

    Raises
    ------
    KeyError
        When a column is missing.
    ValueError
        When a run has an image twice, or as :func:`compare_distributions`.

    References
    ----------
    Fisher, R. A. (1932). Statistical Methods for Research Workers, 4th ed., sec. 21.1.
    """
    rows = {
        label: compare_distributions(run["true"], run["predicted"]) for label, run in _runs(runs)
    }
    images = {label: run["image_id"].nunique() for label, run in _runs(runs)}
    if len(rows) > 1:
        rows[POOLED] = compare_distributions(runs["true"], runs["predicted"])
        single = pd.DataFrame(rows).T.drop(index=POOLED)
        rows[COMBINED] = pd.Series({name: _fisher(single[name]) for name in _P_VALUES})
        images[POOLED] = runs["image_id"].nunique()
    table = pd.DataFrame(rows).T.rename_axis("run")
    table.insert(1, "n_images", pd.Series(images))
    columns = list(next(iter(rows.values())).index)
    return table[["n", "n_images", *columns[1:]]].astype({"n": "Int64", "n_images": "Int64"})


def predictions_by_malignancy(
    runs: pd.DataFrame,
    indeterminate: str = "drop",
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare malignant with benign lesions, on the truth and on each run's predictions.

    A model that predicts agreement may show the difference between malignant and benign lesions
    that the annotators show, less of it, or more.

    Parameters
    ----------
    runs : DataFrame
        As for :func:`predictions_against_truth`, with ``malignancy`` and, where patients are
        known, ``cluster``, which the intervals resample.
    indeterminate : {"drop", "benign"}
        What lesions are that are neither benign nor malignant: left out, or benign as in the
        released evaluation.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        Index ``run`` and ``values`` (``true`` or ``predicted``); the rows :data:`POOLED` come
        last where there are two or more runs. Columns ``n``, ``n_malignant``, ``mean_benign``,
        ``sd_benign``, ``mean_malignant``, ``sd_malignant`` (over n - 1), ``difference``
        (malignant minus benign) with ``ci_low`` and ``ci_high``, ``cohens_d``, ``mwu_p``. The
        intervals resample `cluster`, or images without it, so that the repeated images of the
        pooled rows do not narrow them; the p-values are narrowed.

    Raises
    ------
    KeyError, ValueError
        As :func:`predictions_against_truth` and :func:`iavlib.stats.associations.association`.
    """
    if indeterminate not in ("drop", "benign"):
        raise ValueError(f"indeterminate must be 'drop' or 'benign', not {indeterminate!r}")
    labelled = list(_runs(runs, "malignancy"))
    if len(labelled) > 1:
        labelled.append((POOLED, runs))
    rows = {}
    for label, run in labelled:
        if indeterminate == "drop":
            run = run[run["malignancy"].isin(["benign", "malignant"])]
        for values in ("true", "predicted"):
            rows[label, values] = _groups(run, values, n_boot, seed)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["run", "values"])
    return table


def spread_of_errors(true: ArrayLike, predicted: ArrayLike) -> pd.Series:
    """Give the standard deviations that are printed behind a mean absolute error.

    The released evaluation of the agreement study prints the deviation of the *signed* errors as
    that of the MAE. The two differ: the signed one is about the RMSE when there is no bias.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)

    Returns
    -------
    Series
        ``absolute`` and ``signed``, standard deviations over n - 1 of the absolute and of the
        signed errors.
    """
    check_aligned(true=true, predicted=predicted)
    error = pd.Series(finite_values(predicted, "predicted") - finite_values(true, "true"))
    return pd.Series({"absolute": error.abs().std(), "signed": error.std()}, name="sd")


def _groups(run: pd.DataFrame, values: str, n_boot: int, seed: int) -> dict[str, float]:
    clusters = run["cluster"] if "cluster" in run else run["image_id"]
    result = association(
        run[values], run["malignancy"].eq("malignant"), clusters, n_boot=n_boot, seed=seed
    )
    row = {"n": result.n, "n_malignant": result.n_malignant}
    for group, name in (("other", "benign"), ("malignant", "malignant")):
        row[f"mean_{name}"] = result.groups.loc[group, "mean"]
        row[f"sd_{name}"] = result.groups.loc[group, "sd"]
    difference = result.mean_difference
    row |= {"difference": difference.value, "ci_low": difference.low, "ci_high": difference.high}
    return row | {"cohens_d": result.cohens_d.value, "mwu_p": result.mann_whitney.p}


def _runs(runs: pd.DataFrame, *more: str) -> Iterator[tuple[object, pd.DataFrame]]:
    """Yield the runs in order of appearance, each image once."""
    missing = [c for c in ("run", "image_id", "true", "predicted", *more) if c not in runs]
    if missing:
        raise KeyError(f"no column {', '.join(missing)} in the predictions; give one row an image")
    for label, run in runs.groupby("run", sort=False):
        twice = run["image_id"].duplicated()
        if twice.any():
            raise ValueError(
                f"run {label!r} has image {run.loc[twice, 'image_id'].iloc[0]} twice: give each "
                "run a label of its own"
            )
        yield label, run


def _fisher(p_values: pd.Series) -> float:
    """Combine p-values; NaN when one of them does not exist."""
    if p_values.isna().any():
        return float("nan")
    # A p-value of exactly 0 (it underflowed) would make the logarithm infinite.
    floor = np.finfo(float).tiny
    return float(stats.combine_pvalues(p_values.clip(lower=floor), method="fisher").pvalue)
