"""``iav predict`` with a run that segments, with a useless model, and on files of other kinds."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.core import project
from iavlib.data.datasets.folder import read_listing
from iavlib.data.images import read_mask
from iavlib.experiments import Experiment, RunStore, run
from iavlib.multiannotator import load_method
from iavlib.predict.run import list_images

METHODS = {"cm": {}, "mode-labels": {}, "prob-unet": {}}


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    """A store with a run of a method that models annotators, one that does not, one that draws."""
    store = RunStore(tmp_path_factory.mktemp("segmentation") / "runs")
    made = {}
    for name, settings in METHODS.items():
        experiment = Experiment(
            task="segmentation",
            cohort="phantom",
            cohort_options={"n_images": 24, "size": [64, 48]},
            size=32,
            backbone="unet",
            method={"name": name, "widths": [4, 8], **settings},
            recipe={"name": "annotators", "epochs": 2},
        )
        made[name] = run(experiment, store)
    return store, made


def iav(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def table_of(out):
    return pd.read_csv(out / "predictions.csv").set_index("image")


@pytest.mark.parametrize("method", METHODS)
def test_masks_are_written_like_the_photographs(segmenters, folder, tmp_path, method, monkeypatch):
    store, made = segmenters
    monkeypatch.setenv("IAV_RUNS", str(store.root))
    (folder / "patient").mkdir()
    shutil.copy(folder / "first.png", folder / "patient" / "first.png")
    out, result = tmp_path / "out", made[method]
    done = iav("predict", folder, "--run", result.experiment.id, "--out", out)
    assert done.exit_code == 0, done.output
    table = table_of(out)
    assert list(table.index) == ["first.png", "second.png", "patient/first.png"]
    fitted = load_method(result.folder)
    annotators = fitted.problem.annotators if method == "cm" else ()
    places = [out / "consensus", *(out / "masks" / name for name in annotators)]
    assert sorted(p.name for p in (out / "masks").glob("*")) == sorted(annotators)
    for place in places:
        masks = {str(p.relative_to(place)): read_mask(p) for p in place.rglob("*.png")}
        assert sorted(masks) == ["first.png", "patient/first.png", "second.png"]
        assert masks["first.png"].shape == (48, 64) and masks["second.png"].shape == (64, 48)
    photograph = Image.open(folder / "first.png").convert("RGB").resize((32, 32), 3)
    expected = fitted.predict(np.array(photograph)[None])
    share = table["area_share"]["first.png"]
    assert share == pytest.approx((expected.labels > 0).mean(), abs=1e-4)
    assert read_mask(out / "consensus" / "first.png").mean() == pytest.approx(share, abs=0.05)
    assert table["predicted_dice"].notna().all() == (method != "mode-labels")
    assert table["predicted_dice"].dropna().between(0, 1).all()
    about = json.loads((out / "about.json").read_text())
    assert any("invented images" in text for text in about["warnings"])
    n = result.facts["settings"]["n_images"]["train"]
    assert any(f"learnt from {n} images" in text for text in about["facts"])
    report = (out / "report.html").read_text()
    assert "<title>consensus</title>" in report
    assert all(f"<title>{name}</title>" in report for name in annotators)


def test_predicted_annotators_can_be_measured(segmenters, folder, tmp_path):
    out = tmp_path / "out"
    assert iav("predict", folder, "--run", segmenters[1]["cm"].folder, "--out", out).exit_code == 0
    rows = read_listing(out / "masks.csv").rows
    annotators = load_method(segmenters[1]["cm"].folder).problem.annotators
    read = {(row.image_id, row.annotator) for row in rows.itertuples()}
    assert read == {(image, who) for image in ("first", "second") for who in annotators}


def test_names_that_occur_twice_are_kept_apart(segmenters, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "second.png", other / "first.png")
    out, model = tmp_path / "out", segmenters[1]["mode-labels"].folder
    files = [folder / "first.png", other / "first.png"]
    assert iav("predict", *files, "--run", model, "--out", out).exit_code == 0
    sizes = {p.name: read_mask(p).shape for p in (out / "consensus").iterdir()}
    assert sizes == {"first.png": (48, 64), "first~2.png": (64, 48)}
    again = iav("predict", *files, "--run", model, "--out", out, "--overwrite")
    assert again.exit_code == 0 and len(list((out / "consensus").iterdir())) == 2


def test_dots_belong_to_the_names_of_photographs(segmenters, folder, tmp_path):
    names = ["case.1", "case.2", "case.1.5.JPG", "Ä b.v2.png"]
    with Image.open(folder / "first.png") as image:
        for name in names:
            image.convert("RGB").save(tmp_path / name, "PNG")
    out, model = tmp_path / "out", segmenters[1]["cm"].folder
    done = iav("predict", *(tmp_path / name for name in names), "--run", model, "--out", out)
    assert done.exit_code == 0, done.output
    ids = ["case.1", "case.1.5", "case.2", "Ä b.v2"]
    assert {p.name for p in (out / "consensus").iterdir()} == {f"{name}.png" for name in ids}
    assert sorted(read_listing(out / "masks.csv").rows["image_id"].unique()) == ids


def test_a_segmentation_is_applied_alone(segmenters, runs, folder, tmp_path):
    models = ["--run", segmenters[1]["cm"].folder, "--run", runs[1]["iaa"].folder]
    done = iav("predict", folder, *models, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "applied alone" in done.output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.HEIC", b"", "HEIC files are not read"),
        ("b.dcm", b"", "DICOM files are not read"),
        ("IM0001", b"\0" * 128 + b"DICM", "DICOM files are not read"),
        ("c.nef", b"", "raw files are not read"),
    ],
)
def test_other_formats_have_a_row(folder, name, content, said):
    (folder / name).write_bytes(content)
    rows = {row.name: row for row in list_images([folder])}
    assert set(rows) == {name, "first.png", "second.png"}
    assert rows[name].path is None and rows[name].problem == said and "JPEG" in rows[name].hint
    (named,) = list_images([folder / name])
    assert (named.problem, named.path) == (said, None)


def test_what_is_no_photograph_has_no_row(folder):
    for name in ("first_superpixels.png", "._first.png", "Thumbs.db", "README", "notes.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "first.png", folder / "__MACOSX" / "first.png")
    assert [row.name for row in list_images([folder])] == ["first.png", "second.png"]
    assert [row.name for row in list_images([folder], exclude=[folder / "first.png"])] == [
        "second.png"
    ]


@pytest.mark.parametrize("useless", [True, False])
def test_a_model_worse_than_a_constant_is_called_that(runs, folder, tmp_path, useless):
    copied = tmp_path / "runs" / "iaa" / runs[1]["iaa"].folder.name
    shutil.copytree(runs[1]["iaa"].folder, copied)
    table = pd.read_csv(copied / "predictions.csv")
    shift = 0.3 if useless else 0.01
    table["predicted"] = (table["true"] - shift).clip(0, 1)
    table.to_csv(copied / "predictions.csv", index=False)
    out = tmp_path / "out"
    done = iav("predict", folder, "--model", copied, "--alpha", 0.2, "--out", out)
    assert done.exit_code == 0, done.output
    report = (out / "report.html").read_text()
    assert ("worse than one constant for all images would (r² −" in report) == useless
    assert "Predicted Dice (80% interval)" in report


def test_too_few_images_name_the_option(runs, folder, tmp_path):
    model = runs[1]["iaa"].folder
    done = iav("predict", folder, "--model", model, "--alpha", 0.001, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "--alpha" in done.output


@pytest.mark.parametrize("command", [["runs"], ["runs", "gc"], ["runs", "show", "abc"]])
def test_runs_need_no_project(tmp_path, monkeypatch, command):
    monkeypatch.delenv("IAV_RUNS", raising=False)
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.setattr(project, "_CLONE", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    done = iav(*command)
    assert str(tmp_path / "runs") in done.output.replace("\n", "") or "0 removed" in done.output
    assert iav("claims").exit_code == 2 and "is in no project" in iav("claims").output
    monkeypatch.setenv("IAV_PROJECT", str(tmp_path))
    assert "is not a project" in iav("runs").output
