"""REFUGE-2, TNMIX and QUBIQ: small files in the layout of their sources."""

import json
import os

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from iavlib import data
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.cohort import target
from iavlib.multiannotator import from_cohort
from iavlib.multiannotator.fusion import cup_to_disc_ratio


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def box(rows, columns, side=40):
    mask = np.zeros((side, side), np.uint8)
    mask[slice(*rows), slice(*columns)] = 255
    return mask


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".nii.gz"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    else:
        Image.fromarray(array).save(path)


def photograph(seed, side=40):
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def refuge(home, case, subset="Training-400", cups=(8, 16)):
    place = home / "refuge2" / "REFUGE-MultiRater" / subset / case
    save(photograph(len(case)), place / f"{case}.jpg")
    for number, rows in enumerate(cups, start=1):
        save(box((4, 36), (4, 36)), place / f"{case}_seg_disc_{number}.png")
        save(box((10, 10 + rows), (12, 20)), place / f"{case}_seg_cup_{number}.png")
    return place


def test_refuge_with_its_diagnoses_split_and_cup_to_disc_ratios(home):
    refuge(home, "g0001")
    refuge(home, "n0002", cups=(8, 8))
    refuge(home, "0826", "Test-400")
    known = data.load("refuge2").images["malignancy"]
    assert known.to_dict() == {"0826": "unknown", "g0001": "malignant", "n0002": "benign"}
    (home / "refuge2" / "labels.csv").write_text("image_id,glaucoma\n0826,1\n")
    cohort = data.load("refuge2")
    assert target(cohort).sort_index().to_dict() == {"0826": 1, "g0001": 1, "n0002": 0}
    assert cohort.extras["published_split"]["subset"].to_dict()["0826"] == "test"
    made = from_cohort(cohort, 40, fractions="published")
    assert made.annotators == ("R1", "R2") and made.n_classes == 3
    disc, cup = (np.isin(made.labels, made.structures[name]) for name in ("disc", "cup"))
    ratios = [cup_to_disc_ratio(disc[:, rater], cup[:, rater]) for rater in (0, 1)]
    where = made.ids.get_loc("g0001")
    assert [each[where] for each in ratios] == [8 / 32, 16 / 32]


def test_a_cup_that_is_absent_is_named(home):
    (refuge(home, "g0001") / "g0001_seg_cup_2.png").unlink()
    with pytest.raises(DataError, match=r"g0001_seg_cup_2\.png"):
        data.load("refuge2")


def test_both_parts_of_tnmix(home):
    place = home / "tnmix" / "TNSCUI2020_train"
    for number in (1, 2):
        save(photograph(number), place / "image" / f"{number}.PNG")
        save(box((5, 20), (6, 30)), place / "mask" / f"{number}.PNG")
    (place / "train.csv").write_text("ID,CATE\n1.PNG,1\n2.PNG,0\n")
    square = [{"x": x, "y": y} for x, y in ((10, 10), (19, 10), (19, 29), (10, 29))]
    svg = json.dumps([{"points": square, "annotation": {}, "regionType": "freehand"}])
    mark = f"<mark><image>1</image><svg>{svg}</svg></mark><mark><image>2</image><svg/></mark>"
    save(photograph(3), home / "tnmix" / "DDTI" / "7_1.jpg")
    case = home / "tnmix" / "DDTI" / "7.xml"
    case.write_text(f"<case><number>7</number><tirads>4a</tirads>{mark}</case>")
    cohort = data.load("tnmix")
    known = {"TNSCUI_1": "malignant", "TNSCUI_2": "benign", "DDTI_7_1": "indeterminate"}
    assert cohort.images["malignancy"].to_dict() == known
    made = from_cohort(cohort, 40, fractions=None)
    drawn = made.labels[made.ids.get_loc("DDTI_7_1"), 0]
    assert drawn.sum() == 10 * 20 and drawn[10:30, 10:20].all()


def test_slices_are_made_again_where_the_content_of_a_file_changes(home):
    place = home / "tnmix" / "TNSCUI2020_train"
    (place / "mask").mkdir(parents=True)
    (place / "train.csv").write_text("ID,CATE\n1.bmp,1\n")
    save(photograph(1), place / "image" / "1.bmp")
    areas = []
    for rows in ((5, 20), (5, 30)):
        save(box(rows, (6, 30)), place / "mask" / "1.bmp")  # of one size, uncompressed
        os.utime(place / "mask" / "1.bmp", (1e9, 1e9))
        areas.append(from_cohort(data.load("tnmix"), 40, fractions=None).labels.sum())
    assert areas == [15 * 24, 25 * 24]


@pytest.mark.parametrize("content", ["", "<case><mark>", "\x00\x01"])
def test_a_damaged_case_of_tnmix_is_named(home, content):
    case = home / "tnmix" / "DDTI" / "7.xml"
    case.parent.mkdir(parents=True)
    case.write_text(content)
    with pytest.raises(DataError, match=r"7\.xml: is not XML"):
        data.load("tnmix")


def test_a_task_of_a_structure_of_qubiq(home):
    for subset, case in (("Training", "case01"), ("Validation", "case01")):
        place = home / "qubiq" / "training_data" / "prostate" / subset / case
        save(np.arange(1600.0).reshape(40, 40), place / "image.nii.gz")
        for task, raters in ((1, 3), (2, 2)):
            for rater in range(1, raters + 1):
                mask = (box((5, 5 + 10 * rater), (5, 15)) > 0).astype(np.float32)
                save(mask[None], place / f"task{task:02d}_seg{rater:02d}.nii.gz")
    save(np.ones((4, 40, 40)), home / "qubiq" / "kidney" / "Training" / "case01" / "image.nii.gz")
    cohort = data.load("qubiq")
    assert sorted(cohort.masks["annotator"].unique()) == ["R01", "R02", "R03"]
    assert sorted(cohort.extras["published_split"]["subset"]) == ["test", "train"]
    assert len(data.load("qubiq", structure="prostate", task=2).masks) == 4
    areas = from_cohort(cohort, 40, fractions=None).labels.sum((2, 3))
    assert areas.tolist() == [[100, 200, 300]] * 2
    with pytest.raises(DatasetUnavailable, match="qubiq"):
        data.load("qubiq", structure="kidney")  # nobody outlined it
