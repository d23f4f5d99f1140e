"""Holm's correction: R's p.adjust, the definition, and its properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from iavlib.stats import holm

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(
    lambda p: pd.Series(p, index=[f"test {i}" for i in range(len(p))])
)


def test_as_r():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") gives 0.05 0.08 0.09 0.09 0.09.
    table = holm(pd.Series([0.01, 0.02, 0.03, 0.04, 0.05], index=list("abcde")))
    assert table["p_holm"].tolist() == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert table["rejected"].tolist() == [True, False, False, False, False]


def test_four_hypotheses_in_any_order():
    # Step down from 0.005 at 0.05/4 and 0.01 at 0.05/3; 0.03 fails at 0.05/2 and stops the rest,
    # although 0.04 alone would pass at 0.05.
    table = holm(pd.Series({"H1": 0.01, "H2": 0.04, "H3": 0.03, "H4": 0.005}))
    assert table.index.tolist() == ["H1", "H2", "H3", "H4"]
    assert table["p_holm"].tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert table["rejected"].tolist() == [True, False, False, True]


@settings(deadline=None, max_examples=30)
@given(p_values)
def test_bounds_order_and_definition(p):
    table = holm(p)
    assert (table["p_holm"] >= table["p"] - 1e-15).all()
    assert (table["p_holm"] <= np.minimum(1, len(p) * table["p"]) + 1e-12).all()
    ordered = table.sort_values("p")
    assert ordered["p_holm"].is_monotonic_increasing
    steps = np.arange(len(p), 0, -1) * ordered["p"].to_numpy()
    expected = np.minimum(1, np.maximum.accumulate(steps))
    np.testing.assert_allclose(ordered["p_holm"], expected)


@settings(deadline=None, max_examples=30)
@given(p_values, st.floats(0.001, 0.5))
def test_rejected_means_corrected_below_alpha(p, alpha):
    table = holm(p, alpha)
    clear = np.abs(table["p_holm"] - alpha) > 1e-9
    assert (table["rejected"] == (table["p_holm"] <= alpha))[clear].all()


def test_one_test_needs_no_correction():
    assert holm(pd.Series({"only": 0.04}))["p_holm"].item() == 0.04


@pytest.mark.parametrize(
    ("p", "error", "message"),
    [
        (pd.Series([], dtype=float), ValueError, "0 of 0 p-values"),
        (pd.Series({"a": np.nan, "b": 0.1}), ValueError, "1 of 2 p-values are missing or outside"),
        (pd.Series({"a": 1.2}), ValueError, "{'a': 1.2}"),
    ],
)
def test_errors(p, error, message):
    with pytest.raises(error, match=message):
        holm(p)
