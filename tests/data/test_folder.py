"""A user's own masks: what a table may look like, and everything that can be wrong with one."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib import data
from iavlib.agreement import image_level
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.core.project import cache_home
from iavlib.data.datasets import folder as folder_pairs

SIZE = (20, 16)
ROWS = [
    {"image": "a.png", "mask": "a_x.png", "annotator": "x", "malignancy": "benign"},
    {"image": "a.png", "mask": "a_y.png", "annotator": "y", "malignancy": "Benign "},
    {"image": "b", "mask": "b_x.png", "annotator": "x", "malignancy": "malignant"},
    {"image": "b", "mask": "b_y.png", "annotator": "y", "malignancy": ""},
    {"image": "b", "mask": "b_07.png", "annotator": "07", "malignancy": "unknown"},
    {"image": "c", "mask": "c_x.png", "annotator": "x", "malignancy": ""},
]


def square(path, left, width=6, size=SIZE):
    mask = np.zeros(size[::-1], np.uint8)
    mask[4:10, left : left + width] = 255
    Image.fromarray(mask).save(path)


@pytest.fixture
def own(tmp_path):
    """Three images with three, two and one masks; only the first has its file."""
    place = tmp_path / "mine"
    place.mkdir()
    for i, row in enumerate(ROWS):
        square(place / row["mask"], left=2 + i)
    Image.new("RGB", SIZE).save(place / "a.png")
    write(place)
    return place


def write(place, rows=ROWS, **options):
    pd.DataFrame(rows).to_csv(place / "masks.csv", index=False, **options)


def change(place, row, **cells):
    rows = [dict(r) for r in ROWS]
    rows[row] |= cells
    write(place, rows)


def test_table_becomes_a_cohort(own):
    cohort = data.load("folder", path=own)
    assert repr(cohort) == "Cohort('folder', 3 images, 6 masks, 4 pairs)"
    assert cohort.images["malignancy"].to_dict() == {
        **{"a": "benign", "b": "malignant", "c": "unknown"}
    }
    assert cohort.images["path"].tolist()[0] == str(own / "a.png")
    assert cohort.images["path"].isna().tolist() == [False, True, True]
    assert set(zip(cohort.images["width"], cohort.images["height"], strict=True)) == {SIZE}
    assert cohort.masks["annotator"].tolist() == ["x", "y", "x", "y", "07", "x"]
    assert cohort.masks[["tool", "skill"]].isna().all(axis=None)
    assert not cohort.synthetic
    assert cohort.clusters().nunique() == 3
    assert len(cohort.multi_annotator().images) == 2


def test_pairs_are_measured(own):
    pairs = data.load("folder", path=own).pairs.set_index(["mask_1", "mask_2"])
    # Squares of 6 x 6 pixels that lie one pixel apart share 5 x 6 of them.
    pair = pairs.loc[("a_x.png", "a_y.png")]
    assert pair["dice"] == pytest.approx(30 / 36)
    assert pair["jaccard"] == pytest.approx(30 / 42)
    assert pair["hd"] == 1
    assert pair["hd_normalized"] == pytest.approx(1 / np.hypot(*SIZE))
    assert (pair["annotator_1"], pair["annotator_2"]) == ("x", "y")
    assert ("b_07.png", "b_x.png") in pairs.index
    assert pairs.index.map(lambda names: names[0] < names[1]).all()


def test_masks_of_one_image_only(own):
    write(own, [ROWS[0], ROWS[5]])
    cohort = data.load("folder", path=own)
    assert len(cohort.pairs) == 0
    assert image_level(cohort.pairs).empty
    assert len(cohort.multi_annotator().images) == 0


def test_the_file_or_its_folder_in_any_spelling(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    paths = [own, str(own), own / "masks.csv", "mine", "./mine/masks.csv"]
    assert len({data.load("folder", path=path).fingerprint for path in paths}) == 1
    assert len({data.fingerprint("folder", path=path) for path in paths}) == 1
    shutil.move(own / "masks.csv", own / "other name.csv")
    assert len(data.load("folder", path="mine/other name.csv").images) == 3


@pytest.mark.parametrize("path", ["", None, "  "])
def test_no_path(path):
    with pytest.raises(DatasetUnavailable, match=r"no path was given\. To get it: give path="):
        data.load("folder", path=path)


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"there is no file .*masks\.csv"):
        data.load("folder", path=tmp_path)
    with pytest.raises(DatasetUnavailable, match=r"there is no file .*nowhere"):
        data.fingerprint("folder", path=tmp_path / "nowhere")


def test_one_call_for_every_cohort(own, tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    options = {"n_images": 5, "seed": 0}
    assert data.load("folder", path=own, **options).name == "folder"
    assert data.load("auto", path=own, **options).name == "folder"
    with pytest.warns(UserWarning, match="differ from the published"):
        assert data.load("auto", path="", **options).name == "imapp"
    with pytest.raises(TypeError, match="no cohort takes file"):
        data.load("folder", file=own)
    assert "folder" not in data.available()


def test_fingerprint_changes_with_any_file_and_only_then(own, tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    seen = [data.fingerprint("folder", path=own, n_images=3)]
    assert data.fingerprint("folder", path=own, n_images=4, seed=9) == seen[0]
    (own / "notes.txt").write_text("not named in the table")
    assert data.fingerprint("folder", path=own) == seen[0]
    os.utime(own / "b_x.png", (1, 1))
    seen.append(data.fingerprint("folder", path=own))
    (own / "a.png").unlink()
    seen.append(data.fingerprint("folder", path=own))
    write(own, ROWS[2:])
    seen.append(data.fingerprint("folder", path=own))
    assert len(set(seen)) == 4
    assert data.fingerprint("imapp", path=own) == data.fingerprint("imapp")
    assert data.fingerprint("phantom", n_images=3) != data.fingerprint("phantom", n_images=4)
    assert data.fingerprint("phantom", path=own) == data.fingerprint("phantom")


def test_measured_once_and_the_same_when_read_again(own, monkeypatch):
    first = data.load("folder", path=own)
    calls = []
    monkeypatch.setattr(folder_pairs, "_measure", calls.append)
    again = data.load("folder", path=own)
    assert calls == []
    assert again.fingerprint == first.fingerprint
    pd.testing.assert_frame_equal(again.pairs, first.pairs)
    # Labels are no reason to measure again, masks are.
    change(own, 2, malignancy="indeterminate")
    assert data.load("folder", path=own).images.loc["b", "malignancy"] == "indeterminate"
    monkeypatch.undo()
    square(own / "b_x.png", left=9)
    assert data.load("folder", path=own).pairs["dice"].tolist() != first.pairs["dice"].tolist()


def test_a_cache_that_cannot_be_written(own, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept .* Set IAV_CACHE_HOME"):
        assert len(data.load("folder", path=own).pairs) == 4


def test_nothing_half_written_in_the_cache(own, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    write(own, ROWS[:2])
    before = set((cache_home() / "folder").glob("*"))
    monkeypatch.setattr(folder_pairs.os, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        data.load("folder", path=own)
    assert set((cache_home() / "folder").glob("*")) == before


def test_folders_for_images_and_masks(own):
    reference = data.load("folder", path=own).pairs["dice"].tolist()
    for kind, names in (("masks", [r["mask"] for r in ROWS]), ("images", ["a.png"])):
        (own / kind).mkdir()
        for name in names:
            shutil.move(own / name, own / kind / name)
    Image.new("RGB", SIZE).save(own / "images" / "b.JPG")
    cohort = data.load("folder", path=own)
    assert cohort.pairs["dice"].tolist() == reference
    assert cohort.images["path"].tolist()[:2] == [
        *(str(own / "images" / name) for name in ("a.png", "b.JPG")),
    ]


def test_a_mask_is_never_taken_for_the_image(own):
    """Image c has no file, and a mask is called like it."""
    shutil.move(own / "c_x.png", own / "c.png")
    change(own, 5, mask="c.png")
    assert data.load("folder", path=own).images["path"].isna().tolist() == [False, True, True]


def test_paths_that_lead_elsewhere(own, tmp_path):
    shutil.move(own / "b_x.png", tmp_path / "b_x.png")
    change(own, 2, mask="../b_x.png")
    with pytest.raises(DataError, match=r"line 4: mask \.\./b_x\.png: path outside the folder"):
        data.load("folder", path=own)
    change(own, 2, mask="sub/../../b_x.png")
    with pytest.raises(DataError, match="path outside the folder"):
        data.load("folder", path=own)
    change(own, 0, image="../a.png")
    with pytest.raises(DataError, match=r"line 2: image \.\./a\.png: path outside"):
        data.load("folder", path=own)
    change(own, 2, mask=str(tmp_path / "b_x.png"))
    assert str(tmp_path / "b_x.png") in data.load("folder", path=own).masks.index


def test_other_names_of_columns(own):
    names = {"image": "image_id", "mask": " Mask", "annotator": "ANNOTATOR"}
    extra = {"skill_level": "S1", "patient_id": "p1", "lesion_id": "l1", "tool": "T2", "site": "x"}
    rows = [{names.get(k, k): v for k, v in row.items()} | extra for row in ROWS]
    write(own, rows)
    cohort = data.load("folder", path=own)
    assert cohort.images.index.tolist() == ["a.png", "b", "c"]
    assert set(cohort.images["patient_id"]) == {"p1"}
    assert set(cohort.images["lesion_id"]) == {"l1"}
    assert set(cohort.masks["skill"]) == {"S1"}
    assert set(cohort.pairs["tool_2"]) == {"T2"}


def test_ids_beside_files(own):
    write(own, [row | {"image_id": f"case {row['image'][0]}"} for row in ROWS])
    cohort = data.load("folder", path=own)
    assert cohort.images.index.tolist() == ["case a", "case b", "case c"]
    assert cohort.images["path"].notna().tolist() == [True, False, False]


def test_as_spreadsheets_write_it(own):
    reference = data.load("folder", path=own)
    text = (
        (own / "masks.csv").read_text().replace("\n", "\r\n").replace("b_y.png,y", " b_y.png , y")
    )
    (own / "masks.csv").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n,,,\r\n\r\n")
    assert data.load("folder", path=own).fingerprint == reference.fingerprint


def test_text_stays_text(own):
    """Annotators 07 and NA are neither the number 7 nor a missing value."""
    change(own, 3, annotator="NA")
    assert data.load("folder", path=own).masks["annotator"].tolist()[3:5] == ["NA", "07"]


@pytest.mark.parametrize(
    ("row", "cells", "message"),
    [
        (2, {"malignancy": "melanoma"}, r"'malignancy' .*one of benign, malignant.*line 4: 'melan"),
        (1, {"malignancy": "malignant"}, r"lines 2 and 3: image a has malignancy benign and malig"),
        (3, {"mask": "b_x.png"}, r"lines 4 and 5: mask b_x\.png is listed twice"),
        (3, {"mask": "./b_x.png"}, r"lines 4 and 5: mask b_x\.png is listed twice"),
        (3, {"mask": "b_z.png"}, r"line 5: .*b_z\.png: the file is missing\. To fix it: put it"),
        (3, {"annotator": ""}, r"'annotator' fails not_nullable in 1 rows \(line 5"),
        (3, {"mask": ""}, r"'mask' fails not_nullable in 1 rows \(line 5"),
        (3, {"image": ""}, r"'image_id' fails not_nullable in 1 rows \(line 5"),
    ],
)
def test_a_wrong_row_is_named(own, row, cells, message):
    change(own, row, **cells)
    with pytest.raises(DataError, match=rf"masks\.csv: .*{message}"):
        data.load("folder", path=own)


def test_contradicting_patients(own):
    write(own, [row | {"patient": f"p{i}"} for i, row in enumerate(ROWS)])
    with pytest.raises(DataError, match="image a has patient p0 and p1"):
        data.load("folder", path=own)


def test_one_name_in_two_folders(own):
    (own / "more").mkdir()
    Image.new("RGB", SIZE).save(own / "more" / "a.png")
    change(own, 1, image="more/a.png")
    with pytest.raises(DataError, match=r"image a has image a\.png and more/a\.png.*image_id"):
        data.load("folder", path=own)
    rows = [row | {"image_id": f"i{i}"} for i, row in enumerate(ROWS)]
    write(own, rows)
    with pytest.raises(DataError, match="lines 2 and 3: i0 and i1 have the same image file"):
        data.load("folder", path=own)


def test_a_corrupt_mask(own):
    (own / "b_y.png").write_text("no image")
    with pytest.raises(DataError, match=r"line 5: .*b_y\.png: no readable image .* To fix it"):
        data.load("folder", path=own)


def test_a_mask_that_breaks_off_in_the_middle(own):
    noise = np.random.default_rng(0).random((16, 20)) < 0.5
    Image.fromarray(noise).save(own / "c_x.png")
    raw = (own / "c_x.png").read_bytes()
    (own / "c_x.png").write_bytes(raw[:60])
    with pytest.raises(DataError, match=r"line 7: .*c_x\.png: no readable image"):
        data.load("folder", path=own)


def test_masks_of_different_sizes(own):
    square(own / "b_y.png", left=2, size=(30, 16))
    with pytest.raises(DataError, match=r"lines 4 and 5: image b .* 20x16 and 30x16|30x16 and 20"):
        data.load("folder", path=own)


def test_an_image_of_another_size_than_its_masks(own):
    Image.new("RGB", (10, 8)).save(own / "a.png")
    with pytest.raises(DataError, match=r"image a .* sizes 20x16 and 10x8"):
        data.load("folder", path=own)


def test_lost_images_are_told(own):
    (own / "a.png").unlink()
    with pytest.warns(UserWarning, match=r"1 image files are missing, first a\.png"):
        cohort = data.load("folder", path=own)
    assert cohort.images["path"].isna().all()
    assert (cohort.images["width"] == 20).all()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image:mask:annotator", r"no column 'image', 'mask', 'annotator'.*one row per mask"),
        ("image,mask,annotators", r"column 'annotators': is 'annotator' meant"),
        ("image,mask,annotator,malignency", r"column 'malignency': is 'malignancy' meant"),
        ("image,mask,annotator,skill,skill_level", "two columns for 'skill'"),
        ("image,mask,annotator,mask", "two columns for 'mask'"),
        ("picture,mask,annotator", r"no column 'image'; there are 'picture', 'mask'"),
    ],
)
def test_wrong_columns(own, header, message):
    separator = ":" if ":" in header else ","
    cells = separator.join("x" for _ in header.split(separator))
    (own / "masks.csv").write_text(f"{header}\n{cells}\n")
    with pytest.raises(DataError, match=message):
        data.load("folder", path=own)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("image,mask,annotator\n", "no rows"),
        ("image,mask,annotator\na,b,c,d\n", "more cells than the header"),
        ("image,mask,annotator\na,b,c\na,b,c,d,e\n", "line 3 has more cells"),
        (b"\xff\xfe\x00", "no readable CSV"),
    ],
)
def test_no_such_table(own, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (own / "masks.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.load("folder", path=own)
