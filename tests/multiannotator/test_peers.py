"""The methods that AVAP and DiFF are compared with: their formulas, and that their idea works."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from iavlib.core.errors import MethodError
from iavlib.masks import class_dice
from iavlib.models.unet import EncoderUNet, UNet
from iavlib.multiannotator import (
    MISSING,
    Problem,
    confusion_error,
    fit,
    majority_labels,
    make_method,
    true_confusion,
)
from iavlib.multiannotator.fitting import build_network
from iavlib.multiannotator.losses import one_hot
from iavlib.multiannotator.methods.aggnet import EstimatedConfusion, add_votes
from iavlib.multiannotator.methods.maxmig import information_gain
from iavlib.multiannotator.methods.mrnet import ExpertiseCell, Perception, draw_expertise
from iavlib.multiannotator.methods.padl import MapsOfEach, drawn_probabilities
from iavlib.multiannotator.methods.phiseg import HierarchicalNetwork, LabelsOfCodes
from iavlib.multiannotator.methods.wdnet import average_of_others
from iavlib.training.recipe import get_recipe

PEERS = ("wdnet", "aggnet", "maxmig", "mrnet", "padl", "padl-marginal", "phiseg")


def learn(name, data, epochs, **settings):
    method = make_method(name, widths=[8, 16], **settings)
    return fit(method, data, get_recipe("annotators", epochs=epochs, batch_size=8))


def as_seen(fitted, data):
    """Images as the network gets them."""
    mean, std = fitted.problem.mean[0], fitted.problem.std[0]
    return (torch.tensor(data.images[..., 0])[:, None] / 255 - mean) / std


def flipped(truth, rates, seed=0):
    """Labels of annotators who err in each pixel at random: rates of false positives, negatives."""
    generator = np.random.default_rng(seed)
    drawn = []
    for false_positives, false_negatives in rates:
        rate = np.where(truth == 1, false_negatives, false_positives)
        drawn.append(np.where(generator.random(truth.shape) < rate, 1 - truth, truth))
    return np.stack(drawn, axis=1).astype(np.int8)


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_label_reaches_no_gradient(discs, name):
    """What would stand where a label is missing changes nothing."""
    data = discs(annotators=("good", "over", "under"))
    labels = torch.from_numpy(data.labels).clone()
    labels[:4, 2] = MISSING
    images = torch.from_numpy(data.images[..., 0])[:, None] / 255
    method = make_method(name, widths=[4, 8])
    seen = []
    for marked in (MISSING, -7):  # any negative number is a missing label
        batch = {"images": images, "labels": torch.where(labels < 0, marked, labels)}
        network = build_network(method, Problem.of(data), 0)
        torch.manual_seed(0)
        losses = [method.loss(network, batch, 0, stage) for stage in method.stages]
        sum(losses).backward()
        seen.append([one.grad for one in network.parameters() if one.grad is not None])
        assert all(torch.isfinite(one).all() for one in seen[-1])
    for first, second in zip(*seen, strict=True):
        torch.testing.assert_close(first, second)


def test_wdnet_averages_the_others_by_their_weights():
    chances = torch.tensor([0.9, 0.6, 0.2])
    maps = torch.stack((1 - chances, chances), 1)[None, :, :, None, None]
    averaged = average_of_others(maps, torch.tensor([0.5, 0.3, 0.2]))[0, :, 1, 0, 0]
    wanted = [(0.3 * 0.6 + 0.2 * 0.2) / 0.5, (0.5 * 0.9 + 0.2 * 0.2) / 0.7, 0.63 / 0.8]
    np.testing.assert_allclose(averaged, wanted, rtol=1e-5)


def test_wdnet_gives_a_random_annotator_the_least_weight(discs):
    data = discs(n=24, annotators=("good", "over", "under", "blank"))
    labels = data.labels.copy()
    labels[:, 3] = np.random.default_rng(0).integers(0, 2, labels[:, 3].shape)
    data = replace(data, labels=labels)
    fitted = learn("wdnet", data, 10)
    weights = fitted.network.weights.detach()
    assert weights[3] < 0.5 * weights[:3].min() and float(weights.sum()) == pytest.approx(1)
    found = fitted.predict(data)
    averaged = (weights.numpy()[:, None, None, None] * found.maps).sum(1)
    np.testing.assert_allclose(found.consensus, averaged, atol=1e-5)
    with pytest.raises(MethodError, match="two or more"):
        learn("wdnet", data.of_annotators(["good"]), 1)


def test_wdnet_weighs_with_the_heads_frozen(discs):
    data = discs()
    method = make_method("wdnet", widths=[4, 8])
    network = build_network(method, Problem.of(data), 0)
    method.begin(network, "weights")
    trained = [name for name, one in network.named_parameters() if one.requires_grad]
    assert trained == ["averaging"]


def test_aggnet_combines_votes_by_sensitivity_and_specificity():
    """A network's .3, a sensitivity of .8 and a specificity of .9; the second did not label."""
    matrices = torch.tensor([[[0.9, 0.2], [0.1, 0.8]], [[0.6, 0.4], [0.4, 0.6]]])
    logits = torch.tensor([0.7, 0.3]).log()[None, :, None, None]
    labels = one_hot(torch.tensor([[[[1]], [[MISSING]]]]), 2)
    found = add_votes(logits, labels, matrices.log()).softmax(1)[0, 1, 0, 0]
    assert float(found) == pytest.approx(0.3 * 0.8 / (0.3 * 0.8 + 0.7 * 0.1))
    both = one_hot(torch.tensor([[[[1]], [[0]]]]), 2)
    found = add_votes(logits, both, matrices.log()).softmax(1)[0, 1, 0, 0]
    assert float(found) == pytest.approx(0.24 * 0.4 / (0.24 * 0.4 + 0.07 * 0.6))


