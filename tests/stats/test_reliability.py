"""Reliability of agreement against other programs, and against simulations of known components."""

import numpy as np
import pandas as pd
import pingouin
import pytest
import statsmodels.formula.api as smf
from scipy.stats import norm

from iavlib import stats
from iavlib.stats.reliability import METHODS

MIXED, ANOVA, SHARING, DISJOINT = METHODS


def simulate(masks, image, mask, error, seed=0):
    """Pairs of images with so many masks each, and standard deviations of the components."""
    rng, rows = np.random.default_rng(seed), []
    for number, m in enumerate(masks):
        common, own = rng.normal(0, image), rng.normal(0, mask, m)
        for i in range(m):
            for j in range(i + 1, m):
                dice = 0.7 + common + own[i] + own[j] + rng.normal(0, error)
                rows.append((f"i{number}", f"i{number}_{i}", f"i{number}_{j}", dice))
    return pd.DataFrame(rows, columns=["image_id", "mask_1", "mask_2", "dice"])


def own_cluster(pairs):
    ids = pairs["image_id"].unique()
    return pd.Series(ids, index=ids)


def test_analysis_of_variance_is_that_of_pingouin():
    pairs = simulate([3] * 40, 0.1, 0.05, 0.05)
    pairs["pair"] = pairs.groupby("image_id").cumcount()
    table = pingouin.intraclass_corr(pairs, "image_id", "pair", "dice")
    single = table["ICC"].iloc[0]  # one-way random effects, a single rater
    found = stats.noise_ceiling(pairs, own_cluster(pairs), n_boot=50)
    assert found.loc[ANOVA, "reliability"] == pytest.approx(single, abs=1e-6)


@pytest.mark.parametrize("image", [0.1, 0.0])
def test_mixed_model_is_that_of_statsmodels(image):
    pairs = simulate([2] * 60 + [3] * 30 + [4] * 5, image, 0.0, 0.08, seed=1)
    fit = smf.mixedlm("dice ~ 1", pairs, groups=pairs["image_id"]).fit(reml=False)
    variance = float(np.asarray(fit.cov_re)[0, 0])
    found = stats.noise_ceiling(pairs, own_cluster(pairs), n_boot=50)
    expected = variance / (variance + fit.scale)
    assert found.loc[MIXED, "reliability"] == pytest.approx(expected, abs=0.005)
    assert found.loc[MIXED, "n_images"] == 95


def test_components_of_a_simulation_are_found():
    pairs = simulate([4] * 1500, 0.10, 0.06, 0.05, seed=2)
    total = 0.10**2 + 2 * 0.06**2 + 0.05**2
    found = stats.noise_ceiling(pairs, own_cluster(pairs), n_boot=100)["reliability"]
    assert found[SHARING] == pytest.approx((0.10**2 + 0.06**2) / total, abs=0.03)
    assert found[DISJOINT] == pytest.approx(0.10**2 / total, abs=0.03)
    assert found[DISJOINT] < found[ANOVA] < found[SHARING]


def test_the_best_possible_prediction_reaches_the_ceiling_and_a_poor_one_does_not():
    rng = np.random.default_rng(3)
    image = rng.normal(0.7, 0.1, 800)
    index = np.repeat(np.arange(800), 3)
    pairs = pd.DataFrame({"image_id": index, "mask_1": "", "mask_2": ""})
    pairs["dice"] = image[index] + rng.normal(0, 0.1, len(index))
    true = pairs.groupby("image_id")["dice"].mean()
    table = pd.DataFrame({"image_id": range(800), "true": true, "predicted": image})
    row = stats.noise_ceiling(pairs, own_cluster(pairs), table, n_boot=100).loc[MIXED]
    # targets are means of three independent pairs
    assert row["ceiling"] == pytest.approx(np.sqrt(0.01 / (0.01 + 0.01 / 3)), abs=0.03)
    assert row["corrected"] == pytest.approx(1, abs=0.03)
    assert row["corrected_low"] < row["corrected"] < row["corrected_high"]
    poor = table.assign(predicted=image + rng.normal(0, 0.2, 800))
    assert stats.noise_ceiling(pairs, own_cluster(pairs), poor, n_boot=100).loc[
        MIXED, "corrected"
    ] == pytest.approx(1 / np.sqrt(5), abs=0.07)


def test_what_belongs_to_a_group_is_taken_out():
    pairs = simulate([3] * 300, 0.0, 0.0, 0.05, seed=4)
    tool = pairs["image_id"].str[1:].astype(int) % 2
    pairs["dice"] += 0.2 * tool
    plain = stats.noise_ceiling(pairs, own_cluster(pairs), n_boot=50)
    adjusted = stats.noise_ceiling(pairs, own_cluster(pairs), within=tool, n_boot=50)
    assert plain.loc[ANOVA, "reliability"] > 0.7 > 0.1 > adjusted.loc[ANOVA, "reliability"]


@pytest.mark.parametrize("masks", [[2] * 20, [3], [3] * 2, [3] * 20])
def test_few_or_alike_images_give_no_error(masks):
    pairs = simulate(masks, 0.1, 0, 0.05).assign(dice=1.0)
    table = stats.noise_ceiling(pairs, own_cluster(pairs), n_boot=20)
    assert table["reliability"].isna().all()  # of perfect agreement there is no variance
    floor = stats.error_floor(pairs, own_cluster(pairs), n_boot=20)
    assert len(floor) == 0 or floor.loc["normal", "estimate"] == 0


