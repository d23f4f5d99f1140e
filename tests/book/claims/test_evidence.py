"""The labels: what an interval says of a claim, and how often a label is wrong by chance."""

import numpy as np
import pytest
from scipy import stats

from iavlib.book import evidence as ev
from iavlib.book.recording import Comparison

S, N, I = ev.SUPPORTED, ev.NOT_SUPPORTED, ev.INCONCLUSIVE  # noqa: E741
WHY = {"because": "less is noise"}


def compare(kind, smallest=1.0, **options):
    effect = {} if kind in ("equal", "p-below") else {"smallest": smallest, **WHY}
    return Comparison(kind=kind, **effect, **options)


@pytest.mark.parametrize(
    ("kind", "claimed", "value", "interval", "expected"),
    [
        ("equal", 16, 16, None, S),
        ("equal", 16, 17, [10, 20], N),
        ("positive", 4, 3, [1.1, 5], S),
        ("positive", 4, 3, [1, 5], I),  # not beyond the smallest effect
        ("positive", 4, 3, [-1, 4], I),
        ("positive", 4, 3, [-1, 3.9], N),
        ("positive", 4, -3, [-4, -2], N),
        ("positive", 4, 2, [1.5, 2.5], S),  # smaller than claimed, and it matters
        ("positive", None, 0.4, [-0.2, 0.9], N),  # nothing that would matter
        ("positive", None, 0.4, [-0.2, 1], I),
        ("positive", None, -1, None, I),  # a sign alone is no evidence
        ("negative", None, -3, [-5, -1.1], S),
        ("negative", None, -3, [-5, 0.5], I),
        ("negative", None, 0, [-0.9, 0.9], N),
        ("negative", -4, -2, [-3.9, 0.5], N),
        ("reduction", 4, 2, [1.5, 3], S),
        ("equivalent", None, 0, [-1, 1], S),
        ("equivalent", None, 0, [-1.1, 1], I),
        ("equivalent", None, 0, None, I),
        ("equivalent", None, 2, [0.5, 3], N),
        ("equivalent", None, 0.5, [0.2, 0.9], S),  # some difference, none that matters
        ("equivalent", 10, 10.5, [10.1, 10.9], S),
        ("equivalent", 10, 12, [10.5, 14], N),
        ("at-least", 80, 80, [79.1, 81], S),
        ("at-least", 80, 80, [78, 81], I),
        ("at-least", 80, 75, [70, 79.9], N),
        ("at-least", 80, 95, [78, 100], I),
        ("at-most", 80, 80, [70, 80.9], S),
        ("at-most", 80, 80, [79, 82], I),
        ("at-most", 80, 85, [80.1, 90], N),
    ],
)
def test_the_interval_decides(kind, claimed, value, interval, expected):
    assert ev.judge(compare(kind), claimed, value, interval) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.781, S), (0.786, S), (0.7861, N), (0.776, S), (0.77, N)]
)
def test_a_printed_number_is_met_within_its_rounding(value, expected):
    assert ev.judge(compare("equal", tolerance=0.005), 0.781, value) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.0, S), (0.0009, S), (0.001, I), (0.9, I)])
def test_a_large_p_value_is_no_evidence_of_absence(p, expected):
    assert ev.judge(compare("p-below", threshold=0.001), 0.001, p) == expected


@pytest.mark.parametrize(
    ("value", "interval", "within", "kept"),
    [
        (0.5, [0.4, 0.6], (0, 1), True),
        (1 / 3, [1 / 3, 1 / 3], (0, 1), False),  # no width
        (0.8, [0.8 - 1e-16, 0.8 + 5e-16], (0, 1), False),
        (-0.27, [-1.41, 0.88], (-1, 1), False),  # no such correlation
        (0.37, [-1, 1], (-1, 1), True),
        (3, [2, 2e6], None, True),
        (3, None, None, False),
    ],
)
def test_what_is_no_interval_is_dropped(value, interval, within, kept):
    assert (ev.usable_interval(value, interval, within) == interval) is (interval is None or kept)
    assert (ev.usable_interval(value, interval, within) is not None) is kept


