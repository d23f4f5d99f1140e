"""Methods, tasks, datasets and backbones of one's own: found outside the package, and in the id."""

import importlib
import json
import os
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from iavlib import data
from iavlib.cli.main import app
from iavlib.core import plugins
from iavlib.core.errors import ExperimentError, PluginError
from iavlib.data import catalogue
from iavlib.experiments import TASKS, Experiment, RunStore, resolve, run, run_table
from iavlib.multiannotator import METHODS, methods

METHOD = """
from torch import nn
from iavlib.multiannotator import Method, Outputs, register
from iavlib.multiannotator.losses import label_likelihood
from helping import bias


@register("plain", "Plain")
class Plain(Method):
    defaults = {"width": 4}

    def build(self, problem):
        return nn.Conv2d(problem.channels, problem.n_classes, 1)

    def loss(self, network, batch, epoch, stage):
        maps = network(batch["images"]).softmax(1)[:, None]
        maps = maps.expand(-1, batch["labels"].shape[1], -1, -1, -1)
        losses, given = label_likelihood(maps, batch["labels"])
        return losses.sum() / given.sum() + bias()

    def outputs(self, network, images, generator, n_samples):
        return Outputs(network(images).softmax(1))
"""
HELPING = "from deeper.still import VALUE\n\n\ndef bias():\n    return VALUE\n"
TASK = """
from iavlib.experiments import TASKS, Outcome, Task
from iavlib.experiments.tasks import assign_subsets


def targets(cohort):
    return cohort.pairs.groupby("image_id")[["dice"]].mean().set_axis(["target"], axis=1)


def run(experiment, cohort, folder, log):
    table = targets(cohort)
    table["subset"] = assign_subsets(cohort.select(table.index), experiment)
    table["predicted"] = 0.5
    rows = table.rename(columns={"target": "true"}).reset_index()
    return Outcome(rows, {"test": {"mae": 0.5}}, weights={"source": "none", "is_random": False})


TASKS["half"] = Task("half", targets, run)
"""
DATASET = """
from dataclasses import replace
from iavlib.data import Dataset, register_dataset
from iavlib.data.datasets import phantom


def load():
    return replace(phantom.load(n_images=12, size=(48, 48)), name="invented")


register_dataset(Dataset("invented", load, "Invented", "CC-0", "none", "made"))
"""
BACKBONE = """
import timm
from timm.models import register_model


@register_model
def own_resnet(pretrained=False, **options):
    return timm.create_model("test_resnet", pretrained=pretrained, **options)
"""
SMALL = {"cohort": "phantom", "cohort_options": {"n_images": 24, "size": [48, 48]}}
SEGMENTATION = SMALL | {
    **{"task": "segmentation", "size": 16, "backbone": "unet", "method": "plain"},
    "recipe": {"name": "annotators", "epochs": 1},
}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch, tmp_path):
    """Forget what a test registers and imports."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_digests", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for registry in (TASKS, METHODS._entries, catalogue._registered):
        for name in ("half", "plain", "invented"):
            registry.pop(name, None)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def own(tmp_path):
    """Write a method that uses two other files, below the folder `mine`."""
    folder = tmp_path / "mine"
    (folder / "deeper").mkdir(parents=True)
    (folder / "plain_method.py").write_text(METHOD)
    (folder / "helping.py").write_text(HELPING)
    (folder / "deeper" / "__init__.py").write_text("")
    (folder / "deeper" / "still.py").write_text("VALUE = 0.0\n")
    (folder / "unused.py").write_text("")
    return folder


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "runs"))
    return RunStore()


def specified(folder, **fields):
    return Experiment(**{**SEGMENTATION, "plugins": [str(folder / "plain_method.py")], **fields})


def test_a_method_in_a_file_is_trained(own, store):
    result = run(specified(own), store)
    assert 0 < result.metrics["dice"] < 1
    assert len(result.experiment.code) == 12
    again = store.read_spec(result.folder)
    assert again.id == result.experiment.id and again.plugins == (str(own / "plain_method.py"),)


@pytest.mark.parametrize("file", ["plain_method.py", "helping.py", "deeper/still.py"])
def test_an_edited_method_is_another_experiment(own, store, file):
    first = run(specified(own), store)
    path = own / file
    path.write_text(path.read_text().replace("VALUE = 0.0", "VALUE = 7.0") + "# edited\n")
    second = run(specified(own), store)
    assert second.experiment.id != first.experiment.id
    more = second.history["train_loss"][0] - first.history["train_loss"][0]
    assert more == pytest.approx(7.0 if file == "deeper/still.py" else 0.0, abs=1e-5)


@pytest.mark.parametrize("change", ["moved", "unused", "line ends"])
def test_what_does_not_matter_changes_no_id(own, store, change, tmp_path):
    first = resolve(specified(own), store=store)
    if change == "moved":
        sys.modules.pop("plain_method"), sys.modules.pop("helping")
        own = own.rename(tmp_path / "elsewhere")
    elif change == "unused":
        (own / "unused.py").write_text("1")
    else:
        (own / "helping.py").write_bytes(HELPING.replace("\n", "\r\n").encode())
    assert resolve(specified(own), store=store).id == first.id


def test_methods_of_the_package_have_no_code_in_their_id(store):
    fixed = resolve(Experiment(**SEGMENTATION | {"method": "mode-labels"}), store=store)
    assert fixed.code == "" and '"code"' not in fixed.canonical


def test_a_changed_method_of_the_package_is_noticed(store, monkeypatch):
    fields = SEGMENTATION | {"method": {"name": "mode-labels", "widths": [4, 8]}}
    run(Experiment(**fields), store)
    lines = []
    run(Experiment(**fields), store, log=lines.append)
    assert not lines
    monkeypatch.setattr("iavlib.experiments.store.source_digest", lambda item: "changed")
    run(Experiment(**fields), store, log=lines.append)
    assert len(lines) == 1 and "method mode-labels has changed" in lines[0]
    assert "--force" in lines[0]


@pytest.mark.parametrize("how", ["file", "module", "environment", "environment module"])
def test_plugins_are_named_in_several_ways(own, store, how, monkeypatch):
    monkeypatch.syspath_prepend(own)
    name = "plain_method" if "module" in how else str(own / "plain_method.py")
    fields = SEGMENTATION
    if how.startswith("environment"):
        monkeypatch.setenv("IAV_PLUGINS", os.pathsep.join([str(own / "unused.py"), name]))
    else:
        fields = fields | {"plugins": name}
    assert len(resolve(Experiment(**fields), store=store).code) == 12
    assert "plain" in METHODS


def test_an_entry_point_counts_by_its_code(own, store, monkeypatch):
    monkeypatch.syspath_prepend(own)
    point = SimpleNamespace(load=lambda: importlib.import_module("plain_method"))
    monkeypatch.setattr(methods, "outside", {"iavlib.methods": {"plain": point}}.get)
    assert len(resolve(Experiment(**SEGMENTATION), store=store).code) == 12


def test_a_task_in_a_file(tmp_path, store):
    (tmp_path / "half_task.py").write_text(TASK)
    experiment = Experiment(task="half", weights="none", plugins="half_task.py", **SMALL)
    first = run(experiment, store)
    assert first.metrics["mae"] == 0.5
    (tmp_path / "half_task.py").write_text(TASK.replace("0.5", "0.25"))
    assert run(experiment, store).metrics["mae"] == 0.25


def test_a_dataset_in_a_file(tmp_path, monkeypatch, store):
    (tmp_path / "invented_data.py").write_text(DATASET)
    monkeypatch.setenv("IAV_PLUGINS", "invented_data.py")
    assert "invented" in data.dataset_names()
    assert len(data.load("invented").images) == 12
    monkeypatch.delenv("IAV_PLUGINS")
    experiment = Experiment(cohort="invented", plugins=["invented_data.py"], weights="none")
    assert resolve(experiment, store=store).cohort == "invented"


def test_a_backbone_in_a_file(tmp_path, store):
    (tmp_path / "own_backbone.py").write_text(BACKBONE)
    experiment = Experiment(
        backbone="own_resnet", weights="none", plugins=["own_backbone.py"], size=32, **SMALL
    )
    first = resolve(experiment, store=store)
    (tmp_path / "own_backbone.py").write_text(BACKBONE + "# other\n")
    assert first.code and resolve(experiment, store=store).id != first.id


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "there is no such file"),
        ("broken.py", "def :\n", "cannot be imported .SyntaxError"),
        ("failing.py", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("statistics.py", "", "another module is called 'statistics'.*rename"),
        ("no_such_module", None, "ModuleNotFoundError"),
    ],
)
def test_plugins_that_cannot_be_imported(tmp_path, store, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(PluginError, match=message):
        resolve(Experiment(**SEGMENTATION, plugins=[name]), store=store)
    assert "failing" not in sys.modules


def test_plugins_are_texts():
    with pytest.raises(ExperimentError, match="plugins"):
        Experiment(plugins=[1])


IN_YAML = SEGMENTATION | {"cohort_options": {"n_images": 24, "size": [[48, 48]]}}


def iav(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_finds_a_plugin_beside_the_specification(own, store):
    spec = own / "mine.yaml"
    spec.write_text(yaml.safe_dump(IN_YAML | {"plugins": ["plain_method.py"], "seed": [0, 1]}))
    done = iav("train", spec)
    assert done.exit_code == 0, done.output
    assert sorted(run_table(store)["seed"]) == [0, 1]
    assert set(run_table(store)["method"]) == {"plain"}


def test_methods_are_listed_with_their_score_and_compared_by_dice(own, store):
    ids = []
    for method in ("plain", {"name": "mode-labels", "widths": [4, 8]}):
        ids.append(run(specified(own, method=method), store).experiment.id)
    lines = iav("runs").output.splitlines()
    assert lines[0].split() == [
        "id",
        *["task", "status", "cohort", "method", "backbone", "weights"],
        *(["recipe", "seed", "score", "seconds"]),
    ]
    assert sum(" plain " in line and " dice 0." in line for line in lines) == 1
    output = iav("runs", "--compare", *ids).output
    found = re.search(
        r"dice on the (\d+) test images of both: first minus second (\S+) \(95 %", output
    )
    assert "absolute error" not in output and int(found[1]) > 3
    scores = [row["dice"] for row in json.loads(iav("runs", "--json").output)]
    order = [row["id"] for row in json.loads(iav("runs", "--json").output)]
    gap = scores[order.index(ids[0])] - scores[order.index(ids[1])]
    assert float(found[2]) == pytest.approx(gap, abs=1e-4)
    other = run(
        Experiment(
            **SMALL,
            weights="none",
            backbone="test_resnet",
            size=32,
            recipe={"name": "smoke", "epochs": 1},
        ),
        store,
    )
    mixed = iav("runs", "--compare", ids[0], other.experiment.id)
    assert mixed.exit_code == 0 and "first minus second" not in mixed.output


def test_force_trains_again(own, store):
    spec = own / "mine.yaml"
    spec.write_text(yaml.safe_dump(IN_YAML | {"plugins": ["plain_method.py"]}))
    assert iav("train", spec).exit_code == 0
    (folder,) = store.finished()
    (folder / "history.csv").write_text("of the first\n")
    assert iav("train", spec).exit_code == 0
    assert (folder / "history.csv").read_text() == "of the first\n"
    done = iav("train", spec, "--force")
    assert done.exit_code == 0 and store.finished() == [folder], done.output
    assert "train_loss" in (folder / "history.csv").read_text()


def test_runs_of_a_task_of_ones_own_are_listed_where_it_is_not_known(tmp_path, store):
    (tmp_path / "half_task.py").write_text(TASK)
    experiment = Experiment(task="half", weights="none", plugins="half_task.py", **SMALL)
    done = run(experiment, store)
    other = store.root / "backup" / done.folder.name
    shutil.copytree(done.folder, other)
    del TASKS["half"]
    plugins._loaded.clear(), sys.modules.pop("half_task")
    assert store.folders() == [done.folder] == [store.find(done.folder.name[:6])]
    assert list(run_table(store)["status"]) == ["finished"]
    del TASKS["half"]
    (tmp_path / "half_task.py").unlink()
    (row,) = run_table(store).to_dict("records")
    assert row["status"] == "damaged" and "half_task.py: there is no such file" in row["reason"]


def test_runs_are_listed_though_the_plugin_is_gone(own, store):
    run(specified(own), store)
    (own / "plain_method.py").unlink()
    assert list(run_table(store)["status"]) == ["finished"]


def test_a_method_of_a_notebook_counts_by_its_own_source(tmp_path):
    text = METHOD.replace("from helping import bias", "").replace(" + bias()", "")

    def digest(name, text):
        (tmp_path / name).write_text(text)
        code = compile(text, tmp_path / name, "exec")
        names = {"__name__": "__main__"}
        exec(code, names)
        return plugins.code_digest(names["Plain"])

    first = digest("a.py", text)
    assert len(first) == 12 and digest("b.py", "x = 1\n" + text) == first
    assert digest("c.py", text.replace('width": 4', 'width": 5')) != first
    assert digest("d.py", text.replace("given.sum()", "given.sum() * 2")) != first


def test_neighbours_of_installed_modules_do_not_count(tmp_path):
    place = tmp_path / "site-packages"
    (place / "pack").mkdir(parents=True)
    for name in ("alone.py", "other.py", "pack/__init__.py", "pack/a.py", "pack/b.py"):
        (place / name).write_text("import other\nfrom . import b\nimport pack.a\nimport iavlib\n")
    assert set(plugins.source_files(place / "alone.py").values()) == {"alone.py"}
    found = set(plugins.source_files(place / "pack" / "a.py").values())
    assert found == {"pack/__init__.py", "pack/a.py", "pack/b.py"}
