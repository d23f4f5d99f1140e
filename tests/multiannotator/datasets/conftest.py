"""Small sets of several annotators."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iavlib.multiannotator import MultiAnnotatorSet


@pytest.fixture
def make_set():
    """Make a set of random labels; any field can be given."""

    def make(n=6, annotators=3, side=8, n_classes=2, seed=0, **fields):
        generator = np.random.default_rng(seed)
        names = fields.pop("annotators_named", tuple(f"R{k}" for k in range(annotators)))
        own = {
            "name": "made",
            "images": generator.integers(0, 256, (n, side, side, 3)).astype(np.uint8),
            "labels": generator.integers(0, n_classes, (n, len(names), side, side)).astype(np.int8),
            "annotators": names,
            "n_classes": n_classes,
            "ids": pd.Index([f"image-{k}" for k in range(n)]),
            "truth": generator.integers(0, n_classes, (n, side, side)).astype(np.int8),
            "truth_is": "known",
        }
        return MultiAnnotatorSet(**own | fields)

    return make


@pytest.fixture(scope="session")
def mnist():
    """1,000 real digits, 100 of each, of MNIST's test part; skips without them."""
    path = Path(os.environ.get("IAV_DATA_HOME", "")) / "mnist" / "mnist_20k.npz"
    if not path.is_file():
        pytest.skip("needs mnist/mnist_20k.npz under IAV_DATA_HOME")
    with np.load(path) as packed:
        images, shown = packed["test_images"], packed["test_labels"]
    return np.concatenate([images[shown == digit][:100] for digit in range(10)])
