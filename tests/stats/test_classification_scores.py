"""Measures of a diagnosis: scikit-learn's values, repeated rows, coverage and invariances."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics

from iavlib.stats import (
    CLASSIFICATION_SCORES,
    OneClassError,
    classification as weighted,
    classification_scores,
    roc_curve,
)
from iavlib.stats.classification import bin_rows


@st.composite
def samples(draw, least=4):
    """Labels with both classes and probabilities in fiftieths, so that ties are frequent."""
    n = draw(st.integers(least, 25))
    malignant = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    malignant[:2] = [True, False]
    score = draw(st.lists(st.integers(0, 50), min_size=n, max_size=n))
    return np.array(malignant), np.array(score) / 50


def ones(n):
    return np.ones((1, n))


def cohort(n=300, seed=0):
    rng = np.random.default_rng(seed)
    malignant = rng.random(n) < 0.25
    return malignant, 1 / (1 + np.exp(1.5 - rng.normal(size=n) - 1.2 * malignant))


@settings(deadline=None)
@given(samples(), st.integers(0, 50))
def test_as_scikit_learn(sample, at):
    malignant, score = sample
    called = score >= at / 50
    rates = weighted.weighted_rates(malignant, score, ones(len(score)), at / 50)
    expected = {
        "accuracy": metrics.accuracy_score(malignant, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(malignant, called),
        "f1": metrics.f1_score(malignant, called),
        "sensitivity": metrics.recall_score(malignant, called),
        "specificity": metrics.recall_score(~malignant, ~called),
    }
    assert {name: value[0] for name, value in rates.items()} == pytest.approx(expected)
    rows = malignant, score, ones(len(score))
    area = weighted.weighted_auroc(*rows)[0]
    assert area == pytest.approx(metrics.roc_auc_score(malignant, score))
    precision = weighted.weighted_average_precision(*rows)[0]
    assert precision == pytest.approx(metrics.average_precision_score(malignant, score))
    brier = classification_scores(malignant, score, n_boot=2).loc["brier", "estimate"]
    assert brier == pytest.approx(metrics.brier_score_loss(malignant, score))


@settings(deadline=None)
@given(samples(), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_rate_at_a_fixed_rate_is_the_best_of_the_curve(sample, rate):
    malignant, score = sample
    alarms, found, _ = metrics.roc_curve(malignant, score, drop_intermediate=False)
    rows = malignant, score, ones(len(score))
    best = found[1 - alarms >= rate - 1e-9].max()
    assert weighted.best_sensitivity(*rows, rate)[0] == pytest.approx(best)
    best = (1 - alarms)[found >= rate - 1e-9].max()
    assert weighted.best_specificity(*rows, rate)[0] == pytest.approx(best)


@settings(deadline=None)
@given(samples(), st.data())
def test_weights_are_repeated_rows(sample, data):
    malignant, score = sample
    n = len(score)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), float)
    weights[:2] = np.maximum(weights[:2], 1)
    rows = np.repeat(np.arange(n), weights.astype(int))
    bins = bin_rows(score)
    for function, extra in (
        (weighted.weighted_auroc, ()),
        (weighted.weighted_average_precision, ()),
        (weighted.best_sensitivity, (0.9,)),
        (weighted.best_specificity, (0.9,)),
    ):
        by_weight = function(malignant, score, weights[None], *extra)
        repeated = function(malignant[rows], score[rows], ones(len(rows)), *extra)
        assert by_weight == pytest.approx(repeated), function.__name__
    by_weight = weighted.weighted_ece(malignant, score, weights[None], bins)
    assert by_weight == pytest.approx(
        weighted.weighted_ece(malignant[rows], score[rows], ones(len(rows)), bins[rows])
    )


@given(samples())
def test_auroc_knows_order_alone(sample):
    malignant, score = sample
    rows = malignant, ones(len(score))
    area = weighted.weighted_auroc(rows[0], score, rows[1])
    assert area == pytest.approx(weighted.weighted_auroc(rows[0], np.exp(3 * score) - 7, rows[1]))
    assert area == pytest.approx(1 - weighted.weighted_auroc(rows[0], -score, rows[1]))
    assert area == pytest.approx(1 - weighted.weighted_auroc(~rows[0], score, rows[1]))
    assert 0 <= area[0] <= 1


def test_table_and_by_hand():
    # Sorted from the top: m .9, b .8, m .6, b .4, b .1.
    malignant = [True, False, True, False, False]
    score = [0.9, 0.8, 0.6, 0.4, 0.1]
    table = classification_scores(malignant, score, n_boot=50)
    assert tuple(table.index) == CLASSIFICATION_SCORES
    estimate = table["estimate"]
    assert estimate["auroc"] == pytest.approx(5 / 6)
    assert estimate["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert estimate["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert estimate["f1"] == pytest.approx(0.8)
    assert estimate["sensitivity_at_90_specificity"] == pytest.approx(0.5)
    assert estimate["specificity_at_90_sensitivity"] == pytest.approx(2 / 3)
    assert estimate["brier"] == pytest.approx((0.01 + 0.64 + 0.16 + 0.16 + 0.01) / 5)
    assert estimate["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.4 + 0.1) / 5)
    assert (table["n"] == 5).all() and (table["n_malignant"] == 2).all()


def test_a_score_at_the_threshold_is_malignant():
    table = classification_scores([True, False, True], [0.5, 0.4, 0.7], n_boot=10)
    assert table.loc["sensitivity", "estimate"] == 1


def test_intervals_widen_with_clusters():
    malignant, score = cohort()
    alone = classification_scores(malignant, score, n_boot=300)
    # Every row four times, as rows of one patient: nothing new is known.
    many = np.tile(malignant, 4), np.tile(score, 4)
    clusters = np.tile(np.arange(len(score)), 4)
    grouped = classification_scores(*many, clusters=clusters, n_boot=300)
    assert grouped["estimate"].to_numpy() == pytest.approx(alone["estimate"].to_numpy())
    names = ["auroc", "brier", "sensitivity"]
    for end in ("ci_low", "ci_high"):
        assert grouped.loc[names, end].tolist() == pytest.approx(alone.loc[names, end].tolist())
    apart = classification_scores(*many, n_boot=300)
    widths = (apart["ci_high"] - apart["ci_low"]) / (alone["ci_high"] - alone["ci_low"])
    assert widths.loc[names].to_numpy() == pytest.approx(0.5, abs=0.12)


def test_intervals_cover():
    truth = 0.80214  # of two normal distributions 1.2 apart
    inside = 0
    for seed in range(60):
        row = classification_scores(*cohort(150, seed), n_boot=200).loc["auroc"]
        inside += row["ci_low"] <= truth <= row["ci_high"]
    assert inside >= 52


def test_curves():
    malignant, score = cohort()
    curve = roc_curve(malignant, score)
    area = np.trapezoid(curve["sensitivity"], 1 - curve["specificity"])
    assert area == pytest.approx(metrics.roc_auc_score(malignant, score))


def test_bad_input_is_named():
    with pytest.raises(OneClassError, match="all 3 rows are benign and none is malignant"):
        classification_scores([False] * 3, [0.1, 0.2, 0.3])
    with pytest.raises(OneClassError, match="none is benign"):
        roc_curve([True] * 3, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"\(first at row 1: 2.3\): if they are logits"):
        classification_scores([True, False], [0.1, 2.3])
    with pytest.raises(ValueError, match="NaN or infinite"):
        classification_scores([True, False], [0.1, np.nan])
    with pytest.raises(ValueError, match="2 values but 3 group labels"):
        classification_scores([True, False, True], [0.1, 0.2])
    with pytest.raises(ValueError, match="different indexes"):
        probability = pd.Series([0.1, 0.2], index=["b", "a"])
        classification_scores(pd.Series([True, False], index=["a", "b"]), probability)
