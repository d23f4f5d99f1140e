"""What several runs say together, on predictions made by hand."""

import numpy as np
import pandas as pd
import pytest

from iavlib.core.errors import ExperimentError
from iavlib.experiments import evaluation, evaluation as summaries


@pytest.fixture
def runs(tmp_path):
    """Two models in two folds each; "good" errs by .1, "bad" by .2, the constant by .25."""
    rows = []
    true = pd.Series([0.1, 0.4, 0.6, 0.9, 0.2, 0.3, 0.7, 0.8], index=list("abcdefgh"))
    for model, error in (("good", 0.1), ("bad", 0.2)):
        for fold in (0, 1):
            folder = tmp_path / f"{model}{fold}"
            folder.mkdir()
            subset = np.where(np.arange(8) % 2 == fold, "test", "train")
            table = pd.DataFrame(
                {
                    "image_id": true.index,
                    "subset": subset,
                    "true": true.to_numpy(),
                    "predicted": true.to_numpy() + np.where(true < 0.5, error, -error),
                    "malignancy": "benign",
                    "n_masks": 2,
                    "cluster": true.index,
                }
            )
            table.to_csv(folder / "predictions.csv", index=False)
            rows.append(
                {
                    "id": folder.name,
                    "label": model,
                    "backbone": model,
                    "recipe": "probe",
                    "seed": 0,
                    "split_fold": fold,
                    "split_folds": 2,
                    "train_share": 1.0,
                    "n_train": 4 + fold,
                    "weights": "file",
                    "weights_source": "none" if model == "bad" else "file",
                    "origin": "stored" if model == "bad" else "here",
                    "pearson": 0.9,
                    "reduction": 0.5,
                    "status": "finished",
                    "reason": "",
                    "weights_random": model == "bad",
                    "folder": str(folder),
                    "mae": error,
                }
            )
    return pd.DataFrame(rows)


def test_each_image_is_tested_once_by_each_model_and_the_constant_is_of_the_training_part(runs):
    tested = evaluation.predictions_on_test(runs)
    assert tested.groupby("model")["image_id"].nunique().to_dict() == {"good": 8, "bad": 8}
    assert not tested.duplicated(["model", "image_id"]).any()
    first = tested[(tested["run"] == "good0")].set_index("image_id")
    assert list(first.index) == ["a", "c", "e", "g"]
    assert first["constant"].unique() == pytest.approx([0.6])  # of .4, .9, .3, .8
    assert tested.loc[tested["model"] == "bad", "random"].all()


def test_the_table_orders_by_error_and_measures_against_the_constant(runs):
    table = evaluation.model_table(evaluation.predictions_on_test(runs), n_boot=50)
    assert list(table.index) == ["good", "bad"]
    assert table["estimate"].to_list() == pytest.approx([0.1, 0.2])
    assert table["n"].to_list() == [8, 8] and table["runs"].to_list() == [2, 2]
    expected = 1 - table["estimate"] / table["median_mae"]
    assert table["reduction"].to_numpy() == pytest.approx(expected.to_numpy())
    assert table["random"].to_list() == [False, True]


def test_the_statistics_baseline_is_fitted_on_other_folds_only(runs):
    tested = evaluation.predictions_on_test(runs)
    truth = tested.drop_duplicates("image_id").set_index("image_id")["true"]
    features = pd.DataFrame({"told": truth, "noise": np.arange(8.0)})
    found = evaluation.add_baseline(tested, features)
    mine = found[found["model"] == evaluation.STATISTICS]
    assert len(mine) == 8
    error = (mine["predicted"] - mine["true"]).abs().mean()
    assert 0 < error < 0.15, "near the truth that it was told, never equal to it"


