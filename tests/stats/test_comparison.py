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


def test_a_mixed_model_that_the_data_cannot_tell_says_so():
    frame = sample(0).assign(image_id=np.arange(60))
    with pytest.raises(stats.NotIdentifiedError, match="every inner group has one row"):
        stats.mixed_effects_model(frame, "v ~ malignant", outer="cluster")
    with pytest.raises(stats.NotIdentifiedError, match="every outer group has one member"):
        stats.mixed_effects_model(frame, "v ~ malignant", outer="image_id", inner=None)
