"""The phantom: the same everywhere, with known truth, and alike enough to what it stands for."""

import hashlib
import multiprocessing

import numpy as np
import pandas as pd
import pytest

from iavlib import data, stats
from iavlib.agreement import labelled_images, labelled_pairs
from iavlib.data.datasets import phantom
from iavlib.data.images import read_image, read_mask
from iavlib.masks import dice, pair_metrics

GOLDEN_MASKS = "bc698457e11cb68f3a407f522dea25cf3c444056762d5a15b0dfd3df25c8f091"
GOLDEN_PAIRS = "941667c55e0ee5e9b2b550900cc50da6692c466202a61b1d2649032f2302ec6d"
GOLDEN_MEANS = (168.65, 186.29, 133.09)


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.packbits(array).tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return phantom.load(n_images=24, size=(96, 72), cache=tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Enough images for marginals; small ones, so that they are quick to draw."""
    return phantom.load(n_images=700, size=(64, 48), cache=tmp_path_factory.mktemp("phantom"))


def test_tables_and_files_belong_together(cohort):
    assert cohort.synthetic
    assert len(cohort.images) == 24
    for image_id, facts in cohort.images.iterrows():
        assert read_image(facts["path"]).shape == (72, 96, 3)
        assert read_mask(cohort.extras["truth"].loc[image_id, "path"]).shape == (72, 96)
    pair = cohort.pairs.iloc[0]
    masks = [read_mask(cohort.masks.loc[pair[f"mask_{side}"], "path"]) for side in (1, 2)]
    for metric, value in pair_metrics(*masks).items():
        assert pair[metric] == pytest.approx(value, abs=1e-12)
    assert (pair["tool_1"], pair["skill_2"]) == (
        cohort.masks.loc[pair["mask_1"], "tool"],
        cohort.masks.loc[pair["mask_2"], "skill"],
    )


def test_golden_masks_and_table(cohort):
    """The same bits on every machine: seed 0, 24 images of 96x72, drawn by version 1."""
    masks = [read_mask(path) for path in cohort.masks["path"]]
    assert digest(*masks) == GOLDEN_MASKS
    table = cohort.pairs.round(6).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    assert hashlib.sha256(table.encode()).hexdigest() == GOLDEN_PAIRS


def test_pictures_within_one_grey_level(cohort):
    """Means of the first three pictures; floating point may differ in the last digit."""
    means = [read_image(path).mean() for path in cohort.images["path"].head(3)]
    np.testing.assert_allclose(means, GOLDEN_MEANS, atol=1)


def test_an_image_is_the_same_however_many_are_drawn(cohort, tmp_path):
    few = phantom.load(n_images=5, size=(96, 72), cache=tmp_path)
    pd.testing.assert_frame_equal(
        few.images.drop(columns="path"), cohort.images.head(5).drop(columns="path")
    )
    for mask_id, path in few.masks["path"].items():
        np.testing.assert_array_equal(read_mask(path), read_mask(cohort.masks.loc[mask_id, "path"]))


def test_another_seed_is_another_cohort(cohort, tmp_path):
    other = phantom.load(n_images=3, size=(96, 72), seed=1, cache=tmp_path)
    same = read_mask(other.extras["truth"]["path"].iloc[0])
    assert (same != read_mask(cohort.extras["truth"]["path"].iloc[0])).any()
    annotators = other.extras["annotators"]["bias"], cohort.extras["annotators"]["bias"]
    assert (annotators[0] != annotators[1]).all()


def test_a_second_load_draws_nothing(cohort, tmp_path, monkeypatch):
    first = phantom.load(n_images=2, size=(40, 32), cache=tmp_path)
    monkeypatch.setattr(phantom, "_build", lambda *args: pytest.fail("drawn again"))
    assert phantom.load(n_images=2, size=(40, 32), cache=tmp_path).fingerprint == first.fingerprint


def test_a_broken_off_run_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "_write_tables", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        phantom.load(n_images=2, size=(40, 32), cache=tmp_path)
    monkeypatch.undo()
    assert list((tmp_path / "phantom").iterdir()) == []
    assert len(phantom.load(n_images=2, size=(40, 32), cache=tmp_path).images) == 2


def _load(cache) -> str:
    return phantom.load(n_images=6, size=(40, 32), cache=cache).fingerprint


@pytest.mark.thorough
def test_two_processes_at_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_load, [tmp_path, tmp_path])
    assert first == second
    assert len(list((tmp_path / "phantom").iterdir())) == 1


def test_marginals_resemble_ima(large):
    """IMA++: mean Dice .781, sd .218, median .857; 89 % of the images with two masks; d -.23."""
    values = large.pairs["dice"]
    assert values.mean() == pytest.approx(0.78, abs=0.025)
    assert values.std() == pytest.approx(0.22, abs=0.03)
    assert values.median() == pytest.approx(0.857, abs=0.02)
    assert 0.003 < (values == 0).mean() < 0.03
    n_masks = large.masks["image_id"].value_counts()
    assert set(n_masks) <= {2, 3, 4, 5}
    assert (n_masks == 2).mean() == pytest.approx(0.89, abs=0.03)
    assert large.images["patient_id"].isna().mean() == pytest.approx(0.67, abs=0.05)
    assert (large.images["malignancy"] == "malignant").mean() == pytest.approx(0.21, abs=0.03)
    assert large.masks["annotator"].nunique() >= 12
    assert set(large.masks["tool"]) == {"T1", "T2", "T3"}
    assert set(large.masks["skill"]) == {"S1", "S2"}


def test_causes_of_disagreement_have_their_effect(large):
    pairs = labelled_pairs(large)
    images = labelled_images(pairs)
    truth = large.extras["truth"].loc[images.index]
    malignant = images["malignant"]
    assert -0.45 < stats.cohens_d(images["dice"][malignant], images["dice"][~malignant]) < -0.05
    assert images["dice"].corr(truth["ambiguity"], method="spearman") < -0.2
    assert (
        images["dice"][truth["halo"] > 0].mean() < images["dice"][truth["halo"] == 0].mean() - 0.1
    )
    for factor in ("tool", "annotator"):
        same = pairs.assign(same=pairs[f"{factor}_1"] == pairs[f"{factor}_2"])
        assert stats.clustered_coefficient(same, "dice", "same")["estimate"] > 0.01


def test_bias_of_an_annotator_shows_in_the_area(large):
    """Masks of the lesion itself, relative to the truth, by annotator with at least 40 of them."""
    area = large.masks["path"].map(lambda path: read_mask(path).mean())
    facts = large.extras["truth"].loc[large.masks["image_id"]]
    ratio = np.log(area.to_numpy() / facts["area"].to_numpy())
    plain = (large.masks["event"] == "lesion").to_numpy() & (facts["halo"] == 0).to_numpy()
    groups = pd.Series(ratio[plain]).groupby(large.masks["annotator"].to_numpy()[plain])
    means = groups.mean()[groups.size() >= 40]
    assert len(means) >= 5
    assert means.corr(large.extras["annotators"]["bias"][means.index]) > 0.5


@pytest.mark.parametrize("size", [(32, 32), (61, 47), (300, 180), (40, 90)])
def test_any_size(tmp_path, size):
    small = phantom.load(n_images=4, size=size, cache=tmp_path)
    assert all(read_image(path).shape[1::-1] == size for path in small.images["path"])
    assert all(read_mask(path).any() for path in small.masks["path"])


def test_a_lesion_is_the_same_at_any_size(tmp_path):
    small = phantom.load(n_images=3, size=(64, 48), cache=tmp_path)
    large = phantom.load(n_images=3, size=(256, 192), cache=tmp_path)
    for image_id in small.images.index:
        paths = [c.extras["truth"].loc[image_id, "path"] for c in (small, large)]
        coarse, fine = (read_mask(path) for path in paths)
        assert dice(coarse, fine[2::4, 2::4]) > 0.93


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 0}, "n_images must be a positive"),
        ({"n_images": 2.5}, "n_images must be a positive"),
        ({"size": (20, 200)}, "at least 32"),
        ({"seed": -1}, "whole number from 0"),
    ],
)
def test_senseless_numbers(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        phantom.load(**options, cache=tmp_path)


def test_by_name_with_options_of_others():
    cohort = data.load("phantom", n_images=2, size=(40, 32), seed=3)
    assert len(cohort.images) == 2
    with pytest.raises(TypeError, match="no cohort takes colour"):
        data.load("phantom", colour="red")
