"""The cluster bootstrap against SciPy's bootstrap and for coverage; Student's t interval."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from iavlib.stats import (
    association,
    bootstrap_mean,
    cluster_bootstrap,
    mean_interval,
    weighted_cohens_d,
)
from iavlib.stats.resampling import cluster_weights


def mean_of(values):
    return lambda weights: weights @ values / weights.sum(axis=1)


def clustered_sample(rng, n_clusters=30, size=4, spread=1.0):
    """Rows of a cluster share an effect as large as their own noise."""
    clusters = np.repeat(np.arange(n_clusters), size)
    values = rng.normal(0, spread, n_clusters)[clusters] + rng.normal(0, 1, len(clusters))
    return values, clusters


def test_weights_are_counts_of_whole_clusters():
    codes = np.array([0, 0, 1, 2, 2, 2])
    blocks = list(cluster_weights(codes, 3, 600, np.random.default_rng(3)))
    weights = np.concatenate(blocks)
    assert weights.shape == (600, 6)
    assert max(len(block) for block in blocks) < 600
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 3], weights[:, 5])
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(axis=1), 3)
    # A cluster is drawn once on average and left out with probability (2/3)^3.
    assert weights[:, 2].mean() == pytest.approx(1, abs=0.1)
    assert (weights[:, 2] == 0).mean() == pytest.approx(8 / 27, abs=0.05)


def test_rows_as_clusters_agree_with_scipy():
    values = np.random.default_rng(5).gamma(2, size=40)
    mine = cluster_bootstrap(mean_of(values), np.arange(40), 9999, seed=1)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(2)
    )
    expected = theirs.confidence_interval
    width = expected.high - expected.low
    assert mine.low == pytest.approx(expected.low, abs=0.04 * width)
    assert mine.high == pytest.approx(expected.high, abs=0.04 * width)
    assert mine.se == pytest.approx(theirs.standard_error, rel=0.04)


def test_standard_error_of_cluster_means():
    # Equal clusters: resampling rows of clusters is resampling cluster means, whose bootstrap
    # standard error is known: population sd of the means over the root of their number.
    values, clusters = clustered_sample(np.random.default_rng(8))
    means = values.reshape(30, 4).mean(axis=1)
    boot = cluster_bootstrap(mean_of(values), clusters, n_boot=8000)
    assert boot.estimate == pytest.approx(values.mean())
    assert boot.se == pytest.approx(means.std() / np.sqrt(30), rel=0.03)
    assert boot.n_clusters == 30


def test_several_statistics_share_the_draws():
    values, clusters = clustered_sample(np.random.default_rng(2))
    both = cluster_bootstrap(
        lambda w: np.stack([mean_of(values)(w), mean_of(2 * values)(w)], axis=-1), clusters, 300
    )
    alone = cluster_bootstrap(mean_of(values), clusters, 300)
    assert both.replicates.shape == (300, 2)
    assert both.low[0] == pytest.approx(alone.low)
    np.testing.assert_allclose(both.high[1], 2 * both.high[0])


def test_same_seed_same_interval_and_a_generator_moves_on():
    values, clusters = clustered_sample(np.random.default_rng(2))
    first = cluster_bootstrap(mean_of(values), clusters, 100, seed=7)
    again = cluster_bootstrap(mean_of(values), clusters, 100, seed=7)
    other = cluster_bootstrap(mean_of(values), clusters, 100, seed=8)
    np.testing.assert_array_equal(first.replicates, again.replicates)
    assert not np.array_equal(first.replicates, other.replicates)
    rng = np.random.default_rng(7)
    moving = [cluster_bootstrap(mean_of(values), clusters, 100, seed=rng) for _ in range(2)]
    assert moving[0].low == first.low
    assert moving[1].low != first.low


def test_a_wider_level_contains_a_narrower():
    values, clusters = clustered_sample(np.random.default_rng(4))
    wide = cluster_bootstrap(mean_of(values), clusters, 500, level=0.99)
    narrow = cluster_bootstrap(mean_of(values), clusters, 500, level=0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_undefined_replicates_are_counted_and_too_many_give_no_interval():
    # One malignant row among many: it is missing from (1 - 1/n)^n, about 37 %, of the replicates.
    values = np.random.default_rng(0).normal(size=20)
    group = np.arange(20) == 0
    boot = cluster_bootstrap(lambda w: weighted_cohens_d(values, group, w), np.arange(20), 1000)
    assert boot.n_undefined == pytest.approx(1000 * (1 - 1 / 20) ** 20, rel=0.15)
    assert np.isnan([boot.low, boot.high, boot.se]).all()
    assert np.isfinite(boot.estimate)
    # Three of them: missing from (17/20)^20, about 4 %, and the interval stands on the rest.
    group = np.arange(20) < 3
    boot = cluster_bootstrap(lambda w: weighted_cohens_d(values, group, w), np.arange(20), 1000)
    assert boot.n_undefined == pytest.approx(1000 * (17 / 20) ** 20, rel=0.4)
    assert boot.low < boot.estimate < boot.high


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 95}, "level must lie between 0 and 1"),
        ({"n_boot": 0}, "n_boot must be at least 2"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(mean_of(np.arange(4.0)), np.arange(4), **settings)


@pytest.mark.parametrize("columns", [1, 3])
def test_one_cluster_has_an_estimate_and_no_interval(columns):
    mean = mean_of(np.arange(4.0))

    def statistic(weights):
        return mean(weights) if columns == 1 else np.stack([mean(weights)] * columns, axis=-1)

    result = cluster_bootstrap(statistic, ["p"] * 4, n_boot=20)
    assert np.all(result.estimate == 1.5)
    assert np.isnan([result.low, result.high, result.se]).all()
    assert np.shape(result.low) == np.shape(result.estimate)


def test_coverage_with_clusters_and_without():
    """The interval over clusters holds the truth about as often as it says, over rows it does not.

    Four rows share an effect as large as their noise, so the true standard error is 1.6 times that
    of independent rows: an interval over rows should cover near 78 %.
    """
    rng = np.random.default_rng(20)
    hits = {"clusters": 0, "rows": 0}
    for _ in range(300):
        values, clusters = clustered_sample(rng, n_clusters=40)
        for name, labels in (("clusters", clusters), ("rows", np.arange(len(values)))):
            boot = cluster_bootstrap(mean_of(values), labels, n_boot=300, seed=rng)
            hits[name] += boot.low <= 0 <= boot.high
    assert 0.89 <= hits["clusters"] / 300 <= 0.98
    assert hits["rows"] / 300 <= 0.85


def test_mean_interval_is_students():
    # Student's own sleep data (Biometrika 6, 1908): additional hours of sleep, paired differences.
    hours = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    result = mean_interval(hours)
    assert result.value == pytest.approx(1.58)
    assert result.interval == pytest.approx((0.700, 2.460), abs=5e-4)
    assert result.p == pytest.approx(0.002833, abs=1e-6)
    cut = mean_interval(hours, within=(1, 2))
    assert cut.interval == (1, 2)


def test_mean_of_few_values_has_no_interval():
    assert mean_interval([3]).value == 3
    assert all(np.isnan(end) for end in mean_interval([3]).interval)
    assert np.isnan(mean_interval([]).value)
    same = mean_interval([0.3, 0.3, 0.3])
    assert same.interval == pytest.approx((0.3, 0.3))
    assert np.isnan(same.p)


def test_mean_with_interval():
    values = np.repeat([0.0, 1.0], 50)
    one_by_one = bootstrap_mean(values, np.arange(100))
    in_pairs = bootstrap_mean(np.tile(values, 2), np.tile(np.arange(100), 2))
    assert one_by_one.value == in_pairs.value == 0.5
    # The standard error of a mean of 100 coin flips is .05; doubling every row adds no knowledge.
    assert one_by_one.high - one_by_one.low == pytest.approx(4 * 0.05, rel=0.15)
    assert in_pairs.high - in_pairs.low == pytest.approx(4 * 0.05, rel=0.15)


def test_mean_of_missing_values_is_refused():
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        bootstrap_mean([1, 2, np.nan], [1, 2, 3])


def test_memory_does_not_grow_with_rows_times_replicates():
    rng = np.random.default_rng(0)
    n = 120_000
    values, malignant = rng.beta(8, 2, n), rng.random(n) < 0.3
    clusters = rng.integers(0, n // 3, n)
    tracemalloc.start()
    try:
        association(values, malignant, clusters, n_boot=80)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500e6


def test_the_interval_does_not_depend_on_how_replicates_are_divided(monkeypatch):
    values, clusters = np.random.default_rng(0).normal(size=300), np.arange(300) // 3
    whole = bootstrap_mean(values, clusters, n_boot=500)
    monkeypatch.setattr("iavlib.stats.resampling._BLOCK_BYTES", 8 * 300 * 7)
    assert bootstrap_mean(values, clusters, n_boot=500).low == pytest.approx(whole.low, abs=0.02)
