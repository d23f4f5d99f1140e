"""The training loop: what it keeps, what it freezes, what stops it."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from iavlib.core.errors import NonFiniteLossError, TrainingError
from iavlib.training.batches import ImageBatches, plan_batches
from iavlib.training.loop import fit
from iavlib.training.objectives import ImageObjective, Objective
from iavlib.training.optimisation import build_optimizer, build_scheduler, moving_average
from iavlib.training.predict import predict
from iavlib.training.recipe import RECIPES, get_recipe


def train(subsets, model, recipe="smoke", **overrides):
    chosen = get_recipe(recipe, **overrides)
    objective = ImageObjective(subsets[1], "iaa", chosen.loss)
    return fit(model, subsets[0], objective, chosen, seed=1)


def same(state, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in state.items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_and_repeats(subsets, tiny, recipe):
    outputs = 2 if RECIPES[recipe].head == "beta" else 1
    one, two = tiny(outputs), tiny(outputs)
    first = train(subsets, one, recipe, epochs=3, batch_size=8)
    torch.rand(7)  # what others draw meanwhile does not matter
    second = train(subsets, two, recipe, epochs=3, batch_size=8)
    assert same(one.state_dict(), two.state_dict())
    columns = ["epoch", "lr", "train_loss", "mae", "mse", "pearson", "best", "precision"]
    assert first.columns.tolist() == [*columns, "seconds", "images_per_second"]
    assert first[columns].equals(second[columns])
    assert first["best"].sum() == 1 and first["mae"].notna().all()


def test_it_learns_what_there_is_to_learn(subsets, tiny):
    history = train(subsets, tiny(), epochs=30, lr=0.05, step_size=30, batch_size=6)
    start = np.abs(np.median(subsets[0].target("iaa")) - subsets[1].target("iaa")).mean()
    assert history["mae"].min() < 0.5 * start


def test_the_weights_of_the_best_epoch_are_kept_and_the_generators_put_back(subsets, tiny):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = tiny()
    history = train(subsets, model, epochs=7, lr=0.3)
    best = history.loc[history["best"]].iloc[0]
    assert best["mae"] == history["mae"].min() < history["mae"].iloc[-1]
    raw = predict(model, subsets[1])["iaa"][:, 0].astype(float)
    assert np.abs(raw - subsets[1].target("iaa")).mean() == best["mae"]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_without_select_the_last_epoch_is_kept(subsets, tiny):
    history = train(subsets, tiny(), epochs=5, lr=0.3, select=None)
    assert history["best"].tolist() == [False] * 4 + [True]


def test_it_stops_when_the_best_epoch_is_long_past(subsets, tiny):
    history = train(subsets, tiny(), epochs=40, lr=0.3, patience=2)
    best = int(history.loc[history["best"], "epoch"].iloc[0])
    assert len(history) == best + 3 < 40


def test_frozen_statistics_stay_and_the_weights_beside_them_move(subsets, tiny):
    model = tiny()
    start = copy.deepcopy(model.state_dict())
    train(subsets, model, freeze_batchnorm=True, select=None)
    now = model.state_dict()
    assert torch.equal(now["backbone.1.running_mean"], start["backbone.1.running_mean"])
    assert not torch.equal(now["backbone.1.weight"], start["backbone.1.weight"])
    assert not torch.equal(now["heads.iaa.1.running_mean"], start["heads.iaa.1.running_mean"])


def test_what_the_caller_froze_stays_frozen(subsets, tiny):
    model = tiny()
    model.backbone[0].weight.requires_grad_(False)
    start = model.backbone[0].weight.clone()
    train(subsets, model, weight_decay=0.1)
    assert torch.equal(model.backbone[0].weight, start)
    assert not model.backbone[0].weight.requires_grad


def test_the_learning_rate_of_the_paper():
    recipe, weight = get_recipe("paper"), nn.Linear(1, 1)
    optimizer = build_optimizer(weight, recipe)
    scheduler = build_scheduler(optimizer, recipe, steps=7)
    for epoch in range(recipe.epochs):
        for _ in range(7):
            expected = 0.01 * 0.1 ** (epoch // 10)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
            optimizer.step()
            scheduler.step()


def test_the_learning_rate_falls_where_nothing_gets_better(subsets, tiny):
    """With a rate of nothing no epoch is better: one is waited, then it is a tenth."""
    given = {"schedule": "plateau", "step_size": 1, "lr": 1e-30, "optimizer": "sgd"}
    given |= {"momentum": 0.0, "nesterov": False, "select": ("mae", "min"), "batch_size": 6}
    model = tiny()
    for module in model.modules():  # whose statistics would change what is measured
        if hasattr(module, "momentum"):
            module.momentum = 0.0
    rates = train(subsets, model, epochs=5, **given)["lr"].to_numpy()
    np.testing.assert_allclose(rates / 1e-30, [1, 1, 1, 0.1, 0.1])
    with pytest.raises(TrainingError, match="plateau, which needs select"):
        get_recipe("annotators", schedule="plateau")


def test_the_learning_rate_rises_then_falls():
    recipe = get_recipe("finetune", warmup_epochs=2, epochs=8, lr=1.0)
    model = nn.Module()
    model.backbone, model.head = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizer = build_optimizer(model, recipe)
    scheduler = build_scheduler(optimizer, recipe, steps=5)
    rates = []
    for _ in range(40):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    heads, backbone = np.array(rates)[:, 0], np.array(rates)[:, -1]
    assert (np.diff(heads[:11]) > 0).all() and heads[0] == pytest.approx(1 / 11)
    assert heads[10] == pytest.approx(1.0) and (np.diff(heads[10:]) < 0).all()
    assert heads[-1] == pytest.approx(0.5 * (1 + np.cos(np.pi * 29 / 30)), abs=1e-6)
    assert backbone == pytest.approx(heads * recipe.backbone_lr_factor)


def test_norms_and_biases_decay_only_if_told():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    decays = {
        recipe: sorted(
            (group["weight_decay"], sum(weight.numel() for weight in group["params"]))
            for group in build_optimizer(
                model, get_recipe(recipe, backbone_lr_factor=1.0)
            ).param_groups
        )
        for recipe in ("paper", "modern")
    }
    assert decays == {"paper": [(1e-4, 15)], "modern": [(0.0, 9), (0.05, 6)]}


def test_the_average_follows_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average, expected = moving_average(model, 0.5), None
    for n in range(12):
        with torch.no_grad():
            model[0].weight.fill_(float(n * n))
            model[1].running_mean.fill_(float(n))
        average.update_parameters(model)
        decay = min(0.5, (1 + n) / (10 + n))
        new = np.array([n * n, n], float)
        expected = new if n == 0 else decay * expected + (1 - decay) * new
    module = average.module
    found = [module[0].weight.item(), float(module[1].running_mean)]
    assert found == pytest.approx(expected, rel=1e-6)


class Poisoned(Objective):
    """Its loss is not finite where a certain image is in the batch."""

    def __init__(self, position, value):
        self.position, self.value = position, value

    def loss(self, model, batch, epoch):
        loss = model(batch["images"])["iaa"].square().mean()
        return loss * self.value if epoch == 1 and self.position in batch["index"] else loss

    def evaluate(self, model):
        return {"mae": 1.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_images(subsets, tiny, tmp_path, value):
    with pytest.raises(NonFiniteLossError, match=r"in epoch 1, step \d.*targets") as raised:
        fit(tiny(), subsets[0], Poisoned(3, value), get_recipe("smoke"), tmp_path)
    assert "image_03" in raised.value.ids and "image_03" in str(raised.value)
    assert len(raised.value.ids) in (8, 9)
    assert (tmp_path / "checkpoint.pt").exists()  # of epoch 0


@pytest.mark.parametrize(
    ("value", "loss", "said"),
    [
        (np.nan, "smooth_l1", "1 training images have a 'iaa' missing or infinite: image_02"),
        (1.2, "beta_nll", r"1 training images have a 'iaa' outside \[0, 1\]: image_02"),
    ],
)
def test_targets_that_cannot_be_are_named_before_training(cache, pictures, tiny, value, loss, said):
    targets = pictures[1].copy()
    targets.loc["image_02", "iaa"] = value
    batches = ImageBatches.from_cache(cache, targets, (0.5,) * 3, (0.5,) * 3, device="cpu")
    subset = batches.select(targets.index[:8]), batches.select(targets.index[8:])
    with pytest.raises(TrainingError, match=said):
        fit(
            tiny(2),
            subset[0],
            ImageObjective(subset[1], "iaa", loss),
            get_recipe("smoke"),
        )


def test_what_does_not_fit_together_is_said(subsets, tiny):
    recipe = get_recipe("smoke", epochs=1)
    model = tiny()
    model.heads["dice"] = model.heads.pop("iaa")
    with pytest.raises(TrainingError, match="no output 'iaa'; it has: dice"):
        fit(model, subsets[0], ImageObjective(subsets[1], "iaa"), recipe)
    with pytest.raises(TrainingError, match="no target 'dice'; there are: iaa"):
        fit(tiny(), subsets[0], ImageObjective(subsets[1], "dice"), recipe)
    with pytest.raises(TrainingError, match="select asks for 'auroc', and measured are: mae"):
        train(subsets, tiny(), select=["auroc", "max"])
    with pytest.raises(TrainingError, match="one output per image, not"):
        train(subsets, tiny(2))
    with pytest.raises(TrainingError, match="no part called backbone"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 1))
        fit(model, subsets[0], Poisoned(0, 1.0), get_recipe("finetune"))
    with pytest.raises(TrainingError, match="no parameter to train"):
        train(subsets, tiny().requires_grad_(False))


@pytest.mark.parametrize("n", range(2, 19))
@pytest.mark.parametrize("drop_last", [True, False])
def test_no_batch_has_one_image(n, drop_last):
    order = np.random.default_rng(0).permutation(n)
    plan = plan_batches(n, 4, drop_last, order)
    sizes = list(map(len, plan))
    assert min(sizes) >= 2 and max(sizes) <= 5
    seen = np.concatenate(plan)
    assert (seen == order[: len(seen)]).all()
    if drop_last and n >= 4:
        assert set(sizes) == {4} and len(seen) == n // 4 * 4
    else:
        assert len(seen) == n


def test_one_image_cannot_be_trained_on(subsets, tiny):
    with pytest.raises(TrainingError, match="two images or more, and there are 1"):
        train((subsets[0].select(subsets[0].ids[:1]), subsets[1]), tiny())


def test_progress_is_told(subsets, tiny, capsys):
    told = []
    objective = ImageObjective(subsets[1], "iaa")
    recipe = get_recipe("smoke")
    fit(tiny(), subsets[0], objective, recipe, progress=told.append)
    assert [row["epoch"] for row in told] == [0, 1]
    fit(tiny(), subsets[0], objective, recipe, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("epoch 1 of 2: lr 0.01, train_loss 0.")


def test_half_precision_covers_forward_and_loss(subsets, tiny):
    kinds = []

    class Seen(ImageObjective):
        def loss(self, model, batch, epoch):
            raw = model(batch["images"])["iaa"]
            kinds.append((raw.dtype, torch.is_autocast_enabled("cpu")))
            return super().loss(model, batch, epoch)

    history = fit(
        tiny(), subsets[0], Seen(subsets[1], "iaa"), get_recipe("smoke", precision="bf16", epochs=1)
    )
    assert set(kinds) == {(torch.bfloat16, True)}
    assert history["precision"].tolist() == ["bf16"]


def test_history_is_a_table_that_survives_csv(subsets, tiny, tmp_path):
    history = train(subsets, tiny())
    history.to_csv(tmp_path / "history.csv", index=False)
    again = pd.read_csv(tmp_path / "history.csv")
    pd.testing.assert_frame_equal(history, again, check_dtype=False, check_exact=True)
