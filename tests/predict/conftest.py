"""Networks trained for a moment on twenty invented images, and images of every kind."""

import shutil

import numpy as np
import pytest
from PIL import Image

from iavlib.experiments import Experiment, RunStore, run

COMMON = {
    "cohort": "phantom",
    "cohort_options": {"n_images": 60, "size": [64, 64]},
    "backbone": "test_resnet",
    "weights": "none",
    "size": 64,
    "split": {"kind": "holdout", "fractions": [0.5, 0.3, 0.2]},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A store with a run that tells agreement and one that tells both."""
    store = RunStore(tmp_path_factory.mktemp("prediction") / "runs")
    common = COMMON | {"recipe": "smoke"}
    made = {
        "iaa": Experiment(task="iaa", settings={"tta": 2}, **common),
        "multitask": Experiment(task="multitask", settings={"alpha": 0.5}, **common),
    }
    with pytest.MonkeyPatch.context() as patch:  # before the fixture that does it for each test
        patch.setenv("IAV_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        return store, {name: run(experiment, store) for name, experiment in made.items()}


@pytest.fixture
def photograph(runs):
    """A photograph of the size of the training images."""
    rng = np.random.default_rng(0)
    low = Image.fromarray(rng.integers(60, 220, (8, 8, 3), dtype=np.uint8))
    return low.resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path, photograph):
    """Two photographs in a folder of their own."""
    made = tmp_path / "images"
    made.mkdir()
    photograph.save(made / "first.png")
    photograph.transpose(Image.Transpose.ROTATE_90).save(made / "second.png")
    yield made
    shutil.rmtree(made)