def test_a_group_of_images_is_predicted_from_the_others(runs):
    tested = evaluation.predictions_on_test(runs[runs["label"] == "good"])
    truth = tested.set_index("image_id")["true"]
    tool = pd.Series(list("xxxxyyyy"), index=list("abcdefgh"))
    # what is known of the other tool is its level alone
    features = pd.DataFrame({"tool": (tool == "x").astype(float)})
    left_out = evaluation.add_baseline(tested, features, "tool", held_out=tool)
    mine = left_out[left_out["model"] == "tool"].set_index("image_id")["predicted"]
    np.testing.assert_allclose(mine[list("abcd")], truth[list("efgh")].mean())
    np.testing.assert_allclose(mine[list("efgh")], truth[list("abcd")].mean())


def test_a_baseline_leaves_out_patients_of_the_group_and_images_it_knows_nothing_of(runs):
    tested = evaluation.predictions_on_test(runs[runs["label"] == "good"])
    one_patient = tested.assign(cluster="same")
    features = pd.DataFrame({"size": np.arange(8.0)}, index=list("abcdefgh"))
    assert evaluation.add_baseline(one_patient, features, "size") is one_patient
    features.loc["c"] = np.nan
    found = evaluation.add_baseline(tested, features.drop(index="h"), "size")
    assert set(found.loc[found["model"] == "size", "image_id"]) == set("abdefg")


@pytest.mark.parametrize("kind", ["equal", "mondrian", "cqr"])
def test_intervals_are_of_the_other_folds(runs, kind):
    tested = evaluation.predictions_on_test(runs[runs["label"] == "good"])
    images = evaluation.per_image(tested)
    bounded = evaluation.with_intervals(images, 0.5, kind)
    assert (bounded["lower"] <= bounded["upper"]).all() and len(bounded) == 8


def test_predictions_are_clipped_to_the_range_of_dice(runs):
    path = runs["folder"][0] + "/predictions.csv"
    table = pd.read_csv(path)
    table["predicted"] += 5
    table.to_csv(path, index=False)
    assert evaluation.predictions_on_test(runs)["predicted"].max() == 1


def test_nothing_finished_is_said_with_the_reason(runs):
    broken = runs.assign(status="failed", reason="no weights here")
    with pytest.raises(ExperimentError, match="no weights here"):
        evaluation.predictions_on_test(broken)
    assert summaries.errors_by_backbone(broken).empty


def test_errors_by_backbone_and_who_leads():
    table = pd.DataFrame(
        {
            "status": "finished",
            "seed": [0, 1, 2] * 3,
            "backbone": ["a"] * 3 + ["b"] * 3 + ["c"] * 3,
            "mae": [0.10, 0.11, 0.12, 0.13, 0.14, 0.16, 0.2, 0.2, 0.2],
        }
    )
    errors = summaries.errors_by_backbone(table)
    assert list(errors.columns) == ["a", "b", "c"] and len(errors) == 3
    best = summaries.lead(errors, "a")
    assert best["value"] == pytest.approx(-0.1 / 3)
    assert best["interval"][0] < best["value"] < best["interval"][1] < 0
    worst = summaries.lead(errors, "c")
    assert worst["value"] == pytest.approx(0.09)


def test_a_model_without_all_its_folds_is_left_out(runs):
    kept = evaluation.complete_folds(runs.iloc[:3])
    assert kept["label"].unique().tolist() == ["good"]


def test_learning_runs_of_one_share_stand_at_one_size(runs):
    half = runs[runs["label"] == "good"].assign(train_share=0.5, n_train=2)
    curve = summaries.learning_runs(pd.concat([runs, half]))
    assert set(curve["model"]) == {"good"}
    assert sorted(curve["n_train"].unique()) == [2, 4]


def test_networks_under_one_label_are_models_of_their_own(runs):
    runs["label"], runs["backbone"] = "networks", runs["label"]
    tested = evaluation.predictions_on_test(runs)
    assert set(tested["model"]) == {"networks, good", "networks, bad"}
    assert len(evaluation.complete_folds(runs.iloc[:3])) == 2
    assert set(evaluation.model_names(runs[runs["backbone"] == "good"])) == {"networks"}
