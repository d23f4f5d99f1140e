"""Datasets of diagnosis in their official layouts, and everything that can be wrong with one."""

import shutil

import diagnosed_layouts as layouts
import pandas as pd
import pytest
from typer.testing import CliRunner

from iavlib import data
from iavlib.agreement.mask_quality import check_masks
from iavlib.cli.main import data_app as app
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.catalogue import status

NAMES = ("isic2017", "isic2018", "isic2019", "derm7pt", "ph2")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data home."""
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    return tmp_path


def load(name, **options):
    return data.load(name, **({"overlap": "keep"} | options))


def hits(text):
    return pytest.raises(DataError, match=text)


@pytest.mark.parametrize("name", NAMES)
def test_official_layout(home, name):
    getattr(layouts, name)(home / name)
    cohort = load(name)
    assert cohort.name == name
    assert not cohort.synthetic
    assert cohort.images["path"].notna().all()
    assert set(zip(cohort.images["width"], cohort.images["height"], strict=True)) == {layouts.SIZE}
    assert set(cohort.images["geometry"]) == {"original"}
    assert len(cohort.pairs) == 0
    assert cohort.citation and cohort.licence
    target = data.target(cohort)
    assert set(target) == {0, 1}
    assert data.target_names(cohort) == ("not melanoma", "melanoma")
    table = layouts.label_map(cohort)
    assert table["n"].sum() == len(cohort.images)
    assert table.loc[table["class"] == "melanoma", "n"].sum() == target.sum()
    assert load(name).fingerprint == cohort.fingerprint
    assert data.fingerprint(name) == data.fingerprint(name)


@pytest.mark.parametrize("name", NAMES)
def test_not_here(home, name):
    with pytest.raises(DatasetUnavailable, match=r"lacks .* To get it: .*https://"):
        load(name)


def test_isic2017_official(home):
    layouts.isic2017(home / "isic2017")
    cohort = load("isic2017")
    images = cohort.images
    assert images["subset"].value_counts().to_dict() == {"train": 8, "test": 6, "val": 4}
    assert images["diagnosis"].value_counts().to_dict() == {
        **{"melanoma": 9, "nevus": 6, "seborrheic keratosis": 3}
    }
    assert images.loc["ISIC_0000000", ["age", "sex"]].isna().all()
    assert images.loc["ISIC_0000001", ["age", "sex"]].tolist() == [40, "female"]
    assert len(cohort.masks) == 18
    assert set(cohort.masks["annotator"]) == {"ISIC 2017"}
    assert check_masks(cohort).empty
    split = data.official_split(cohort)
    assert (split.rule, split.sizes) == ("published subsets", {"train": 8, "val": 4, "test": 6})


def test_isic2017_unpacked_twice_deep(home):
    folder = layouts.isic2017(home / "isic2017")
    inner = folder / "ISIC-2017_Training_Data" / "ISIC-2017_Training_Data"
    shutil.move(folder / "ISIC-2017_Training_Data", folder / "moved")
    inner.parent.mkdir()
    shutil.move(folder / "moved", inner)
    images = load("isic2017").images
    assert images["path"].notna().all()
    assert images.loc["ISIC_0000001", "age"] == 40


def test_isic2017_simple(home):
    layouts.simple2017(home / "isic2017")
    cohort = load("isic2017")
    assert data.target(cohort).value_counts().to_dict() == {0: 4, 1: 4}
    assert cohort.images["malignancy"].value_counts()["unknown"] == 4
    assert set(cohort.images["geometry"]) == {"squashed"}
    assert cohort.images["age"].isna().tolist()[:4] == [False, True, True, False]
    assert len(cohort.masks) == 8
    table = layouts.label_map(cohort).set_index("class")
    assert table.loc["left out", ["n", "test"]].tolist() == [4, 4]
    (home / "isic2017" / "masks" / "ISIC_0000003_segmentation.png").unlink()
    with hits("1 masks that labels.csv lists are missing, first ISIC_0000003"):
        load("isic2017")


def test_isic2017_needs_imapp_to_leave_out_the_overlap(home):
    layouts.simple2017(home / "isic2017")
    assert "isic2017" not in data.available()
    with pytest.raises(DatasetUnavailable, match=r"iav data fetch imapp.*overlap='keep'"):
        data.load("isic2017")
    with pytest.raises(ValueError, match="overlap='drop': use one of 'leave out', 'keep'"):
        data.load("isic2017", overlap="drop")


def test_isic2018_classes_parts_and_lesions(home):
    layouts.isic2018(home / "isic2018")
    cohort = load("isic2018")
    images = cohort.images
    assert images["subset"].value_counts().to_dict() == {"train": 14, "val": 7, "test": 7}
    of = images.drop_duplicates("diagnosis").set_index("diagnosis")
    assert of["melanoma"].to_dict() == {c: float(c == "MEL") for c in layouts.CLASSES_2018}
    assert of.loc[["BCC", "AKIEC", "NV"], "malignancy"].tolist() == [
        *("malignant", "indeterminate", "benign"),
    ]
    assert images["lesion_id"].notna().sum() == 14
    assert images["lesion_id"].nunique() == 7
    assert data.official_split(cohort).rule == "published subsets"


def test_isic2019_unknown_classes(home):
    layouts.isic2019(home / "isic2019")
    cohort = load("isic2019")
    assert data.target(cohort).loc[cohort.images["subset"] == "test"].tolist() == [1, 0, 0, 0, 0]
    table = layouts.label_map(cohort).set_index("diagnosis")
    assert table.loc["UNK", ["malignancy", "class", "test"]].tolist() == [
        *("unknown", "not melanoma", 2),
    ]
    out = load("isic2019", unk="leave out")
    assert len(out.images) == len(cohort.images)
    assert len(data.target(out)) == len(data.target(cohort)) - 2
    with pytest.raises(ValueError, match="unk='drop'"):
        load("isic2019", unk="drop")


def test_isic2019_metadata_and_validation_from_training(home):
    layouts.isic2019(home / "isic2019")
    cohort = load("isic2019")
    images = cohort.images
    assert images["age"].isna().groupby(images["subset"]).all().to_dict() == {
        **{"test": True, "train": False}
    }
    assert set(images["sex"]) == {"female", "male"}
    assert images["lesion_id"].isna().sum() == 4 + 5
    split = data.official_split(cohort, seed=1)
    assert "validation being 12.5 % of training by lesion, seed 1" in split.rule
    assert set(split["test"]) == set(images.index[images["subset"] == "test"])
    subsets = data.check_subsets(cohort, split.assignment)
    assert subsets["images"].to_dict() == {"train": 52, "val": 8, "test": 5}


def test_derm7pt(home):
    layouts.derm7pt(home / "derm7pt")
    cohort = load("derm7pt")
    groups = cohort.images["diagnosis_group"].value_counts().to_dict()
    assert groups == {"MEL": 12, "NEV": 12, "MISC": 8, "BCC": 4, "SK": 4}
    assert cohort.images["subset"].isna().all()
    assert cohort.images["path"].str.endswith(".jpg").all()
    assert load("derm7pt", modality="clinic").images["path"].str.endswith(".JPG").all()
    assert cohort.images.loc["case_1", "lesion_id"] == cohort.images.loc["case_2", "lesion_id"]
    assert cohort.images["lesion_id"].nunique() == 39
    anew = data.official_split(cohort, seed=2)
    assert anew.rule.startswith("split 70:10:20 by patient and lesion, seed 2")
    assert anew.sizes == {"train": 28, "val": 4, "test": 8}
    official = load("derm7pt", subsets="official")
    assert official.images["subset"].value_counts().to_dict() == {
        "train": 20,
        "val": 10,
        "test": 10,
    }
    assert data.official_split(official).rule == "published subsets"
    with pytest.raises(ValueError, match="subsets='theirs'"):
        load("derm7pt", subsets="theirs")


def test_derm7pt_index_files(home):
    meta = layouts.derm7pt(home / "derm7pt") / "meta"
    layouts.write(meta / "test_indexes.csv", {"indexes": [3, 7, 8]})
    with hits("1 cases are in test and in another subset, first case_9"):
        load("derm7pt", subsets="official")
    layouts.write(meta / "test_indexes.csv", {"indexes": [3, 7]})
    with hits("8 cases are in no subset, first case_12"):
        load("derm7pt", subsets="official")
    layouts.write(meta / "test_indexes.csv", {"indexes": [3, 40]})
    with hits("indexes"):
        load("derm7pt", subsets="official")
    (meta / "test_indexes.csv").unlink()
    with pytest.raises(DatasetUnavailable, match=r"lacks test_indexes\.csv"):
        load("derm7pt", subsets="official")
    assert len(load("derm7pt").images) == 40


@pytest.mark.parametrize("below", ["", "PH2Dataset"])
def test_ph2_official(home, below):
    layouts.ph2(home / "ph2" / below)
    cohort = load("ph2")
    assert cohort.images["diagnosis"].tolist() == [
        *("common nevus", "common nevus", "atypical nevus", "melanoma"),
    ]
    assert data.target(cohort).tolist() == [0, 0, 0, 1]
    assert cohort.masks["image_id"].tolist() == cohort.images.index.tolist()
    assert check_masks(cohort).empty
    assert cohort.clusters().nunique() == 4


def test_ph2_simple(home):
    layouts.simple_ph2(home / "ph2")
    cohort = load("ph2")
    assert data.target(cohort).to_dict() == {"IMD003": 0, "IMD009": 0, "IMD058": 1}
    assert len(cohort.masks) == 3


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_labels_outside_the_map(home):
    path = layouts.ph2(home / "ph2") / "PH2_dataset.txt"
    replace_in(path, "  2 ||         2 |       P ||   4  6", "  3 ||         2 |       P ||   4  6")
    with hits("line 5: IMD058 has the clinical diagnosis '3', outside the map"):
        load("ph2")
    path = layouts.simple_ph2(home / "ph2") / "labels.csv"
    replace_in(path, "IMD058,2", "IMD058,7")
    with hits("'clinical_diagnosis' fails 0, 1 or 2 in 1 rows .line 4: "):
        load("ph2")
    path = layouts.derm7pt(home / "derm7pt") / "meta" / "meta.csv"
    replace_in(path, "clark nevus", "clerk nevus")
    with hits("1 labels in column 'diagnosis' are outside the map .* first clerk nevus"):
        load("derm7pt")
    path = layouts.isic2019(home / "isic2019") / "ISIC_2019_Training_GroundTruth.csv"
    replace_in(path, "UNK", "SEK")
    with hits("1 labels outside the map .* first SEK"):
        load("isic2019")
    path = layouts.simple2017(home / "isic2017") / "labels.csv"
    replace_in(path, "train,1.0", "train,2.0")
    with hits("'melanoma' fails 0 or 1 in 1 rows .line 2: 2.0"):
        load("isic2017")


def test_not_exactly_one_class(home):
    folder = layouts.isic2018(home / "isic2018")
    path = folder / "ISIC2018_Task3_Test_GroundTruth" / "ISIC2018_Task3_Test_GroundTruth.csv"
    replace_in(path, "0.0,1.0,0.0", "1.0,1.0,0.0")
    with hits("1 images have not exactly one class marked 1 and the others 0, first ISIC_0000201"):
        load("isic2018")
    path = layouts.isic2017(home / "isic2017") / "ISIC-2017_Training_Part3_GroundTruth.csv"
    replace_in(path, "ISIC_0000000,1.0,0.0", "ISIC_0000000,1.0,1.0")
    with hits("1 images have not exactly one class marked 1 and the others 0, first ISIC_0000000"):
        load("isic2017")


LISTED = {
    "isic2017": "ISIC-2017_Training_Data/ISIC_0000002.jpg",
    "isic2018": "ISIC2018_Task3_Test_Input/ISIC_0000200.jpg",
    "isic2019": "ISIC_2019_Training_Input/ISIC_0000001.jpg",
    "derm7pt": "images/NEL/Nel003.jpg",
    "ph2": "PH2 Dataset images/IMD009/IMD009_Dermoscopic_Image/IMD009.bmp",
}


@pytest.mark.parametrize("name", NAMES)
def test_labels_without_images(home, name):
    folder = getattr(layouts, name)(home / name)
    (folder / LISTED[name]).unlink()
    with hits("1 labels without image: .* first .*incomplete=True"):
        load(name)
    cohort = load(name, incomplete=True)
    assert cohort.images["path"].isna().sum() == 1


@pytest.mark.parametrize("name", NAMES)
def test_images_without_labels(home, name):
    folder = getattr(layouts, name)(home / name)
    listed = folder / LISTED[name]
    strange = listed.with_name(listed.name.replace("0", "9"))
    if name == "ph2":
        strange = folder / "PH2 Dataset images/IMD999/IMD999_Dermoscopic_Image/IMD999.bmp"
    layouts.picture(strange)
    n = len(load(name, incomplete=True).images)
    with hits("1 images without label"):
        load(name)
    strange.unlink()
    assert len(load(name).images) == n


def test_a_part_without_its_table(home):
    folder = layouts.isic2018(home / "isic2018")
    shutil.rmtree(folder / "ISIC2018_Task3_Test_GroundTruth")
    with hits("7 images without label: .*ISIC2018_Task3_Test_GroundTruth.csv is missing"):
        load("isic2018")
    shutil.rmtree(folder / "ISIC2018_Task3_Test_Input")
    assert set(load("isic2018").images["subset"]) == {"train", "val"}


def test_duplicates(home):
    folder = layouts.isic2018(home / "isic2018")
    path = folder / "ISIC2018_Task3_Test_GroundTruth" / "ISIC2018_Task3_Test_GroundTruth.csv"
    text = path.read_text()
    replace_in(path, "ISIC_0000201", "ISIC_0000200")
    with hits("'image' fails field_uniqueness in 2 rows .line 2: 'ISIC_0000200'"):
        load("isic2018")
    path.write_text(text.replace("ISIC_0000200", "ISIC_0000003"))
    shutil.copy(
        folder / "ISIC2018_Task3_Training_Input" / "ISIC_0000003.jpg",
        folder / "ISIC2018_Task3_Test_Input" / "ISIC_0000003.jpg",
    )
    (folder / "ISIC2018_Task3_Test_Input" / "ISIC_0000200.jpg").unlink()
    with hits("1 images are listed twice, first ISIC_0000003"):
        load("isic2018")
    path = layouts.ph2(home / "ph2") / "PH2_dataset.txt"
    replace_in(path, "IMD009", "IMD003")
    with hits("line 3: IMD003 is listed twice"):
        load("ph2")
    folder = layouts.simple2017(home / "isic2017")
    layouts.picture(folder / "images" / "ISIC_0000001.png")
    with hits(r"ISIC_0000001\.jpg and ISIC_0000001\.png are one image"):
        load("isic2017")


def test_broken_files(home):
    folder = layouts.isic2018(home / "isic2018")
    (folder / "ISIC2018_Task3_Test_Input" / "ISIC_0000201.jpg").write_bytes(b"")
    with hits("ISIC_0000201"):
        load("isic2018")
    folder = layouts.simple2017(home / "isic2017")
    replace_in(folder / "labels.csv", "55", "fifty")
    with hits("1 cells of column 'age_approximate' are no number, first fifty"):
        load("isic2017")
    (layouts.ph2(home / "ph2") / "PH2_dataset.txt").write_text("nothing of the kind")
    with hits("no line of the form"):
        load("ph2")


def test_status_lists_them(home):
    layouts.isic2018(home / "isic2018")
    layouts.simple_ph2(home / "ph2")
    rows = {row.name: row for row in status()}
    assert {name: rows[name].state for name in NAMES} == {
        **{"isic2017": "absent", "isic2018": "partial", "isic2019": "absent"},
        **{"derm7pt": "absent", "ph2": "partial"},
    }
    assert rows["isic2018"].usable and not rows["isic2019"].usable
    assert rows["isic2018"].counts["ISIC2018_Task3_Test_Input/*.jpg"] == (7, 1512)
    assert rows["ph2"].counts == {"labels.csv": (1, 1), "images/*": (3, 200), "masks/*": (3, 200)}
    output = CliRunner().invoke(app, ["status"]).output
    for name in NAMES:
        assert f"{name}: " in output
    assert "https://derm.cs.sfu.ca" in output


def test_fingerprint_follows_options_and_files(home, tiny_imapp):
    layouts.derm7pt(home / "derm7pt")
    layouts.isic2019(home / "isic2019")
    seen = [data.fingerprint("derm7pt"), data.fingerprint("derm7pt", subsets="official")]
    seen += [data.fingerprint("isic2019")]
    shutil.copytree(tiny_imapp, home / "imapp")
    seen += [data.fingerprint("isic2019"), data.fingerprint("isic2019", unk="leave out")]
    assert len(set(seen)) == 5
    assert data.fingerprint("derm7pt", seed=3) == seen[0]
    assert pd.Series(seen).str.len().eq(12).all()