def test_aggnet_estimates_matrices_from_the_aggregated_truth():
    confusion = EstimatedConfusion(2, 2)
    before = confusion.matrices[1].clone()
    truth = torch.tensor([[[1.0, 0.5, 0.0, 0.0]], [[0.0, 0.5, 1.0, 1.0]]])[None]  # (B, C, H, W)
    labels = one_hot(torch.tensor([[[[0, 1, 1, 0]], [[MISSING] * 4]]]), 2)
    confusion.follow(truth, labels, momentum=0.0)
    # of a mass of 2.5 in class 1, one and a half were labelled 1; of 1.5 in class 0, one 0
    np.testing.assert_allclose(confusion.matrices[0], [[1 / 1.5, 1 / 2.5], [0.5 / 1.5, 0.6]], 1e-4)
    np.testing.assert_array_equal(confusion.matrices[1], before)
    confusion.follow(truth, labels.flip(2), momentum=0.75)  # the other label everywhere
    assert confusion.matrices[0, 0, 0] == pytest.approx(1 / 1.5 * 0.75 + 0.5 / 1.5 * 0.25, abs=1e-4)


def test_the_gain_of_maxmig_is_the_mutual_information():
    even = torch.tensor([0.5, 0.5])
    known = one_hot(torch.tensor([[[[0, 0, 1, 1]]]]), 2)[:, 0]
    # the ratio is 2 for a pixel with itself and with the one other of its class, of three others
    assert float(information_gain(known, known, even)) == pytest.approx(1 + np.log(2) - 2 / 3)
    nothing = torch.full_like(known, 0.5)
    assert float(information_gain(nothing, known, even)) == pytest.approx(0)
    many = known.repeat(1, 1, 500, 1)
    assert float(information_gain(many, many, even)) == pytest.approx(np.log(2), abs=1e-3)


