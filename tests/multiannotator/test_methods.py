"""Every method learns, tells annotators apart where it can, and takes missing labels as missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from iavlib.core.errors import LabelError, MethodError, TrainingError
from iavlib.masks import class_dice
from iavlib.multiannotator import (
    METHODS,
    MISSING,
    Problem,
    confusion_error,
    fit,
    make_method,
    true_confusion,
)
from iavlib.multiannotator.fitting import build_network
from iavlib.multiannotator.losses import label_likelihood
from iavlib.multiannotator.prediction import Prediction
from iavlib.multiannotator.scores import Scorer, confusion_facts
from iavlib.training.batches import ImageBatches
from iavlib.training.recipe import get_recipe

SMALL = {"widths": [4, 8]}


def score(predictions, data):
    scorer = Scorer(data)
    for batch in predictions:
        scorer.add(batch)
    return scorer.result()


def batch_of(method, data, network, stage=None):
    """All pictures of a set as one batch."""
    stage = stage or method.stages[0]
    method.start(network, data, None)
    problem = Problem.of(data)
    targets = method.targets(data, stage, network)
    batches = ImageBatches.from_arrays(
        data.images, data.ids, targets, problem.mean, problem.std, "cpu"
    )
    return batches.batch(range(len(data)))


def gradients(method, data, network, stage=None):
    batch = batch_of(method, data, network, stage)
    network.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    loss = method.loss(network, batch, 9, stage or method.stages[0])
    loss.backward()
    found = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    return float(loss.detach()), found


def test_all_methods_are_found():
    wanted = {"cm", "cm-global", "cm-low-rank", "cm-no-trace", "cm-oracle", "cm-released"}
    wanted |= {"cm-two-stage", "mean-labels", "mode-labels", "every-label", "separate"}
    assert wanted | {"staple", "spatial-staple", "prob-unet"} <= set(METHODS)
    assert all(entry.title for entry in METHODS.values())


WITHOUT_DIAGNOSIS = [name for name in METHODS if not METHODS[name].method.needs_diagnosis]


@pytest.mark.parametrize("name", WITHOUT_DIAGNOSIS)
def test_every_method_learns_and_predicts(discs, recipe, name):
    data = discs()
    fitted = fit(make_method(name, **SMALL), data, recipe.model_copy(update={"epochs": 3}))
    losses = fitted.history.groupby("stage")["train_loss"]
    assert np.isfinite(fitted.history["train_loss"]).all()
    assert (losses.last() < losses.first()).all()
    found = fitted.predict(data, n_samples=3)
    assert found.consensus.shape == (8, 2, 16, 16) and list(found.ids) == list(data.ids)
    np.testing.assert_allclose(found.consensus.sum(1), 1, atol=1e-5)
    if found.maps is not None:
        assert found.maps.shape == (8, 3, 2, 16, 16)
        np.testing.assert_allclose(found.maps.sum(2), 1, atol=1e-5)
    rows, scores, matrices = score(fitted.predict_batches(data, batch_size=3), data)
    assert len(rows) == 8 and {"dice", "ged", "dice_vote", "annotator_dice"} <= set(scores)
    assert (found.confusion is None) == (matrices is None) == ("cm_error" not in scores)


def test_cm_recovers_annotators_who_err_at_random(discs):
    data = discs(n=24, annotators=("good", "over", "under", "blank"))
    generator = np.random.default_rng(0)
    rates = ((0, 0), (0.3, 0.05), (0.05, 0.4), (0.2, 0.2))
    drawn = []
    for false_positives, false_negatives in rates:
        rate = np.where(data.truth == 1, false_negatives, false_positives)
        wrong = generator.random(data.truth.shape) < rate
        drawn.append(np.where(wrong, 1 - data.truth, data.truth))
    data = replace(data, labels=np.stack(drawn, axis=1).astype(np.int8))
    recipe = get_recipe("annotators", epochs=30, batch_size=4)
    method = make_method("cm", widths=[8, 16], trace_warmup=10)
    _, scores, matrices = score(fit(method, data, recipe).predict_batches(data), data)
    true = true_confusion(data).overall
    identity = np.broadcast_to(np.eye(2), true.shape)
    assert confusion_error(matrices, true) < 0.25 * confusion_error(identity, true)
    assert min(scores["false_positive_r"], scores["false_negative_r"]) > 0.9
    assert scores["ranking"] > 0.7 and scores["dice"] > 0.95


def test_own_matrices_are_of_the_pictures_that_an_annotator_labelled(discs):
    data = discs(n=2, annotators=("good", "over"))
    labels = data.labels.copy()
    labels[1, 0] = -1
    data = replace(data, labels=labels)
    one_hot = np.stack([1 - data.truth, data.truth], axis=1).astype(np.float32)
    right, wrong = np.eye(2, dtype=np.float32), np.full((2, 2), 0.5, np.float32)
    by_picture = np.stack([[right, right], [wrong, wrong]])
    samples = data.truth[:, None]
    found = Prediction(data.ids, data.annotators, one_hot, None, samples, by_picture, by_picture)
    scorer = Scorer(data)
    scorer.add(found)
    good, over = scorer.own_matrices()
    np.testing.assert_allclose(good, right)
    assert 0.5 < over[0, 0] < 1, "the second picture counts for who labelled it"
    facts = confusion_facts(
        scorer.result()[2], scorer.own_matrices(), {"train": data, "test": data}
    )
    assert facts["n_images"] == [1, 2] and facts["true_all"] == facts["true_train"]
    unknown = replace(data, truth=None, truth_is="")
    assert confusion_facts(by_picture[0], by_picture[0], {"test": unknown})["true"] is None


@pytest.mark.parametrize("name", ["cm", "cm-low-rank", "separate", "every-label", "mean-labels"])
def test_the_order_of_annotators_means_nothing(discs, name):
    data, order = discs(), [2, 0, 1]
    turned = data.of_annotators([data.annotators[place] for place in order])
    method, other = make_method(name, **SMALL), make_method(name, **SMALL)
    network = build_network(method, Problem.of(data), 0)
    moved = build_network(other, Problem.of(turned), 0)
    moved.load_state_dict(permuted(network.state_dict(), order))
    loss, _ = gradients(method, data, network)
    same, _ = gradients(other, turned, moved)
    assert same == pytest.approx(loss, rel=1e-5)


def permuted(state, order):
    """Give annotator `order[i]`'s weights to place i."""
    found = {}
    for name, values in state.items():
        if name.startswith("networks."):
            place, rest = name.removeprefix("networks.").split(".", 1)
            found[name] = state[f"networks.{order[int(place)]}.{rest}"]
        elif name.startswith("confusion.head.layers"):
            found[name] = values.unflatten(0, (len(order), -1))[order].flatten(0, 1)
        else:
            found[name] = values
    return found


