"""The promise of conformal intervals, on exchangeable data of any shape; ranks by counting."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from iavlib import stats


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [
        (9, 0.1, 9),  # ceil(10 * .9), which is 9.000000000000002 in binary
        (10, 0.1, 10),
        (19, 0.05, 19),
        (18, 0.05, 19),  # more than there are: infinite
        (99, 0.1, 90),
        (100, 0.1, 91),
        (1000, 0.2, 801),
        (0, 0.5, 1),
    ],
)
def test_rank_with_the_finite_sample_correction(n, alpha, rank):
    assert stats.conformal_rank(n, alpha) == rank


@given(st.integers(0, 400), st.integers(1, 99))
def test_rank_in_whole_numbers(n, percent):
    exact = -((n + 1) * (percent - 100) // 100)  # ceil of (n + 1)(1 - alpha), no rounding
    assert stats.conformal_rank(n, percent / 100) == exact


def test_quantile_is_a_score_or_infinite():
    scores = [0.3, 0.1, 0.2, 0.4]
    assert stats.conformal_quantile(scores, 0.25) == 0.4
    assert stats.conformal_quantile(scores, 0.5) == 0.3
    assert stats.conformal_quantile(scores, 0.1) == np.inf


def test_intervals_by_hand():
    fitted = stats.split_conformal([0.5, 0.6, 0.9], [0.4, 0.65, 0.6], alpha=0.5)
    assert fitted.margins == {"all": pytest.approx(0.1)}  # the second of .05, .1, .3
    predicted = pd.Series([0.5, 0.95, 0.02], index=list("abc"))
    table = fitted.intervals(predicted)
    assert table["lower"].to_dict() == pytest.approx({"a": 0.4, "b": 0.85, "c": 0.0})
    assert table["upper"].to_dict() == pytest.approx({"a": 0.6, "b": 1.0, "c": 0.12})
    open_ended = stats.split_conformal([0.5], [0.4], alpha=0.5, bounds=None)
    assert open_ended.intervals([0.95])["upper"].iloc[0] == pytest.approx(1.05)


def test_too_few_rows_promise_the_whole_range():
    fitted = stats.split_conformal([0.5] * 5, [0.5] * 5, alpha=0.1)
    assert fitted.intervals([0.3, 0.9]).to_numpy().tolist() == [[0, 1], [0, 1]]
    unbounded = stats.split_conformal([0.5] * 5, [0.5] * 5, alpha=0.1, bounds=None)
    assert unbounded.intervals([0.3]).to_numpy().tolist() == [[-np.inf, np.inf]]


@settings(max_examples=60, deadline=None)
@given(
    truths=st.lists(st.integers(0, 20), min_size=4, max_size=30),
    percent=st.integers(5, 60),
    seed=st.integers(0, 10**6),
)
def test_the_promise_holds_for_any_exchangeable_rows(truths, percent, seed):
    """Leaving out each row in turn is the average over exchangeable orders: no randomness left."""
    true = np.array(truths) / 20  # many ties
    predicted = np.random.default_rng(seed).uniform(-0.5, 1.5, len(true))
    held = []
    for left_out in range(len(true)):
        rest = np.arange(len(true)) != left_out
        fitted = stats.split_conformal(true[rest], predicted[rest], percent / 100)
        interval = fitted.intervals(predicted[~rest])
        held.append(
            stats.interval_coverage(true[~rest], *interval.to_numpy().T)["coverage"].iloc[0]
        )
    assert np.mean(held) >= 1 - percent / 100 - 1e-12


@settings(max_examples=60, deadline=None)
@given(
    truths=st.lists(st.integers(0, 20), min_size=4, max_size=30),
    percent=st.integers(5, 60),
    seed=st.integers(0, 10**6),
)
def test_so_does_that_of_quantiles_even_when_they_cross(truths, percent, seed):
    true = np.array(truths) / 20
    lower, upper = np.random.default_rng(seed).uniform(-0.5, 1.5, (2, len(true)))
    held = []
    for left_out in range(len(true)):
        rest = np.arange(len(true)) != left_out
        fitted = stats.conformalized_quantiles(true[rest], lower[rest], upper[rest], percent / 100)
        interval = fitted.intervals(lower[~rest], upper[~rest])
        held.append(
            stats.interval_coverage(true[~rest], *interval.to_numpy().T)["coverage"].iloc[0]
        )
    assert np.mean(held) >= 1 - percent / 100 - 1e-12


def skewed(n, seed, spread=None):
    """Rows of two groups, one of them three times as hard."""
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < 0.2
    noise = generator.normal(size=n) * np.where(hard, 0.15, 0.05)
    predicted = generator.uniform(0.4, 0.9, n)
    return np.clip(predicted + noise, 0, 1), predicted, np.where(hard, "hard", "easy")


def coverage_of(fit, repeats=150):
    rows = []
    for seed in range(repeats):
        true, predicted, group = skewed(500, seed)
        fitted = fit(true[:200], predicted[:200], group[:200])
        given_groups = group[200:] if len(fitted.margins) > 1 else None
        interval = fitted.intervals(predicted[200:], groups=given_groups)
        table = stats.interval_coverage(true[200:], *interval.to_numpy().T, groups=group[200:])
        rows.append(table["coverage"])
    return pd.DataFrame(rows).mean()


def test_coverage_on_average_and_within_groups():
    marginal = coverage_of(lambda t, p, g: stats.split_conformal(t, p, alpha=0.1))
    mondrian = coverage_of(lambda t, p, g: stats.split_conformal(t, p, alpha=0.1, groups=g))
    assert 0.895 < marginal["all"] < 0.915
    assert marginal["hard"] < 0.75  # what the easy ones pay for
    assert 0.895 < mondrian["hard"] < 0.95 and 0.895 < mondrian["easy"] < 0.92


def test_quantiles_make_intervals_as_wide_as_needed():
    true, predicted, group = skewed(4000, 0)
    width = np.where(group == "hard", 0.15, 0.05) * 1.2  # too narrow for 90 %
    fitted = stats.conformalized_quantiles(
        true[:2000], (predicted - width)[:2000], (predicted + width)[:2000], alpha=0.1
    )
    interval = fitted.intervals((predicted - width)[2000:], (predicted + width)[2000:])
    table = stats.interval_coverage(true[2000:], *interval.to_numpy().T, groups=group[2000:])
    assert table.loc["all", "coverage"] == pytest.approx(0.9, abs=0.02)
    assert table.loc["hard", "width_mean"] > 1.5 * table.loc["easy", "width_mean"]
    plain = stats.split_conformal(true[:2000], predicted[:2000], alpha=0.1)
    even = stats.interval_coverage(true[2000:], *plain.intervals(predicted[2000:]).to_numpy().T)
    assert table.loc["all", "width_mean"] < even.loc["all", "width_mean"]


def test_wide_quantiles_shrink_and_never_turn_over():
    fitted = stats.conformalized_quantiles([0.5] * 20, [0.1] * 20, [0.9] * 20, alpha=0.1)
    assert fitted.margins["all"] == pytest.approx(-0.4)
    table = fitted.intervals([0.1, 0.4], [0.9, 0.6])
    assert table.to_numpy() == pytest.approx(np.full((2, 2), 0.5))


def test_a_group_without_calibration_is_given_everything():
    fitted = stats.split_conformal([0.5] * 20, [0.5] * 20, alpha=0.1, groups=["a"] * 18 + ["b"] * 2)
    table = fitted.intervals([0.5, 0.5, 0.5], groups=["a", "b", "new"])
    assert table["upper"].tolist() == [0.5, 1, 1]
    assert fitted.sizes == {"a": 18, "b": 2}


def test_folds_are_calibrated_on_one_another():
    true, predicted, _ = skewed(2000, 3)
    folds = np.arange(2000) % 5
    table = stats.out_of_fold_intervals(true, predicted, folds, alpha=0.2)
    covered = stats.interval_coverage(true, table["lower"], table["upper"], groups=folds)
    assert covered.loc["all", "coverage"] == pytest.approx(0.8, abs=0.02)
    others = stats.split_conformal(true[folds != 2], predicted[folds != 2], alpha=0.2)
    assert others.intervals(predicted[folds == 2]).to_numpy() == pytest.approx(
        table[folds == 2].to_numpy()
    )


def test_coverage_has_the_exact_binomial_interval_of_the_textbook():
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 5: 81 of 263.
    true = np.where(np.arange(263) < 81, 0.5, 0.9)
    row = stats.interval_coverage(true, np.full(263, 0.4), np.full(263, 0.6)).loc["all"]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    # No success among n: the upper limit solves (1 - p)^n = .025.
    none = stats.interval_coverage([0.9] * 20, [0.4] * 20, [0.6] * 20).loc["all"]
    assert (none["ci_low"], none["ci_high"]) == (0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_coverage_counts_both_sides():
    table = stats.interval_coverage([0.1, 0.5, 0.9, 0.5], [0.2] * 4, [0.8] * 4, [*"xxy", None])
    assert list(table.index) == ["x", "y", "missing", "all"]
    assert list(table["covered"]) == [1, 0, 1, 2]
    assert (table.loc["all", "below"], table.loc["all", "above"]) == (0.25, 0.25)
    assert table.loc["x", "width_mean"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.split_conformal([1.2], [0.5]), "outside 0 to 1"),
        (lambda: stats.split_conformal([0.5], [0.5], alpha=1), "alpha must lie between 0 and 1"),
        (lambda: stats.split_conformal([0.5, 0.1], [0.5]), "2 true values but 1 predicted"),
        (lambda: stats.split_conformal([0.5], [np.nan]), "1 of 1 predicted values are NaN"),
        (lambda: stats.split_conformal([0.5], [0.5], groups=[None]), "labels are missing"),
        (
            lambda: stats.split_conformal([0.5], [0.5], 0.5).intervals([0.1], groups=["a"]),
            "calibrated without groups",
        ),
        (
            lambda: stats.split_conformal([0.5], [0.5], 0.5, ["a"]).intervals([0.1]),
            "calibrated by group",
        ),
        (
            lambda: stats.split_conformal([0.5], [0.5], 0.5).intervals([0.1], [0.2]),
            "calibrated on residuals: give one prediction",
        ),
        (lambda: stats.interval_coverage([0.5], [0.6], [0.4]), "row 0 has no interval"),
        (lambda: stats.out_of_fold_intervals([0.5], [0.5], ["a"]), "one fold only"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def heteroscedastic(n, seed, ends=(0, 1)):
    """Agreement whose scatter shrinks as its prediction grows, as that of annotators does."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0.3, 0.95, n)
    return np.clip(predicted + rng.normal(size=n) * (1.05 - predicted) * 0.5, *ends), predicted


