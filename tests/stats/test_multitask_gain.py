"""The gain of a second task: pairs, tests and intervals, against planted truths."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from iavlib.stats import (
    OneClassError,
    UnpairedRunsError,
    average_gain,
    average_gain_on_other_images,
    cell_gains,
    cluster_bootstrap,
    gain_tests,
    paired_gains,
)
from iavlib.stats.classification import weighted_rates

# Hollander and Wolfe (1973), p. 29, in R's ?wilcox.test: depression scores of nine patients.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def table_of(gains):
    """Pairs with the gains given as {(dataset, backbone): values}."""
    rows = [(d, b, s, 0.7, 0.7 + g, g) for (d, b), v in gains.items() for s, g in enumerate(v)]
    return pd.DataFrame(
        rows, columns=["dataset", "backbone", "seed", "control", "treatment", "gain"]
    )


def planted(rng, sds=(0.02, 0.01, 0.01, 0.02), sizes=(5, 3, 3), mean=0.042):
    """Gains of crossed datasets and backbones with the standard deviations given."""
    of_dataset, of_backbone, of_cell, of_seed = sds
    n_d, n_b = sizes[:2]
    g = mean + rng.normal(0, of_dataset, (n_d, 1, 1)) + rng.normal(0, of_backbone, (1, n_b, 1))
    g = g + rng.normal(0, of_cell, (n_d, n_b, 1)) + rng.normal(0, of_seed, sizes)
    return table_of({(f"d{i}", f"b{j}"): g[i, j] for i in range(n_d) for j in range(n_b)})


def runs_of(pairs):
    arms = {"single": "control", "multitask": "treatment"}
    tables = [pairs.assign(arm=arm, balanced_accuracy=pairs[c]) for arm, c in arms.items()]
    return pd.concat(tables)[["dataset", "backbone", "seed", "arm", "balanced_accuracy"]]


def test_pairs_are_found_in_any_order():
    pairs = planted(np.random.default_rng(0))
    runs = runs_of(pairs).sample(frac=1, random_state=1)
    found = paired_gains(runs)
    ordered = pairs.sort_values(["dataset", "backbone", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, ordered, check_names=False)
    others = runs.assign(arm=runs["arm"].replace("multitask", "shuffled"))
    with_others = pd.concat([runs, others[others["arm"] == "shuffled"]])
    pd.testing.assert_frame_equal(paired_gains(with_others), found)


def test_lonely_and_double_runs_are_named():
    runs = runs_of(planted(np.random.default_rng(0)))
    with pytest.raises(UnpairedRunsError, match="1 of 45 combinations have only one of 'single'"):
        paired_gains(runs.iloc[1:])
    assert len(paired_gains(runs.iloc[1:], complete=False)) == 44
    with pytest.raises(UnpairedRunsError, match="1 runs come twice, for instance dataset d0"):
        paired_gains(pd.concat([runs, runs.iloc[:1]]))
    with pytest.raises(UnpairedRunsError, match="combinations have only one"):
        paired_gains(runs[runs["arm"] == "single"], complete=False)
    with pytest.raises(UnpairedRunsError, match="no run of 'single'"):
        paired_gains(runs.iloc[:0])
    with pytest.raises(KeyError, match="'auroc'"):
        paired_gains(runs, score="auroc")
    with pytest.raises(ValueError, match=r"1 runs have no balanced_accuracy, .* dataset d0"):
        missing = runs.assign(balanced_accuracy=[np.nan, *runs["balanced_accuracy"][1:]])
        paired_gains(missing)


def test_cells():
    cells = cell_gains(table_of({("d", "a"): [0.01, 0.03], ("d", "b"): [-0.02]}))
    row = cells.loc[("d", "a")]
    assert (row["n"], row["gain"], row["wins"]) == (2, pytest.approx(0.02), 2)
    # The t interval of two values: mean and 12.706 times half their distance.
    assert row["ci_high"] == pytest.approx(0.02 + 12.7062 * 0.01, rel=1e-5)
    assert np.isnan(cells.loc[("d", "b"), "ci_low"]) and cells.loc[("d", "b"), "wins"] == 0


def test_tests_as_r():
    # R: wilcox.test(x, y, paired = TRUE, conf.int = TRUE): V = 40, p = .03906, pseudomedian
    # .46, exact interval .010 to .786; binom.test(7, 9): p = .1797; t.test: .4322, .0883 to .776.
    gains = table_of({("d", "b"): np.subtract(BEFORE, AFTER)})
    tests = gain_tests(gains).loc["pair"]
    assert tests.loc["wilcoxon", "p"] == pytest.approx(0.03906, abs=5e-6)
    ends = tests.loc["wilcoxon", ["estimate", "ci_low", "ci_high"]].tolist()
    assert ends == pytest.approx([0.46, 0.010, 0.786], abs=1e-9)
    assert tests.loc["sign", "p"] == pytest.approx(0.1797, abs=5e-5)
    assert tests.loc["sign", "estimate"] == pytest.approx(7 / 9)
    expected = stats.ttest_rel(BEFORE, AFTER)
    assert tests.loc["t", "p"] == pytest.approx(expected.pvalue)
    assert tests.loc["t", "ci_low"] == pytest.approx(expected.confidence_interval().low)


def test_each_unit_is_counted():
    tests = gain_tests(planted(np.random.default_rng(0)))
    assert tests["n"].unstack()["t"].to_dict() == {"pair": 45, "cell": 15, "dataset": 5}
    dataset = tests.loc[("dataset", "wilcoxon")]
    assert dataset["p"] == pytest.approx(2 / 2**5) and np.isnan(dataset["ci_low"])
    assert tests["counts_as_one"].notna().all()


def test_no_difference_at_all():
    tests = gain_tests(table_of({("d", "b"): [0.0, 0.0, 0.0]}))
    assert tests.loc[("pair", "wilcoxon"), "p"] == tests.loc[("pair", "sign"), "p"] == 1
    assert np.isnan(tests.loc[("pair", "t"), "p"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-40, 60), min_size=2, max_size=7))
def test_signs_of_gains_turn_with_the_arms(values):
    gains = table_of({("d", "b"): np.array(values) / 1000})
    turned = gains.assign(gain=-gains["gain"])
    one, two = gain_tests(gains).loc["pair"], gain_tests(turned).loc["pair"]
    assert one["p"].to_numpy() == pytest.approx(two["p"].to_numpy(), nan_ok=True)
    for test in ("wilcoxon", "t"):
        assert one.loc[test, "estimate"] == pytest.approx(-two.loc[test, "estimate"])
        assert one.loc[test, "ci_low"] == pytest.approx(-two.loc[test, "ci_high"], nan_ok=True)


def test_average_and_its_intervals():
    gains = planted(np.random.default_rng(3), sizes=(5, 3, 8))
    table = average_gain(gains, n_boot=1000)
    assert table["estimate"].to_numpy() == pytest.approx(gains["gain"].mean())
    assert (table["ci_low"] < table["estimate"]).all()
    width = table["ci_high"] - table["ci_low"]
    assert width["seed"] < width["backbone, seed"] < width["dataset, backbone, seed"]
    # Drawing seeds alone: the standard error of a mean of cell means.
    expected = np.sqrt(cell_gains(gains)["sd"].pow(2).div(8).sum()) / 15
    assert table.loc["seed", "se"] == pytest.approx(expected * np.sqrt(7 / 8), rel=0.08)
    assert table.loc["seed", "note"] == ""
    assert table.loc["backbone, seed", "note"] == "3 backbones: too narrow"


def test_average_counts_cells_alike():
    gains = table_of({("a", "x"): [0.1, 0.1, 0.1], ("b", "x"): [0.0], ("b", "y"): [0.02]})
    table = average_gain(gains, n_boot=100)
    assert table["estimate"].to_numpy() == pytest.approx(0.04)
    assert table.loc["seed", "se"] < 1e-12
    alone = average_gain(table_of({("a", "x"): [0.1, 0.2]}), n_boot=50)
    assert alone.loc["dataset, seed", "note"] == "one dataset only"
    assert np.isnan(alone.loc["dataset, seed", "ci_low"])


def predictions_of(rng, better=0.05, sizes=(2, 2, 3), n=150):
    tables = []
    for d in range(sizes[0]):
        malignant, patient = rng.random(n) < 0.3, rng.integers(0, n // 2, n)
        for b in range(sizes[1]):
            for s in range(sizes[2]):
                for arm, share in (("single", 0.7), ("multitask", 0.7 + better)):
                    called = np.where(rng.random(n) < share, malignant, ~malignant)
                    columns = {"patient_id": patient, "malignant": malignant, "called": called}
                    tables.append(
                        pd.DataFrame(columns).assign(
                            dataset=f"d{d}", backbone=f"b{b}", seed=s, arm=arm
                        )
                    )
    return pd.concat(tables, ignore_index=True)


def scored(predictions):
    def balanced(rows):
        right = rows["malignant"] == rows["called"]
        return right.groupby(rows["malignant"]).mean().mean()

    keys = ["dataset", "backbone", "seed", "arm"]
    columns = ["malignant", "called"]
    scores = predictions.groupby(keys)[columns].apply(balanced)
    return scores.rename("balanced_accuracy").reset_index()


def test_other_images_draw_patients_for_all_runs_at_once():
    predictions = predictions_of(np.random.default_rng(4))
    table = average_gain_on_other_images(predictions.sample(frac=1, random_state=0), n_boot=400)
    pairs = paired_gains(scored(predictions))
    assert table["estimate"].to_numpy() == pytest.approx(pairs["gain"].mean())
    assert list(table.index) == ["patient", "patient, seed", "patient, dataset, backbone, seed"]
    assert table["se"].is_monotonic_increasing
    same = predictions[predictions["arm"] == "single"]
    same = pd.concat([same, same.assign(arm="multitask")])
    zero = average_gain_on_other_images(same, n_boot=50)
    assert (zero[["estimate", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_one_dataset_of_one_pair_is_the_paired_bootstrap():
    predictions = predictions_of(np.random.default_rng(5), sizes=(1, 1, 1))
    table = average_gain_on_other_images(predictions, n_boot=2000)
    multi, single = (predictions[predictions["arm"] == a] for a in ("multitask", "single"))
    rows = single["malignant"].to_numpy(), single["patient_id"].to_numpy()
    called = [arm["called"].to_numpy(float) for arm in (multi, single)]

    def difference(weights):
        one, two = (weighted_rates(rows[0], c, weights, 0.5)["balanced_accuracy"] for c in called)
        return one - two

    expected = cluster_bootstrap(difference, rows[1])
    found = table.loc["patient", ["estimate", "ci_low", "ci_high"]].to_numpy(float)
    ends = [expected.estimate, expected.low, expected.high]
    assert found == pytest.approx(ends, abs=0.008)
    assert table.loc["patient, seed", "note"] == "one seed only"


def test_bad_predictions_are_named():
    predictions = predictions_of(np.random.default_rng(6))
    with pytest.raises(KeyError, match="'called'"):
        average_gain_on_other_images(predictions.drop(columns="called"))
    with pytest.raises(UnpairedRunsError, match="1 of 12 combinations lack one of"):
        gone = predictions.eval("dataset == 'd0' and backbone == 'b0' and seed == 0")
        average_gain_on_other_images(predictions[~(gone & (predictions["arm"] == "single"))])
    with pytest.raises(OneClassError, match="12 runs have test images of one class alone"):
        benign = predictions["malignant"] & (predictions["dataset"] == "d0")
        average_gain_on_other_images(predictions[~benign])
    with pytest.raises(ValueError, match="cluster labels are missing"):
        average_gain_on_other_images(predictions.assign(patient_id=None))
