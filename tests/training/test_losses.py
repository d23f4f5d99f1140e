"""Losses beside scipy and scikit-learn; predictions; class weights; recipes."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.metrics import mean_pinball_loss
from sklearn.utils.class_weight import compute_class_weight

from iavlib.core.errors import TrainingError
from iavlib.models.heads import quantile_levels
from iavlib.training.augment import AUGMENTATIONS
from iavlib.training.losses import LOSSES, class_weights, get_loss
from iavlib.training.predict import predict
from iavlib.training.recipe import RECIPES, Recipe, get_recipe

RNG = np.random.default_rng(0)
TARGET = torch.tensor(RNG.uniform(0.05, 0.95, 40))


def test_point_losses_are_their_formulas():
    raw = torch.tensor(RNG.normal(0, 2, (40, 1)))
    error = (raw[:, 0] - TARGET).numpy()
    smooth = np.where(abs(error) < 1, error**2 / 2, abs(error) - 0.5)
    assert float(get_loss("smooth_l1")(raw, TARGET)) == pytest.approx(smooth.mean(), rel=1e-5)
    assert float(get_loss("mse")(raw, TARGET)) == pytest.approx((error**2).mean(), rel=1e-5)
    assert float(get_loss("mae")(raw, TARGET)) == pytest.approx(abs(error).mean(), rel=1e-5)
    assert torch.equal(get_loss("mae").point(raw), raw[:, 0])


def test_the_beta_loss_is_scipys_density():
    raw = torch.tensor(RNG.uniform(0.2, 20, (40, 2)))
    expected = -beta.logpdf(TARGET, raw[:, 0], raw[:, 1]).mean()
    assert float(get_loss("beta_nll")(raw, TARGET)) == pytest.approx(expected, rel=1e-4)
    assert get_loss("beta_nll").point(raw).numpy() == pytest.approx(beta.mean(*raw.T.numpy()))


def test_the_beta_loss_is_finite_at_the_ends():
    raw = torch.tensor([[0.2, 5.0], [300.0, 0.1]], requires_grad=True)
    loss = get_loss("beta_nll")(raw, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("n", [1, 3, 9])
def test_the_pinball_loss_is_scikit_learns(n):
    raw = torch.tensor(np.sort(RNG.uniform(0, 1, (40, n))))
    levels = quantile_levels(n)
    expected = [mean_pinball_loss(TARGET, q, alpha=a) for q, a in zip(raw.T, levels, strict=True)]
    assert float(get_loss("pinball")(raw, TARGET)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert torch.equal(get_loss("pinball").point(raw), raw[:, n // 2])
    assert levels[n // 2] == pytest.approx(0.5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_single_precision(name):
    raw = torch.full((4, {"beta_nll": 2, "pinball": 3}.get(name, 1)), 0.7, dtype=torch.bfloat16)
    assert get_loss(name)(raw, torch.full((4,), 0.5)).dtype == torch.float32


def test_class_weights_are_scikit_learns_balanced_ones():
    labels = RNG.integers(0, 3, 50)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights(labels) == pytest.approx(expected)
    # the published counts of the training part: 1,315 benign and 353 malignant
    published = class_weights(np.repeat([0, 1], [1315, 353]))
    assert published == pytest.approx([0.6342, 2.3626], abs=5e-5)
    with pytest.raises(TrainingError, match="no image of class 1"):
        class_weights([0, 0, 2])


def test_an_unknown_loss_names_those_known():
    with pytest.raises(TrainingError, match="no loss 'huber'; known: smooth_l1, mse"):
        get_loss("huber")


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode(subsets, tiny):
    model = tiny().train()
    model.heads["iaa"][1].eval()
    one, many = (predict(model, subsets[0], batch_size=size)["iaa"] for size in (1, 64))
    assert one.shape == (17, 1) and one.dtype == np.float32
    assert one == pytest.approx(many, abs=1e-6)
    assert model.training and not model.heads["iaa"][1].training


def test_the_recipe_of_the_paper():
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.lr, paper.momentum, paper.nesterov) == ("sgd", 0.01, 0.9, True)
    assert (paper.weight_decay, paper.epochs, paper.batch_size) == (1e-4, 50, 32)
    assert (paper.num_aug, paper.drop_last, paper.step_size, paper.gamma) == (3, True, 10, 0.1)
    assert (paper.loss, paper.select, paper.precision) == ("smooth_l1", ("mae", "min"), "fp16")


def test_recipes_know_every_augmentation():
    for policy in AUGMENTATIONS:
        assert get_recipe("smoke", augmentation=policy).augmentation == policy


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    fields = json.loads(json.dumps(RECIPES[name].to_dict()))
    assert Recipe(**fields) == RECIPES[name]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"epoch": 3}, "recipe 'paper': no field 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0}, "epochs is 0, it should be greater than or equal to 1"),
        ({"epochs": 2.5}, "epochs is 2.5, it should be a valid integer"),
        ({"epochs": "many"}, "epochs is 'many', it should be a valid integer"),
        ({"epochs": True}, "epochs is True, it should not be true or false"),
        ({"lr": 0}, "lr is 0, it should be greater than 0"),
        ({"lr": "quick"}, "lr is 'quick', it should be a valid number"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"batch_size": 1}, "batch_size is 1, it should be greater than or equal to 2"),
        ({"optimizer": "lion"}, "optimizer is 'lion', it should be 'sgd', 'adam' or 'adamw'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"augmentation": "strong"}, "augmentation is 'strong'"),
        ({"select": ("mae", "least")}, "select.1 is 'least', it should be 'min' or 'max'"),
        ({"select": None, "patience": 3}, "patience is 3, it should be None where select is None"),
        ({"ema": 1.0}, "ema is 1.0, it should be less than 1"),
        ({"drop_last": "yes"}, "drop_last is 'yes', it should be true or false"),
        ({"lr": float("nan")}, "lr is nan, it should be a finite number"),
    ],
)
def test_a_field_that_cannot_be_says_what_can(overrides, said):
    with pytest.raises(TrainingError, match=said):
        get_recipe("paper", **overrides)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    changed = get_recipe("paper", lr="1e-4", epochs="3")
    assert (changed.lr, changed.epochs) == (1e-4, 3)


def test_an_unknown_recipe_suggests_one():
    with pytest.raises(TrainingError, match="did you mean 'modern'"):
        get_recipe("modren")
