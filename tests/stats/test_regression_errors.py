"""Errors against scipy, sklearn and statsmodels; intervals against planted truths."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings, strategies as st
from scipy import stats as scipy_stats
from sklearn import metrics

from iavlib import stats
from iavlib.stats import cluster_bootstrap, regression_errors
from iavlib.stats.regression import ERROR_STATISTICS

# Anscombe's first set: correlation .816, line y = 3.00 + 0.500 x, r2 .67 in every textbook.
X = np.array([10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5.0])
Y = np.array([8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68])


def sample(n=120, seed=0):
    generator = np.random.default_rng(seed)
    true = generator.uniform(size=n).round(1)  # with ties
    predicted = (0.6 * true + 0.25 + 0.1 * generator.normal(size=n)).round(2)
    return true, predicted, generator.integers(0, n // 3, n)


def test_calibration_and_correlation_of_anscombe():
    table = regression_errors(Y, X, n_boot=50)["estimate"]
    assert table["pearson"] == pytest.approx(0.81642, abs=5e-6)
    assert table["slope"] == pytest.approx(0.50009, abs=5e-6)
    assert table["intercept"] == pytest.approx(3.00009, abs=5e-6)


def test_every_estimate_as_other_programs():
    true, predicted, clusters = sample()
    table = regression_errors(true, predicted, clusters, n_boot=20)["estimate"]
    line = sm.OLS(true, sm.add_constant(predicted)).fit().params
    expected = {
        "mae": metrics.mean_absolute_error(true, predicted),
        "mse": metrics.mean_squared_error(true, predicted),
        "rmse": metrics.root_mean_squared_error(true, predicted),
        "bias": np.mean(predicted - true),
        "pearson": scipy_stats.pearsonr(true, predicted).statistic,
        "spearman": scipy_stats.spearmanr(true, predicted).statistic,
        "slope": line[1],
        "intercept": line[0],
        "r2": metrics.r2_score(true, predicted),
    }
    assert tuple(table.index) == tuple(expected) == ERROR_STATISTICS
    assert dict(table) == pytest.approx(expected, abs=1e-12)


def test_the_weighted_bootstrap_is_the_bootstrap_of_repeated_rows():
    true, predicted, clusters = sample(45)
    frame = pd.DataFrame({"true": true, "predicted": predicted, "cluster": clusters})

    def plain(rows: pd.DataFrame) -> np.ndarray:
        return np.array(
            [
                metrics.mean_absolute_error(rows["true"], rows["predicted"]),
                scipy_stats.spearmanr(rows["true"], rows["predicted"]).statistic,
                scipy_stats.linregress(rows["predicted"], rows["true"]).slope,
                metrics.r2_score(rows["true"], rows["predicted"]),
            ]
        )

    def repeated_rows(weights: np.ndarray) -> np.ndarray:
        return np.stack([plain(frame.loc[frame.index.repeat(w.astype(int))]) for w in weights])

    slow = cluster_bootstrap(repeated_rows, clusters, n_boot=60)
    fast = regression_errors(true, predicted, clusters, n_boot=60)
    for position, name in enumerate(("mae", "spearman", "slope", "r2")):
        assert fast.loc[name, "ci_low"] == pytest.approx(slow.low[position])
        assert fast.loc[name, "ci_high"] == pytest.approx(slow.high[position])


def test_intervals_cover_the_planted_error():
    # |N(0, 1)| has mean sqrt(2 / pi); four rows a patient carry the patient's error whole.
    truth, held = np.sqrt(2 / np.pi), 0
    for seed in range(100):
        error = np.repeat(np.random.default_rng(seed).normal(size=60), 4)
        true = np.linspace(0, 1, 240)
        row = regression_errors(true, true + error, np.arange(240) // 4, n_boot=300, seed=seed)
        held += row.loc["mae", "ci_low"] <= truth <= row.loc["mae", "ci_high"]
    assert held >= 88


def test_constant_predictions_have_errors_and_no_correlation():
    true, _, clusters = sample()
    table = regression_errors(true, np.full(len(true), 0.1), clusters, n_boot=20)
    assert (
        table.loc[["pearson", "spearman", "slope", "intercept"]]
        .drop(columns=["n", "n_clusters"])
        .isna()
        .all(axis=None)
    )
    assert table.loc["mae", "estimate"] == pytest.approx(np.abs(true - 0.1).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_units_and_order_change_what_they_must(seed, scale, shift):
    true, predicted, _ = sample(30, seed)
    before = regression_errors(true, predicted, n_boot=2)["estimate"]
    order = np.random.default_rng(seed).permutation(30)
    after = regression_errors(
        scale * true[order] + shift, scale * predicted[order] + shift, n_boot=2
    )["estimate"]
    assert after["mae"] == pytest.approx(scale * before["mae"])
    assert after["mse"] == pytest.approx(scale**2 * before["mse"])
    for name in ("pearson", "spearman", "slope", "r2"):
        assert after[name] == pytest.approx(before[name], abs=1e-7)


def test_difference_of_two_predictors_is_paired():
    true, predicted, clusters = sample()
    other = predicted + 0.3
    result = stats.compare_errors(true, predicted, other, clusters, n_boot=500)
    assert result.value == pytest.approx(
        np.abs(predicted - true).mean() - np.abs(other - true).mean()
    )
    assert result.low < result.value < result.high < 0
    same = stats.compare_errors(true, predicted, predicted, clusters, n_boot=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    opposite = stats.compare_errors(true, other, predicted, clusters, n_boot=500)
    assert (opposite.value, opposite.low) == pytest.approx((-result.value, -result.high))


def test_reduction_against_a_constant_and_against_one_a_fold():
    true = np.array([0.0, 0.2, 0.4, 0.8, 1.0])
    # Constant median .4: errors .4 .2 0 .4 .6, mean .32; predictions: all off by .08.
    result = stats.relative_reduction(true, true + 0.08, np.median(true), n_boot=50)
    assert result.value == pytest.approx(0.75)
    each = stats.relative_reduction(true, true + 0.08, np.full(5, 0.4), n_boot=50)
    assert each == result
    assert stats.relative_reduction(true, np.full(5, 0.4), 0.4, n_boot=50).value == 0
    assert np.isnan(stats.relative_reduction(true, true + 0.1, true, n_boot=50).value)


def test_subgroups_are_the_statistics_of_their_rows():
    true, predicted, clusters = sample()
    groups = np.array(["benign", "malignant", None], dtype=object)[np.arange(120) % 3]
    table = stats.errors_by_group(true, predicted, groups, clusters, n_boot=50)
    assert list(table.index) == ["benign", "malignant", "missing", "all"]
    assert list(table["n"]) == [40, 40, 40, 120]
    inside = groups == "malignant"
    alone = regression_errors(true[inside], predicted[inside], clusters[inside], n_boot=50)
    row = table.loc["malignant"]
    assert list(row[["mae", "mae_low", "mae_high"]]) == list(alone.iloc[0, :3])
    assert row["pearson"] == alone.loc["pearson", "estimate"]
    masks = stats.errors_by_group(true, predicted, [10] * 60 + [2] * 60, n_boot=10)
    assert list(masks.index) == [2, 10, "all"]


def test_a_subgroup_of_one_patient_has_no_interval():
    true, predicted, _ = sample(6)
    table = stats.errors_by_group(true, predicted, list("aaabbb"), list("ppqrrr"), n_boot=10)
    assert np.isnan(table.loc["b", "mae_low"]) and np.isfinite(table.loc["a", "mae_low"])
    assert table.loc["b", "mae"] == pytest.approx(np.abs(predicted - true)[3:].mean())


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0.1, np.nan], [0.1, 0.2], "1 of 2 true values are NaN"),
        ([0.1, 0.2], [0.1, np.inf], "1 of 2 predicted values are NaN or infinite"),
        ([0.1, 0.2], [0.1], "2 true values but 1 predicted"),
        (pd.Series([0.1, 0.2], list("ab")), pd.Series([0.1, 0.2], list("ba")), "different indexes"),
    ],
)
def test_rows_that_do_not_fit_are_refused(true, predicted, message):
    with pytest.raises(ValueError, match=message):
        regression_errors(true, predicted)


def test_other_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 rows but 3 group labels"):
        stats.errors_by_group([0, 1], [0, 1], [1, 2, 3])
    assert regression_errors([0, 1], [0, 1], ["p", "p"])["ci_low"].isna().all()
    with pytest.raises(ValueError, match="2 true values but 3 predicted"):
        stats.relative_reduction([0, 1], [0, 1], [0.5, 0.5, 0.5])