@pytest.mark.parametrize("kind", ["mondrian", "cqr"])
def test_adaptive_intervals_hold_in_every_fifth_where_equal_ones_do_not(kind):
    true, predicted = heteroscedastic(4000, seed=1, ends=(-9, 9))
    fifth = pd.qcut(predicted, 5, labels=False)
    folds, coverage = np.arange(4000) % 4, {}
    for name in ("equal", kind):
        ends = stats.out_of_fold_intervals(true, predicted, folds, kind=name, bounds=None)
        coverage[name] = stats.interval_coverage(true, ends["lower"], ends["upper"], fifth)
    plain = coverage["equal"]["coverage"]
    assert plain[0] < 0.82 < 0.97 < plain[4]
    assert coverage[kind]["coverage"].between(0.87, 0.94).all()
    assert coverage[kind].loc["all", "width_mean"] < coverage["equal"].loc["all", "width_mean"]


@pytest.mark.parametrize("kind", ["mondrian", "cqr"])
@pytest.mark.parametrize("n", [20, 105])
def test_small_calibration_sets_keep_the_promise_on_average(kind, n):
    inside = []
    for seed in range(60):
        true, predicted = heteroscedastic(n + 200, seed)
        fitted = stats.INTERVALS[kind](true[:n], predicted[:n], 0.1)
        ends = fitted.intervals(predicted[n:])
        inside.append(((true[n:] >= ends["lower"]) & (true[n:] <= ends["upper"])).mean())
    assert np.mean(inside) > 0.9 - 3 * np.std(inside) / np.sqrt(60)


