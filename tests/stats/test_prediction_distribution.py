"""Predictions against truth, per run and as published; scipy and counting as references."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from iavlib import stats
from iavlib.stats.regression import COMBINED, POOLED


def predictions(n=80, runs=3, shift=0.0, seed=0):
    generator = np.random.default_rng(seed)
    true = generator.beta(6, 2, n)
    malignancy = np.array(["benign", "malignant", "indeterminate"])[
        generator.choice(3, n, p=[0.6, 0.3, 0.1])
    ]
    tables = []
    for run in range(runs):
        noise = generator.normal(size=n)
        table = {"true": true, "predicted": 0.5 * true + 0.35 + shift + 0.05 * noise}
        table |= {"run": run, "image_id": np.arange(n), "malignancy": malignancy}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def test_two_samples_as_scipy():
    table = predictions(runs=1)
    row = stats.compare_distributions(table["true"], table["predicted"])
    ks = scipy_stats.ks_2samp(table["predicted"], table["true"], method="exact")
    mwu = scipy_stats.mannwhitneyu(table["predicted"], table["true"], method="asymptotic")
    assert (row["ks"], row["ks_p"]) == pytest.approx((ks.statistic, ks.pvalue))
    assert (row["mwu"], row["mwu_p"]) == pytest.approx((mwu.statistic, mwu.pvalue))
    larger = np.greater.outer(table["predicted"].to_numpy(), table["true"].to_numpy()).mean()
    assert row["rank_biserial"] == pytest.approx(2 * larger - 1)
    assert row["sd_ratio"] == pytest.approx(table["predicted"].std() / table["true"].std())


def test_a_shuffled_truth_passes_both_tests_and_predicts_nothing():
    true = np.random.default_rng(0).uniform(size=500)
    row = stats.compare_distributions(true, np.random.default_rng(1).permutation(true))
    assert row["ks_p"] == 1 and row["mwu_p"] > 0.99
    assert abs(row["pearson"]) < 0.15


def test_pooling_triples_n_and_shrinks_p():
    runs = predictions(shift=0.02)
    table = stats.predictions_against_truth(runs)
    assert list(table.index) == [0, 1, 2, POOLED, COMBINED]
    assert list(table["n"][:4]) == [80, 80, 80, 240]
    assert list(table["n_images"][:4]) == [80, 80, 80, 80]
    each, pooled = table.loc[[0, 1, 2]], table.loc[POOLED]
    assert pooled["mwu_p"] < each["mwu_p"].min()
    assert pooled["pearson_p"] < each["pearson_p"].min()
    whole = scipy_stats.ks_2samp(runs["predicted"], runs["true"])
    assert pooled["ks_p"] == pytest.approx(whole.pvalue)


def test_fishers_combination_by_its_formula():
    table = stats.predictions_against_truth(predictions(shift=0.02))
    p = table["mwu_p"].iloc[:3]
    chi_square = -2 * np.log(p).sum()
    assert table.loc[COMBINED, "mwu_p"] == pytest.approx(scipy_stats.chi2.sf(chi_square, 6))
    assert table.loc[COMBINED, ["ks", "mwu", "sd_ratio"]].isna().all()


def test_three_copies_of_one_run_look_far_surer_than_one():
    one = predictions(runs=1, shift=0.06)
    copies = pd.concat([one.assign(run=run) for run in range(3)], ignore_index=True)
    table = stats.predictions_against_truth(copies)
    single = table.loc[0, "mwu_p"]
    assert table.loc[POOLED, "mwu_p"] < single and table.loc[COMBINED, "mwu_p"] < single


def test_a_single_run_is_not_pooled():
    assert list(stats.predictions_against_truth(predictions(runs=1)).index) == [0]


def test_a_run_of_constant_predictions_has_no_correlation():
    runs = predictions(runs=2)
    runs.loc[runs["run"] == 1, "predicted"] = 0.8
    table = stats.predictions_against_truth(runs)
    assert np.isnan(table.loc[1, "pearson"]) and np.isnan(table.loc[COMBINED, "pearson_p"])
    assert np.isfinite(table.loc[COMBINED, "ks_p"])


def test_malignant_against_benign_on_truth_and_predictions():
    runs = predictions()
    table = stats.predictions_by_malignancy(runs, n_boot=50)
    assert list(table.index)[:2] == [(0, "true"), (0, "predicted")]
    first = runs[(runs["run"] == 0) & (runs["malignancy"] != "indeterminate")]
    malignant = first["malignancy"] == "malignant"
    row = table.loc[(0, "predicted")]
    assert row["n"] == len(first)
    means = first.groupby(malignant)["predicted"].mean()
    assert (row["mean_benign"], row["mean_malignant"]) == pytest.approx((means[False], means[True]))
    mwu = scipy_stats.mannwhitneyu(
        first.loc[malignant, "predicted"], first.loc[~malignant, "predicted"], method="asymptotic"
    )
    assert row["mwu_p"] == pytest.approx(mwu.pvalue)
    # The same truth in every run, whatever the model; pooled, only p changes.
    truths = table.xs("true", level="values")
    assert np.ptp(truths["difference"]) < 1e-12
    assert truths.loc[POOLED, "n"] == 3 * truths.loc[0, "n"]


def test_repeated_images_do_not_narrow_the_pooled_interval():
    table = stats.predictions_by_malignancy(predictions(), n_boot=400)
    single, pooled = table.loc[(0, "true")], table.loc[(POOLED, "true")]
    assert pooled["ci_high"] - pooled["ci_low"] == pytest.approx(
        single["ci_high"] - single["ci_low"], rel=0.05
    )


def test_everything_else_is_benign_as_published():
    runs = predictions()
    table = stats.predictions_by_malignancy(runs, indeterminate="benign", n_boot=10)
    assert table.loc[(0, "true"), "n"] == 80


def test_bad_tables_are_named():
    runs = predictions()
    with pytest.raises(KeyError, match="no column predicted"):
        stats.predictions_against_truth(runs.drop(columns="predicted"))
    with pytest.raises(KeyError, match="no column malignancy"):
        stats.predictions_by_malignancy(runs.drop(columns="malignancy"))
    with pytest.raises(ValueError, match="run 'x' has image 0 twice"):
        stats.predictions_against_truth(runs.assign(run="x"))
    with pytest.raises(ValueError, match="'drop' or 'benign'"):
        stats.predictions_by_malignancy(runs, indeterminate="keep")
    with pytest.raises(ValueError, match="give three or more"):
        stats.compare_distributions([0.1, 0.2], [0.1, 0.2])
