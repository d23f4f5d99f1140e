"""One question, several samples."""

import numpy as np
import pandas as pd
import pytest

from iavlib import stats


def sample(shift: float, n: int = 60, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    malignant = np.arange(n) % 3 == 0
    value = generator.normal(size=n) + shift * malignant
    return pd.DataFrame({"v": value, "malignant": malignant, "cluster": np.arange(n) // 2})


def test_each_row_is_the_association_of_its_sample():
    samples = {"a": (sample(-2), "v"), "b": (sample(0, seed=1), "v")}
    table = stats.compare_associations(samples, n_boot=200)
    single = stats.association(*(sample(-2)[c] for c in ("v", "malignant", "cluster")), n_boot=200)
    assert table.loc["a", "cohens_d"] == single.cohens_d.value < -1
    assert (table.loc["a", "ci_low"], table.loc["a", "ci_high"]) == (
        single.cohens_d.low,
        single.cohens_d.high,
    )
    assert table.loc["a", "p_holm"] == pytest.approx(2 * table.loc["a", "p"])
    assert table.loc["b", "p_holm"] == table.loc["b", "p"] > 0.05


def test_released_formula_squares_the_variances():
    first, second = np.array([0.0, 0.2, 0.4]), np.array([0.3, 0.5, 0.7])
    variance = 0.04
    assert stats.cohens_d(first, second) == pytest.approx(-0.3 / np.sqrt(variance))
    released = stats.cohens_d_of_squared_variances(first, second)
    assert released == pytest.approx(-0.3 / np.sqrt(variance**2))


def pairs_table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    tools = generator.choice(["T1", "T2"], (80, 2))
    return pd.DataFrame(
        {
            "image_id": np.arange(80) // 2,
            "tool_1": tools[:, 0],
            "tool_2": tools[:, 1],
            "skill_1": "S1",
            "skill_2": "S1",
            "annotator_1": "A",
            "annotator_2": "B",
            "dice": generator.uniform(size=80) + (tools[:, 0] == tools[:, 1]),
        }
    )


def test_factors_that_can_be_used():
    pairs = pairs_table()
    assert stats.recorded_factors(pairs) == ["annotator", "tool"]
    pairs.loc[3, "tool_2"] = None
    assert stats.recorded_factors(pairs) == ["annotator"]


def test_within_and_between_only_where_there_are_both():
    pairs = pairs_table()
    table = stats.compare_within_between(pairs, ["annotator", "tool"], n_boot=50)
    assert table.index.tolist() == ["tool"]
    single = stats.within_between(pairs, "tool", n_boot=50)
    assert table.loc["tool", "difference"] == single.difference.value > 0.5
    assert table.loc["tool", "p_holm"] == pytest.approx(single.mann_whitney.p)
    assert stats.compare_within_between(pairs, ["annotator"]).empty


def test_small_samples_are_left_out():
    samples = {"large": (sample(-2), "v"), "small": (sample(-2).head(4), "v")}
    table = stats.compare_associations(samples, n_boot=20, min_n=3)
    assert table.index.tolist() == ["large"]
    with pytest.raises(ValueError, match="no sample has 30 malignant"):
        stats.compare_associations(samples, min_n=30)


def test_terms_that_are_determined():
    frame = sample(0).assign(tool=["T1", "T2", "T3"] * 20, same="x")
    frame["copy"] = frame["tool"].map({"T1": "a", "T2": "b", "T3": "c"})
    frame["other"] = ["u", "v"] * 30
    chosen = stats.identified_terms(frame, "v ~ cluster", ["tool", "copy", "same", "other"])
    assert chosen == ["tool", "other"]
    # Every third row is malignant, and T1: the tool is determined by the label.
    assert stats.identified_terms(frame, "v ~ malignant", ["tool"]) == []
    with pytest.raises(ValueError, match="60 rows have no gone"):
        stats.identified_terms(frame.assign(gone=None), "v ~ cluster", ["gone"])


def test_a_mixed_model_that_the_data_cannot_tell_says_so():
    frame = sample(0).assign(image_id=np.arange(60))
    with pytest.raises(stats.NotIdentifiedError, match="every inner group has one row"):
        stats.mixed_effects_model(frame, "v ~ malignant", outer="cluster")
    with pytest.raises(stats.NotIdentifiedError, match="every outer group has one member"):
        stats.mixed_effects_model(frame, "v ~ malignant", outer="image_id", inner=None)
