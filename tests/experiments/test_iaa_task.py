"""Predicting agreement: from the phantom to metrics, with networks of a few thousand weights."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from iavlib.core.errors import DataError, ExperimentError, ExperimentFailed
from iavlib.data import load
from iavlib.data.images import read_mask
from iavlib.experiments import Experiment, resolve, run
from iavlib.experiments.tasks import assign_subsets
from iavlib.experiments.tasks.image import agreement_targets as targets
from iavlib.experiments.tasks.image_training import SYMMETRIES, MeanOverViews, rotate
from iavlib.models import load_network
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import cache_images
from iavlib.training.predict import predict

KILLER = Path(__file__).parent / "kill_thrice.py"
SMALL = {"n_images": 20, "size": [64, 64]}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def phantom():
    return load("phantom", **SMALL)


def small(**fields) -> Experiment:
    fields = {"weights": "none", "recipe": "smoke", "backbone": "test_resnet"} | fields
    return Experiment(cohort="phantom", cohort_options=SMALL, size=32, **fields)


def test_a_run_from_images_to_metrics(store):
    said = []
    result = run(small(), store, log=said.append)
    facts, predictions = result.facts, result.predictions
    assert [line[:7] for line in said] == ["epoch 1", "epoch 2"]
    assert len(result.history) == 2
    assert predictions["subset"].value_counts().to_dict() == {"train": 14, "test": 4, "val": 2}
    assert facts["n"] == {"train": 14, "test": 4, "val": 2}
    assert predictions["true"].between(0, 1).all()
    assert {"malignancy", "n_masks", "cluster"} <= set(predictions)
    test = predictions[predictions["subset"] == "test"]
    assert facts["metrics"]["test"]["mae"] == pytest.approx(
        (test["true"] - test["predicted"]).abs().mean(), abs=1e-6
    )
    train = predictions.loc[predictions["subset"] == "train", "true"]
    median = facts["baselines"]["constant_median"]["test"]["mae"]
    assert median == pytest.approx((test["true"] - train.median()).abs().mean(), abs=1e-6)
    assert result.metrics["reduction"] == pytest.approx(1 - result.metrics["mae"] / median)
    assert facts["weights_random"] is True
    assert facts["weights"]["detail"] == "random, seed 0"
    assert facts["settings"]["epochs"] == 2
    assert facts["synthetic"] is True
    assert not (result.folder / "checkpoint.pt").exists()


def test_the_saved_model_gives_the_predictions_again(store, phantom):
    result = run(small(), store)
    network = load_network(result.folder)
    cache = cache_images(phantom.images["path"], 32)
    weights = network.weights
    batches = ImageBatches.from_cache(
        cache, pd.DataFrame(index=phantom.images.index), weights.mean, weights.std
    )
    again = predict(network, batches)["iaa"][:, 0]
    assert np.allclose(again, result.predictions["predicted"], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "settings", "extra"),
    [
        ({"head": "beta", "loss": "beta_nll"}, {"tta": 2}, ["lower", "upper"]),
        ({"head": "quantile", "loss": "pinball"}, {"quantiles": 3}, ["lower", "upper"]),
        ({"head": "linear", "label_transform": "logit"}, {"normalise": "train"}, []),
    ],
)
def test_other_heads(store, changes, settings, extra):
    result = run(small(recipe={"name": "smoke", "epochs": 1, **changes}, settings=settings), store)
    predictions = result.predictions
    assert list(predictions.columns[3 : 4 + len(extra)]) == ["predicted", *extra]
    assert predictions["predicted"].between(0, 1).all()
    if extra:
        assert (predictions["lower"] < predictions["upper"]).all()
    # begins at the training part's median (which on a logit scale is the same image's)
    train = predictions.loc[predictions["subset"] == "train", "true"]
    assert abs(predictions["predicted"].mean() - train.median()) < 0.15


@pytest.mark.parametrize("head", ["ridge", "svr", "network"])
def test_probes(store, head):
    result = run(small(recipe={"name": "probe", "head": head}, settings={"tta": 2}), store)
    facts = result.facts
    assert facts["settings"]["head"] == head
    assert set(facts["settings"]["chosen"]) < set(facts["settings"]["tried"][0])
    assert set(facts["baselines"]) == {"constant_median", "constant_mean", "image_statistics"}
    assert result.history.empty
    assert facts["weights_random"] is True
    assert len(result.predictions) == 20
    assert result.metrics["mae"] < 0.3


def test_shares_of_the_training_part_look_at_the_same_cache(store, monkeypatch):
    from iavlib.training import image_cache

    run(small(recipe="probe"), store)
    monkeypatch.setattr(image_cache, "_build", None)  # it would have to be called
    result = run(small(recipe="probe", train_share=0.5), store)
    assert 7 <= result.facts["n"]["train"] < 14
    assert result.facts["n"]["test"] == 4


def test_a_lesion_has_no_top():
    images = torch.rand(2, 3, 4, 4)
    seen = {rotate(images, *view).numpy().tobytes() for view in SYMMETRIES}
    assert len(seen) == len(SYMMETRIES) == 8
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
    mean = MeanOverViews(backbone, 8)
    first = mean(images)
    for view in SYMMETRIES:
        assert torch.allclose(mean(rotate(images, *view)), first, atol=1e-6)
    assert "n=8" in repr(mean)


@pytest.mark.thorough
def test_killed_thrice_and_gone_on_with_it_ends_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, str(KILLER), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["results"][0] == found["results"][1]
    assert len(found["kills"]) == 3
    assert found["kills"][2] < 25
    assert 22 <= found["told"] <= 28  # an epoch that a kill cut off is told of twice, or not at all


def test_folds_test_every_image_once_and_shares_are_nested(phantom):
    tested = []
    for fold in range(4):
        split = {"kind": "kfold", "folds": 4, "fold": fold, "val": 0.2}
        subsets = assign_subsets(phantom, small(split=split))
        tested += list(subsets.index[subsets == "test"])
        clusters = phantom.clusters()[subsets.index].groupby(subsets).agg(set)
        assert not clusters["train"] & clusters["test"]
        assert not clusters["train"] & clusters["val"]
    assert sorted(tested) == sorted(phantom.images.index)
    whole = assign_subsets(phantom, small())
    kept = []
    for share in (0.25, 0.5, 0.75):
        subsets = assign_subsets(phantom, small(train_share=share))
        rest = whole[whole != "train"]
        assert subsets[subsets != "train"].equals(rest)
        kept.append(set(subsets.index[subsets == "train"]))
        assert len(kept[-1]) >= share * (whole == "train").sum()
    assert kept[0] < kept[1] < kept[2] < set(whole.index[whole == "train"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "resnet81"}, "resnet18"),
        ({"recipe": "papper"}, "did you mean 'paper'"),
        ({"recipe": {"name": "smoke", "epoch": 3}}, "no field 'epoch'; did you mean 'epochs'"),
        ({"settings": {"tta": 3}}, "tta is 3, it should be 1, 2, 4 or 8"),
        ({"recipe": {"name": "smoke", "lr": -1}}, "lr is -1, it should be greater than 0"),
        ({"recipe": {"name": "probe", "head": "tree"}}, "it should be 'ridge', 'svr' or 'network'"),
        ({"recipe": {"name": "probe", "lr": 1}}, "no field 'lr'"),
        ({"split": {"fractions": [0.8, 0.2]}}, "has no validation subset"),
        ({"weights": "hubb"}, "weights = 'hubb': is no file"),
        ({"split": {"kind": "kfold", "folds": 50}}, "clusters cannot fill 50 subsets"),
        ({"split": {"group": "hospital"}}, "no column 'hospital' to group by"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(store, fields, said):
    with pytest.raises((ExperimentError, ExperimentFailed), match=said):
        run(small(**fields), store)


def test_images_without_file_or_target_are_left_out(phantom):
    images = phantom.images.copy()
    images.loc[images.index[:3], "path"] = None
    pairs = phantom.pairs[phantom.pairs["image_id"] != images.index[5]]
    some = replace(phantom, images=images, pairs=pairs)
    assert len(targets(some)) == 16
    with pytest.raises(DataError, match="no image has both a file and two masks"):
        targets(replace(phantom, images=images.assign(path=None)))
    with pytest.raises(DataError):
        replace(phantom, pairs=pairs.assign(dice=1.5))


def test_a_corrupt_image_fails_the_run_by_its_name(store, phantom, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    images = phantom.images.copy()
    images.loc[images.index[4], "path"] = str(bad)
    cohort = replace(phantom, images=images)
    with pytest.raises(ExperimentFailed, match=r"bad\.jpg"):
        run(small(), store, cohort)
    assert store.status(resolve(small(), cohort)) == "failed"


def test_a_loss_without_bounds_stops_with_the_images(store):
    wild = {"name": "smoke", "lr": 1e30, "epochs": 3, "head": "paper", "precision": "fp32"}
    with pytest.raises(ExperimentFailed, match="PHANTOM_"):
        run(small(recipe=wild), store)


def test_two_seeds_differ_and_one_gives_the_same_twice(tmp_path):
    from iavlib.experiments import RunStore

    first = run(small(), RunStore(tmp_path / "a"))
    again = run(small(), RunStore(tmp_path / "b"))
    other = run(small(seed=1), RunStore(tmp_path / "b"))
    assert first.predictions.equals(again.predictions)
    assert not first.predictions["predicted"].equals(other.predictions["predicted"])
    assert first.predictions["subset"].equals(other.predictions["subset"])


FEW = {"name": "finetune", "precision": "fp32", "epochs": 1, "warmup_epochs": 0}


def test_fine_tuning_starts_where_ridge_regression_ends(store):
    """With rates of next to nothing an epoch changes nothing: what is left is the ridge probe."""
    still = FEW | {"lr": 1e-12, "ema": None}
    tuned = run(small(recipe=still, settings={"tta": 2}), store)
    settings = {"tta": 2, "normalise": "train"}
    probe = run(small(recipe={"name": "probe", "head": "ridge"}, settings=settings), store)
    both = tuned.predictions.set_index("image_id")["predicted"]
    expected = probe.predictions.set_index("image_id")["predicted"]
    assert np.allclose(both, expected[both.index], atol=1e-5)
    assert expected.std() > 1e-4, "else everything would be near everything"


def test_what_cannot_start_at_a_ridge_regression_is_refused_before_training(phantom):
    for wrong in ({"head": "paper"}, {"label_transform": "logit"}):
        with pytest.raises(ExperimentError, match=r"head_init = 'fit'.*set head: linear"):
            resolve(small(recipe=FEW | wrong), phantom)


def test_the_number_of_annotators_and_fleiss_kappa_as_targets(phantom, store):
    counts = phantom.masks.groupby("image_id")["annotator"].nunique()
    given = targets(phantom, "n_annotators")["target"]
    assert given.to_dict() == counts[given.index].to_dict() and set(given) >= {2, 3}
    kappa = targets(phantom, "fleiss_kappa")["target"]
    once = phantom.masks[phantom.masks["image_id"] == kappa.index[0]].drop_duplicates("annotator")
    masks = [read_mask(path) for path in once["path"]]
    votes = np.sum(masks, axis=0)
    n, size = len(masks), votes.size
    # by the definition: pairs that agree in a pixel, less what the share of marks gives by chance
    observed = (votes * (votes - 1) + (n - votes) * (n - votes - 1)).sum() / (n * (n - 1) * size)
    chance = votes.mean() / n
    chance = chance**2 + (1 - chance) ** 2
    assert kappa.iloc[0] == pytest.approx((observed - chance) / (1 - chance))
    predicted = run(small(settings={"target": "n_annotators"}), store).predictions
    assert predicted.set_index("image_id")["true"].to_dict() == given.to_dict()
    recipe = {"name": "smoke", "label_transform": "logit"}
    with pytest.raises(ExperimentError, match="is not from 0 to 1"):
        resolve(small(settings={"target": "n_annotators"}, recipe=recipe))
