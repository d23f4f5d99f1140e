"""The objective of a diagnosis, alone and beside agreement; stages; heads that begin fitted."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from iavlib.core.errors import TrainingError
from iavlib.models import HeadSpec, build_network
from iavlib.training.batches import ImageBatches
from iavlib.training.loop import fit
from iavlib.training.losses import (
    UncertaintyWeighting,
    classification_loss,
    get_loss,
    multitask_sum,
)
from iavlib.training.objectives import ImageObjective, malignant_probability, predict_heads
from iavlib.training.optimisation import backbone_stages, train_last_stages
from iavlib.training.probe import fit_linear_head
from iavlib.training.recipe import get_recipe


def network(kind="paper", heads=("diagnosis", "iaa")):
    specs = {name: HeadSpec(kind, 2 if name == "diagnosis" else 1) for name in heads}
    return build_network("test_resnet", specs, seed=1, size=24)


@pytest.fixture
def batches(cache, pictures):
    """Bright pictures are malignant; every third has no agreement."""
    levels = pictures[1]["iaa"]
    agreement = levels.where(np.arange(len(levels)) % 3 != 0)
    known = agreement.fillna(0.5).astype(float)
    table = {"diagnosis": (levels > 0.5).astype(int), "iaa": agreement, "iaa_input": known}
    return ImageBatches.from_cache(cache, pd.DataFrame(table), train=levels.index, device="cpu")


def objective(batches, **changes):
    loss = classification_loss("cross_entropy", (1.0, 1.0))
    return ImageObjective(batches, class_loss=loss, **changes)


def test_unknown_agreement_takes_no_part(batches):
    model = network().eval()
    batch = batches.batch(np.arange(9))
    both = objective(
        batches, regression="iaa", loss_name="mse", combine=partial(multitask_sum, alpha=0.3)
    )
    alone = objective(batches).loss(model, batch, 0)
    known = batch["iaa"].isfinite()
    raw = model(batch["images"])["iaa"]
    regression = get_loss("mse")(raw[known], batch["iaa"][known])
    assert both.loss(model, batch, 0).item() == pytest.approx(
        (0.3 * alone + 0.7 * regression).item()
    )
    batch["iaa"] = torch.full_like(batch["iaa"], float("nan"))
    loss = both.loss(model, batch, 0)
    assert loss.item() == pytest.approx(0.3 * alone.item())
    loss.backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in model.parameters())


def test_measures_by_hand(batches):
    model = network().eval()
    judge = objective(batches, regression="iaa", loss_name="mae", combine=torch.add)
    measured = judge.evaluate(model)
    raw = predict_heads(model, batches)
    labels = batches.target("diagnosis")
    called = malignant_probability(raw["diagnosis"]) >= 0.5
    rates = called[labels == 1].mean(), 1 - called[labels == 0].mean()
    assert measured["balanced_accuracy"] == pytest.approx(np.mean(rates))
    true = batches.target("iaa")
    known = np.isfinite(true)
    assert measured["mae"] == pytest.approx(np.abs(raw["iaa"][known, 0] - true[known]).mean())
    assert 0 <= measured["auroc"] <= 1


def test_a_head_that_is_not_trained_keeps_its_statistics_unless_told(batches):
    recipe = get_recipe("smoke", epochs=1, select=["balanced_accuracy", "max"])
    moved = {}
    for mimic in (False, True):
        model = network()
        model.heads["iaa"].requires_grad_(False)
        before = {k: v.clone() for k, v in model.heads["iaa"].state_dict().items()}
        fit(model, batches, objective(batches, run_all_heads=mimic), recipe, seed=1)
        after = model.heads["iaa"].state_dict()
        moved[mimic] = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved[False] == set()
    assert moved[True] == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_learned_weights_are_learned(batches):
    model = network()
    model.weighting = UncertaintyWeighting("smooth_l1")
    recipe = get_recipe("smoke", epochs=2, select=["auroc", "max"])
    fit(model, batches, objective(batches, regression="iaa"), recipe, seed=0)
    assert model.weighting.weights() != (1.0, 1.0)


def test_what_is_handed_in_reaches_the_diagnosis(batches):
    model = network(heads=("diagnosis",))
    model.heads["diagnosis"] = nn.Linear(model.n_features + 1, 2)
    with torch.no_grad():
        model.heads["diagnosis"].weight.zero_()
        model.heads["diagnosis"].weight[1, -1] = 1
        model.heads["diagnosis"].bias.zero_()
    found = predict_heads(model, batches, with_input=True)["diagnosis"]
    assert found[:, 1] == pytest.approx(batches.target("iaa_input"))
    assert objective(batches, with_input=True).loss(model, batches.batch([0, 1]), 0).isfinite()


def test_a_missing_class_is_named(batches):
    ones = batches.select(batches.ids[batches.target("diagnosis") == 1])
    with pytest.raises(TrainingError, match=r"the \d+ training images are all of class 1"):
        objective(batches).check(ones)
    with pytest.raises(TrainingError, match="validation images are all of class 1"):
        objective(ones).check(batches)
    nothing = batches.select(batches.ids[::3])
    with pytest.raises(TrainingError, match="no training image has a known 'iaa'"):
        objective(batches, regression="iaa").check(nothing)


def test_an_epoch_must_pass_the_bar(batches):
    recipe = get_recipe("smoke", epochs=1, select=["auroc", "max"], select_above=1.0)
    with pytest.raises(TrainingError, match=r"no epoch was kept: validation auroc was never"):
        fit(network(), batches, objective(batches), recipe)


def test_only_the_last_stages_are_trained():
    model = build_network("mobilenetv2_100", {})
    stages = backbone_stages(model.backbone)
    assert len(stages) == 9  # stem, seven blocks, the last convolution
    assert train_last_stages(model.backbone, "last") == 3
    trained = {
        name.split(".")[1]
        for name, w in model.backbone.named_parameters()
        if w.requires_grad and name.startswith("blocks")
    }
    assert trained == {"5", "6"}
    assert model.backbone.conv_head.weight.requires_grad
    with pytest.raises(TrainingError, match="the backbone has 9 stages"):
        train_last_stages(model.backbone, 12)


def test_a_head_begins_where_the_fit_ends():
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (60, 5))
    target = (features[:, 0] + rng.normal(size=60) > 2).astype(int)
    head = nn.Sequential(nn.Linear(5, 2))
    chosen = fit_linear_head(head, "logistic", features, target, np.arange(60))
    scale = StandardScaler().fit(features)
    model = LogisticRegression(C=chosen["C"], class_weight="balanced", max_iter=1000)
    expected = model.fit(scale.transform(features), target)
    expected = expected.predict_proba(scale.transform(features))[:, 1]
    logits = head(torch.from_numpy(features).float()).detach().numpy()
    assert malignant_probability(logits) == pytest.approx(expected, abs=1e-5)
    single = nn.Sequential(nn.Linear(5, 1))
    values = np.where(np.arange(60) % 4, features @ np.arange(5.0), np.nan)
    fit_linear_head(single, "ridge", features, values, np.arange(60))
    predicted = single(torch.from_numpy(features).float()).detach().numpy()[:, 0]
    assert np.corrcoef(predicted, features @ np.arange(5.0))[0, 1] > 0.99
    with pytest.raises(TrainingError, match="only a linear head of 2 outputs"):
        fit_linear_head(single, "logistic", features, target, np.arange(60))
