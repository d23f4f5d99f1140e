"""Task ``segmentation``: sets by name, methods through the run store."""

import numpy as np
import pytest

from iavlib.core.errors import ExperimentError
from iavlib.experiments import by_seed, read_facts, resolve, run, sweep
from iavlib.experiments.config import from_mapping
from iavlib.experiments.tasks import annotator_sets
from iavlib.multiannotator import true_confusion
from iavlib.multiannotator.confusion import rate_correlations

TINY = {"epochs": 2, "widths": [4, 8], "batch_size": 4, "warmup_epochs": 0}


@pytest.fixture
def make_run(monkeypatch):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def made(**fields):
        overrides = TINY | fields.pop("overrides", {})
        given = {
            "task": "segmentation",
            "cohort": "digits",
            "cohort_options": {"n": [8, 4, 4], "source": "drawn"},
            "backbone": "unet",
            "method": "cm",
            "recipe": "annotators",
            "overrides": overrides,
        }
        return from_mapping({**given, **fields})

    yield made
    torch.set_num_threads(before)


def test_a_run_holds_scores_of_every_picture_and_annotator(make_run, store):
    result = run(make_run(overrides={"level": 0.5}), store)
    facts = result.facts
    assert facts["synthetic"] and facts["simulated_annotators"]
    assert facts["n"] == {"val": 4, "test": 4}
    wanted = {"dice", "dice_foreground", "ged", "cm_error", "annotator_dice", "n_parameters"}
    assert wanted <= set(result.metrics)
    assert set(facts["baselines"]) == {f"fused_{how}" for how in _FUSIONS}
    assert {"dice", "dice_good", "dice_blank", "ged"} <= set(result.predictions)
    assert set(result.history["stage"]) == {"training"}
    matrices, names = facts["settings"]["confusion"], facts["settings"]["annotators"]
    learnt, true = (np.array(matrices[which]) for which in ("learnt", "true"))
    np.testing.assert_allclose(learnt.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(true.sum(1), 1, atol=1e-4)
    assert names == ["good", "over", "under", "wrong", "blank"]
    assert {p.name for p in result.folder.iterdir()} >= {"model.safetensors", "model.json"}
    assert not (result.folder / "checkpoint.pt").exists()


_FUSIONS = ("mean", "mode", "staple", "spatial-staple")


def test_what_is_asked_of_the_data_makes_another_experiment(make_run):
    ids = {
        resolve(make_run(overrides=wishes)).id
        for wishes in ({}, {"level": 0.5}, {"labels": "single"}, {"annotators": 3})
    }
    assert len(ids) == 4
    dense, single = (
        annotator_sets.load(make_run(overrides={"labels": kind})) for kind in ("dense", "single")
    )
    assert (~single.subset("train").missing).sum(axis=1).max() == 1
    assert not single.subset("test").missing.any() and not dense.missing.any()


def test_simulated_mnist_is_stored_as_digits(make_run):
    resolved = resolve(make_run(cohort="simulated_mnist"))
    assert resolved.cohort == "digits" and resolved.id == resolve(make_run()).id


def test_cohorts_are_sets_too(make_run, store):
    fields = {"cohort_options": {"n_images": 20, "size": [64, 64]}, "size": 16}
    result = run(make_run(cohort="phantom", method="mode-labels", **fields), store)
    assert result.facts["synthetic"] and not result.facts["simulated_annotators"]
    simulated = make_run(cohort="phantom-simulated", overrides={"annotators": 2}, **fields)
    made = annotator_sets.load(simulated)
    assert made.simulated_annotators and len(made.annotators) == 2


def test_an_annotator_of_no_training_picture_is_left_out(make_run, store):
    fields = {"cohort_options": {"n_images": 24, "size": [64, 64]}, "size": 16}
    experiment = make_run(cohort="phantom", method="mode-labels", **fields)
    unseen = annotator_sets.load(experiment).subset("train").unseen
    said = []
    result = run(experiment, store, log=said.append)
    assert unseen
    assert any(line.startswith(f"left out: {', '.join(unseen)}, who") for line in said)
    assert not set(unseen) & set(result.facts["settings"]["annotators"])


def test_rates_are_compared_on_the_pictures_that_each_annotator_labelled(make_run, store):
    fields = {"cohort_options": {"n_images": 30, "size": [64, 64]}, "size": 16}
    wishes = {"annotators": ["A00", "A01", "A02"]}
    runs = sweep([make_run(cohort="phantom", overrides=wishes, **fields)], store, log=print)
    settings = run(make_run(cohort="phantom", overrides=wishes, **fields), store).facts["settings"]
    told = settings["confusion"]
    assert settings["annotators"] == wishes["annotators"]
    learnt, true = (np.array(told[which], dtype=float) for which in ("learnt", "true"))
    rates = rate_correlations(learnt, true, settings["annotators"])
    measured = runs.loc[0, "false_positive_r"]
    assert rates["false_positive_rate"] == pytest.approx(measured, abs=1e-3)
    labelled = annotator_sets.load(make_run(cohort="phantom", overrides=wishes, **fields))
    np.testing.assert_allclose(told["true_all"], true_confusion(labelled).overall, atol=1e-5)
    assert told["n_images"] == labelled.subset("test").counts.tolist()
    assert not np.allclose(learnt, told["learnt_own"]), "annotators labelled a part each"


def test_runs_hold_the_dice_of_fused_labels_and_methods_without_matrices_none(make_run, store):
    wanted = [make_run(method=m, label="dense") for m in ("cm", "mode-labels", "staple")]
    runs = sweep([*wanted, make_run(seed=1, label="dense")], store, log=lambda line: None)
    assert runs["fused_mode_dice"].between(0, 1).all()
    gain = by_seed(runs, "cm", less="staple")
    assert list(gain.index) == [0]
    assert not read_facts(runs.loc[1, "folder"])["settings"].get("confusion")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "cmm"}, "no method 'cmm'.*did you mean 'cm'"),
        ({"method": ""}, "overrides.widths: is no setting"),
        (
            {"backbone": "resnet18", "method": "prob-unet"},
            "is not built on it.*write backbone: unet",
        ),
        ({"backbone": "resnet8"}, "unknown backbone .resnet8."),
        ({"backbone": "vit_b_16"}, "maps of five resolutions"),
        ({"weights": "file"}, "has none but random ones"),
        ({"cohort": "digit"}, "no set 'digit'.*did you mean 'digits'"),
        ({"overrides": {"tracee": 1}}, "no setting 'tracee'; did you mean 'trace'"),
        ({"overrides": {"labels": "sparse"}}, "labels is 'sparse'"),
        ({"overrides": {"annotators": 1}}, "annotators is 1, it should be 2 or more"),
        ({"overrides": {"form": "pixle"}}, "no form 'pixle'"),
        ({"overrides": {"lr": -1}}, "lr is -1"),
        ({"cohort_options": {"m": 1}}, "no 'm'"),
        ({"split": {"kind": "kfold"}}, "sets are split once"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_trained(make_run, fields, said):
    with pytest.raises(ExperimentError, match=f"(?s){said}"):
        resolve(make_run(**fields))