def test_an_image_without_a_cluster_is_refused():
    pairs = simulate([3, 3], 0.1, 0, 0.05)
    with pytest.raises(ValueError, match="'i1' has no cluster"):
        stats.noise_ceiling(pairs, pd.Series({"i0": 0}))


def test_floor_of_errors_is_that_of_normal_pairs():
    pairs = simulate([3] * 2000, 0.1, 0, 0.05, seed=5)
    floor = stats.error_floor(pairs, own_cluster(pairs), n_boot=50)["estimate"]
    assert floor["normal"] == pytest.approx(0.05 * np.sqrt(2 / np.pi), rel=0.03)
    assert floor["constant"] == pytest.approx(np.hypot(0.1, 0.05) * np.sqrt(2 / np.pi), rel=0.05)
    # no prediction is better than the median of the image, which lies between the two bounds
    best = (norm.rvs(0, 0.05, 10**5, random_state=0)).__abs__().mean()
    assert floor["bound"] < best < floor["difference"]


@pytest.mark.parametrize("kind", ["numbers", "labels", "both"])
def test_partial_correlation_is_that_of_pingouin(kind):
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"area": rng.normal(size=120), "tool": rng.choice(list("abc"), 120)})
    table["true"] = table["area"] + (table["tool"] == "a") + rng.normal(size=120)
    table["predicted"] = 0.5 * table["true"] + table["area"] + rng.normal(size=120)
    names = {"numbers": ["area"], "labels": ["tool"], "both": ["area", "tool"]}[kind]
    coded = pd.get_dummies(table, columns=["tool"], drop_first=True, dtype=float)
    covariates = [name for name in coded if name.split("_")[0] in names]
    expected = pingouin.partial_corr(coded, "predicted", "true", covar=covariates)["r"].iloc[0]
    found = stats.partial_correlation(table["true"], table["predicted"], table[names], n_boot=100)
    assert found.value == pytest.approx(expected, abs=1e-8)
    assert found.low < found.value < found.high


def test_partial_correlation_of_what_the_facts_explain_is_undefined():
    label = pd.DataFrame({"tool": list("aabbcc")})
    found = stats.partial_correlation([1, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 7], label, n_boot=20)
    assert np.isnan(found.value)
    with pytest.raises(ValueError, match="rows of facts"):
        stats.partial_correlation([1, 2], [1, 2], pd.DataFrame({"tool": ["a", None]}))


#: Shrout and Fleiss (1979), table 2: six targets, four judges.
SHROUT_FLEISS = [
    [9, 2, 5, 8],
    [6, 1, 3, 2],
    [8, 4, 6, 8],
    [7, 1, 2, 6],
    [10, 5, 6, 9],
    [6, 2, 4, 7],
]


def test_intraclass_correlation_is_that_of_shrout_and_fleiss():
    """ICC(2,1) = .29 (table 4); the interval is that of R's psych on these data."""
    found = stats.intraclass_correlation(SHROUT_FLEISS)
    assert round(found.value, 2) == 0.29
    assert found.interval == pytest.approx((0.019, 0.761), abs=5e-4)
    gap = [*SHROUT_FLEISS, [5, np.nan, 5, 5]]
    assert stats.intraclass_correlation(gap) == found


@pytest.mark.parametrize("seed", range(5))
def test_intraclass_correlation_is_that_of_pingouin(seed):
    rng = np.random.default_rng(seed)
    n, k = rng.integers(3, 12), rng.integers(2, 6)
    ratings = rng.normal(0, rng.uniform(0.1, 3), (n, 1)) + rng.normal(size=(1, k))
    ratings = ratings + rng.normal(size=(n, k))
    long = pd.DataFrame(ratings).reset_index().melt("index")
    expected = pingouin.intraclass_corr(long, "index", "variable", "value").iloc[1]
    found = stats.intraclass_correlation(ratings)
    assert found.value == pytest.approx(expected["ICC"])
    assert found.interval == pytest.approx(expected["CI95"], abs=0.0051)  # printed with two digits


@pytest.mark.parametrize(
    ("ratings", "value"),
    [([[1, 1], [2, 2]], 1), ([[1, 2]], None), ([[3, 3], [3, 3]], None), (np.empty((0, 3)), None)],
)
def test_intraclass_correlation_of_few_or_equal_values(ratings, value):
    found = stats.intraclass_correlation(ratings)
    assert found.value == value if value else np.isnan([found.value, *found.interval]).all()


def test_limits_of_agreement_are_those_of_bland_and_altman():
    """Peak flow by two meters (1986, table 1): bias -2.1, limits -79.7 and 75.5 l/min."""
    large = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    small = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 259, 477, 259, 350, 451]
    found = stats.limits_of_agreement([*large, 5, np.nan], [*small, np.nan, 5])
    # The paper rounds the standard deviation, 38.8, and takes two of them.
    assert found.value == pytest.approx(-2.1, abs=0.05)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(38.8, abs=0.05)
    assert np.isnan(stats.limits_of_agreement([5], [4]).low)
