"""Agreement within and between factor levels, on tables small enough to average by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from iavlib.stats import factor_matrix, factor_pair, natural_key


@pytest.fixture
def pairs():
    """Six mask pairs of four images; the order within a pair is arbitrary."""
    return pd.DataFrame(
        {
            "image_id": ["i1", "i1", "i2", "i3", "i3", "i4"],
            "annotator_1": ["A10", "A9", "A9", "A10", "A2", "A9"],
            "annotator_2": ["A9", "A10", "A9", "A2", "A10", "A9"],
            "dice": [0.6, 0.8, 0.9, 0.5, 0.7, 1.0],
        }
    )


def many_pairs(n=300, seed=0):
    """Two tools; agreement .9 within a tool and .7 between, plus an image effect."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, n)
    tools = rng.choice(["T1", "T2"], size=(n, 2))
    within = tools[:, 0] == tools[:, 1]
    dice = 0.7 + 0.2 * within + rng.normal(0, 0.05, 100)[images] + rng.normal(0, 0.03, n)
    return pd.DataFrame(
        {"image_id": images, "tool_1": tools[:, 0], "tool_2": tools[:, 1], "dice": dice}
    )


def test_numbers_in_labels_count_as_numbers():
    labels = ["A10", "A9", "A2", "B1", "A100", "A"]
    assert sorted(labels, key=natural_key) == ["A", "A2", "A9", "A10", "A100", "B1"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="AT0159-", max_size=5)))
def test_natural_order_is_defined_for_any_labels(labels):
    backwards = list(reversed(labels))
    assert sorted(backwards, key=natural_key) == sorted(labels, key=natural_key)


def test_pairs_are_unordered_and_smaller_first(pairs):
    named = factor_pair(pairs, "annotator")
    assert named.tolist() == ["A9-A10", "A9-A10", "A9-A9", "A2-A10", "A2-A10", "A9-A9"]
    assert named.name == "annotator_pair"
    assert named.index.equals(pairs.index)


def test_matrix_by_hand(pairs):
    result = factor_matrix(pairs, "annotator", n_boot=50)
    assert result.cells.index.tolist() == ["A2-A10", "A9-A9", "A9-A10"]
    assert result.cells["mean"].tolist() == pytest.approx([0.6, 0.95, 0.7])
    assert result.cells["n"].tolist() == [2, 2, 2]
    assert result.cells["n_clusters"].tolist() == [1, 2, 1]
    assert result.cells["within"].tolist() == [False, True, False]
    assert result.matrix.index.tolist() == ["A2", "A9", "A10"]
    pd.testing.assert_frame_equal(result.matrix, result.matrix.T)
    assert result.matrix.loc["A10", "A2"] == pytest.approx(0.6)
    assert np.isnan(result.matrix.loc["A2", "A9"])
    assert result.counts.loc["A9", "A10"] == 2
    assert result.counts.loc["A2", "A2"] == 0


def test_few_clusters_get_no_interval(pairs):
    assert factor_matrix(pairs, "annotator", n_boot=50).cells["ci_low"].isna().all()
    relaxed = factor_matrix(pairs, "annotator", n_boot=50, min_clusters=2).cells
    assert relaxed["ci_low"].notna().tolist() == [False, True, False]


def test_swapping_masks_changes_nothing():
    pairs = many_pairs()
    swapped = pairs.rename(columns={"tool_1": "tool_2", "tool_2": "tool_1"})
    straight = factor_matrix(pairs, "tool", n_boot=50)
    turned = factor_matrix(swapped, "tool", n_boot=50)
    pd.testing.assert_frame_equal(straight.matrix, turned.matrix)
    pd.testing.assert_frame_equal(straight.cells, turned.cells)


def test_intervals_hold_the_planted_agreement_as_often_as_they_say():
    truth = pd.Series({"T1-T1": 0.9, "T1-T2": 0.7, "T2-T2": 0.9})
    covered = []
    for seed in range(50):
        cells = factor_matrix(many_pairs(seed=seed), "tool", n_boot=300).cells
        covered.append(cells["ci_low"].lt(truth) & cells["ci_high"].gt(truth))
    assert 0.87 <= np.mean(covered) <= 0.99


def test_errors(pairs):
    with pytest.raises(KeyError, match="no column 'tool_1' in the pairs; they have image_id"):
        factor_matrix(pairs, "tool")
    with pytest.raises(KeyError, match="no column 'hd'"):
        factor_matrix(pairs, "annotator", "hd")
    with pytest.raises(ValueError, match="1 of 6 values of dice are NaN"):
        factor_matrix(pairs.replace({"dice": {0.6: np.nan}}), "annotator")
    with pytest.raises(ValueError, match="1 of 6 rows have no annotator_2"):
        factor_matrix(pairs.assign(annotator_2=["A9", None, "A9", "A2", "A2", "A9"]), "annotator")