def test_the_gain_of_maxmig_is_that_of_all_pairs_of_pixels():
    torch.manual_seed(0)
    first, second = torch.rand(2, 2, 3, 2, 2).softmax(2)
    prior = torch.tensor([0.5, 0.3, 0.2])
    h, g = (some.movedim(1, -1).reshape(-1, 3) for some in (first, second))
    ratios = (h / prior) @ g.T
    own = torch.eye(len(h), dtype=torch.bool)
    wanted = (1 + ratios[own].log()).mean() - ratios[~own].mean()
    torch.testing.assert_close(information_gain(first, second, prior), wanted)


@pytest.mark.parametrize("name", ["aggnet", "maxmig"])
def test_independent_annotators_are_recovered(discs, name):
    data = discs(n=24, annotators=("good", "over", "under", "blank"))
    rates = ((0, 0), (0.3, 0.05), (0.05, 0.4), (0.2, 0.2))
    data = replace(data, labels=flipped(data.truth, rates))
    fitted = learn(name, data, 16)
    found, true = fitted.network.confusion.matrices.numpy(), true_confusion(data).overall
    identity = np.broadcast_to(np.eye(2), true.shape)
    assert confusion_error(found, true) < 0.25 * confusion_error(identity, true)
    dice = class_dice(fitted.predict(data).labels, data.truth, 2).mean()
    vote = class_dice(majority_labels(data), data.truth, 2).mean()
    assert dice > 0.97 > 0.92 > vote
    assert class_dice(fitted.fuse(data).argmax(1), data.truth, 2).mean() > 0.97


def test_the_cell_of_mrnet_gates_expertise_and_features():
    cell = ExpertiseCell(1, 2)
    nn.init.zeros_(cell.gates.weight), nn.init.zeros_(cell.gates.bias)
    nn.init.zeros_(cell.embed.weight), nn.init.ones_(cell.embed.bias)
    features, expertise = torch.rand(1, 1, 3, 3), torch.tensor([[0.5, 0.5]])
    halves = 0.5 * np.tanh(0.5)  # all gates at one half, a state of 1, nothing new
    np.testing.assert_allclose(cell(features, expertise).detach(), np.full((1, 1, 3, 3), halves))
    with torch.no_grad():
        cell.gates.bias[3] = 1.0
    new = 0.5 * np.tanh(0.5 + 0.5 * np.tanh(1))
    np.testing.assert_allclose(cell(features, expertise).detach(), np.full((1, 1, 3, 3), new))


def test_mrnet_enhances_where_it_predicts_and_where_annotators_differ():
    perception = Perception(1, 2)
    perception.refine, perception.last = nn.Identity(), nn.Identity()
    predicted, masks = torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, 2, 5, 5)
    predicted[0, 1, 0, 0], masks[0, 0, 1, 4, 4] = 1, 1
    first, second = perception(torch.ones(1, 1, 5, 5), predicted, masks)[0].detach()
    assert first[0, 0] == 2 and first[4, 4] == 1, "twice the features where the lesion is"
    assert second[4, 4] == pytest.approx(2) and second[0, 0] == 1, "and where masks deviate"
    assert 1 < second[3, 3] <= 2, "and around"


def test_expertise_is_of_annotators_who_labelled():
    labels = torch.zeros(5, 4, 2, 2, dtype=torch.int8)
    labels[:, 1] = MISSING
    one, mixed, equal = draw_expertise(labels).split(5)
    torch.testing.assert_close(torch.cat((one, mixed, equal)).sum(1), torch.ones(15))
    assert not torch.cat((one, mixed, equal))[:, 1].any()
    assert (one.amax(1) == 1).all() and len({tuple(row) for row in mixed.tolist()}) > 1
    torch.testing.assert_close(equal[0], torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]))


@pytest.mark.parametrize(
    "unet", [lambda: UNet(3, (4, 8)), lambda: EncoderUNet(3, "test_resnet", (4, 8, 8))]
)
def test_a_unet_lets_its_coarsest_map_be_changed(unet):
    unet, images, seen = unet().eval(), torch.rand(1, 3, 32, 32), []
    plain = unet(images)
    torch.testing.assert_close(unet(images, lambda maps: seen.append(maps) or maps), plain)
    assert seen[0].shape[1] == unet.deepest
    assert not torch.allclose(unet(images, torch.zeros_like), plain)


