"""A new metric is one function: every table follows the registry."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest
from engine_shapes import draw, save

from iavlib import data, masks
from iavlib.agreement import image_level, labelled_images, labelled_pairs, pair_table
from iavlib.agreement.analysis import analyse
from iavlib.data.schemas import empty_pairs
from iavlib.masks.metrics import METRICS, register_metric


@pytest.fixture
def metric(monkeypatch, tmp_path):
    """The metric of the module ``new_metric``, which lies beside this test."""
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "new_metric", raising=False)
    yield importlib.import_module("new_metric").volume_similarity
    del METRICS["volume_similarity"]


@pytest.fixture
def folder(tmp_path):
    """Masks of four images by three annotators each."""
    rng, rows = np.random.default_rng(0), ["image,mask,annotator,malignancy"]
    (tmp_path / "own").mkdir()
    for image in range(4):
        for annotator in "abc":
            save(draw((20, 30), rng, 2), tmp_path / "own" / f"{image}{annotator}.png")
            label = "malignant" if image % 2 else "benign"
            rows.append(f"{image},{image}{annotator}.png,{annotator},{label}")
    (tmp_path / "own" / "masks.csv").write_text("\n".join(rows))
    return tmp_path / "own"


def test_a_new_metric_is_one_function(metric, folder, tmp_path):
    a, b = np.ones((4, 4), bool), np.eye(4, dtype=bool)
    assert metric(a, b) == masks.pair_metrics(a, b)["volume_similarity"] == 1 - 12 / 20
    assert metric(np.zeros((4, 4)), b) == 0
    assert "volume_similarity" in empty_pairs()
    for cohort in (
        data.load("phantom", n_images=8, size=(48, 36)),
        data.load("folder", path=folder),
    ):
        values = cohort.pairs["volume_similarity"]
        assert values.between(0, 1).all()
        assert image_level(cohort.pairs)["volume_similarity_mean"].notna().all()
    again = data.load("folder", path=folder)  # from the cache
    assert again.pairs["volume_similarity"].equals(values)
    assert "volume_similarity" in labelled_images(labelled_pairs(again))
    table = pair_table(again.masks, processes=2)
    assert table.pairs["volume_similarity"].to_numpy() == pytest.approx(values.to_numpy())
    result = analyse(folder, tmp_path / "out")
    assert "volume_similarity" in result.pairs
    assert "volume_similarity_mean" in result.images


def test_the_fingerprint_does_not_follow_added_metrics(folder, metric):
    cohort = data.load("folder", path=folder)
    without = replace(cohort, pairs=cohort.pairs.drop(columns="volume_similarity"))
    assert without.fingerprint == cohort.fingerprint


def test_published_tables_lack_it(metric, imapp_home, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(imapp_home))
    pairs = data.load("imapp").pairs
    assert "volume_similarity" not in pairs
    assert "volume_similarity_mean" not in image_level(pairs)


def test_a_distance_has_a_normalised_form(metric):
    centroid = register_metric("centroid", "distance")(lambda pair: 5.0)
    try:
        a = np.ones((3, 4), bool)
        assert centroid(a, a) == 5
        found = masks.pair_metrics(a, a)
        assert found["centroid_normalized"] == 1
        assert list(found)[-2:] == ["assd_normalized", "centroid_normalized"]
        assert np.isnan(centroid(a, np.zeros((3, 4))))
    finally:
        del METRICS["centroid"]
