"""Ids: the same for the same experiment however it is written, another for any other."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from iavlib.core.errors import ExperimentError
from iavlib.experiments import Experiment, resolve
from iavlib.experiments.config import from_mapping

FIXED = {"data": "d", "cohort": "imapp", "weights": "hub"}
CHANGES = {
    "task": "other",
    "cohort": "phantom",
    "data": "e",
    "files": "f",
    "backbone": "vgg16",
    "weights": "none",
    "recipe": "probe",
    "overrides": {"lr": 0.1},
    "size": 64,
    "split": {"kind": "kfold"},
    "seed": 1,
    "train_share": 0.5,
    "method": "cm",
    "alpha": 0.5,
    "start": FIXED,
    "version": 2,
}


def test_every_field_changes_the_id_but_label_and_place():
    specs = [Experiment(**FIXED)] + [
        Experiment(**FIXED | {name: value}) for name, value in CHANGES.items()
    ]
    assert len({spec.id for spec in specs}) == len(specs)
    same = Experiment(**FIXED, label="mine", cohort_options={"path": "/elsewhere"})
    assert same.id == specs[0].id
    assert set(CHANGES) | {"label", "cohort_options"} == set(Experiment().to_json())


def test_the_order_and_the_spelling_of_values_change_nothing():
    items = {"lr": 0.0001, "momentum": 1.0, "flag": True, "deep": {"a": 1, "b": [2.0, 3]}}
    ids = set()
    for order in itertools.permutations(items):
        ids.add(Experiment(**FIXED, overrides={name: items[name] for name in order}).id)
    loose = {"lr": "1e-4", "momentum": 1, "flag": True, "deep": {"b": (2, 3.0), "a": np.int64(1)}}
    ids.add(Experiment(**FIXED, overrides=loose, train_share=1, seed=np.int32(0)).id)
    assert len(ids) == 1
    half = {"fold": 2, "kind": "kfold"}
    full = {"kind": "kfold", "folds": 5, "fold": 2, "val": 0.125, "seed": 0, "group": "patient"}
    full["stratify"] = ["dice_range", "malignancy", "n_masks"]
    assert Experiment(**FIXED, split=half).id == Experiment(**FIXED, split=full).id


def test_ids_are_for_ever():
    """Stored results are found by their ids: a change here loses them."""
    assert Experiment(**FIXED).id == "158274bc4e07"
    assert Experiment(**FIXED, split={"kind": "kfold"}, overrides={"lr": 0.1}).id == "40416114da3b"


def test_what_is_written_is_read_again():
    first = Experiment(**FIXED, overrides={"lr": 1e-4}, train_share=0.5, label="x")
    again = from_mapping(json.loads(json.dumps(first.to_json())))
    assert (again, again.id, again.label) == (first, first.id, "x")
    assert len({first, again}) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sede": 1}, "no field 'sede'. To fix it: did you mean 'seed'"),
        ({"seed": 1.5}, "seed = 1.5: must be a whole number"),
        ({"seed": True}, "seed = True: must be a whole number"),
        ({"seed": -1}, "seed = -1: must be 0 or more"),
        ({"train_share": 0}, r"train_share = 0.0: must be in \(0, 1\]"),
        ({"size": 0}, "size = 0: must be positive"),
        ({"backbone": 18}, "backbone = 18: must be a text"),
        ({"overrides": "lr"}, "overrides = 'lr': must be a mapping"),
        ({"overrides": {"lr": float("nan")}}, r"overrides.lr = nan: is not finite"),
        ({"overrides": {"lr": object}}, "is no text, number, list or mapping"),
        ({"split": {"kind": "kfolds"}}, "no kind 'kfolds'. To fix it: did you mean 'kfold'"),
        ({"split": {"fold": 1}}, "no 'fold'"),
        ({"split": {"kind": "kfold", "fold": 5}}, "fold = 5: must be 0 to folds - 1"),
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
        resolve(replace(fixed, data="123"))
    with pytest.raises(ExperimentError, match="no cohort 'phantm'"):
        resolve(make(cohort="phantm"))
    with pytest.raises(ExperimentError, match=r"no task 'constnt'. To fix it: did you mean"):
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
    assert done.answers(make(label="b"))
    assert done.answers(replace(make(), cohort="auto"))
    assert not done.answers(make(seed=1))
    assert not done.answers(make(weights="hub"))
    assert done.question() == make().question() != make(seed=1).question()


def test_a_start_is_answered_for_on_whatever_data(make):
    start = {"task": "constant", "overrides": {"shift": 1}}
    wanted = make(cohort="auto", cohort_options={}, start=start, seed=2)
    small = {"cohort": "phantom", "cohort_options": {"n_images": 20, "size": [64, 64]}}
    found = resolve(make(start=start | small, seed=2))
    assert found.init_from.seed == 2
    assert found.is_resolved and not wanted.is_resolved
    assert found.answers(wanted)
    assert found.question() == wanted.question()
    assert not found.answers(replace(wanted, start=start | {"seed": 3}))
    assert not found.answers(replace(wanted, start={}))
    again = from_mapping(json.loads(json.dumps(found.to_json())))
    assert (again, again.id) == (found, found.id)
    with pytest.raises(ExperimentError, match=r"start: no field 'sede'"):
        make(start={"sede": 1})