def test_mrnet_follows_the_expertise_it_is_given(discs):
    data = discs(n=16, annotators=("good", "over", "under"))
    fitted = learn("mrnet", data, 40)
    drawn = fitted.predict(data).maps[:, :, 1].mean((0, 2, 3))
    assert drawn[1] > 1.3 * drawn[0] and drawn[0] > drawn[2]
    with torch.inference_mode():
        network, images = fitted.network.eval(), as_seen(fitted, data)
        mixed = [torch.tensor([[0.0, share, 1 - share]]) for share in (0, 0.3, 0.7, 1)]
        finals = [network(images, one.expand(len(images), -1))[2] for one in mixed]
    areas = [float(final.softmax(1)[:, 1].mean()) for final in finals]
    assert areas == sorted(areas) and areas[-1] > 1.5 * areas[0]


def test_mrnets_modules_do_not_train_those_before_them(discs):
    data = discs(n=2, annotators=("good", "over"))
    network = build_network(make_method("mrnet", widths=[4, 8]), Problem.of(data), 0)
    _, masks, final = network(torch.rand(2, 1, 16, 16), torch.full((2, 2), 0.5))
    final.sum().backward(retain_graph=True)
    trained = {
        name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None
    }
    assert trained == {"perception"}
    masks.square().sum().backward()
    trained = {
        name.split(".")[0] for name, one in network.named_parameters() if one.grad is not None
    }
    assert trained == {"perception", "reconstruction"}


def test_padl_reads_more_where_the_consensus_is_uncertain():
    maps = MapsOfEach(1, 2, 1).eval()
    nn.init.ones_(maps.reduce[0].weight), nn.init.zeros_(maps.reduce[0].bias)
    with torch.no_grad():
        maps.last.weight.copy_(torch.tensor([1.0, 10.0]).repeat(2, 1)[..., None, None])
        maps.last.bias.copy_(torch.tensor([0.0, 3.0]))
    features, gain = torch.tensor([[[[2.0, -2.0]]]]), torch.tensor([[[[1.0, 2.0]]]])
    means = torch.tensor([[[0.1, 0.1]], [[0.5, 0.0]]])[None, :, None, 0]
    found = maps(features, gain, means[..., None, :]).detach()
    # gain * ReLU(features) + 10 m, and 3 more for the second annotator
    np.testing.assert_allclose(found[0, :, 0, 0], [[3, 1], [10, 3]], rtol=1e-4)


def test_a_deviation_costs_by_one_draw_and_may_pay_by_many():
    torch.manual_seed(0)
    certain = torch.tensor([0.0, 2.0])[:, None, None].expand(1, 1, 2, 200, 200)
    spread = torch.full_like(certain, 2.0)

    def cost(deviation, draws):  # three of four pixels are marked
        chances = drawn_probabilities(certain, deviation, draws)
        return -(0.75 * chances[:, :, 1].log() + 0.25 * chances[:, :, 0].log()).mean()

    plain = cost(0 * spread, 1)
    assert plain == pytest.approx(float(cost(0 * spread, 8)))
    assert cost(spread, 1) > plain + 0.3 and cost(spread, 32) < plain - 0.02


