"""What many runs of diagnosis say together, on predictions whose gains are known."""

import numpy as np
import pandas as pd
import pytest

from iavlib.core.errors import ExperimentError
from iavlib.experiments import claims as gains, summary as results
from iavlib.experiments.scores import diagnosis_scores

N = 80


def table_of(right: float, fold=None, seed=0) -> pd.DataFrame:
    """Predictions of eighty images, half malignant, of which a share is told rightly."""
    images = np.arange(N) if fold is None else np.arange(fold, N, 2)
    true = images % 4 < 2
    told = np.random.default_rng(seed).permutation(len(images)) < right * len(images)
    found = pd.DataFrame({"image_id": [f"i{i}" for i in images], "true": true.astype(int)})
    found["subset"] = "test"
    found["predicted"] = np.where(told == true, 0.8, 0.2)
    found["cluster"] = [f"p{i // 2}" for i in images]
    found["true_iaa"] = np.linspace(0, 1, len(images))
    val = found.iloc[:6].assign(subset="val", image_id=[f"v{i}" for i in range(6)])
    return pd.concat([found, val], ignore_index=True)


@pytest.fixture
def runs(tmp_path):
    """Two seeds of two folds of both arms, a control, and other weights."""
    specs = [("diagnosis", None, {}, 0.7), ("multitask", 0.5, {}, 0.9)]
    specs += [("multitask", 0.5, {"control": "shuffled_iaa"}, 0.7)]
    specs += [("multitask", 0.9, {}, 0.6), ("diagnosis", None, {"recipe": "probe"}, 0.6)]
    rows = []
    for task, alpha, extra, right in specs:
        for seed in (0, 1):
            for fold in (0, 1):
                name = f"r{len(rows)}"
                folder = tmp_path / name
                folder.mkdir()
                table_of(right, fold, seed).to_csv(folder / "predictions.csv", index=False)
                row = {"id": name, "task": task, "alpha": alpha, "seed": seed, "split_fold": fold}
                row |= {"backbone": "b", "recipe": "finetune", "label": "", "status": "finished"}
                row |= {"cohort_name": "imapp", "synthetic": False, "weights_random": False}
                row |= {"train_share": 1.0, "n_train": 40, "folder": str(folder), "reason": ""}
                row |= {"val_balanced_accuracy": right, "origin": "here"}
                rows.append(row | extra)
    return pd.DataFrame(rows)


def test_arms_and_starts_are_told_apart(runs):
    found = results.describe_arms(runs)
    arms = ["single", "multitask", "shuffled agreement", "multitask", "probe"]
    assert list(found["arm"]) == [arm for arm in arms for _ in range(4)]
    assert set(found["start"]) == {"ImageNet"}
    begun = results.describe_arms(runs.assign(init_from_task="multitask"))
    assert set(begun["start"]) == {"multitask"}
    assert (found.loc[found["arm"] == "single", "alpha"] == 1).all()


def test_a_switched_setting_is_an_arm_of_its_own(runs):
    label = results.SWITCH + "another loss"
    switched = runs.assign(label=runs["label"].where(runs["recipe"] != "probe", label))
    described = results.describe_arms(switched)
    assert set(described.loc[described["arm"] == label, "id"]) == set(
        runs.loc[runs["recipe"] == "probe", "id"]
    )


def test_folds_are_judged_together_and_seeds_apart(runs):
    tested = results.held_out_predictions(results.describe_arms(runs))
    scores = results.pooled_scores(tested)
    assert len(scores) == 10 and set(scores["n"]) == {N}
    single = scores[scores["arm"] == "single"]
    assert single["balanced_accuracy"].mean() == pytest.approx(0.7, abs=0.03)
    with pytest.raises(ExperimentError, match="several judge the same images as dataset imapp"):
        results.pooled_scores(tested.assign(seed=0))


@pytest.mark.parametrize("broken", [{"status": "failed"}, {"status": "missing"}, None])
def test_without_a_finished_run_every_table_is_empty_but_whole(runs, broken):
    nothing = runs.assign(**broken) if broken else pd.DataFrame()
    described = results.describe_arms(nothing)
    tested = results.held_out_predictions(described)
    scores = results.pooled_scores(tested)
    assert {"dataset", "arm", "start", "alpha", "seed"} <= set(described) & set(scores)
    assert {"image_id", "malignant", "called"} <= set(tested) and "auroc" in scores
    assert not len(described) and not len(tested) and not len(scores)


def test_random_weights_make_a_result_as_good_as_invented(runs):
    assert gains.RunData.of(runs, trained=True) == gains.RunData("imapp", False)
    random = runs.assign(weights_random=True)
    assert gains.RunData.of(random, trained=True) == gains.RunData("imapp", True)
    assert gains.RunData.of(random) == gains.RunData("imapp", False)


def test_scores_of_parts():
    train = table_of(0.8).iloc[:8].assign(subset="train")
    table = pd.concat([table_of(0.8), train], ignore_index=True)
    scores, _ = diagnosis_scores(table.assign(predicted_iaa=table["true_iaa"]))
    assert scores["test"]["balanced_accuracy"] == pytest.approx(0.8, abs=0.05)
    assert scores["test"]["threshold"] == scores["val"]["threshold"]
    assert scores["test"]["iaa_mae"] == 0
