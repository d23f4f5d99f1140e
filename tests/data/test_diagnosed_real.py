"""PH2 and ISIC 2017 as they are, where they are."""

import os
from pathlib import Path

import pytest
from diagnosed_layouts import label_map

from iavlib import data

pytestmark = pytest.mark.data


def real(name):
    home = os.environ.get("IAV_DATA_HOME", "")
    if not home or not (Path(home) / name / "labels.csv").is_file():
        pytest.skip(f"needs {name} in its simple layout under IAV_DATA_HOME")
    return Path(home).resolve()


@pytest.fixture(scope="module")
def isic2017(imapp_home):
    """ISIC 2017 without the overlap, with all of it, and IMA++."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IAV_DATA_HOME", str(real("isic2017")))
        known, whole = data.load("imapp"), data.load("isic2017", overlap="keep")
        yield data.load("isic2017"), whole, known


def test_ph2(monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(real("ph2")))
    cohort = data.load("ph2")
    assert label_map(cohort).set_index("diagnosis")["n"].to_dict() == {
        **{"common nevus": 80, "atypical nevus": 80, "melanoma": 40}
    }
    assert len(cohort.masks) == 200
    table = data.check_subsets(cohort, data.official_split(cohort, seed=8888).assignment)
    # the class counts of the paper's own list
    assert table["not melanoma"].to_dict() == {"train": 112, "val": 16, "test": 32}
    assert table["melanoma"].to_dict() == {"train": 28, "val": 4, "test": 8}


def test_isic2017_overlap(isic2017):
    cohort, whole, _ = isic2017
    table = cohort.extras["overlap"]
    assert table.equals(whole.extras["overlap"])
    everything, multi = table.loc["imapp"], table.loc["imapp multi"]
    assert everything["image"].to_dict() == {"all": 2501, "train": 1860, "val": 124, "test": 517}
    assert multi["image"].to_dict() == {"all": 898, "train": 541, "val": 17, "test": 340}
    assert multi["any"].to_dict() == {"all": 950, "train": 582, "val": 28, "test": 340}
    assert multi.loc["all", ["melanomas", "melanomas_left"]].tolist() == [387, 225]
    # leaving out whatever IMA++ holds would leave no melanoma at all
    assert everything.loc["all", ["left", "melanomas_left"]].tolist() == [156, 0]
    assert len(cohort.images) == 1707
    assert len(cohort.extras["left_out"]) == 950


def test_isic2017_split(isic2017):
    cohort, _, _ = isic2017
    split = data.official_split(cohort, seed=1)
    assert "the published test subset has 0 labelled images" in split.rule
    table = data.check_subsets(cohort, split.assignment)
    assert table["images"].sum() == 1486
    assert table["melanoma"].sum() == 225
    assert table["melanoma"].min() >= 22


def test_isic2017_labels_agree_with_those_of_imapp(isic2017):
    _, whole, known = isic2017
    theirs, ours = data.target(known), data.target(whole)
    both = ours.index.intersection(theirs.index)
    assert len(both) == 1978
    assert (ours[both] == theirs[both]).all()


def test_isic2017_keeps_no_test_melanoma(isic2017):
    """Every image of the published test part that IMA++ calls malignant is in the subset."""
    cohort, whole, known = isic2017
    malignant = data.target(known)
    assert malignant.reindex(whole.images.index[whole.images["subset"] == "test"]).sum() == 105
    assert malignant.reindex(cohort.images.index[cohort.images["subset"] == "test"]).sum() == 0


def test_isic2017_published_parts_share_patients_and_lesions(isic2017):
    _, whole, _ = isic2017
    shared = {
        column: int((whole.images.groupby(column)["subset"].nunique() > 1).sum())
        for column in ("patient_id", "lesion_id")
    }
    assert shared == {"patient_id": 15, "lesion_id": 6}
