"""The examples of CONTRIBUTING.md run: each is one file, added from outside of the package."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from iavlib import data
from iavlib.book.recording import load_claims
from iavlib.data import catalogue
from iavlib.experiments import TASKS, Experiment, RunStore, run
from iavlib.masks.metrics import METRICS
from iavlib.multiannotator import METHODS

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^```python\n# (\w+)\.py.*?\n(.*?)^```$", TEXT, re.M | re.S))


@pytest.fixture
def module(request, tmp_path, monkeypatch):
    """Import an example as a module, and forget what it registered afterwards."""
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    for registry in (METRICS, TASKS, catalogue._registered, METHODS._entries):
        for name in ("volume_similarity", "median", "tiny", "brightness"):
            monkeypatch.setitem(registry, name, None)
            monkeypatch.delitem(registry, name)
    monkeypatch.syspath_prepend(tmp_path)

    def load(name):
        (tmp_path / f"{name}.py").write_text(BLOCKS[name])
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load


def test_every_example_is_tested():
    assert set(BLOCKS) == {"volume_similarity", "tiny", "median", "brightness", "dice_histogram"}


def test_metric(module):
    metric = module("volume_similarity").volume_similarity
    assert metric(np.ones((4, 4), bool), np.eye(4, dtype=bool)) == 1 - 12 / 20
    pairs = data.load("phantom", n_images=8, size=(48, 36)).pairs
    assert pairs["volume_similarity"].between(0, 1).all()


def test_dataset(module, tmp_path):
    (tmp_path / "tiny" / "images").mkdir(parents=True)
    rows = ["image_id,diagnosis"]
    for n in range(24):
        pixels = np.full((32, 40, 3), 10 * n, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "tiny" / "images" / f"t{n:02d}.png")
        rows.append(f"t{n:02d},{'nevus' if n % 3 else 'melanoma'}")
    (tmp_path / "tiny" / "labels.csv").write_text("\n".join(rows))
    module("tiny")
    assert "tiny" in data.available()
    assert data.target(data.load("tiny")).sum() == 8


def test_task(module, tmp_path):
    module("median")
    options = {"cohort": "phantom", "cohort_options": {"n_images": 30, "size": [48, 36]}}
    experiment = Experiment(task="median", weights="none", **options)
    result = run(experiment, RunStore(tmp_path / "runs"))
    assert len(set(result.predictions["predicted"])) == 1
    assert 0 < result.metrics["mae"] < 0.5


def test_method(module, tmp_path):
    module("brightness")
    experiment = Experiment(
        task="segmentation",
        cohort="phantom",
        cohort_options={"n_images": 24, "size": [48, 48]},
        size=16,
        backbone="unet",
        method={"name": "brightness", "width": 4},
        recipe={"name": "annotators", "epochs": 1},
    )
    result = run(experiment, RunStore(tmp_path / "runs"))
    assert 0 < result.metrics["dice"] < 1 and result.metrics["n_parameters"] == 4 * 4 + 5 * 2


def test_figure(module):
    assert isinstance(module("dice_histogram").dice_histogram(pd.Series([0.5, 0.8])), Figure)


def test_claim(tmp_path):
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.M | re.S)
    (tmp_path / "claims.yml").write_text(text)
    (claim,) = load_claims(tmp_path / "claims.yml").values()
    assert (claim.id, claim.reported) == ("imapp-images", 14967)
