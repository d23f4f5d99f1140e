"""Ids: the same for the same experiment however it is written, another for any other."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from iavlib.core.errors import ExperimentError
from iavlib.core.project import Project
from iavlib.experiments import Experiment, experiment_schema, resolve
from iavlib.experiments.config import expand, from_mapping, from_version_1, listed, to_version_1
from iavlib.experiments.store import read_json
from iavlib.experiments.stored import stored_runs

PROJECT = Project(Path(__file__).parent.parent.parent)
FIXED = {"data": "d", "cohort": "imapp", "weights": "hub"}
CHANGES = {
    "task": "diagnosis",
    "cohort": "phantom",
    "data": "e",
    "files": "f",
    "code": "c",
    "backbone": "vgg16",
    "weights": "none",
    "recipe": "probe",
    "settings": {"quantiles": 3},
    "size": 64,
    "split": {"kind": "kfold"},
    "seed": 1,
    "train_share": 0.5,
    "method": "cm",
    "init_from": FIXED,
    "version": 2,
}


def test_every_field_changes_the_id_but_label_and_place():
    specs = [Experiment(**FIXED)] + [
        Experiment(**FIXED | {name: value}) for name, value in CHANGES.items()
    ]
    assert len({spec.id for spec in specs}) == len(specs)
    elsewhere = {"cohort_options": {"path": "/elsewhere"}, "plugins": ["mine.py"]}
    same = Experiment(**FIXED, label="mine", **elsewhere)
    assert same.id == specs[0].id
    assert set(CHANGES) | {"label", *elsewhere} == set(Experiment().to_dict())


def test_a_method_that_came_to_mean_something_else_has_another_id():
    fields = FIXED | {"task": "segmentation", "method": {"name": "cm-no-trace", "rank": 1}}
    now, before = Experiment(**fields), Experiment(**fields, version=1)
    assert (now.version, before.version) == (2, 1) and now.id != before.id
    assert not before.matches(now)
    assert Experiment(**fields | {"method": "cm"}).version == 1
    # one that is stored is read as what it was
    assert from_mapping(to_version_1(before)).id == before.id


def test_the_order_and_the_spelling_of_values_change_nothing():
    items = {"lr": 0.0001, "momentum": 1.0, "nesterov": True, "select": ["mae", "min"]}
    ids = set()
    for order in itertools.permutations(items):
        recipe = {"name": "paper"} | {name: items[name] for name in order}
        ids.add(Experiment(**FIXED, recipe=recipe).id)
    loose = {"lr": "1e-4", "momentum": np.int64(1), "nesterov": True, "select": ("mae", "min")}
    recipe = {"name": "paper"} | loose
    ids.add(Experiment(**FIXED, recipe=recipe, train_share=1, seed=np.int32(0)).id)
    assert len(ids) == 1
    half = {"fold": 2, "kind": "kfold"}
    full = {"kind": "kfold", "folds": 5, "fold": 2, "val": 0.125, "seed": 0, "group": "patient"}
    full["stratify"] = ["dice_range", "malignancy", "n_masks"]
    assert Experiment(**FIXED, split=half).id == Experiment(**FIXED, split=full).id


def test_ids_are_for_ever():
    """Stored results are found by their ids: a change here loses them."""
    assert Experiment(**FIXED).id == "158274bc4e07"
    recipe = {"name": "paper", "lr": 0.1}
    assert Experiment(**FIXED, split={"kind": "kfold"}, recipe=recipe).id == "40416114da3b"


@pytest.mark.parametrize("run", stored_runs(PROJECT), ids=lambda run: run.name)
def test_stored_runs_keep_their_ids(run):
    values = read_json(run / "spec.json")
    experiment = from_mapping(values, run)
    assert experiment.id == run.name
    again = from_mapping(json.loads(json.dumps(experiment.to_dict())))
    assert (again, again.id) == (experiment, experiment.id)
    version_1 = to_version_1(experiment)
    assert from_mapping(version_1) == experiment
    if "overrides" in values:
        assert json.loads(json.dumps(version_1)) == {"start": {}, "method": ""} | values


def test_committed_lists_are_in_the_present_form(recwarn):
    n = {profile: sum(map(len, listed(PROJECT, profile).values())) for profile in PROFILES}
    assert n["paper"] == 1528, "stored results answer these; pages choose the others"
    assert not [warning for warning in recwarn if warning.category is DeprecationWarning]


def test_examples_in_the_book_are_valid(tmp_path, monkeypatch):
    (tmp_path / "my_method.py").write_text("")  # which one example names
    monkeypatch.chdir(tmp_path)
    page = (PROJECT.book / "experiments.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(blocks) >= 6
    for block in blocks:
        for entry in [block] if "cohort" in block else [e for es in block.values() for e in es]:
            assert expand(entry)


#: Experiments per profile.
PROFILES = ("smoke", "quick", "paper")


def test_what_is_written_is_read_again():
    recipe = {"name": "finetune", "lr": 1e-4}
    first = Experiment(**FIXED, recipe=recipe, train_share=0.5, label="x")
    again = from_mapping(json.loads(json.dumps(first.to_dict())))
    assert (again, again.id, again.label) == (first, first.id, "x")
    assert len({first, again}) == 1
    assert eval(repr(first)) == first
    assert "recipe={'name': 'finetune', 'lr': 0.0001}" in repr(first)
    parent = {"task": "multitask", "settings": {"alpha": 0.5}, "backbone": "resnet18", "seed": 3}
    tuned = Experiment(task="diagnosis", backbone="vgg16", split={"kind": "kfold", "fold": 1})
    tuned = tuned.replace(init_from=parent, label="tuned")
    assert eval(repr(tuned)) == tuned
    assert "split={'kind': 'kfold', 'fold': 1}, backbone='vgg16'" in repr(tuned)


def test_version_1_is_read_with_a_warning():
    old = {"task": "multitask", "alpha": 0.5, "overrides": {"epochs": 3, "indeterminate": "out"}}
    with pytest.warns(DeprecationWarning, match="overrides, alpha and start"):
        experiment = Experiment(**old, start={"task": "diagnosis", "overrides": {"tta": 2}})
    assert experiment.recipe.settings == {"epochs": 3}
    assert experiment.settings.given() == {"alpha": 0.5, "indeterminate": "drop"}
    assert experiment.parent.settings.tta == 2
    assert from_version_1(experiment.to_dict()) == experiment.to_dict()
    with pytest.raises(ExperimentError, match=r"overrides.epoch: is no setting.*'epochs'"):
        from_mapping({"overrides": {"epoch": 1}}, "mine.yaml")


def test_the_schema_knows_the_settings_of_every_task():
    schema = json.loads(json.dumps(experiment_schema()))["$defs"]["Experiment"]
    named = {branch["if"]["properties"]["task"]["const"] for branch in schema["allOf"]}
    assert {"iaa", "multitask", "segmentation", "explain"} <= named
    assert "epochs" in schema["properties"]["recipe"]["anyOf"][1]["properties"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sede": 1}, "no field 'sede'; did you mean 'seed'"),
        ({"seed": 1.5}, "seed is 1.5, it should be a valid integer"),
        ({"seed": True}, "seed is True, it should not be true or false"),
        ({"seed": -1}, "seed is -1, it should be greater than or equal to 0"),
        ({"train_share": 0}, "train_share is 0, it should be greater than 0"),
        ({"size": 0}, "size is 0, it should be greater than 0"),
        ({"backbone": 18}, "backbone is 18, it should be a valid string"),
        ({"recipe": {"name": "papr"}}, "did you mean 'paper'"),
        ({"recipe": {"name": "paper", "epoch": 1}}, "did you mean 'epochs'"),
        ({"recipe": {"name": "paper", "lr": float("nan")}}, r"recipe.lr = nan: is not finite"),
        ({"settings": {"tt": 1}}, "settings: no field 'tt'; did you mean 'tta'"),
        ({"settings": object}, "is no text, number, list or mapping"),
        ({"overrides": "lr"}, "overrides = 'lr': must be a mapping"),
        ({"split": {"kind": "kfolds"}}, "no kind 'kfolds'; did you mean 'kfold'"),
        ({"split": {"fold": 1}}, "split: no field 'fold'"),
        ({"split": {"kind": "kfold", "fold": 5}}, "fold is 5, it should be 0 to folds - 1"),
        ([1], "is not a mapping"),
    ],
)
def test_what_does_not_fit_is_named(values, said):
    with pytest.raises(ExperimentError, match=said):
        from_mapping(values, "mine.yaml")


def test_an_open_experiment_has_no_id():
    with pytest.raises(ExperimentError, match="its data and weights are open"):
        _ = Experiment().id


def test_resolving_fixes_data_and_weights(make):
    fixed = resolve(make())
    assert fixed.is_resolved
    assert (fixed.cohort, fixed.weights, fixed.files) == ("phantom", "none", "")
    assert resolve(fixed) == fixed
    other = resolve(make(cohort_options={"n_images": 21, "size": [64, 64]}))
    assert other.data != fixed.data
    assert other.id != fixed.id


def test_an_experiment_on_other_data_is_refused(make):
    fixed = resolve(make())
    with pytest.raises(ExperimentError, match="its data have the fingerprint"):
        resolve(fixed.replace(data="123"))
    with pytest.raises(ExperimentError, match="no cohort 'phantm'"):
        resolve(make(cohort="phantm"))
    with pytest.raises(ExperimentError, match=r"no task 'constnt'; did you mean"):
        resolve(make(task="constnt"))


def test_real_images_count_by_their_sizes(make, tmp_path):
    from iavlib.data import load

    cohort = replace(load("phantom", n_images=20, size=[64, 64]), synthetic=False)
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * number)
    cohort = replace(cohort, images=cohort.images.assign(path=[str(path) for path in paths]))
    before = resolve(make(), cohort)
    assert before.files
    paths[3].write_bytes(b"another image")
    after = resolve(make(), cohort)
    assert (after.data, after.files != before.files) == (before.data, True)
    with pytest.raises(ExperimentError, match="its files have the fingerprint"):
        resolve(before, cohort)


def test_a_result_answers_what_was_left_open(make):
    done = resolve(make(label="a"))
    assert done.matches(make(label="b"))
    assert done.matches(make().replace(cohort="auto"))
    assert not done.matches(make(seed=1))
    assert not done.matches(make(weights="hub"))
    assert done.query_key == make().query_key != make(seed=1).query_key


def test_a_start_is_answered_for_on_whatever_data(make):
    start = {"task": "constant", "settings": {"shift": 1}}
    wanted = make(cohort="auto", cohort_options={}, init_from=start, seed=2)
    small = {"cohort": "phantom", "cohort_options": {"n_images": 20, "size": [64, 64]}}
    found = resolve(make(init_from=start | small, seed=2))
    assert found.parent.seed == 2
    assert found.is_resolved and not wanted.is_resolved
    assert found.matches(wanted)
    assert found.query_key == wanted.query_key
    assert not found.matches(wanted.replace(init_from=start | {"seed": 3}))
    assert not found.matches(wanted.replace(init_from=None))
    again = from_mapping(json.loads(json.dumps(found.to_dict())))
    assert (again, again.id) == (found, found.id)
    with pytest.raises(ExperimentError, match=r"init_from: no field 'sede'"):
        make(init_from={"sede": 1})
