"""Confusion matrices, errors in the right orientation, rankings, Dice tables."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix

from iavlib.core.errors import LabelError
from iavlib.masks import dice, ged_released, generalised_energy_distance, soft_dice
from iavlib.multiannotator import (
    confusion_counts,
    confusion_error,
    dice_matrix,
    error_rates,
    incompetence,
    random_annotators,
    rank_by_competence,
    rate_correlations,
    simulate,
    true_confusion,
)

OVER = np.array([[0.7, 0.0], [0.3, 1.0]])
UNDER = np.array([[1.0, 0.6], [0.0, 0.4]])


def test_columns_are_true_classes(make_set):
    truth = np.zeros((1, 10, 10), np.int8)
    truth[0, :5] = 1
    labels = np.zeros((1, 1, 10, 10), np.int8)
    labels[0, 0, :7] = 1
    labels[0, 0, 0] = 0
    made = make_set(n=1, annotators=1, side=10, truth=truth, labels=labels)
    found = true_confusion(made).overall[0]
    assert np.allclose(found, [[0.6, 0.2], [0.4, 0.8]])
    rates = error_rates(found[None], ["R0"]).loc["R0"]
    assert rates.to_dict() == pytest.approx(
        {"false_positive_rate": 0.4, "false_negative_rate": 0.2}
    )


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int8, (2, 5, 6), elements=st.integers(0, 3)),
    arrays(np.int8, (2, 5, 6), elements=st.integers(0, 3)),
)
def test_counts_are_those_of_scikit_learn_transposed(truth, labels):
    counts = confusion_counts(truth, labels, 4)
    for true, given_, own in zip(truth, labels, counts, strict=True):
        theirs = confusion_matrix(true.ravel(), given_.ravel(), labels=range(4))
        assert np.array_equal(own, theirs.T)


def test_missing_labels_and_classes_are_unknown(make_set):
    labels = make_set().labels.copy()
    labels[0, 1] = -1
    truth = make_set().truth.copy()
    truth[2] = 0
    found = true_confusion(make_set(labels=labels, truth=truth))
    assert found.by_image.shape == (6, 3, 2, 2)
    assert np.isnan(found.by_image[0, 1]).all()
    assert np.isnan(found.by_image[2, :, :, 1]).all()
    assert np.allclose(found.overall.sum(axis=1), 1)
    with pytest.raises(LabelError, match="no truth"):
        true_confusion(make_set(truth=None))


def test_noise_makes_error_rates_grow_in_proportion():
    truth = np.zeros((1, 56, 56), np.int8)
    truth[0, 15:40, 20:35] = 1
    for kind in ("over", "under", "wrong", "blank"):
        full = confusion_counts(truth, simulate(truth, [kind], 2)[:, 0], 2)
        half = confusion_counts(truth, simulate(truth, [kind], 2, level=0.5)[:, 0], 2)
        wrong = [counts[0, 0, 1] + counts[0, 1, 0] for counts in (full, half)]
        assert wrong[1] == pytest.approx(wrong[0] / 2, abs=1)


def test_error_is_a_root_mean_square():
    true = np.stack([OVER, UNDER])
    assert confusion_error(true, true) == 0
    identity = np.stack([np.eye(2)] * 2)
    by_hand = np.sqrt((2 * 0.3**2 + 2 * 0.6**2) / 8)
    assert confusion_error(identity, true) == pytest.approx(by_hand)
    unknown = true.copy()
    unknown[1, :, 1] = np.nan
    assert confusion_error(identity, unknown) == pytest.approx(np.sqrt(2 * 0.3**2 / 6))


def test_a_transposed_matrix_is_refused():
    with pytest.raises(ValueError, match=r"columns of the estimated .* \[label, truth\]"):
        confusion_error(OVER.T, OVER)
    with pytest.raises(ValueError, match="columns of the true"):
        confusion_error(OVER, OVER.T)
    with pytest.raises(ValueError, match="shapes"):
        confusion_error(OVER, np.stack([OVER]))
    with pytest.raises(ValueError, match="no true matrix"):
        confusion_error(OVER, np.full((2, 2), np.nan))


def test_incompetence_and_ranking():
    assert incompetence(np.stack([np.eye(2), OVER, UNDER])).tolist() == pytest.approx(
        [0, 0.15, 0.3]
    )
    unknown = OVER.copy()
    unknown[:, 1] = np.nan
    assert incompetence(unknown) == pytest.approx(0.3)
    assert np.isnan(incompetence(np.full((2, 2), np.nan)))
    true = np.stack([UNDER, np.eye(2), OVER])
    ranking = rank_by_competence(0.5 * true + 0.25, true, ["u", "g", "o"])
    assert list(ranking.table.index) == ["g", "o", "u"]
    assert ranking.spearman == pytest.approx(1)
    assert rank_by_competence(true[[1, 0, 2]], true, ["u", "g", "o"]).spearman == pytest.approx(-1)


def test_an_identity_for_everybody_ranks_and_correlates_with_nothing():
    many = random_annotators(6)
    truth = np.zeros((2, 28, 28), np.int8)
    truth[:, 8:20, 9:16] = 1
    labels = simulate(truth, many, 2)
    true = np.stack(
        [
            counts / counts.sum(axis=0)
            for counts in confusion_counts(truth[:, None], labels, 2).sum(axis=0)
        ]
    )
    names = [one.name for one in many]
    identity = np.stack([np.eye(2)] * 6)
    assert np.isnan(rank_by_competence(identity, true, names).spearman)
    identity += 1e-12
    rates = rate_correlations(identity, true, names)
    assert not any(value >= 0.8 for value in rates.values())
    good = rate_correlations(0.6 * true + 0.2, true, names)
    assert good == pytest.approx(dict.fromkeys(good, 1.0))


def test_dice_of_models_with_annotators(make_set):
    labels = make_set().labels.copy()
    labels[2, 1] = -1
    made = make_set(labels=labels)
    masks = made.structure("foreground")
    table = dice_matrix(np.where(masks == -1, 0, masks).transpose(1, 0, 2, 3), made)
    assert list(table.columns) == ["R0", "R1", "R2", "mean_vote"]
    assert np.allclose(np.diag(table.iloc[:, :3]), 1)
    five = [dice(masks[k, 0], masks[k, 1]) for k in range(6) if k != 2]
    assert table.loc["R0", "R1"] == pytest.approx(np.mean(five))
    vote = [dice(masks[k, 2] == 1, made.mean_map()[k] >= 0.5) for k in range(6)]
    assert table.loc["R2", "mean_vote"] == pytest.approx(np.mean(vote))


def test_soft_dice_of_models(make_set):
    made = make_set()
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    soft = np.random.default_rng(0).random((2, 6, 8, 8))
    table = dice_matrix(soft, made, models=["a", "b"], thresholds=levels)
    expected = [soft_dice(soft[1, k], made.mean_map()[k], levels) for k in range(6)]
    assert table.loc["b", "mean_vote"] == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="need thresholds"):
        dice_matrix(soft, made, models=["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        dice_matrix(soft[:, :5], made, models=["a", "b"], thresholds=levels)


def test_an_annotator_without_labels_has_no_dice(make_set):
    labels = make_set().labels.copy()
    labels[:, 1] = -1
    made = make_set(labels=labels)
    table = dice_matrix(np.zeros((1, 6, 8, 8), int), made, models=["m"])
    assert np.isnan(table.loc["m", "R1"])
    assert np.isfinite(table.loc["m", "mean_vote"])


def test_the_released_ged_is_largest_where_everything_agrees():
    one = np.zeros((6, 6), int)
    one[:3] = 1
    assert ged_released([one] * 3, [one] * 2) == pytest.approx(4)
    assert generalised_energy_distance([one] * 3, [one] * 2) == 0
    assert ged_released([1 - one] * 2, [one] * 2) == pytest.approx(2, abs=1e-5)
    assert generalised_energy_distance([1 - one] * 2, [one] * 2) == 2
    # One class alone agrees: the background of two disjoint corners.
    a, b = np.zeros((10, 10), int), np.zeros((10, 10), int)
    a[0, 0] = b[9, 9] = 1
    assert ged_released([a, a], [b, b]) == pytest.approx(2 + 2 * (0 + 2 * 98 / 198) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("samples", "references", "told"),
    [
        (np.zeros((1, 4, 4), int), np.zeros((2, 4, 4), int), "at least two"),
        (np.zeros((2, 4, 4), int), np.zeros((2, 4, 5), int), "shapes differ"),
        (np.full((2, 4, 4), 2), np.zeros((2, 4, 4), int), "from 0 to 1"),
    ],
)
def test_the_released_ged_refuses(samples, references, told):
    with pytest.raises(ValueError, match=told):
        ged_released(samples, references)
