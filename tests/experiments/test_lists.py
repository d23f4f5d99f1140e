"""Lists of experiments, and what notebooks read of them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from iavlib.core.errors import ExperimentError
from iavlib.core.project import Project
from iavlib.experiments import (
    Experiment,
    current_profile,
    for_notebook,
    read_results,
    resolve,
    run,
    sweep,
)
from iavlib.experiments.config import expand, listed
from iavlib.experiments.stored import write_stored

ROOT = Path(__file__).parent.parent.parent
STEM = "03_regression"
SMALL = {"n_images": 20, "size": [64, 64]}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    made = Project(tmp_path / "clone")
    (made.profiles / "experiments").mkdir(parents=True)
    made.toc.write_text("format: jb-book\nroot: book/index\n")
    made.book.mkdir()
    made.claims.write_text("[]")
    (made.notebooks / f"{STEM}.ipynb").write_text("{}")
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.delenv("IAV_RUNS", raising=False)
    monkeypatch.chdir(made.root)
    return made


def write_list(project, content, profile="quick"):
    path = project.profiles / "experiments" / f"{profile}.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_lists_are_crossed_the_last_varying_fastest():
    entry = {
        "task": "constant",
        "backbone": ["a", "b"],
        "recipe": {"name": "smoke", "epochs": [1, 2], "select": ["mae", "min"]},
        "method": {"name": "any", "alphas": [[1, 2]]},
        "split": {"kind": "kfold", "fold": [0, 1], "stratify": ["malignancy"]},
        "seed": 3,
    }
    found = expand(entry)
    assert len(found) == 8
    crossed = [(e.backbone, e.recipe.settings["epochs"], e.split.fold) for e in found]
    assert crossed[:3] == [("a", 1, 0), ("a", 1, 1), ("a", 2, 0)]
    assert {json.dumps(e.method.settings["alphas"]) for e in found} == {"[1, 2]"}
    assert {json.dumps(e.recipe.settings["select"]) for e in found} == {'["mae", "min"]'}
    assert {e.split.stratify for e in found} == {("malignancy",)}
    fractions = expand({"task": "constant", "split": {"fractions": [0.6, 0.2, 0.2]}})
    assert fractions[0].split.fractions == (0.6, 0.2, 0.2)
    both = {"fractions": [[0.6, 0.2, 0.2], [0.7, 0.1, 0.2]]}
    assert len(expand({"task": "constant", "split": both})) == 2
    parent = {"task": "constant", "split": {"kind": "kfold", "fold": [0, 1]}, "seed": [1, 2]}
    assert len(expand({"task": "constant", "init_from": parent})) == 4


def test_a_list_in_the_form_of_version_1_is_read_with_a_warning():
    old = {"task": "multitask", "alpha": [0.1, 0.9], "start": {"task": "diagnosis"}}
    old["overrides"] = {"epochs": [1, 2], "images": "all", "head_start": "fit"}
    with pytest.warns(DeprecationWarning, match="write recipe, method, settings and init_from"):
        found = expand(old, "mine.yaml")
    assert [(e.settings.alpha, e.recipe.settings["epochs"]) for e in found][:2] == [
        (0.1, 1),
        (0.1, 2),
    ]
    assert not found[0].settings.require_agreement and found[0].settings.head_init == "fit"
    assert found[0].parent.task == "diagnosis"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "03_regresion: []",
            "no notebook '03_regresion'; did you mean '03_regression'",
        ),
        ("03_regression: {seed: 1}", "is no list"),
        ("03_regression: [{task: constant, bakbone: x}]", "entry 1: no field 'bakbone'"),
        ("03_regression: [{task: constant, seed: []}]", "entry 1: seed is an empty list"),
        ("03_regression: [{task: constant, seed: x}]", "entry 1: seed is 'x'"),
        ("03_regression: [{task: nope}]", "no task 'nope'"),
        ("- 1", "holds no mapping"),
        ("a: [", "valid YAML"),
    ],
)
def test_a_wrong_list_is_named(project, content, said):
    path = write_list(project, content)
    with pytest.raises(ExperimentError, match=said) as caught:
        listed(project, "quick")
    assert str(path) in str(caught.value) or "no task" in said


def test_committed_lists_are_good():
    project = Project(ROOT)
    files = sorted((project.profiles / "experiments").glob("*.yaml"))
    assert {path.stem for path in files} == {"smoke", "quick", "paper"}
    for path in files:
        listed(project, path.stem)


def test_a_notebook_reads_its_scale_on_its_data(project, monkeypatch, tmp_path):
    write_list(project, {STEM: [{"task": "constant", "seed": [0, 1]}]})
    found = for_notebook("quick", STEM, cohort="phantom", **SMALL)
    assert [item.seed for item in found] == [0, 1]
    assert found[0] == resolve(Experiment(task="constant", cohort="phantom", cohort_options=SMALL))
    assert for_notebook("paper", STEM) == []
    facts = tmp_path / "facts.json"
    facts.write_text('{"profile": "quick"}')
    assert (current_profile(), for_notebook(None, STEM)) == ("smoke", [])
    monkeypatch.setenv("IAV_RUN", str(facts))
    assert for_notebook(None, STEM, cohort="phantom", **SMALL) == found


def test_results_are_read_here_then_stored_then_missing(project):
    write_list(project, {STEM: [{"task": "constant", "seed": [0, 1, 2], "label": "mine"}]})
    experiments = for_notebook("quick", STEM, cohort="phantom", **SMALL)
    nothing = read_results("quick", STEM)
    assert nothing["origin"].tolist() == ["nowhere"] * 3
    assert nothing[["cohort_name", "folder"]].isna().all(axis=None)
    table = sweep(experiments[:2])
    runs = {}
    for item in experiments[:2]:
        folder = project.root / "runs" / "constant" / item.id
        facts = json.loads((folder / "metrics.json").read_text())
        facts["hardware"]["accelerators"] = ["A big one"]
        runs[item.id] = (item.to_dict(), facts, (folder / "predictions.csv").read_bytes())
    write_stored(project, "constant", runs, largest=100_000)
    shutil.rmtree(project.root / "runs" / "constant" / experiments[1].id)
    found = read_results("quick", STEM)
    assert found["origin"].tolist() == ["here", "stored", "nowhere"]
    assert found["status"].tolist() == ["finished", "finished", "missing"]
    assert found["label"].tolist() == ["mine"] * 3
    assert found["mae"][:2].tolist() == table["mae"].tolist()
    assert found["hardware"][1].startswith("A big one, ")
    assert found["finished"][1].startswith("20")
    assert found["id"].tolist() == [experiments[0].id, experiments[1].id, ""]
    assert read_results("quick", STEM, cohort="imapp")["origin"].tolist() == ["nowhere"] * 3


def test_the_latest_of_several_results_is_read(project):
    write_list(project, {STEM: [{"task": "constant"}]})
    for n_images in (20, 21):
        options = {"n_images": n_images, "size": [64, 64]}
        (item,) = for_notebook("quick", STEM, cohort="phantom", **options)
        result = run(item)
        path = result.folder / "metrics.json"
        path.write_text(json.dumps(result.facts | {"finished": f"2020-01-{n_images}"}))
    assert read_results("quick", STEM)["n_train"].tolist() == [15]
