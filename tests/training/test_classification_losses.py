"""Losses of a diagnosis: the formulas by hand, in numpy and in PyTorch, and their gradients."""

import math

import loss_formulas as plain
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from iavlib.core.errors import TrainingError
from iavlib.training.losses import (
    CLASSIFICATION_LOSSES,
    UncertaintyWeighting,
    classification_loss,
    focal_loss,
    multitask_sum,
)

PUBLISHED_WEIGHTS = (0.6340, 2.3663)


def batch(n=7, k=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    labels = torch.randint(k, (n,), generator=generator)
    return logits.requires_grad_(), labels


def of_probability(p):
    """Logits of one row with probability p of class 1."""
    return [[0.0, math.log(p / (1 - p))]]


def test_published_focal_by_hand():
    # p = .8 of the malignant row, weight 2: CE = -log .8, weighted -log .64, factor .36 squared.
    loss = plain.focal_published(of_probability(0.8), [1], (0.5, 2.0))
    assert loss == pytest.approx(0.36**2 * -math.log(0.64))
    textbook = plain.focal_textbook(of_probability(0.8), [1], (0.5, 2.0))
    assert textbook == pytest.approx(2 * 0.2**2 * -math.log(0.8))
    # The benign row has weight .5: (1 - .2^.5)^2 * .5 * -log .2.
    loss = plain.focal_published(of_probability(0.8), [0], (0.5, 2.0))
    assert loss == pytest.approx((1 - 0.2**0.5) ** 2 * 0.5 * -math.log(0.2))


def test_forms_agree_where_they_must():
    logits, labels = batch()
    rows = logits.detach().numpy(), labels.numpy()
    ones = np.ones(2)
    assert plain.focal_published(*rows, ones) == pytest.approx(plain.focal_textbook(*rows, ones))
    weights = np.array(PUBLISHED_WEIGHTS)
    unmodulated = weights[rows[1]] * plain.cross_entropy(*rows)
    assert plain.focal_published(*rows, weights, 0) == pytest.approx(unmodulated)
    assert plain.focal_textbook(*rows, weights, 0) == pytest.approx(unmodulated)


@given(st.floats(0.51, 0.999), st.floats(1.01, 5))
def test_published_form_keeps_rare_easy_rows_in_sight(p, weight):
    rows = of_probability(p), [1], (1.0, weight)
    assert plain.focal_published(*rows)[0] > plain.focal_textbook(*rows)[0]
    rows = of_probability(p), [1], (1.0, 1 / weight)
    assert plain.focal_published(*rows)[0] < plain.focal_textbook(*rows)[0]


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_losses_are_the_formulas(k, gamma):
    logits, labels = batch(n=20, k=k, seed=k)
    weights = (0.634, 2.3663, 1.1)[:k]
    rows = logits.detach().numpy(), labels.numpy(), weights, gamma
    for published, formula in ((True, plain.focal_published), (False, plain.focal_textbook)):
        loss = focal_loss(logits, labels, logits.new_tensor(weights), gamma, published)
        assert loss.item() == pytest.approx(formula(*rows).mean(), rel=1e-12)


def test_cross_entropy_is_the_formula():
    logits, labels = batch(n=20)
    rows = logits.detach().numpy(), labels.numpy()
    weighted = classification_loss("cross_entropy", PUBLISHED_WEIGHTS)(logits, labels).item()
    assert weighted == pytest.approx(plain.weighted_cross_entropy(*rows, PUBLISHED_WEIGHTS))
    plainly = classification_loss("cross_entropy", (1, 1))(logits, labels).item()
    assert plainly == pytest.approx(plain.cross_entropy(*rows).mean())
    probability = np.exp(rows[0]) / np.exp(rows[0]).sum(1, keepdims=True)
    by_hand = -np.log(probability[np.arange(20), rows[1]])
    assert plain.cross_entropy(*rows) == pytest.approx(by_hand)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_gradients(name):
    logits, labels = batch()
    loss = classification_loss(name, PUBLISHED_WEIGHTS)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits,))


