"""DeLong's test: SAS's values for the original data, pairs one by one, bootstrap, permutation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import mannwhitneyu
from test_classification_scores import samples

from iavlib.stats import OneClassError, auroc, cluster_bootstrap, compare_aurocs
from iavlib.stats.classification import weighted_auroc

# DeLong, DeLong and Clarke-Pearson (1988), as in SAS/STAT's example "Comparing Receiver Operating
# Characteristic Curves": albumin, total protein, K-G score and survival of 43 patients.
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


@pytest.fixture(scope="module")
def ovarian():
    table = np.array(OVARIAN.split(), float).reshape(-1, 4)
    scores = {"kg": 10 - table[:, 2], "albumin": table[:, 0], "protein": table[:, 1]}
    return table[:, 3] == 1, pd.DataFrame(scores)


def clustered(rng, n_patients=120, mixed=False):
    """Rows of patients, up to six each, with scores (and labels, unless mixed) of their own."""
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 7, n_patients))
    malignant = rng.random(len(patient)) < 0.3
    if not mixed:
        malignant = (rng.random(n_patients) < 0.3)[patient]
    own = rng.normal(size=n_patients)[patient]
    score = own + rng.normal(size=len(patient)) + malignant
    return malignant, score, patient


def test_areas_as_sas(ovarian):
    malignant, scores = ovarian
    expected = {
        "kg": (0.7258, 0.1028, 0.5243, 0.9273),
        "albumin": (0.7366, 0.0927, 0.5549, 0.9182),
        "protein": (0.6478, 0.1000, 0.4518, 0.8439),
    }
    for name, values in expected.items():
        area = auroc(malignant, scores[name])
        found = area.value, area.se, area.low, area.high
        assert found == pytest.approx(values, abs=6e-5), name


def test_contrasts_as_sas(ovarian):
    malignant, scores = ovarian
    for name, values in (
        ("albumin", (0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102)),
        ("protein", (-0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561)),
    ):
        d = compare_aurocs(malignant, scores[name], scores["kg"])
        found = d.difference, d.se, d.low, d.high, d.z**2, d.p
        assert found == pytest.approx(values, abs=6e-5), name


@settings(deadline=None)
@given(samples(least=6), st.integers(0, 99))
def test_mid_ranks_are_all_pairs(sample, seed):
    malignant, score = sample
    malignant[:4] = [True, False, True, False]
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 5, len(score))
    clusters[:4] = [0, 1, 2, 3]
    pairs = np.sign(score[malignant][:, None] - score[~malignant][None, :]) / 2 + 0.5
    area = pairs.mean()
    found = auroc(malignant, score)
    assert found.value == pytest.approx(area)
    u = mannwhitneyu(score[malignant], score[~malignant]).statistic
    assert found.value == pytest.approx(u / pairs.size)
    variance = pairs.mean(1).var(ddof=1) / len(pairs) + pairs.mean(0).var(ddof=1) / pairs.shape[1]
    assert found.se == pytest.approx(np.sqrt(variance), abs=1e-9)
    # Obuchowski's formulas, written out.
    m, n = pairs.shape
    codes = np.unique(clusters)
    x = [(pairs.mean(1) - area)[clusters[malignant] == c].sum() for c in codes]
    y = [(pairs.mean(0) - area)[clusters[~malignant] == c].sum() for c in codes]
    i, i10, i01 = len(codes), *(len(np.unique(clusters[k])) for k in (malignant, ~malignant))
    variance = i10 / ((i10 - 1) * m**2) * np.square(x).sum()
    variance += i01 / ((i01 - 1) * n**2) * np.square(y).sum()
    variance += 2 * i / ((i - 1) * m * n) * np.dot(x, y)
    found = auroc(malignant, score, clusters)
    assert found.se**2 == pytest.approx(variance, abs=1e-9)


@settings(deadline=None)
@given(samples(least=6))
def test_order_alone_and_symmetry(sample):
    malignant, score = sample
    malignant[:4] = [True, False, True, False]
    area = auroc(malignant, score)
    mapped = auroc(malignant, np.exp(4 * score) + score)
    turned = auroc(malignant, -score)
    swapped = auroc(~malignant, score)
    assert (mapped.value, mapped.se) == pytest.approx((area.value, area.se))
    assert (1 - turned.value, turned.se) == pytest.approx((area.value, area.se))
    assert (1 - swapped.value, swapped.se) == pytest.approx((area.value, area.se))
    other = np.roll(score, 1)
    one, two = compare_aurocs(malignant, score, other), compare_aurocs(malignant, other, score)
    assert (one.difference, one.se) == pytest.approx((-two.difference, two.se))
    same = compare_aurocs(malignant, score, 2 * score)
    assert (same.difference, same.p) == (0, 1)


@pytest.mark.parametrize("mixed", [False, True])
def test_standard_errors_as_the_bootstrap(mixed):
    rng = np.random.default_rng(0)
    malignant, score, patient = clustered(rng, 300, mixed)
    other = score + rng.normal(size=len(score))
    for clusters in (None, patient):
        labels = np.arange(len(score)) if clusters is None else clusters

        def areas(weights):
            rows = [weighted_auroc(malignant, s, weights) for s in (score, other)]
            return np.stack([rows[0], rows[0] - rows[1]], axis=1)

        boot = cluster_bootstrap(areas, labels, n_boot=2000)
        assert auroc(malignant, score, clusters).se == pytest.approx(boot.se[0], rel=0.08)
        difference = compare_aurocs(malignant, score, other, clusters)
        assert difference.se == pytest.approx(boot.se[1], rel=0.08)
    # What a patient's malignant and benign rows share cancels; what sets patients apart adds up.
    ratio = auroc(malignant, score, patient).se / auroc(malignant, score).se
    assert ratio < 1 if mixed else ratio > 1.3


def test_p_value_as_permutation():
    # Swapping the two models' ranks row by row, which is a permutation where they are alike.
    rng = np.random.default_rng(5)
    malignant = rng.random(200) < 0.3
    shared = rng.normal(size=200) + malignant
    first, second = (shared + rng.normal(0, s, 200) for s in (0.5, 0.8))
    ranks = np.stack([np.argsort(np.argsort(v)) for v in (first, second)]).astype(float)
    found = compare_aurocs(malignant, ranks[0], ranks[1])
    one = np.ones((1, 200))
    null = []
    for _ in range(1000):
        swap = rng.random(200) < 0.5
        a, b = np.where(swap, ranks[::-1], ranks)
        null.append(weighted_auroc(malignant, a, one)[0] - weighted_auroc(malignant, b, one)[0])
    p = (1 + np.sum(np.abs(null) >= abs(found.difference))) / 1001
    assert found.p == pytest.approx(p, abs=0.04)


def test_clustered_intervals_cover():
    rng = np.random.default_rng(1)
    truth = 0.6914625  # rows of different patients: P(N(1, 4) > 0)
    inside, blind = 0, 0
    for _ in range(300):
        malignant, score, patient = clustered(rng)
        area = auroc(malignant, score, patient)
        inside += area.low <= truth <= area.high
        area = auroc(malignant, score)
        blind += area.low <= truth <= area.high
    assert inside >= 275 and blind < inside


def test_paired_test_keeps_its_level():
    rng = np.random.default_rng(2)
    p = []
    for _ in range(400):
        malignant, score, patient = clustered(rng, 80)
        first, second = (score + rng.normal(size=len(score)) for _ in range(2))
        p.append(compare_aurocs(malignant, first, second, patient).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_ends_of_the_scale():
    area = auroc([True, True, False, False], [4, 3, 2, 1])
    assert (area.value, area.se, area.low, area.high) == (1, 0, 1, 1)
    d = compare_aurocs([True, True, False, False], [4, 3, 2, 1], [1, 2, 3, 4])
    assert d.difference == 1 and np.isnan(d.p)


def test_bad_input_is_named():
    with pytest.raises(OneClassError, match="none is benign"):
        auroc([True, True], [1, 2])
    with pytest.raises(ValueError, match="all malignant rows lie in one row or cluster"):
        auroc([True, False, False], [1, 2, 3])
    with pytest.raises(ValueError, match="all benign rows lie in one row or cluster"):
        auroc([True, True, False, False], [1, 2, 3, 4], ["a", "b", "c", "c"])
    with pytest.raises(ValueError, match="3 values but 4 group labels"):
        compare_aurocs([True, True, False, False], [1, 2, 3, 4], [1, 2, 3])
