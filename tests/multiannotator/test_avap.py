"""AVAP and its peers: who is predicted, who is missing, and what each step leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from iavlib.core.errors import MethodError
from iavlib.multiannotator import (
    MISSING,
    MultiAnnotatorSet,
    Problem,
    fit,
    load_method,
    make_method,
    save_method,
)
from iavlib.multiannotator.fitting import build_network
from iavlib.multiannotator.scores import PreferenceScorer
from iavlib.training.batches import ImageBatches

SMALL = {"widths": [4, 8]}


def loss_of(method, network, data, stage):
    problem = Problem.of(data)
    batches = ImageBatches.from_arrays(
        data.images, data.ids, {"labels": data.labels}, problem.mean, problem.std, "cpu"
    )
    torch.manual_seed(0)
    network.zero_grad(set_to_none=True)
    loss = method.loss(network, batches.batch(range(len(data))), 0, stage)
    loss.backward()
    return float(loss.detach())


def scored(fitted, data):
    scorer = PreferenceScorer(data)
    for lot in fitted.predict_batches(data, batch_size=5):
        scorer.add(lot)
    return scorer


def test_each_step_trains_its_part_alone(discs):
    data = discs()
    method = make_method("avap", **SMALL)
    network = build_network(method, Problem.of(data), 0).train()
    for stage, trained in (("agreement", ("backbone", "agreement")), ("preference", "preference")):
        method.begin(network, stage)
        before = {k: v.clone() for k, v in network.backbone.state_dict().items()}
        loss_of(method, network, data, stage)
        moved = {
            name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None
        }
        assert moved == {trained} if isinstance(trained, str) else moved == set(trained)
        if stage == "preference":
            assert all(torch.equal(v, before[k]) for k, v in network.backbone.state_dict().items())
    assert network.preference.controller.weight.grad.abs().sum() > 0


def test_joint_training_weighs_both_losses(discs):
    data = discs()
    method = make_method("avap-joint", **SMALL, joint_weight=0.25)
    assert method.stages == ("joint",) and make_method("avap").stages == ("agreement", "preference")
    network = build_network(method, Problem.of(data), 0).eval()
    both = loss_of(method, network, data, "joint")
    losses = [loss_of(method, network, data, stage) for stage in ("agreement", "preference")]
    assert both == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-4)


def test_missing_annotators_reach_no_gradient(discs):
    data = discs()
    labels = data.labels.copy()
    labels[:4, 1] = labels[:, 2] = MISSING
    method = make_method("avap", **SMALL)
    network = build_network(method, Problem.of(data), 0).train()
    loss = loss_of(method, network, replace(data, labels=labels), "preference")
    codes = network.preference.controller.weight.grad[:, network.backbone.features :, 0, 0]
    assert np.isfinite(loss) and codes[:, 0].any() and not codes[:, 2].any()
    assert np.isfinite(loss_of(method, network, replace(data, labels=labels), "agreement"))
    heads = make_method("mh-unet", **SMALL)
    network = build_network(heads, Problem.of(data), 0)
    loss_of(heads, network, replace(data, labels=labels), "training")
    assert network.heads[0].weight.grad.any() and not network.heads[2].weight.grad.any()


def test_annotators_are_mimicked_better_than_by_one_map_for_all(mimicked):
    fitted, data = mimicked
    scores, facts = scored(fitted, data).result()
    alike = {"average_hard": 0.0}
    found = fitted.predict(data)
    matrix = np.array(facts["dice_matrices"]["foreground"]["hard"])[:, :3]
    alike["average_hard"] = matrix[0].mean()  # everybody predicted as the first
    assert scores["own_best"] == scores["own_code_best"] == 1
    assert scores["average_hard"] > alike["average_hard"] + 0.05
    assert scores["swap_gain"] > 0.05
    areas = (found.maps.argmax(2) == 1).sum((0, 2, 3))
    assert areas[2] < areas[0] < areas[1]


def test_the_calibrated_map_follows_the_vote(mimicked):
    fitted, data = mimicked
    found, scores = fitted.predict(data), scored(fitted, data).result()[0]
    assert found.levels.shape == (24, 1, 4, 24, 24)
    np.testing.assert_allclose(found.levels.sum(2), 1, atol=1e-5)
    assert min(scores["mean_voting"], scores["mean_voting_argmax"]) > 0.85
    assert scores["calibration_error"] < 0.1
    outer = (data.mean_map() > 0.2) & (data.mean_map() < 0.5)  # one of three marks
    assert 0.2 < found.consensus[:, 1][outer].mean() < 0.5


def test_a_saved_model_predicts_the_same(mimicked, tmp_path):
    fitted, data = mimicked
    save_method(fitted, tmp_path)
    again = load_method(tmp_path)
    assert again.problem.structures == {"foreground": (1,)}
    np.testing.assert_allclose(again.predict(data).maps, fitted.predict(data).maps, atol=1e-5)


def test_without_codes_everybody_is_predicted_alike(discs, recipe):
    data = discs()
    maps = fit(make_method("avap-features", **SMALL), data, recipe).predict(data).maps
    np.testing.assert_allclose(maps[:, 0], maps[:, 1], atol=1e-6)
    maps = fit(make_method("avap-code", **SMALL), data, recipe).predict(data).maps
    assert not np.allclose(maps[:, 0], maps[:, 1], atol=1e-6)


def test_several_structures(discs, recipe):
    data = replace(
        discs(annotators=("good", "over"), classes=3), structures={"disc": (1, 2), "cup": (2,)}
    )
    fitted = fit(make_method("avap", **SMALL), data, recipe)
    found = fitted.predict(data)
    assert found.levels.shape == (8, 2, 3, 16, 16) and found.consensus.shape == (8, 3, 16, 16)
    scores, facts = scored(fitted, data).result()
    assert {"average_disc", "average_cup", "mean_voting_cup"} <= set(scores)
    means = (scores["average_disc"] + scores["average_cup"]) / 2
    assert scores["average"] == pytest.approx(means)
    assert set(facts["reliability"]) == {"disc", "cup"}


def test_scores_in_lots_are_those_of_all_and_one_map_is_compared_with_everybody(discs, recipe):
    data = discs(annotators=("good", "over", "under"))
    labels = data.labels.copy()
    labels[:3, 1] = MISSING
    data: MultiAnnotatorSet = replace(data, labels=labels)
    fitted = fit(make_method("mode-labels", **SMALL, dice=1.0), data, recipe)
    whole = PreferenceScorer(data)
    whole.add(fitted.predict(data))
    lots = scored(fitted, data)
    for kind in ("soft", "hard"):
        one, other = (s.matrices()["foreground"][kind] for s in (whole, lots))
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert list(one.index) == ["consensus"]
    scores = lots.result()[0]
    assert "own_best" not in scores and {"average", "mean_voting", "calibration_error"} <= set(
        scores
    )


def test_peers_take_an_encoder_and_a_dice_loss(discs, recipe):
    data = discs()
    colours = replace(data, images=np.repeat(data.images, 3, axis=3))
    encoder = {"encoder": "test_resnet", "decoder": [4, 8]}
    for name in ("avap", "separate", "every-label"):
        fitted = fit(make_method(name, **encoder, dice=0.5), colours, recipe)
        assert np.isfinite(fitted.history["train_loss"]).all()
        assert fitted.weights is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"training": "two-steps"}, "no training 'two-steps'; did you mean 'two-step'"),
        ({"condition": "codes"}, "no condition 'codes'; did you mean 'code'"),
        ({"calibrated": "mean"}, "no calibrated 'mean'"),
        ({"joint_weight": 1.0}, "joint_weight must be within"),
        ({"channels": 0}, "channels is 0, below 1"),
        ({"weights": "file"}, "'unet' has no weights but random ones"),
        ({"encoder": "resnet18", "weights": "fil"}, "no weights 'fil'; did you mean 'file'"),
        ({"encoder": "resnet18", "padding": "sane"}, "no padding 'sane'; did you mean 'same'"),
    ],
)
def test_what_is_not_there_is_named(settings, said):
    with pytest.raises(MethodError, match=said):
        make_method("avap", **settings)


def test_features_may_reach_the_written_layers_unreduced(discs, recipe):
    data = discs(annotators=("good", "over"))
    fitted = fit(make_method("avap", widths=[4, 8], reduce=False), data, recipe)
    head = fitted.network.preference
    assert head.shapes == ((4, 4, 3, 3), (4, 4, 3, 3), (2, 4, 1, 1)) and not [
        *head.reduce.parameters()
    ]
    assert fitted.predict(data).maps.shape == (8, 2, 2, 16, 16)