@pytest.mark.parametrize("name", ["cm", "cm-global", "cm-low-rank", "separate", "every-label"])
def test_a_missing_label_changes_nothing(discs, name):
    """What lies where a label is missing reaches no gradient; who is missing gets none."""
    data = discs()
    labels = data.labels.copy()
    labels[:, 2] = MISSING
    there = replace(data, labels=labels)
    method = make_method(name, **SMALL)
    network = build_network(method, Problem.of(there), 0)
    loss, found = gradients(method, there, network)
    known = data.of_annotators(data.annotators[:2])
    fewer = make_method(name, **SMALL)
    smaller = build_network(fewer, Problem.of(known), 0)
    smaller.load_state_dict(first_two(network.state_dict(), smaller.state_dict()))
    same, wanted = gradients(fewer, known, smaller)
    assert same == pytest.approx(loss, rel=1e-5)
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key][: len(gradient)], gradient, rtol=1e-4, atol=1e-6)
        assert not found[key][len(gradient) :].any()
    gone = [one for key, one in found.items() if key.startswith("networks.2")]
    assert not any(one.any() for one in gone)


def first_two(state, wanted):
    return {name: state[name][: len(values)] for name, values in wanted.items()}


def test_likelihood_of_a_missing_label_is_exactly_nothing():
    maps = torch.rand(2, 3, 2, 4, 4).softmax(2).requires_grad_()
    labels = torch.randint(0, 2, (2, 3, 4, 4))
    labels[0, 1] = MISSING
    loss, given = label_likelihood(maps, labels)
    loss.sum().backward()
    assert given.tolist() == [[True, False, True], [True, True, True]]
    assert float(loss[0, 1].detach()) == 0 and not maps.grad[0, 1].any()


