"""A tiny network, tiny pictures and what trains them."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_network import TinyNetwork

from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import cache_images


@pytest.fixture(autouse=True)
def one_thread():
    """Leave the other cores to other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny():
    return TinyNetwork


def make_pictures(folder, n=24, size=(40, 32), seed=0):
    """Write pictures whose brightness is what there is to learn; return paths and targets."""
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0.1, 0.9, n)
    paths = {}
    for i, level in enumerate(levels):
        noise = rng.normal(0, 20, (*size[::-1], 3))
        pixels = np.clip(level * 255 + noise, 0, 255).astype(np.uint8)
        path = folder / f"picture_{i:02d}.png"
        Image.fromarray(pixels).save(path)
        paths[f"image_{i:02d}"] = path
    paths = pd.Series(paths, name="path").rename_axis("image_id")
    return paths, pd.DataFrame({"iaa": levels}, index=paths.index)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def cache(pictures, tmp_path_factory):
    return cache_images(pictures[0], 24, tmp_path_factory.mktemp("images"), processes=1)


@pytest.fixture
def subsets(cache, pictures):
    """Training and validation images, normalised by the former."""
    targets = pictures[1]
    batches = ImageBatches.from_cache(cache, targets, train=targets.index[:17], device="cpu")
    return batches.select(targets.index[:17]), batches.select(targets.index[17:])