def test_mondrian_is_a_split_conformal_of_each_range_and_needs_enough_rows():
    true, predicted = heteroscedastic(100, seed=2)
    fitted = stats.mondrian_intervals(true, predicted, 0.1, n_groups=2)
    low = predicted < np.median(predicted)
    alone = stats.split_conformal(true[low], predicted[low], 0.1)
    some = pd.Series([0.4, 0.5], index=["x", "y"])
    pd.testing.assert_frame_equal(fitted.intervals(some), alone.intervals(some))
    assert [len(stats.mondrian_intervals(true[:n], predicted[:n]).edges) for n in (9, 36, 100)] == [
        0,
        1,
        4,
    ]
    constant = stats.mondrian_intervals(true, np.full(100, 0.5))
    assert constant.edges == () and np.isfinite(list(constant.conformal.margins.values())).all()


def test_lines_of_quantiles_are_those_of_another_program():
    from statsmodels.regression.quantile_regression import QuantReg

    true, predicted = heteroscedastic(300, seed=3)
    fitted = stats.quantile_intervals(true, predicted, 0.2, bounds=None, seed=5)
    half = np.random.default_rng(5).permutation(300)[:150]
    design = np.column_stack([np.ones(150), predicted[half]])
    for line, quantile in zip(fitted.lines, (0.1, 0.9), strict=True):
        loss = lambda b, q=quantile: np.mean(  # noqa: E731
            np.maximum(q * (true[half] - design @ b), (q - 1) * (true[half] - design @ b))
        )
        other = QuantReg(true[half], design).fit(q=quantile, p_tol=1e-9, max_iter=5000).params
        assert loss(np.array(line)) <= loss(other) + 1e-9
        np.testing.assert_allclose(line, other, atol=0.02)


def test_an_unknown_kind_of_intervals_is_refused():
    with pytest.raises(ValueError, match="kind must be one of equal, mondrian, cqr"):
        stats.out_of_fold_intervals([0.5, 0.6], [0.5, 0.6], [0, 1], kind="narrow")