def test_the_trace_is_maximised_first_and_then_minimised(discs):
    data = discs()
    method = make_method("cm", **SMALL, trace=0.5, trace_warmup=2, trace_warmup_target=1.0)
    plain = make_method("cm", **SMALL, trace=0.0, trace_warmup=0)
    network = build_network(method, Problem.of(data), 0)
    network.requires_grad_(False)
    batch = batch_of(method, data, network)
    alone = float(plain.loss(network, batch, 0, "training"))
    trace = alone - float(method.loss(network, batch, 1, "training"))
    assert 0 < trace <= 2
    after = float(method.loss(network, batch, 2, "training")) - alone
    assert after == pytest.approx(0.5 * trace, rel=1e-4)
    aims = make_method("cm", **SMALL, trace_warmup=2, trace_warmup_target=0.25)
    assert alone - float(aims.loss(network, batch, 1, "training")) == pytest.approx(0.5, abs=5e-3)


def test_the_released_loss_is_bounded_by_its_second_softmax(discs):
    data = discs()
    method = make_method("cm-released", **SMALL)
    network = build_network(method, Problem.of(data), 0)
    network.requires_grad_(False)
    loss = float(method.loss(network, batch_of(method, data, network), 0, "training"))
    # -log of a softmax of two probabilities lies within log(1 + 1/e) and log(1 + e)
    assert np.log1p(np.exp(-1)) < loss < np.log1p(np.e) + 0.01


def test_an_oracle_knows_the_annotators(discs, recipe):
    data = discs()
    fitted = fit(make_method("cm-oracle", **SMALL), data, recipe)
    true = true_confusion(data).overall
    np.testing.assert_allclose(fitted.network.confusion.matrices, true, atol=1e-6)


def test_what_is_predicted_and_what_is_labelled_are_combined(discs, recipe):
    data = discs()
    fitted = fit(make_method("cm-oracle", **SMALL), data, recipe)
    fused = fitted.fuse(data, batch_size=3)
    np.testing.assert_allclose(fused.sum(1), 1, atol=1e-5)
    assert (class_dice(fused.argmax(1), data.truth, 2) == 1).all()  # one annotator is always right
    assert fit(make_method("mode-labels", **SMALL), data, recipe).fuse(data) is None
    with pytest.raises(MethodError, match="learnt from good, over, blank"):
        fitted.fuse(data.of_annotators(["over", "good", "blank"]))


def test_the_second_stage_leaves_the_first_as_it_is(discs, recipe):
    data = discs()
    method = make_method("cm-two-stage", **SMALL)
    network = build_network(method, Problem.of(data), 0)
    method.begin(network, "truth")
    _, found = gradients(method, data, network, "truth")
    assert found and not any(name.startswith("first.") for name in found)
    target = method.targets(data, "truth", network)["target"]
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-5)


def test_the_truth_is_the_product_of_what_is_predicted_of_each_annotator(discs):
    data = discs()
    method = make_method("cm-two-stage", **SMALL)
    network = build_network(method, Problem.of(data), 0)
    # two annotators say .6 for foreground, a third .1: odds of 1.5 * 1.5 / 9
    with torch.no_grad():
        for head, share in zip(network.first.heads, (0.6, 0.6, 0.1), strict=True):
            head.weight.zero_()
            head.bias.copy_(torch.tensor([1 - share, share]).log())
    target = method.targets(data, "truth", network)["target"]
    np.testing.assert_allclose(target[:, 1], 0.25 / 1.25, atol=1e-5)
    # and the first stage knows nothing but each annotator's labels: plain cross-entropy
    batch = {"images": torch.rand(8, 1, 16, 16), "labels": torch.from_numpy(data.labels)}
    marked = torch.from_numpy(data.labels).float().mean((0, 2, 3))
    shares = torch.tensor([0.6, 0.6, 0.1])
    wanted = -(marked * shares.log() + (1 - marked) * (1 - shares).log()).mean()
    torch.testing.assert_close(method.loss(network, batch, 0, "annotators"), wanted)