@pytest.mark.parametrize("gamma", [1.0, 0.0])
def test_gradients_at_other_gammas(gamma):
    logits, labels = batch()
    ones = torch.ones(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, labels, ones, gamma), (logits,))


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_certain_rows_stay_finite(name):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for labels in ([0, 1], [1, 0]):
        loss = classification_loss(name, PUBLISHED_WEIGHTS)(logits, torch.tensor(labels))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_half_precision_is_computed_in_single(name):
    logits, labels = batch()
    half = logits.detach().to(torch.bfloat16)
    loss = classification_loss(name, PUBLISHED_WEIGHTS)
    assert loss(half, labels).dtype == torch.float32
    assert loss(half, labels) == loss(half.float(), labels)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 0.8, 0.9])
def test_multitask_sum(alpha):
    losses = torch.tensor([0.7, 0.02], dtype=torch.float64, requires_grad=True)
    total = multitask_sum(*losses, alpha)
    assert total.item() == pytest.approx(plain.multitask_sum(0.7, 0.02, alpha))
    assert torch.autograd.grad(total, losses)[0].tolist() == pytest.approx([alpha, 1 - alpha])


def test_ends_of_alpha_leave_the_other_loss_out():
    nothing = torch.tensor(float("nan"))
    assert multitask_sum(torch.tensor(0.5), nothing, 1) == 0.5
    assert multitask_sum(nothing, torch.tensor(0.5), 0) == 0.5


@pytest.mark.parametrize("regression", ["smooth_l1", "mse"])
def test_uncertainty_weighting(regression):
    weighting = UncertaintyWeighting(regression).double()
    torch.nn.init.normal_(weighting.log_variances, generator=torch.Generator().manual_seed(1))
    s = weighting.log_variances.detach().numpy()
    losses = torch.tensor([0.4, 0.02], dtype=torch.float64, requires_grad=True)
    expected = plain.uncertainty_weighted(0.4, 0.02, s, half=regression == "mse")
    assert weighting(*losses).item() == pytest.approx(expected)
    assert torch.autograd.grad(weighting(*losses), losses)[0].tolist() == pytest.approx(
        list(weighting.weights())
    )

    def total(losses, log_variances):
        weighting = UncertaintyWeighting(regression).double()
        return torch.func.functional_call(
            weighting, {"log_variances": log_variances}, tuple(losses)
        )

    inputs = losses, weighting.log_variances.detach().requires_grad_()
    assert torch.autograd.gradcheck(total, inputs)


def test_learned_variances_are_the_losses():
    # The derivative -e^{-s} L + 1/2 vanishes at e^s = 2 L; a normal error's variance is then
    # twice the smooth L1 loss, that is its mean square.
    weighting = UncertaintyWeighting().double()
    optimiser = torch.optim.LBFGS(weighting.parameters(), max_iter=100, tolerance_grad=1e-12)
    losses = torch.tensor(0.4).double(), torch.tensor(0.02).double()

    def closure():
        optimiser.zero_grad()
        total = weighting(*losses)
        total.backward()
        return total

    optimiser.step(closure)
    assert weighting.log_variances.exp().tolist() == pytest.approx([0.8, 0.04], rel=1e-4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(-5, 5))
def test_a_constant_added_to_logits_changes_nothing(seed, shift):
    logits, labels = batch(seed=seed)
    loss = classification_loss("focal", PUBLISHED_WEIGHTS)
    assert loss(logits + shift, labels).item() == pytest.approx(loss(logits, labels).item())


def test_bad_settings_are_named():
    with pytest.raises(TrainingError, match="one positive number per class"):
        classification_loss("focal", (1, 0))
    with pytest.raises(TrainingError, match="derived for smooth_l1 and mse"):
        UncertaintyWeighting("pinball")
    with pytest.raises(TrainingError, match="known: focal, focal_textbook"):
        classification_loss("hinge", (1, 1))