def test_the_detectable_effect_is_found_in_four_runs_of_five():
    generator = np.random.default_rng(0)
    for seeds in (3, 5):
        drawn = generator.normal(size=(20_000, seeds))
        half = stats.t.ppf(0.975, seeds - 1) * drawn.std(axis=1, ddof=1) / np.sqrt(seeds)
        # in units of the true error; a sample's own is right on average of its square
        effect = ev.detectable_effect(0, (-1, 1), seeds) * stats.t.ppf(0.975, seeds - 1)
        found = drawn.mean(axis=1) + effect / np.sqrt(seeds) > half
        assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert ev.detectable_effect(0.35, (-1.22, 2.04)) == pytest.approx(2.33, abs=0.01)


def test_an_arm_that_was_cut_at_the_limit_says_nothing_of_the_error():
    whole = ev.standard_error(95, (85, 105), 3)
    assert ev.standard_error(95, (85, 100), 3, (0, 100)) == pytest.approx(whole)
    assert ev.standard_error(50, (0, 100), 3, (0, 100)) is None


#: What is simulated: kind of the claim, the effect claimed, the smallest that matters, in units of
#: the standard error of one seed or image.
TRIALS = 20_000


def labels(kind, claimed, smallest, truth, n, generator):
    """Draw experiments of n seeds each and return how often each label came out."""
    drawn = generator.normal(truth, 1, size=(TRIALS, n))
    mean = drawn.mean(axis=1)
    half = stats.t.ppf(0.975, n - 1) * drawn.std(axis=1, ddof=1) / np.sqrt(n)
    rule = compare(kind, smallest)
    ends = zip(mean, mean - half, mean + half, strict=True)
    given = [ev.judge(rule, claimed, value, (low, high)) for value, low, high in ends]
    return {label: given.count(label) / TRIALS for label in (S, N, I)}


@pytest.mark.parametrize("n", [3, 5, 20])
def test_labels_of_an_effect_come_out_at_their_nominal_rates(n):
    generator = np.random.default_rng(n)
    smallest, claimed = 0.2, 1.5
    null = labels("positive", claimed, smallest, 0, n, generator)
    assert null[S] <= 0.025, "no effect: supported in at most one trial of forty"
    edge = labels("positive", claimed, smallest, smallest, n, generator)
    assert edge[S] == pytest.approx(0.025, abs=0.004), "at the smallest effect: one in forty"
    true = labels("positive", claimed, smallest, claimed, n, generator)
    assert true[N] <= 0.029, "as claimed: not supported in at most one trial of forty"
    power = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, (claimed - smallest) * np.sqrt(n))
    assert true[S] == pytest.approx(power, abs=0.01)
    unsized = labels("positive", None, smallest, smallest, n, generator)
    assert unsized[N] == pytest.approx(0.025, abs=0.004), "where no size is claimed, exactly"
    mirrored = labels("negative", -claimed, smallest, -claimed, n, generator)
    assert mirrored[N] <= 0.029
    assert mirrored[S] == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize("n", [3, 20])
def test_labels_of_no_difference_come_out_at_their_nominal_rates(n):
    generator = np.random.default_rng(n)
    margin = 2.0
    edge = labels("equivalent", None, margin, margin, n, generator)
    assert edge[S] <= 0.029, "a difference as large as the margin: equal at most one in forty"
    equal = labels("equivalent", None, margin, 0, n, generator)
    assert equal[N] <= 0.054, "no difference: the interval leaves zero out one time in twenty"
    if n == 20:
        assert equal[S] > 0.99
    level = labels("at-least", 10, margin, 10, n, generator)
    assert level[N] <= 0.029
    assert labels("at-least", 10, margin, 10 - margin, n, generator)[S] <= 0.029


@pytest.mark.parametrize(("k", "spread"), [(2, 0), (2, 2), (4, 1)])
def test_the_pooled_mean_finds_nothing_where_there_is_nothing(k, spread):
    generator = np.random.default_rng(k)
    effects = generator.normal(0, spread, size=(1000, k))
    drawn = effects[..., None] + generator.normal(size=(1000, k, 3))
    errors = drawn.std(axis=2, ddof=1) / np.sqrt(3)
    pairs = zip(drawn.mean(axis=2), errors, strict=True)
    lows = np.array([ev.pool(values, error)[1][0] for values, error in pairs])
    assert (lows > 0).mean() <= 0.035
