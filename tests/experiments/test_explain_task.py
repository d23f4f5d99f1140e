"""Task ``explain``: what was seen is left out, rows and settings tell everything."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from iavlib import experiments, explain
from iavlib.book.stored import export_results
from iavlib.core.errors import ExperimentError
from iavlib.core.project import Project
from iavlib.experiments import Experiment, resolve, run
from iavlib.experiments.runner import load_data
from iavlib.experiments.tasks.explain import example_maps

SMALL = {"n_images": 20, "size": [64, 64]}
ONCE = {"name": "finetune", "epochs": 1, "warmup_epochs": 0, "precision": "fp32"}
FEW = {"steps": 2, "curve_steps": 2, "cascade": 2}


@pytest.fixture
def looked_at():
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def made(settings=None, parent=None, **fields):
        given = {
            "task": "explain",
            "cohort": "phantom",
            "cohort_options": SMALL,
            "backbone": "test_resnet",
            "size": 64,
        }
        begun = {"task": "iaa", "cohort": "phantom", "cohort_options": SMALL, "weights": "none"}
        begun |= {"recipe": ONCE, "settings": {"tta": 1}} | (parent or {})
        given |= {"init_from": begun, "settings": FEW | (settings or {})}
        return Experiment(**given | fields)

    yield made
    torch.set_num_threads(before)


def test_only_unseen_images_are_explained_and_all_is_told(looked_at, store):
    experiment = looked_at(label="own")
    table = experiments.sweep([experiment], store, log=lambda line: None)
    assert list(table["status"]) == ["finished"], table["reason"].tolist()
    rows = experiments.read_predictions(table)
    begun = experiments.read_run(store, store.root / table.loc[0, "init_from"])
    tested = begun.predictions[begun.predictions["subset"] == "test"].set_index("image_id")
    assert set(rows["image_id"]) <= set(tested.index) and len(rows)
    assert set(rows["method"]) == set(explain.METHODS)
    assert set(rows["target"]) == {explain.LOWERS, explain.RAISES}
    one = rows.drop_duplicates("image_id").set_index("image_id")
    np.testing.assert_allclose(one["true"], tested.loc[one.index, "true"], atol=1e-6)
    # one view, not clipped: what the run itself predicted with tta 1
    np.testing.assert_allclose(one["predicted"], tested.loc[one.index, "predicted"], atol=1e-4)
    opposite = rows[rows["method"] == "HiResCAM"]["opposite"].dropna()
    assert (opposite < -0.99).all()
    assert {"share_cause", "others_band", "deletion", "insertion"} <= set(rows)
    _summaries(table, rows, load_data(experiment))


def _summaries(table, rows, cohort):
    settings = experiments.read_facts(table.loc[0, "folder"])["settings"]
    assert list(settings["agreement"]) == list(explain.METHODS)
    assert {row["method"] for row in settings["cascade"]} == set(explain.CAM_METHODS)
    judged = rows.dropna(subset=["deletion", "insertion", "half_area"])
    assert set(judged["target"]) == {explain.LOWERS}
    centred = rows[(rows["target"] == explain.LOWERS) & (rows["method"] == explain.CENTRED)]
    assert 0 < centred["kept"].mean() < 1
    raises = rows[(rows["target"] == explain.RAISES) & (rows["method"] == "Grad-CAM")]
    # a linear head after the mean over places
    r = raises[["total", "predicted"]].astype(float).corr().iloc[0, 1]
    assert r == pytest.approx(1, abs=1e-3)
    ratios = explain.attribution_ratios(rows, by=["method"], n_boot=20)
    assert (explain.CENTRED, "cause") in ratios.index
    shown = {"lowers": (explain.LOWERS, explain.CENTRED)}
    examples = example_maps(table.iloc[0], cohort, shown, n=2)
    assert [one.picture.shape for one in examples] == [(64, 64, 3)] * len(examples)
    assert examples and 0 <= examples[0].maps["lowers"].max() <= 1


def test_without_rows_there_are_no_ratios():
    names = ["image_id", "target", "method", "cluster", "label"]
    ratios = explain.attribution_ratios(pd.DataFrame(columns=names), by=["method"], n_boot=20)
    assert ratios.empty and {"ratio", "pointing"} <= set(ratios)


def test_stored_results_are_read_where_nothing_was_run(looked_at, store, tmp_path):
    few = {"methods": "cam", "curve_steps": 0, "cascade": 2, "max_images": 2}
    asked = looked_at(few, label="phantom")
    here = experiments.sweep([asked], store, log=lambda line: None)
    project = Project(tmp_path / "elsewhere")
    for place in (project.notebooks, project.profiles / "experiments", project.book):
        place.mkdir(parents=True)
    (project.notebooks / "09_page.ipynb").write_text("{}")
    entry = {k: v for k, v in asked.to_dict().items() if k not in ("version", "data", "files")}
    listed = yaml.safe_dump({"09_page": [entry]})
    (project.profiles / "experiments" / "paper.yaml").write_text(listed)
    name = f"explain/{here.loc[0, 'id']}"
    assert [one for one in export_results(project, store.root).written if "expl" in one] == [name]
    tables = (project.book / "results" / "runs").glob("explain.*")
    assert sum(path.stat().st_size for path in tables) < 30_000
    nothing = experiments.RunStore(tmp_path / "no-runs")
    there = experiments.read_results("paper", "09_page", store=nothing, project=project)
    assert list(there["origin"]) == ["stored"]
    pd.testing.assert_frame_equal(
        experiments.read_predictions(there), experiments.read_predictions(here)
    )
    facts = [experiments.read_facts(table.loc[0, "folder"]) for table in (there, here)]
    assert facts[0] == facts[1]
    shown = {"lowers": (explain.LOWERS, explain.CENTRED)}
    assert example_maps(there.iloc[0], load_data(asked), shown) == []


def test_untrained_networks_and_dealt_out_targets_are_controls(looked_at, store):
    few = {"methods": "cam", "curve_steps": 0, "cascade": 0, "max_images": 2}
    plain = run(looked_at(few), store)
    untrained = run(looked_at({**few, "control": "random_weights"}), store)
    assert untrained.facts["weights_random"]
    assert len(plain.predictions["image_id"].unique()) == 2
    first, second = (
        one.predictions.set_index(["image_id", "target", "method"])["total"]
        for one in (plain, untrained)
    )
    assert not np.allclose(first, second.loc[first.index])
    begun = {"settings": {"tta": 1, "control": "shuffled_iaa"}}
    shuffled = run(looked_at(few, begun), store)
    assert shuffled.experiment.id != plain.experiment.id


def test_permuting_keeps_values_and_other_subsets():
    from iavlib.experiments.tasks.image_training import _targets

    ids = pd.Index([f"i{k}" for k in range(30)])
    target = pd.Series(np.arange(30.0), index=ids)
    subsets = pd.Series(["train"] * 20 + ["val"] * 5 + ["test"] * 5, index=ids)
    experiment = Experiment(seed=3, settings={"control": "shuffled_iaa"})
    recipe, train = experiment.training_recipe(), ids[subsets == "train"]

    def permuted():
        given = (experiment, experiment.settings, recipe, target.to_frame("target"), train)
        return _targets(*given)["iaa"]

    dealt = permuted()
    assert sorted(dealt[:20]) == list(range(20)) and (dealt[:20] != target[:20]).any()
    assert dealt[20:].equals(target[20:])
    assert dealt.equals(permuted())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init_from": None}, "names no experiment"),
        ({"parent": {"recipe": "probe"}}, "leaves no network"),
        ({"settings": {"stepps": 3}}, "did you mean 'steps'"),
        ({"settings": {"steps": 0}}, "steps is 0, it should be greater"),
        ({"settings": {"control": "randm"}}, "should be 'none' or 'random_weights'"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_trained(looked_at, fields, said):
    with pytest.raises(ExperimentError, match=said):
        resolve(looked_at(**fields))
