"""What z-normalising each model's errors does to a test between models."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats as scipy_stats

from iavlib import stats
from iavlib.stats.model_comparison import ERROR_SHAPES


def three_models(factor=1.0, n=60, seed=0):
    generator = np.random.default_rng(seed)
    errors = np.abs(generator.normal(size=(3, n)))
    errors[2] *= factor
    return {"first": errors[0], "second": errors[1], "third": errors[2]}


def test_a_plain_difference_disappears():
    table = stats.z_normalised_kruskal(three_models(factor=4.0))
    assert list(table.index) == ["as measured", "z-normalised"]
    assert table.loc["as measured", "p"] < 1e-6
    normalised = table.loc["z-normalised"]
    assert normalised["p"] > 0.9
    assert (normalised["mean_range"], normalised["sd_ratio"]) == pytest.approx((0, 1), abs=1e-12)
    theirs = scipy_stats.kruskal(*map(scipy_stats.zscore, three_models(factor=4.0).values()))
    assert (normalised["h"], normalised["p"]) == pytest.approx((theirs.statistic, theirs.pvalue))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-10, 10))
def test_the_normalised_test_cannot_see_size_or_place(seed, factor, shift):
    errors = three_models(seed=seed, n=20)
    changed = errors | {"third": factor * errors["third"] + shift}
    before = stats.z_normalised_kruskal(errors).loc["z-normalised", "h"]
    assert stats.z_normalised_kruskal(changed).loc["z-normalised", "h"] == pytest.approx(before)


def test_power_with_and_without():
    table = stats.kruskal_power([0.0, 0.2], n=10, n_simulations=600)
    rejected = table["rejected"].unstack("errors")
    assert rejected.loc[0.0, "as measured"] == pytest.approx(0.04, abs=0.025)
    assert rejected.loc[0.2, "as measured"] > 0.9
    assert (rejected["z-normalised"] == 0).all()
    # Of a normal sample's H a share of 1 - 3 / pi is left; its median with two degrees is 1.386.
    h = stats.kruskal_power([0.0], n=200, n_simulations=400).loc[(0.0, "z-normalised"), "h_median"]
    assert h == pytest.approx((1 - 3 / np.pi) * 1.386, rel=0.15)


def test_skewed_errors_alarm_falsely_whatever_the_difference():
    table = stats.kruskal_power([0.0, 0.3], n=450, shape="squared errors", n_simulations=200)
    rejected = table["rejected"].xs("z-normalised", level="errors")
    assert (rejected > 0.2).all()
    assert rejected.loc[0.0] == rejected.loc[0.3]


@pytest.mark.parametrize("shape", ERROR_SHAPES)
def test_simulated_errors_have_mean_one(shape):
    drawn = ERROR_SHAPES[shape](np.random.default_rng(0), (200_000,))
    assert drawn.mean() == pytest.approx(1, abs=0.02)


def test_unknown_shapes_are_refused():
    with pytest.raises(ValueError, match="shape must be one of run means"):
        stats.kruskal_power(shape="round")
    with pytest.raises(ValueError, match="two models"):
        stats.kruskal_power(n_models=1)
