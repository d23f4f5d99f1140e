"""Tasks diagnosis and multitask on forty invented images: what they leave, controls, starts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from iavlib import data
from iavlib.core.errors import DataError, ExperimentError, ExperimentFailed
from iavlib.experiments import Experiment, RunStore, resolve, run
from iavlib.experiments.tasks.image import diagnosis_targets as targets, make_recipe

PHANTOM = {"n_images": 40, "size": [64, 64], "seed": 5}
BOTH = {"task": "multitask", "settings": {"alpha": 0.5}}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return RunStore(tmp_path_factory.mktemp("diagnosis") / "runs")


def spec(**fields) -> Experiment:
    common = {"cohort": "phantom", "cohort_options": PHANTOM, "split": {"kind": "official"}}
    common |= {"backbone": "test_resnet", "size": 32, "recipe": "smoke", "task": "diagnosis"}
    return Experiment(**common | fields)


def test_one_head_or_two(runs):
    alone, both = run(spec(), runs), run(spec(**BOTH), runs)
    columns = ["image_id", "subset", "true", "predicted", "true_iaa"]
    assert alone.predictions.columns[:5].tolist() == columns
    assert "predicted_iaa" in both.predictions and "predicted_iaa" not in alone.predictions
    assert both.predictions["predicted"].between(0, 1).all()
    assert set(both.predictions["true"]) == {0, 1}
    assert {"balanced_accuracy", "auroc", "tuned_f1", "threshold"} <= set(alone.metrics)
    assert {"iaa_mae", "iaa_pearson"} <= set(both.metrics)
    assert both.facts["baselines"]["constant"]["test"]["auroc"] == 0.5
    assert {"balanced_accuracy", "auroc", "mae"} <= set(both.history)
    heads = {
        name.split(".")[1]
        for name in load_file(both.folder / "model.safetensors")
        if name.startswith("heads")
    }
    assert heads == {"diagnosis", "iaa"}
    train = alone.predictions[alone.predictions["subset"] == "train"]
    n, malignant = len(train), train["true"].sum()
    weights = alone.facts["settings"]["class_weights"]
    assert weights == pytest.approx([n / (2 * (n - malignant)), n / (2 * malignant)])


def test_learned_weighting_leaves_a_network_of_two_heads(runs):
    found = run(spec(task="multitask", settings={"combine": "uncertainty"}), runs)
    assert len(found.facts["settings"]["loss_weights"]) == 2
    assert not [n for n in load_file(found.folder / "model.safetensors") if "weighting" in n]


def test_controls(runs):
    shuffled = run(spec(task="multitask", settings={"alpha": 0.5, "control": "shuffled_iaa"}), runs)
    honest = run(spec(**BOTH), runs)
    assert shuffled.experiment.id != honest.experiment.id
    # judged by the true values, whatever it learnt
    assert shuffled.predictions["true_iaa"].equals(honest.predictions["true_iaa"])
    assert not shuffled.predictions["predicted_iaa"].equals(honest.predictions["predicted_iaa"])
    bound = run(spec(settings={"control": "iaa_input"}), runs)
    assert not (bound.folder / "model.safetensors").exists()
    assert np.isfinite(bound.predictions["predicted"]).all()


def test_careful_training_and_the_probe(runs):
    few = {"name": "finetune", "epochs": 1, "batch_size": 8}
    careful = {"alpha": 0.5, "tta": 2, "trainable": "last"}
    found = run(spec(task="multitask", recipe=few, settings=careful), runs)
    settings = found.facts["settings"]
    assert settings["head_fit"].keys() == {"diagnosis", "iaa"}
    assert settings["freeze_batchnorm"] and settings["stages_trained"] >= 1
    probe = run(spec(recipe="probe", settings={"tta": 1}), runs)
    assert probe.facts["settings"]["head"] == "logistic" and probe.history.empty


def test_fine_tuning_keeps_both_heads(runs):
    start = {**BOTH, "recipe": "smoke", "cohort": "phantom"}
    start |= {"cohort_options": PHANTOM, "split": {"kind": "official"}}
    elsewhere = {"cohort_options": PHANTOM | {"seed": 0}}
    said = []
    tuned = run(spec(init_from=start, **elsewhere), runs, log=said.append)
    begun = tuned.experiment.parent
    assert begun.seed == 0 and begun.size == 32 and runs.status(begun) == "finished"
    before = load_file(runs.folder(begun) / "model.safetensors")
    after = load_file(tuned.folder / "model.safetensors")
    assert before.keys() == after.keys()
    same = {name for name in before if torch.equal(before[name], after[name])}
    agreement = {name for name in before if name.startswith("heads.iaa")}
    assert agreement <= same and "backbone.conv1.0.weight" not in same
    assert "predicted_iaa" in tuned.predictions
    other = spec(init_from=start | {"settings": {"alpha": 0.9}}, **elsewhere)
    assert resolve(other).id != tuned.experiment.id != resolve(spec(**elsewhere)).id
    by_name = resolve(spec(init_from=begun.name, **elsewhere), store=runs)
    assert by_name.id == tuned.experiment.id
    moving = {"mimic_moving_statistics": True}
    mimic = run(spec(init_from=start, settings=moving, **elsewhere), runs)
    moved = load_file(mimic.folder / "model.safetensors")
    assert {n for n in agreement if not torch.equal(before[n], moved[n])} == {
        f"heads.iaa.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
    }
    (runs.folder(begun) / "model.safetensors").rename(runs.folder(begun) / "away")
    with pytest.raises(ExperimentError, match=r"is gone, though its run is finished.*gc --finish"):
        run(spec(init_from=start, recipe={"name": "smoke", "epochs": 1}, **elsewhere), runs)
    (runs.folder(begun) / "away").rename(runs.folder(begun) / "model.safetensors")


def test_published_choices():
    published = spec(recipe="paper_finetune", cohort="ph2")
    settings, recipe = published.settings.with_defaults(published), make_recipe(published)
    assert (settings.class_loss, settings.tta, settings.normalise) == ("focal", 1, "published")
    assert (recipe.select, recipe.num_aug) == (("balanced_accuracy", "max"), 25)
    last = spec(recipe="finetune", settings={"trainable": 2})
    settings = last.settings.with_defaults(last)
    assert (settings.head_init, settings.tta) == ("fit", 4)
    assert make_recipe(last).freeze_batchnorm


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "multitask"}, "alpha = None: must be from 0 to 1"),
        ({"settings": {"alpha": 0.5}}, "alpha = 0.5: must be left out here"),
        ({**BOTH, "settings": {"alpha": 0.5, "combine": "uncertainty"}}, "must be left out here"),
        ({"settings": {"class_loss": "focl"}}, "is 'focl', it should be 'focal'"),
        ({"settings": {"control": "shuffled_iaa"}}, "use it with the task multitask"),
        ({**BOTH, "settings": {"alpha": 0.5, "control": "iaa_input"}}, "use the task diagnosis"),
        ({**BOTH, "recipe": "probe"}, "has nothing to share"),
        ({"settings": {"weights_from": "published"}}, "not for phantom"),
        ({"settings": {"trainable": "most"}}, "it should be 'all' or 'last'"),
        (
            {
                "settings": {"trainable": 2},
                "recipe": {"name": "smoke", "freeze_batchnorm": False},
            },
            "leave it out, or train all",
        ),
        ({"settings": {"lrr": 1}}, "settings: no field 'lrr'"),
        ({"recipe": {"name": "probe", "lr": 1}}, "no field 'lr'"),
        ({"init_from": {"task": "iaa"}}, "leaves no network with a head of diagnosis"),
        ({**BOTH, "init_from": {"task": "diagnosis"}}, "has no head of agreement"),
        ({"init_from": {"task": "diagnosis", "recipe": "probe"}}, "leaves no network"),
        (
            {"init_from": {"task": "diagnosis", "backbone": "test_vit"}},
            "give both the same backbone",
        ),
        (
            {"split": {"kind": "official", "leaks": "kep"}},
            "should be 'leave out', 'keep'",
        ),
        ({"split": {"kind": "official", "group": "patient"}}, "no field 'group'"),
    ],
)
def test_contradictions_are_told_before_anything_is_run(fields, said):
    with pytest.raises(ExperimentError, match=said):
        start = fields.get("init_from")
        if start:
            shared = {"cohort": "phantom", "cohort_options": PHANTOM, "recipe": "smoke"}
            fields = fields | {"init_from": shared | start}
        resolve(spec(**fields))


def cohort(**changes):
    found = data.load("phantom", **PHANTOM)
    return replace(found, images=found.images.assign(**changes))


def test_bad_parts_are_named(runs):
    images = data.load("phantom", **PHANTOM).images
    few = images["malignancy"].where(images["malignancy"] != "malignant", "benign")
    few.iloc[:2] = "malignant"
    with pytest.raises(ExperimentFailed, match="none of class 'malignant'"):
        run(spec(seed=9, split={"kind": "holdout"}), runs, cohort(malignancy=few))
    subset = pd.Series(np.tile(["train", "val", "test", "train"], 10), index=images.index)
    subset[images["malignancy"] == "malignant"] = np.resize(
        ["train", "val", "test"], (images["malignancy"] == "malignant").sum()
    )
    patient = pd.Series([f"p{i // 2}" for i in range(40)], index=images.index)
    leaking = cohort(subset=subset, patient_id=patient)
    with pytest.raises(ExperimentFailed, match="patients leak between subsets"):
        split = {"kind": "official", "leaks": "error"}
        run(spec(seed=9, split=split), runs, leaking)


def test_images_without_a_label_or_a_file_are_left_out():
    found = data.load("phantom", **PHANTOM)
    labels = found.images["malignancy"].copy()
    labels.iloc[:3] = ["indeterminate", "unknown", "indeterminate"]
    paths = found.images["path"].copy()
    paths.iloc[3] = None
    changed = cohort(malignancy=labels, path=paths)
    assert len(targets(changed)) == 36
    assert targets(changed, indeterminate="benign")["target"].iloc[:3].tolist() == [0, 0, 0]
    one_mask = replace(changed, pairs=changed.pairs[changed.pairs["image_id"] != labels.index[5]])
    assert len(targets(one_mask)) == 35
    assert targets(one_mask, require_agreement=False)["iaa"].isna().sum() == 1
    with pytest.raises(DataError, match="no image has both a label and a file"):
        targets(cohort(path=None))
