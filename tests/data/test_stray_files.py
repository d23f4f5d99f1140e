"""Files that systems leave beside the images, and other spellings of names, change nothing."""

import shutil

import diagnosed_layouts as layouts
import pytest

from iavlib import data
from iavlib.core.errors import DataError
from iavlib.core.files import walk_files
from iavlib.data.catalogue import status
from iavlib.data.exports import list_files
from iavlib.data.images import image_paths

NAMES = ("isic2017", "isic2018", "isic2019", "derm7pt", "ph2")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    return tmp_path


def litter(folder):
    """Leave what macOS, Windows and network drives do in every folder."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        files = [path for path in place.iterdir() if path.is_file()]
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", *(f"._{p.name}" for p in files)):
            (place / name).write_bytes(b"Mac OS X")
        for hidden in ("__MACOSX", "@eaDir", ".git"):
            (place / hidden).mkdir()
            for path in files:
                (place / hidden / path.name).write_bytes(b"no image")


def load(name, **options):
    return data.load(name, overlap="keep", **options)


@pytest.mark.parametrize("name", NAMES)
def test_hidden_files_change_nothing(home, name):
    folder = getattr(layouts, name)(home / name)
    cohort, listed = load(name), data.fingerprint(name)
    before = {row.name: row.counts for row in status()}[name]
    litter(folder)
    assert load(name).fingerprint == cohort.fingerprint
    assert data.fingerprint(name) == listed
    assert {row.name: row.counts for row in status()}[name] == before


def test_hidden_files_are_no_images(tmp_path):
    layouts.simple_ph2(tmp_path)
    layouts.picture(tmp_path / "images" / "IMD003_superpixels.png")
    names = [path.name for path in image_paths(tmp_path / "images")]
    below, files = image_paths(tmp_path, below=True), list(walk_files(tmp_path))
    exported = list_files(tmp_path)
    litter(tmp_path)
    assert [path.name for path in image_paths(tmp_path / "images")] == names
    assert names == ["IMD003.jpg", "IMD009.jpg", "IMD058.jpg"]
    assert image_paths(tmp_path, below=True) == below and len(below) == 6
    assert list(walk_files(tmp_path)) == files and len(files) == 8
    assert list_files(tmp_path) == exported
    assert list(walk_files(tmp_path / "absent")) == image_paths(tmp_path / "absent", True) == []


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".tif"])
def test_what_loads_is_counted(home, suffix):
    folder = layouts.isic2018(home / "isic2018")
    for path in (folder / "ISIC2018_Task3_Test_Input").glob("*.jpg"):
        path.rename(path.with_suffix(suffix))
    assert load("isic2018").images["path"].str.endswith(suffix).sum() == 7
    counts = {row.name: row.counts for row in status()}["isic2018"]
    assert counts["ISIC2018_Task3_Test_Input/*.jpg"] == (7, 1512)


def test_superpixels_are_not_counted(home):
    layouts.isic2017(home / "isic2017")
    counts = {row.name: row.counts for row in status()}["isic2017"]
    assert counts["ISIC-2017_Training_Data/*.jpg"] == (8, 2000)
    assert counts["ISIC-2017_Training_Part1_GroundTruth/*.png"] == (8, 2000)


@pytest.mark.parametrize("which", ["all", "images", "tables"])
def test_the_test_split_of_isic_2017_has_two_names(home, which):
    expected = load("isic2017") if layouts.isic2017(home / "isic2017") else None
    folder = home / "isic2017"
    found = sorted(folder.rglob("*_v2_*"), key=lambda path: -len(path.parts))
    for path in found:
        if which == "all" or (path.suffix == ".csv") == (which == "tables"):
            path.rename(path.with_name(path.name.replace("_v2_", "_")))
    cohort = load("isic2017")
    assert list(cohort.images["subset"]) == list(expected.images["subset"])
    assert list(cohort.images["age"].dropna()) == list(expected.images["age"].dropna())
    assert len(cohort.masks) == len(expected.masks) == 18
    counts = {row.name: row.counts for row in status()}["isic2017"]
    assert [have for have, _ in counts.values()] == [1, 8, 1, 4, 1, 6, 8, 4, 6]


@pytest.mark.parametrize("name", ["isic2018", "isic2019"])
def test_a_split_without_labels_is_left_out_where_that_is_accepted(home, name):
    folder = getattr(layouts, name)(home / name)
    whole = load(name)
    for path in list(folder.glob("*Test_GroundTruth*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=r"images without label: .*incomplete=True to"):
        load(name)
    kept = load(name, incomplete=True)
    assert list(kept.images.index) == list(whole.images.query("subset != 'test'").index)
