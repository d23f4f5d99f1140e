"""First-order dominance: curves by hand, p-values against exact one-sided Kolmogorov-Smirnov."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from iavlib.stats import first_order_dominance


def run(malignant, other, n_permutations=20, **kwargs):
    values = np.r_[malignant, other].astype(float)
    flags = np.arange(len(values)) < len(malignant)
    return first_order_dominance(values, flags, n_permutations=n_permutations, **kwargs)


def test_curves_by_hand():
    # Values 1 2 2 | 2 4: at 1 the functions are 1/3 and 0, at 2 they are 1 and 1/2, at 4 both 1.
    result = run([1, 2, 2], [2, 4])
    np.testing.assert_allclose(result.curves["value"], [1, 2, 4])
    np.testing.assert_allclose(result.curves["malignant"], [1 / 3, 1, 1])
    np.testing.assert_allclose(result.curves["other"], [0, 1 / 2, 1])
    np.testing.assert_allclose(result.curves["difference"], [1 / 3, 1 / 2, 0], atol=1e-15)
    assert (result.gap, result.gap_at) == (0.5, 2)
    assert result.strict
    assert result.violation == 0
    assert np.isnan(result.violation_at)
    assert result.violation_share == 0


def test_a_violation_in_the_left_tail_is_located_and_measured():
    # The other group has one zero; from 0 up to 1 its function lies above the malignant one.
    result = run([1, 2, 3, 4], [0, 5, 6, 7])
    assert result.violation == 0.25
    assert result.violation_at == 0
    assert not result.strict
    # Differences -1/4, 0, 1/4, 1/2, 3/4, 1/2, 1/4 over steps of length one.
    assert result.violation_share == pytest.approx(0.25 / 2.5)


def test_several_violations():
    result = run([1, 4, 5], [0, 2, 6])
    differences = [-1 / 3, 0, -1 / 3, 0, 1 / 3, 0]
    np.testing.assert_allclose(result.curves["difference"], differences, atol=1e-15)
    assert (result.violation_at, result.gap_at) == (0, 5)


# SciPy's p-value, not looked at here, divides by zero for samples of one.
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
def test_both_directions_are_the_one_sided_ks_statistics(malignant, other):
    result = run(malignant, other, n_permutations=2)
    for alternative, mine in (("greater", result.gap), ("less", result.violation)):
        theirs = stats.ks_2samp(malignant, other, alternative=alternative, method="asymp").statistic
        assert mine == pytest.approx(theirs, abs=1e-12)
    turned = run(other, malignant, n_permutations=2)
    assert turned.gap == pytest.approx(result.violation, abs=1e-12)
    assert turned.violation == pytest.approx(result.gap, abs=1e-12)
    assert max(result.gap, result.violation) == pytest.approx(
        stats.ks_2samp(malignant, other, method="asymp").statistic, abs=1e-12
    )


def test_p_values_agree_with_exact_kolmogorov_smirnov():
    rng = np.random.default_rng(9)
    malignant, other = rng.normal(-0.4, 1, 15), rng.normal(0, 1.2, 20)
    result = run(malignant, other, n_permutations=5000)
    for alternative, mine in (("greater", result.p_gap), ("less", result.p_violation)):
        exact = stats.ks_2samp(malignant, other, alternative=alternative, method="exact").pvalue
        assert mine == pytest.approx(exact, abs=0.025)


def test_four_decisions():
    rng = np.random.default_rng(1)
    low, high = rng.normal(0, 1, 120), rng.normal(1, 1, 120)
    wide, narrow = rng.normal(0, 3, 200), rng.normal(0, 0.5, 200)
    assert run(low, high, 400).decision() == "other dominates"
    assert run(high, low, 400).decision() == "malignant dominates"
    assert run(wide, narrow, 400).decision() == "curves cross"
    assert run(low[:60], low[60:], 400).decision() == "no difference shown"
    with pytest.raises(ValueError, match="alpha"):
        run(low, high).decision(alpha=5)


def test_clusters_weaken_the_evidence():
    # Twenty patients, ten rows each, a patient effect and no difference between the groups.
    rng = np.random.default_rng(14)
    patients = np.repeat(np.arange(20), 10)
    flags = patients < 10
    p_rows, p_patients = [], []
    for _ in range(20):
        values = rng.normal(size=20)[patients] + 0.3 * rng.normal(size=200)
        args = {"n_permutations": 99, "seed": rng}
        p_rows.append(first_order_dominance(values, flags, **args).p_gap)
        p_patients.append(first_order_dominance(values, flags, patients, **args).p_gap)
    assert np.mean(p_patients) > 0.3
    assert np.mean(p_rows) < np.mean(p_patients) - 0.1


def test_table_and_seed():
    first = run([1, 2, 3], [2, 3, 4], 50, seed=3).to_frame()
    second = run([1, 2, 3], [2, 3, 4], 50, seed=3).to_frame()
    assert first.equals(second)
    assert len(first) == 1
    assert {"gap", "p_gap", "violation", "p_violation", "violation_share"} <= set(first)


def test_equal_samples_have_no_area():
    assert np.isnan(run([1, 2], [1, 2]).violation_share)
