"""IMA++ as published, and everything that can be wrong with a copy of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib import data
from iavlib.agreement import image_level
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.datasets import imapp

pytestmark = pytest.mark.filterwarnings("ignore:.*differ from the published tables")


def edit(path, change):
    table = pd.read_csv(path)
    change(table).to_csv(path, index=False)


def test_tiny_tables_become_a_cohort(tiny_imapp):
    cohort = imapp.load(tiny_imapp)
    assert (len(cohort.images), len(cohort.masks), len(cohort.pairs)) == (6, 12, 6)
    assert cohort.images["malignancy"].tolist() == [
        *("benign", "malignant", "indeterminate", "unknown"),
        *("benign", "malignant"),
    ]
    assert cohort.images["diagnosis"].tolist()[:2] == ["Benign", "Nevus"]
    assert cohort.images["path"].notna().sum() == 1
    assert not cohort.synthetic


def test_pairs_are_in_a_fixed_order_with_their_factors(tiny_imapp):
    pairs = imapp.load(tiny_imapp).pairs
    assert (pairs["mask_1"] < pairs["mask_2"]).all()
    assert set(pairs["annotator_1"]) == {"A00"}
    assert set(pairs["tool_2"]) == {"T1"}
    assert set(pairs["skill_1"]) == {"S2"}


def test_an_image_without_patient_is_its_own_cluster(tiny_imapp):
    clusters = imapp.load(tiny_imapp).clusters()
    assert clusters.nunique() == 4
    assert clusters.iloc[0] == clusters.iloc[1]
    assert clusters.iloc[4] != clusters.iloc[5]


def test_altered_tables_are_said_to_be_altered(tiny_imapp):
    with pytest.warns(UserWarning, match="differ from the published tables"):
        imapp.load(tiny_imapp)


@pytest.mark.parametrize("name", imapp.REQUIRED)
def test_missing_table(tiny_imapp, name):
    (tiny_imapp / name).unlink()
    with pytest.raises(DatasetUnavailable, match=rf"{name}.*iav data fetch imapp"):
        imapp.load(tiny_imapp)


@pytest.mark.parametrize("content", ["", "img_id,mask1\n", "\ufeff"])
def test_empty_table(tiny_imapp, content):
    (tiny_imapp / imapp.PAIR_METRICS).write_text(content)
    with pytest.raises(DataError, match=r"IAA_metrics\.csv: .*(empty|no rows).*iav data fetch"):
        imapp.load(tiny_imapp)


def test_truncated_table(tiny_imapp):
    path = tiny_imapp / imapp.PAIR_METRICS
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"IAA_metrics\.csv: .*line 7"):
        imapp.load(tiny_imapp)


def test_table_cut_inside_quotes(tiny_imapp):
    path = tiny_imapp / imapp.METADATA
    path.write_text(path.read_text() + '"ISIC_00')
    with pytest.raises(DataError, match=r"img_metadata\.csv"):
        imapp.load(tiny_imapp)


def test_missing_column(tiny_imapp):
    edit(tiny_imapp / imapp.MASKS, lambda t: t.drop(columns="annotator"))
    with pytest.raises(DataError, match=r"seg_metadata\.csv: column 'annotator' is missing"):
        imapp.load(tiny_imapp)


def test_duplicated_mask(tiny_imapp):
    edit(tiny_imapp / imapp.MASKS, lambda t: pd.concat([t, t.iloc[[3]]]))
    with pytest.raises(DataError, match=r"'seg_filename' fails .*line 5.*line 14"):
        imapp.load(tiny_imapp)


def test_dice_above_one_names_line_and_value(tiny_imapp):
    edit(tiny_imapp / imapp.PAIR_METRICS, lambda t: t.assign(dice_score=[0.8] * 5 + [1.2]))
    with pytest.raises(DataError, match=r"'dice_score' .*line 7: 1\.2"):
        imapp.load(tiny_imapp)


def test_unknown_annotator(tiny_imapp):
    edit(tiny_imapp / imapp.MASKS, lambda t: t.replace({"annotator": {"A00": "A99"}}))
    with pytest.raises(DataError, match=r"'annotator' .*line 3: 'A99'"):
        imapp.load(tiny_imapp)


def test_unknown_malignancy(tiny_imapp):
    edit(tiny_imapp / imapp.METADATA, lambda t: t.replace({"benign_malignant": {"benign": "bad"}}))
    with pytest.raises(DataError, match=r"'benign_malignant' .*line 2: 'bad'"):
        imapp.load(tiny_imapp)


def test_pair_of_an_unlisted_mask(tiny_imapp):
    edit(tiny_imapp / imapp.MASKS, lambda t: t.iloc[:-1])
    with pytest.raises(DataError, match=r"1 rows of column 'mask2' .*ISIC_0000005_A00"):
        imapp.load(tiny_imapp)


def test_byte_order_mark_and_windows_line_ends(tiny_imapp):
    reference = imapp.load(tiny_imapp)
    for name in imapp.REQUIRED:
        path = tiny_imapp / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert imapp.load(tiny_imapp).fingerprint == reference.fingerprint


@pytest.mark.parametrize("ending", [".JPG", ".jpeg", ".PNG", ""])
def test_image_names_with_and_without_ending(tiny_imapp, ending):
    reference = imapp.load(tiny_imapp)
    path = tiny_imapp / imapp.PAIR_METRICS
    path.write_text(path.read_text().replace(".JPG", ending))
    assert imapp.load(tiny_imapp).fingerprint == reference.fingerprint


def test_image_of_another_size(tiny_imapp):
    Image.new("RGB", (20, 20)).save(tiny_imapp / "images" / "ISIC_0000001.jpg")
    with pytest.raises(DataError, match=r"ISIC_0000001\.jpg is 20x20, not 40x30.*images\.csv"):
        imapp.load(tiny_imapp)


@pytest.mark.parametrize(
    ("text", "geometry"),
    [("squashed to 20x20", "squashed"), ("short side resized, centre-cropped, 20x20", "cropped")],
)
def test_resized_image_listed_as_such(tiny_imapp, text, geometry):
    Image.new("RGB", (20, 20)).save(tiny_imapp / "images" / "ISIC_0000001.jpg")
    table = pd.DataFrame({"isic_id": ["ISIC_0000001"], "geometry": [text]})
    table.to_csv(tiny_imapp / "images.csv", index=False)
    images = imapp.load(tiny_imapp).images
    assert images.loc["ISIC_0000001", "geometry"] == geometry
    assert images.loc["ISIC_0000001", "width"] == 40


def test_unreadable_image(tiny_imapp):
    (tiny_imapp / "images" / "ISIC_0000001.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"ISIC_0000001\.jpg: no readable image"):
        imapp.load(tiny_imapp)


def test_published_counts(imapp_home):
    cohort = imapp.load(imapp_home / "imapp")
    multi = cohort.multi_annotator()
    assert (len(cohort.images), len(cohort.masks), len(cohort.pairs)) == (14967, 17684, 3103)
    assert (len(multi.images), len(multi.masks), len(multi.pairs)) == (2394, 5111, 3103)
    assert multi.images["patient_id"].isna().sum() == 1624
    assert multi.clusters().nunique() == 1624 + 606
    assert cohort.pairs["dice"].mean() == pytest.approx(0.7813, abs=5e-5)


def test_our_image_level_table_is_the_published_one(imapp_home):
    cohort = imapp.load(imapp_home / "imapp")
    ours, published = image_level(cohort.pairs), cohort.extras["image_level"]
    for metric in ("dice", "jaccard", "hd", "hd95", "assd"):
        for statistic in ("mean", "std"):
            theirs = published[f"{metric}_score_{statistic}"].reindex(ours.index)
            np.testing.assert_allclose(ours[f"{metric}_{statistic}"], theirs, atol=1e-9)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_tables_load_within_400_megabytes(imapp_home):
    """Peak of a whole process, imports included."""
    program = (
        "from iavlib import data; data.load('imapp');"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    environment = os.environ | {"IAV_DATA_HOME": str(imapp_home)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(run.stdout) / 1024 < 400


def test_loading_by_name(tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    assert data.available() == ["imapp", "phantom"]
    assert data.load("auto").name == "imapp"
    before = data.fingerprint("imapp")
    (tiny_imapp / "images" / "ISIC_0000001.jpg").unlink()
    assert data.fingerprint("imapp") != before


def test_nothing_here(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    assert data.available() == ["phantom"]
    with pytest.raises(DatasetUnavailable, match="iav data fetch imapp"):
        data.load("imapp")
    with pytest.raises(KeyError, match="did you mean 'imapp'"):
        data.load("imap")
