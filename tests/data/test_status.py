"""What ``iav data status`` says of a data home."""

import json

import pytest
from typer.testing import CliRunner

from iavlib.cli.main import data_app as app
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.catalogue import (
    Dataset,
    Layout,
    available,
    choose,
    dataset_names,
    find_dataset,
    load,
    status,
)
from iavlib.data.datasets.imapp import IMAPP_TABLES

SHOWN = ("imapp", "phantom", "folder")


def test_partial_home(tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    folder, imapp, phantom = (row for row in status() if row.name in SHOWN)
    assert (imapp.state, imapp.usable, phantom.state) == ("partial", True, "built in")
    assert (folder.state, folder.usable) == ("by path", False)
    assert imapp.counts["images/*"] == (1, 14967)
    assert imapp.counts["masks/*"] == (0, 22472)
    assert imapp.bytes == sum(p.stat().st_size for p in tiny_imapp.rglob("*") if p.is_file())
    assert sum("differs from the published" in note for note in imapp.notes) == 3


def test_absent_home_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    output = CliRunner().invoke(app, ["status"]).output
    assert "imapp: absent, not usable" in output
    assert "iav data fetch imapp" in output
    assert "folder: by path - your own masks" in output
    assert str(tmp_path) in output.replace("\n", "")


def test_json(tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    rows = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert {row["name"] for row in rows} == set(dataset_names())
    assert {"state", "counts", "bytes", "licence", "citation", "how"} <= set(rows[0])


def test_published_tables_are_recognised(imapp_home, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(imapp_home))
    imapp = next(row for row in status() if row.name == "imapp")
    assert imapp.usable
    assert not imapp.notes
    assert all(imapp.counts[table] == (1, 1) for table in IMAPP_TABLES)


def test_what_looks_at_images_takes_imapp_only_where_images_are(tiny_imapp, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    assert choose("auto")[0] == choose("auto-images")[0] == "imapp"
    for path in (tiny_imapp / "images").glob("*.jpg"):
        path.rename(path.with_suffix(".away"))
    assert choose("auto")[0] == "imapp"
    assert choose("auto-images")[0] == "phantom"
    assert choose("auto-images", path="mine")[0] == "folder"


OWN = [name for name in dataset_names() if find_dataset(name).files and name != "folder"]


def an_empty_folder(folder):
    folder.mkdir()


def unrelated_files(folder):
    (folder / "sub" / "images").mkdir(parents=True)
    for name in ("notes.txt", "sub/lesion.jpg", "sub/images/lesion.png", "volume.nii.gz"):
        (folder / name).touch()


def a_file_in_its_place(folder):
    folder.touch()


def empty_folders_in_place_of_files(folder):
    layout = find_dataset(folder.name).layout(folder)
    for name in (*layout.files, *layout.required):
        (folder / name.replace("*", "x")).mkdir(parents=True, exist_ok=True)


def only_what_is_hidden(folder):
    for name in find_dataset(folder.name).files:
        path = folder / name.replace("*", "x")
        path = path.with_name(f".{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "made",
    [
        an_empty_folder,
        unrelated_files,
        a_file_in_its_place,
        empty_folders_in_place_of_files,
        only_what_is_hidden,
    ],
)
def test_what_holds_no_file_of_a_dataset_is_absent(tmp_path, monkeypatch, name, made):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    made(tmp_path / name)
    row = next(row for row in status() if row.name == name)
    assert (row.state, row.usable) == ("absent", False)
    assert name not in available()
    with pytest.raises((DatasetUnavailable, DataError)):
        load(name)


def test_a_folder_of_hidden_files_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    layout = Layout({"a/*.png": 2}, ("a",))
    own = Dataset("own", load, "", "", "", "", lambda folder: layout)
    file = tmp_path / "own" / "a" / ".DS_Store"
    file.parent.mkdir(parents=True)
    file.touch()
    assert own.missing == [file.parent]
    file.with_name("notes.txt").touch()
    assert own.missing == []


def test_a_dataset_of_unknown_size_is_present_where_its_reader_has_what_it_needs(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    case = tmp_path / "qubiq" / "prostate" / "Training" / "case01"
    case.mkdir(parents=True)
    found = []
    for name in ("image.nii.gz", "task01_seg01.nii.gz"):
        (case / name).touch()
        row = next(row for row in status() if row.name == "qubiq")
        found.append((row.state, row.usable))
    assert found == [("partial", False), ("present", True)]
