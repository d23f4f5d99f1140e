"""The gain of a second task: pairs, tests and intervals, against planted truths."""

import numpy as np
import pandas as pd
import pytest

from iavlib.stats import (
    OneClassError,
    UnpairedRunsError,
    average_gain_on_other_images,
    cluster_bootstrap,
    gains,
    paired_gains,
)
from iavlib.stats.classification import weighted_rates


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


def test_drawn_units_scatter_as_means_of_them_do():
    pairs = planted(np.random.default_rng(3), sizes=(5, 3, 8))
    layout, values = gains._layout(pairs), pairs["gain"].to_numpy()[None]

    def scatter(*levels):
        drawn = gains._draw(values, layout, levels, 1000, np.random.default_rng(0))
        assert drawn.mean() == pytest.approx(pairs["gain"].mean(), abs=0.005)
        return drawn.std()

    # Drawing seeds alone: the standard error of a mean of cell means.
    variances = pairs.groupby(["dataset", "backbone"])["gain"].var(ddof=0)
    assert scatter("seed") == pytest.approx(np.sqrt(variances.div(8).sum()) / 15, rel=0.08)
    assert scatter("seed") < scatter("backbone", "seed") < scatter("dataset", "backbone", "seed")


def test_cells_weigh_alike_and_one_unit_has_no_interval():
    pairs = table_of({("a", "x"): [0.1, 0.1, 0.1], ("b", "x"): [0.0], ("b", "y"): [0.02]})
    layout, values = gains._layout(pairs), pairs["gain"].to_numpy()[None]
    drawn = gains._draw(values, layout, ("seed",), 50, np.random.default_rng(0))
    assert drawn == pytest.approx(0.04)
    alone = average_gain_on_other_images(
        predictions_of(np.random.default_rng(5), sizes=(1, 2, 2)), n_boot=50
    )
    row = alone.loc["patient, dataset, backbone, seed"]
    assert row["note"] == "one dataset only" and np.isnan(row["ci_low"])


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
    assert table.loc["patient, seed", "note"] == "3 seeds: too narrow"
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