def test_padl_separates_preference_from_error(discs):
    """One annotator draws what is there, one too much, and one errs in a fourth of the pixels."""
    data = discs(n=24, annotators=("good", "over", "under"))
    noisy = flipped(data.truth, [(0.25, 0.25)])[:, 0]
    data = replace(data, labels=np.stack([*data.labels[:, :2].swapaxes(0, 1), noisy], axis=1))
    rim = torch.from_numpy((data.labels[:, 1] == 1) & (data.truth == 0))
    fitted = learn("padl-marginal", data, 20)
    with torch.inference_mode():
        (mean, _), (means, deviations) = fitted.network.eval()(as_seen(fitted, data))
    odds = (means - mean)[:, :, 1] - (means - mean)[:, :, 0]
    preference = [float(odds[:, r][rim].mean()) for r in range(3)]
    assert preference[1] > max(preference[0], preference[2]) + 0.5, "who draws too much prefers it"
    error = deviations.mean((0, 2, 3, 4))
    assert error[2] > 1.4 * max(error[0], error[1]), "chance is in who errs at random"
    found = learn("padl", data, 20).predict(data)
    areas = (found.maps.argmax(2) == 1).mean((0, 2, 3))
    assert areas[1] > 1.3 * areas[0] and areas[2] < 1.3 * areas[0], "errors move no mean across .5"
    assert found.samples.shape == (24, 16, 16, 16)


def test_phiseg_weighs_the_divergence_by_the_codes_of_a_level():
    network = HierarchicalNetwork(1, 2, (4, 4), levels=2, latent=1)
    for path, mean in ((network.prior, 0.0), (network.posterior, 1.0)):
        for last in path.last:
            nn.init.zeros_(last.weight)
            last.bias.data = torch.tensor([mean, 0.0])
    labels = torch.zeros(3, 1, 8, 8, dtype=torch.int8)
    logits, divergence = network.reconstruct(torch.rand(3, 1, 8, 8), labels)
    scale = np.log(2) + 1e-3  # softplus of 0, and the smallest deviation
    # 64 fine codes, and 16 coarse ones that count four times
    np.testing.assert_allclose(
        divergence.detach(), np.full(3, (64 + 4 * 16) / (2 * scale**2)), 1e-4
    )
    assert [tuple(one.shape) for one in logits] == [(3, 2, 8, 8)] * 2


def test_phiseg_adds_logits_from_coarse_to_fine():
    network = LabelsOfCodes((4, 4), 2, latent=1, classes=2)
    for last, bias in zip(network.last, ([0.0, 1.0], [2.0, 0.0]), strict=True):
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor(bias)
    sums = network([torch.rand(2, 1, 4, 4), torch.rand(2, 1, 8, 8)], (8, 8))
    assert sums[0][0, :, 3, 3].tolist() == [0, 1] and sums[1][0, :, 3, 3].tolist() == [2, 1]


def test_phiseg_draws_differ_where_annotators_do(discs):
    data = discs(n=24, annotators=("good", "over"))
    fitted = learn("phiseg", data, 30)
    drawn = fitted.predict(data, n_samples=16, seed=1)
    spread, disputed = drawn.samples.std(1), data.labels[:, 0] != data.labels[:, 1]
    assert spread[disputed].mean() > 5 * spread[~disputed].mean() and spread[disputed].mean() > 0.15
    again = fitted.predict(data, n_samples=16, seed=1)
    np.testing.assert_array_equal(again.samples, drawn.samples)
    assert (fitted.predict(data, n_samples=16, seed=2).samples != drawn.samples).any()


def test_phiseg_takes_images_of_any_size_and_some_levels(discs, recipe):
    data = discs(side=18)
    fitted = fit(make_method("phiseg", widths=[4, 8], levels=1), data, recipe)
    assert len(fitted.network.prior.last) == 1
    assert fitted.predict(data, n_samples=2).consensus.shape == (8, 2, 18, 18)


@pytest.mark.parametrize(
    ("name", "settings", "stated"),
    [
        ("aggnet", {"momentum": 1.0}, r"momentum must be within \[0, 1\)"),
        ("mrnet", {"consistency": 1.0}, "consistency must be within"),
        ("padl", {"draws": 0}, "draws is 0, below 1"),
        ("phiseg", {"levels": 0}, "levels is 0, below 1"),
    ],
)
def test_impossible_settings_are_named(name, settings, stated):
    with pytest.raises(MethodError, match=stated):
        make_method(name, **settings)