def test_without_the_trace_the_loss_is_the_cross_entropy_from_the_first_epoch(discs):
    data = discs()
    network = build_network(make_method("cm", **SMALL), Problem.of(data), 0)
    batch = {"images": torch.rand(8, 1, 16, 16), "labels": torch.from_numpy(data.labels)}

    def loss(name, epoch):
        return make_method(name, **SMALL).loss(network, batch, epoch, "").item()

    assert loss("cm-no-trace", 0) == loss("cm-no-trace", 9)
    assert loss("cm", 0) < loss("cm-no-trace", 0) < loss("cm", 9)


def test_several_classes(discs, recipe):
    data = discs(annotators=("good", "over", "swap"), classes=3)
    for name in ("cm", "staple", "prob-unet"):
        found = fit(make_method(name, **SMALL), data, recipe).predict(data, n_samples=2)
        assert found.consensus.shape[1] == 3


def test_annotators_of_whom_nothing_is_known(discs, recipe):
    data = discs()
    labels = data.labels.copy()
    labels[:, 1] = MISSING
    with pytest.raises(LabelError, match="'over'"):
        fit(make_method("cm", **SMALL), replace(data, labels=labels), recipe)


def test_one_mask_a_picture_and_an_annotator_of_empty_masks_are_learnt(discs, recipe):
    single = discs(n=12).one_label_per_image(1)
    assert not (single.labels[:, 2] > 0).any()
    for name in ("cm", "staple", "spatial-staple", "prob-unet"):
        fitted = fit(make_method(name, **SMALL), single, recipe)
        assert np.isfinite(fitted.history["train_loss"]).all()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cmm", {}, "no method 'cmm'; did you mean 'cm'"),
        ("cm", {"tracee": 1}, "no setting 'tracee'; did you mean 'trace'"),
        ("cm", {"trace": "x"}, "trace is 'x', it must be a number"),
        ("cm", {"trace": -1.0}, "below 0"),
        ("cm", {"form": "pixl"}, "no form 'pixl'; did you mean 'pixel'"),
        ("cm", {"widths": [0]}, "widths"),
        ("mode-labels", {"fusion": "stapl"}, "no fusion 'stapl'; did you mean 'staple'"),
        ("prob-unet", {"latent": 0}, "latent"),
    ],
)
def test_what_is_not_there_is_named(name, settings, said):
    with pytest.raises(MethodError, match=said):
        make_method(name, **settings)


def test_pictures_of_other_channels_and_augmentations_without_labels(discs, recipe):
    data = discs()
    fitted = fit(make_method("mode-labels", **SMALL), data, recipe)
    with pytest.raises(MethodError, match="images of shape"):
        fitted.predict(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(TrainingError, match="cannot follow augmentation 'ours'"):
        fit(make_method("cm", **SMALL), data, recipe.model_copy(update={"augmentation": "ours"}))
    other = fitted.predict(np.zeros((1, 20, 12, 1), np.uint8))
    assert other.consensus.shape == (1, 2, 20, 12)


def test_labels_turn_with_their_pictures(discs):
    data = discs()
    truth = {"labels": data.labels, "image": data.images[..., 0].astype(np.float32)}
    batches = ImageBatches.from_arrays(data.images, data.ids, truth, (0.0,), (1.0,), "cpu")
    batch = batches.batch(range(8), torch.Generator().manual_seed(0), "flips")
    torch.testing.assert_close(batch["images"][:, 0] * 255, batch["image"])
    assert not torch.equal(batch["labels"], torch.from_numpy(data.labels))
    inside = batch["labels"][:, 0] == 1
    assert float(batch["image"][inside].min()) > float(batch["image"][~inside].mean())


def test_masks_of_different_sizes_and_classes_beyond_those_declared(discs):
    with pytest.raises(LabelError, match="classes"):
        discs(classes=3, n_classes=2)
    data = discs()
    with pytest.raises(LabelError, match="labels of shape"):
        replace(data, labels=data.labels[:, :, :8])


def test_two_methods_cannot_share_a_name():
    from iavlib.multiannotator import register

    class Other:
        pass

    with pytest.raises(MethodError, match="two methods are called 'cm'"):
        register("cm", "Mine")(Other)
