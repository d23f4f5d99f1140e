"""A new dataset is one file, also outside of iavlib: loadable, listed, and usable for diagnosis."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from iavlib import data
from iavlib.cli.main import data_app as app
from iavlib.data import catalogue, official_split

MODULE = '''
"""A dataset of diagnosis in one file: images and labels.csv in its folder of the data home."""

from iavlib.data import Dataset, Layout, register_dataset
from iavlib.data.labels import Label, build, image_files, match, meaning
from iavlib.data.schemas import read_csv

LABELS = {"melanoma": Label(1, "malignant"), "nevus": Label(0, "benign")}


def load():
    table = read_csv(DATASET.folder / "labels.csv", "put it there").set_index("image_id")
    files = image_files(DATASET.folder / "images")
    images = meaning(table["diagnosis"], LABELS, "labels.csv", "diagnosis").assign(
        path=match(table.index, files, DATASET.folder / "labels.csv", DATASET.folder, False),
        diagnosis=table["diagnosis"],
    )
    return build(DATASET, images, DATASET.folder)


DATASET = register_dataset(
    Dataset(
        name="tiny",
        load=load,
        title="Tiny",
        licence="CC-0",
        citation="nobody",
        how="draw it",
        layout=lambda folder: Layout({"labels.csv": 1, "images/*": 24}, ("labels.csv",)),
        diagnosed=True,
        passes=2,
        class_weights=(0.6, 2.0),
    )
)
'''


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Write the module and its files; return its name."""
    folder = tmp_path / "home" / "tiny"
    (folder / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), ["image_id,diagnosis"]
    for n in range(24):
        pixels = rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"t{n:02d}.png")
        rows.append(f"t{n:02d},{'melanoma' if n % 3 == 0 else 'nevus'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "tiny_dataset.py").write_text(MODULE)
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(catalogue, "_registered", dict(catalogue._registered))
    monkeypatch.delitem(sys.modules, "tiny_dataset", raising=False)
    return "tiny_dataset"


def check_everywhere():
    cohort = data.load("tiny")
    assert (cohort.name, len(cohort.images), cohort.licence) == ("tiny", 24, "CC-0")
    assert data.target(cohort).sum() == 8
    assert "tiny" in data.available()
    assert "tiny" in data.diagnosed()
    assert len(data.fingerprint("tiny")) == 12
    rows = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    row = next(row for row in rows if row["name"] == "tiny")
    assert (row["state"], row["counts"]["images/*"]) == ("present", [24, 24])
    assert set(official_split(cohort).assignment) == {"train", "val", "test"}


def test_registered(tiny):
    importlib.import_module(tiny)
    check_everywhere()


def test_by_entry_point(tiny, monkeypatch):
    own = SimpleNamespace(name="tiny", load=lambda: importlib.import_module(tiny).DATASET)
    found = {"iavlib.datasets": {"tiny": own}}
    monkeypatch.setattr(catalogue, "outside", lambda group: found.get(group, {}))
    check_everywhere()


def test_the_task_of_diagnosis_knows_what_was_published(tiny):
    from iavlib.experiments.tasks.image import published_facts

    importlib.import_module(tiny)
    assert published_facts("tiny", "passes") == 2
    assert published_facts("tiny", "class_weights") == (0.6, 2.0)
    assert published_facts("phantom", "passes") is None


@pytest.mark.thorough
def test_the_task_of_diagnosis_trains_on_it(tiny, tmp_path):
    from iavlib.experiments import Experiment, RunStore, run

    importlib.import_module(tiny)
    fields = {"task": "diagnosis", "cohort": "tiny", "split": {"kind": "official"}}
    fields |= {"backbone": "test_resnet", "size": 32, "recipe": "smoke"}
    result = run(Experiment(**fields), RunStore(tmp_path / "runs"))
    assert len(result.predictions) == 24


def test_an_unknown_name_lists_it(tiny):
    importlib.import_module(tiny)
    with pytest.raises(KeyError, match="did you mean 'tiny'"):
        data.load("tinny")
