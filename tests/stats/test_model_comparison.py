"""Tests of several models: Demšar's worked example, R's and pingouin's numbers, planted truths."""

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats as scipy_stats

from iavlib import stats

# Demšar (2006), table 6: AUC of C4.5 without and with tuning of m, cf and both, on 14 data sets.
# Two ties there are ties of rounding only (voting), told apart here in the fourth digit as ranked.
AUC = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9752, 0.9751],
        [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)
ERRORS = 1 - AUC


def test_mean_ranks_of_demsar():
    ranks = stats.friedman(ERRORS).mean_ranks
    assert ranks.to_list() == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)


def test_statistics_of_demsar_from_his_ranks():
    # He prints 9.28 and 3.69, without the correction for ties that is made here.
    result = stats.friedman(ERRORS)
    squares = ((result.mean_ranks - 2.5) ** 2).sum()
    assert 12 * 14 / (4 * 5) * squares == pytest.approx(9.28, abs=0.005)
    assert result.chi_square > 9.28
    apart = ERRORS + np.arange(4) * 1e-9  # no ties left: the uncorrected formula is the correct one
    untied = stats.friedman(apart)
    squares = ((untied.mean_ranks - 2.5) ** 2).sum()
    assert untied.chi_square == pytest.approx(12 * 14 / (4 * 5) * squares)
    assert untied.f == pytest.approx(13 * untied.chi_square / (14 * 3 - untied.chi_square))


def test_critical_differences_of_demsar():
    strict, loose = stats.nemenyi(ERRORS), stats.nemenyi(ERRORS, alpha=0.1)
    assert strict["critical_difference"].unique() == pytest.approx([1.25], abs=0.005)
    assert loose["critical_difference"].unique() == pytest.approx([1.12], abs=0.005)
    assert not strict["differ"].any()
    found = loose[loose["differ"]]
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("C4.5", "C4.5+m"),
        ("C4.5", "C4.5+m+cf"),
    ]


@pytest.mark.parametrize(
    ("k", "q_05", "q_10"),
    [
        *[(2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (5, 2.728, 2.459)],
        *[(6, 2.850, 2.589), (8, 3.031, 2.780), (10, 3.164, 2.920)],
    ],
)
def test_critical_values_of_demsars_table_5(k, q_05, q_10):
    table = pd.DataFrame(np.random.default_rng(k).normal(size=(6, k)))
    unit = np.sqrt(k * (k + 1) / 36)
    for alpha, q in ((0.05, q_05), (0.1, q_10)):
        critical = stats.nemenyi(table, alpha)["critical_difference"].iloc[0]
        assert critical / unit == pytest.approx(q, abs=1.1e-3)


def test_nemenyi_p_crosses_alpha_where_the_critical_difference_does():
    for alpha in (0.05, 0.1):
        table = stats.nemenyi(ERRORS, alpha)
        assert ((table["p"] < alpha) == table["differ"]).all()


def test_friedman_as_scipy_and_pingouin():
    result = stats.friedman(ERRORS)
    theirs = scipy_stats.friedmanchisquare(*ERRORS.to_numpy().T)
    assert (result.chi_square, result.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    chi = pingouin.friedman(ERRORS.reset_index(drop=True))
    assert result.kendall_w == pytest.approx(chi["W"].iloc[0], abs=1e-5)
    f = pingouin.friedman(ERRORS, method="f")
    assert result.f == pytest.approx(f["F"].iloc[0], abs=1e-4)


def test_all_blocks_agreeing_and_all_tied():
    agreed = pd.DataFrame([[1.0, 2.0, 3.0]] * 5)
    result = stats.friedman(agreed)
    assert (result.kendall_w, result.f, result.p_f) == (pytest.approx(1), np.inf, 0)
    tied = stats.friedman(pd.DataFrame(np.ones((5, 3))))
    assert (tied.chi_square, tied.p, tied.kendall_w) == (0, 1, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 5))
def test_ranks_know_no_units_and_no_order(seed, blocks, models):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(generator.integers(0, 6, (blocks, models)).astype(float))
    before = stats.friedman(table)
    shifted = np.exp(table.add(generator.normal(size=blocks), axis=0)).sample(
        frac=1, random_state=0
    )
    after = stats.friedman(shifted)  # each block on a scale of its own
    assert after.chi_square == pytest.approx(before.chi_square)
    assert 0 <= before.kendall_w <= 1 + 1e-12
    reversed_ = stats.friedman(-table)
    assert reversed_.chi_square == pytest.approx(before.chi_square)


# R: PlantGrowth, dried weight of plants under a control and two treatments.
PLANTS = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26],
}


def test_kruskal_wallis_as_r():
    # R: kruskal.test(weight ~ group, data = PlantGrowth): 7.9882, df = 2, p-value = 0.01842.
    result = stats.kruskal_wallis(PLANTS)
    assert (result.h, result.degrees) == (pytest.approx(7.9882, abs=5e-5), 2)
    assert result.p == pytest.approx(0.01842, abs=5e-6)
    # rstatix and rcompanion define epsilon squared as H (n + 1) / (n^2 - 1).
    assert result.epsilon_squared == pytest.approx(7.9882 * 31 / (30**2 - 1), abs=1e-5)
    assert stats.kruskal_wallis({"a": [1, 1], "b": [1, 1, 1]}).p == 1


def test_the_students_p_values_belong_to_the_h_they_print():
    for h, p in ((0.09319, 0.954), (0.11104, 0.946)):
        assert scipy_stats.chi2.sf(h, 2) == pytest.approx(p, abs=5e-4)


# R: sleep, extra hours under two drugs, the ten patients paired.
SLEEP = pd.DataFrame(
    {
        "1": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
        "2": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
    }
)


def test_signed_ranks_as_pingouin_and_holm():
    table = SLEEP.assign(third=SLEEP["1"] + 0.05 * np.arange(1, 11))
    result = stats.wilcoxon_holm(table)
    theirs = pingouin.wilcoxon(SLEEP["1"], SLEEP["2"])
    row = result.iloc[0]
    assert (row["w"], row["p"]) == pytest.approx((theirs["W_val"].iloc[0], theirs["p_val"].iloc[0]))
    assert list(result["p_holm"]) == list(stats.holm(result["p"])["p_holm"])
    assert result.loc[1, "p"] == pytest.approx(2 / 2**10)


def test_three_seeds_cannot_fall_below_a_quarter_and_equal_models_do_not_differ():
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 6.0], "c": [2.0, 4.0, 6.0]})
    result = stats.wilcoxon_holm(table)
    assert list(result["p"]) == [0.25, 0.25, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.friedman(SLEEP.replace(-1.2, np.nan)), "block 3 has no error of '1'"),
        (lambda: stats.nemenyi(SLEEP[["1"]]), "2 or more"),
        (lambda: stats.friedman(SLEEP.to_numpy()), "give a table"),
        (lambda: stats.wilcoxon_holm(SLEEP[["1", "1"]]), "two columns have one name"),
        (lambda: stats.kruskal_wallis({"a": [1, 2]}), "two models at least"),
        (lambda: stats.kruskal_wallis({"a": [1, 2], "b": [np.nan]}), "errors of 'b' are NaN"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
