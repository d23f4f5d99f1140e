"""Tasks ``diagnosis-first``, ``take-give`` and ``comparison`` through the run store."""

import numpy as np
import pytest
import torch

from iavlib.core.errors import ExperimentError
from iavlib.experiments import RunStore, resolve, run, sweep
from iavlib.experiments.config import expand, from_mapping
from iavlib.experiments.results import diagnosis_first as results, segmentation as comparison
from iavlib.experiments.results.diagnosis_first import measured_claims
from iavlib.experiments.tasks import annotator_sets
from iavlib.experiments.tasks.annotator_sets import with_diagnoses
from iavlib.experiments.tasks.annotators import FUSIONS, compared
from iavlib.multiannotator import METHODS

SPLIT = {"fractions": [0.5, 0.1, 0.4]}
DATA = {
    "cohort": "phantom-simulated",
    "cohort_options": {"n_images": 40, "size": [64, 64]},
    "size": 32,
}
QUICK = {"epochs": 1, "lr": 3e-3, "steps": 2}
FUSED = {"nets": ["cat", "roi"], "generators": ["pixel", "expg"]}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiment(task="diagnosis-first", **fields):
    overrides = {"truth": "known", "annotators": 2} | QUICK | fields.pop("overrides", {})
    given = {"task": task, "backbone": "small", "recipe": "annotators", "split": SPLIT} | DATA
    return from_mapping({**given, "overrides": overrides, **fields})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A few runs of all three tasks."""
    store = RunStore(tmp_path_factory.mktemp("h") / "runs")
    asked = [
        experiment(label="fusion", overrides={**FUSED, "by_rater": ["cat"]}),
        experiment(label="permuted", overrides={**FUSED, "diagnosis": "permuted"}),
        *(experiment("take-give", label="blocks", overrides={"blocks": n}) for n in (0, 4)),
        experiment("take-give", label="learns DF-GT", overrides={"learns": "expg"}),
        *(
            experiment("comparison", backbone="unet", method=name, overrides={"width": 4})
            for name in ("fuse-mean", "cm-oracle", "separate", "diff", "fuse-diff")
        ),
    ]
    return sweep(asked, store), store


def test_every_run_finishes_and_leaves_no_checkpoint(runs):
    table, store = runs
    assert set(table["status"]) == {"finished"}, table["reason"].tolist()
    assert table["weights_random"].all() and table["synthetic"].all()
    assert not list(store.root.rglob("checkpoint.pt"))


def test_masks_are_judged_by_nets_they_were_and_were_not_optimised_on(runs):
    fused = results.runs_of(runs[0], "diagnosis-first", "fusion")
    areas = results.auroc_by_mask(fused)
    assert {"majority", "mean", "staple", "em", "pixel", "expg"} == set(areas.index)
    assert areas.loc["majority", "others"] == 100 * fused["auroc_roi_majority"].iloc[0]
    assert areas.loc["majority", "source"] == 100 * fused["auroc_cat_majority"].iloc[0]
    assert areas["clinic"].notna().sum() == 2
    waves = results.fine_waves(fused)
    assert (waves["loss"] < waves["loss_before"]).all()
    assert waves.loc["expg", "high"] < waves.loc["pixel", "high"]
    raters = results.raters_table(fused)
    assert raters[["given", "own"]].notna().all(axis=None)


def test_permuted_diagnoses_keep_each_part_s_count_and_change_the_labels():
    asked = experiment(overrides=FUSED)
    source = annotator_sets.load(asked)
    subsets = {name: source.subset(name) for name in ("train", "test")}
    true, permuted, again = (
        {name: one.diagnosis for name, one in with_diagnoses(subsets, permuted, 0).items()}
        for permuted in (False, True, True)
    )
    for name in subsets:
        assert sorted(true[name]) == sorted(permuted[name])
        assert permuted[name].tolist() == again[name].tolist()
    assert any(true[name].tolist() != permuted[name].tolist() for name in subsets)
    assert resolve(asked).id != resolve(experiment(overrides={**FUSED, "diagnosis": "permuted"})).id


def test_the_leak_table_has_both_kinds_of_diagnosis(runs):
    found = results.leak_table(results.runs_of(runs[0], "diagnosis-first"))
    assert found.index.tolist() == ["true", "permuted"]
    assert found[["source", "others", "clinic"]].notna().all(axis=None)
    told = results.gains_in_words(results.runs_of(runs[0], "diagnosis-first"), "source", "permuted")
    assert told.endswith("(one seed)")


def test_blocks_are_told_apart_and_random_weights_enter_no_claim(runs):
    blocks = results.runs_of(runs[0], "take-give", "blocks")
    table = results.blocks_table(blocks)
    assert table.index.tolist() == [0, 4]
    assert table.loc[4, "n_parameters"] > table.loc[0, "n_parameters"]
    gain = results.gain_of_blocks(blocks)
    expected = table.loc[4, "soft_dice"] - table.loc[0, "soft_dice"]
    assert gain.iloc[0] == pytest.approx(expected)
    fused = results.runs_of(runs[0], "diagnosis-first", "fusion")
    learnt = results.runs_of(runs[0], "take-give", "learns DF-GT")
    measured = measured_claims(fused, blocks, learnt)
    assert {"diff-fusion-auc", "diff-tg-dice", "diff-auc"} <= {one.claim for one in measured}
    assert not any(one.can_be_judged for one in measured)
    assert all(one.cohort.synthetic and one.coverage == (40, 1600) for one in measured)


def test_methods_stand_side_by_side_with_what_they_see(runs):
    table = comparison.comparison_table(runs[0])
    seen = table.droplevel(0)["sees"]
    assert seen["fuse-mean"] == comparison.SEEN["masks"]
    assert seen["fuse-diff"] == comparison.SEEN["diagnosis"]
    assert seen["diff"] == seen["separate"] == comparison.SEEN["image"]
    assert table.droplevel(0).loc["fuse-mean", "soft_dice"] == pytest.approx(1)
    assert (table["n_parameters"] > 0).sum() == 3
    tests = comparison.paired_tests(runs[0], n_boot=50).droplevel(0)
    assert set(tests.loc[["diff", "separate", "cm-oracle"], "best"]) <= {*seen.index}
    assert tests.loc["fuse-mean", "best"] == "fuse-mean"
    worse = tests.dropna(subset=["p"])
    assert (worse["p_holm"] >= worse["p"]).all() and (worse["difference"] <= 0).all()


def test_a_list_may_ask_for_every_method_and_new_ones_appear_by_themselves():
    found = expand({"task": "comparison", "method": "all"})
    assert [one.method.name for one in found] == list(compared())
    assert set(METHODS) - {"df-gt"} | set(FUSIONS) | {"fuse-diff"} == set(compared())
    with pytest.raises(ExperimentError, match="knows no methods by name"):
        expand({"task": "take-give", "method": "all"})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"overrides": {"nets": ["cat", "dog"]}}, "there is no 'dog'"),
        ({"overrides": {"generators": ["brush"]}}, "there is no 'brush'"),
        ({"overrides": {"source": "att", "nets": ["cat", "roi"]}}, "there is no 'att'"),
        ({"overrides": {"diagnosis": "guessed"}}, "should be 'true' or 'permuted'"),
        ({"overrides": {"images": -1}}, "greater than or equal to 0"),
        ({"overrides": {"stepz": 3}}, "did you mean 'steps'"),
        ({"overrides": {"steps": "many"}}, "steps is 'many'"),
        ({"task": "take-give", "overrides": {"blocks": 7}}, "blocks is 7"),
        ({"task": "take-give", "overrides": {"learns": "x"}}, "no learns 'x'"),
        ({"task": "comparison", "method": "nothing"}, "no method 'nothing' to compare"),
        ({"cohort": "digits", "cohort_options": {}}, "has no diagnoses"),
    ],
)
def test_what_cannot_be_run_is_told_before(fields, said):
    with pytest.raises(ExperimentError, match=said):
        resolve(experiment(**fields))


def test_a_run_that_was_stopped_goes_on_with_the_networks_it_has(tmp_path, monkeypatch):
    from iavlib.multiannotator import expertness

    asked = experiment(overrides={**FUSED, "clinic": "", "generators": ["pixel"]})
    whole = run(asked, RunStore(tmp_path / "whole")).predictions
    store, optimise = RunStore(tmp_path / "stopped"), expertness.optimise_expertness

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(expertness, "optimise_expertness", stop)
    with pytest.raises(KeyboardInterrupt):
        run(asked, store)
    assert len(list(store.root.rglob("checkpoint.pt"))) == 2
    monkeypatch.setattr(expertness, "optimise_expertness", optimise)
    again = run(asked, store).predictions
    assert again.equals(whole)


def test_as_many_of_both_classes_are_taken():
    source = annotator_sets.load(experiment(overrides={"images": 12}))
    counts = np.bincount(source.diagnosis)
    assert len(source) == counts.sum() == 12
    assert counts.min() >= 5
