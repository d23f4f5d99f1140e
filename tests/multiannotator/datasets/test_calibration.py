"""Reliability of agreement maps."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from iavlib.multiannotator import reliability

shares = arrays(float, 40, elements=st.floats(0, 1))


@settings(max_examples=60, deadline=None)
@given(shares, shares)
def test_error_is_the_weighted_distance(predicted, observed):
    found = reliability(predicted, observed, where="all")
    table = found.table
    assert table["n"].sum() == 40
    assert 0 <= found.error <= 1 + 1e-12
    by_hand = (table["n"] * (table["predicted"] - table["observed"]).abs()).sum() / 40
    assert found.error == pytest.approx(by_hand)
    assert (table["predicted"] <= table["high"] + 1e-6).all()
    assert (table["predicted"] >= table["low"] - 1e-6).all()
    # Bins only ever hide what lies between single pixels.
    assert found.error <= np.abs(predicted - observed).mean() + 1e-9
    assert reliability(observed, observed, where="all").error < 1e-9


def test_a_constant_map():
    found = reliability(np.full(10, 0.7), np.repeat([0.0, 1.0], 5), where="all")
    assert found.error == pytest.approx(0.2)
    assert found.table[["low", "high"]].iloc[0].tolist() == pytest.approx([0.7, 0.8])


def test_background_would_hide_what_is_wrong():
    predicted, observed = np.zeros(1000), np.zeros(1000)
    predicted[:10], observed[:10] = 0.9, 0.4
    assert reliability(predicted, observed, where="all").error == pytest.approx(0.005)
    assert reliability(predicted, observed).error == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("predicted", "observed", "options", "told"),
    [
        ([0.5], [0.5, 1], {}, "shapes differ"),
        ([1.5], [0.5], {}, "predicted shares"),
        ([0.5], [np.nan], {}, "observed shares"),
        ([0.5], [0.5], {"where": "edge"}, "'edge'"),
        ([0.0], [0.0], {}, "no pixel counts"),
    ],
)
def test_what_makes_no_sense_is_told(predicted, observed, options, told):
    with pytest.raises(ValueError, match=told):
        reliability(predicted, observed, **options)
