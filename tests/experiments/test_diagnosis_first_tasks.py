"""Tasks ``diagnosis-first``, ``take-give`` and ``comparison`` through the run store."""

import numpy as np
import pytest
import torch

from iavlib.core.errors import ExperimentError
from iavlib.experiments import (
    RunStore,
    claims,
    paired_with_best,
    read_predictions,
    resolve,
    run,
    summarise,
    sweep,
)
from iavlib.experiments.config import expand, from_mapping
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
        *(experiment("take-give", label="blocks", overrides={"blocks": n}) for n in (0, 3)),
        experiment("take-give", label="learns the majority", overrides={"learns": "majority"}),
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


def runs_of(table, task, label=None):
    chosen = table[(table["task"] == task) & (label is None or table["label"] == label)]
    return chosen.dropna(axis=1, how="all")


def test_masks_are_judged_by_nets_they_were_and_were_not_optimised_on(runs):
    fused = runs_of(runs[0], "diagnosis-first", "fusion").iloc[0]
    for mask in ("majority", "mean", "staple", "em", "pixel", "expg"):
        assert fused[f"heldout_nets_{mask}"] == fused[f"auroc_roi_{mask}"]
        assert fused[f"optimised_net_{mask}"] == fused[f"auroc_cat_{mask}"]
    assert fused.filter(like="image_only_").notna().sum() == 2
    assert (fused[["loss_pixel", "loss_expg"]] < fused["loss_before"]).all()
    assert fused["high_expg"] < fused["high_pixel"]
    assert fused.filter(regex="^(with_mask|trained)_").notna().all()
    assert fused["rater_cat_NoMask"] == fused["trained_NoMask"]


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


def test_true_and_permuted_diagnoses_are_both_judged(runs):
    judged = runs_of(runs[0], "diagnosis-first")
    assert set(judged["diagnosis"]) == {"true", "permuted"}
    columns = [
        f"{judge}_{mask}"
        for judge in ("optimised_net", "heldout_nets", "image_only")
        for mask in ("expg", "majority")
    ]
    assert judged[columns].notna().all(axis=None)


def test_blocks_are_told_apart_and_random_weights_enter_no_claim(runs):
    blocks = runs_of(runs[0], "take-give", "blocks")
    sizes = claims.by_blocks(blocks, "n_parameters").iloc[0]
    assert sizes.index.tolist() == ["B1 B2 B3", "none"] and sizes["B1 B2 B3"] > sizes["none"]
    learnt = claims.by_blocks(blocks, "soft_dice_learnt").iloc[0]
    expected = 100 * (learnt["B1 B2 B3"] - learnt["none"])
    assert claims.gain_of_blocks(blocks).iloc[0] == pytest.approx(expected)
    fused = runs_of(runs[0], "diagnosis-first", "fusion")
    learnt = runs_of(runs[0], "take-give", "learns the majority")
    measured = claims.diff_claims(fused, blocks, learnt)
    assert {"diff-fusion-auc", "diff-tg-dice", "diff-auc"} <= set(measured["claim"])
    assert measured["entry"].isna().all()
    assert all(data.synthetic for data in measured["cohort"])


def test_methods_stand_side_by_side(runs):
    compared = runs_of(runs[0], "comparison")
    table = summarise(compared, "method", ["soft_dice", "n_parameters"])
    assert table.loc["fuse-mean", "soft_dice"] == pytest.approx(1)
    assert (table["n_parameters"] > 0).sum() == 3
    values = read_predictions(compared).merge(compared[["id", "method"]], on="id")
    wide = values.pivot_table(index="image_id", columns="method", values="soft_dice")
    tests = paired_with_best(wide, n_boot=50)
    assert set(tests["best"]) == {"fuse-mean"}
    assert (tests["difference"] <= 0).all()


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


def test_raters_who_marked_no_image_of_a_subset_are_left_out(tmp_path):
    settings = {"truth": "", "annotators": 0, "nets": ["cat", "roi"], "generators": ["pixel"]}
    asked = experiment(cohort="phantom", cohort_options={"n_images": 40}, overrides=settings)
    metrics = run(asked, store=RunStore(tmp_path)).metrics
    sets = annotator_sets.load(resolve(asked))
    scored = {name for name in sets.annotators if f"with_mask_{name}" in metrics}
    assert scored
    assert scored < set(sets.annotators)
