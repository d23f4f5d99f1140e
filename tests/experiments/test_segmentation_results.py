"""Runs of several methods beside the published figures."""

import pandas as pd
import pytest

from iavlib.experiments.results import (
    segmentation as across_seeds,
    segmentation as confusion,
    segmentation as results,
)


def runs(label, dice, method="cm"):
    rows = [
        {"label": label, "method": method, "seed": seed, "dice": value, "status": "finished"}
        for seed, value in enumerate(dice)
    ]
    return pd.DataFrame(rows)


def test_the_published_scale_is_shown_where_it_has_enough_seeds():
    ours = runs("dense", [0.5, 0.6, 0.7])
    few = runs("dense, as published", [0.9, 0.9])
    assert results.best_scale(pd.concat([ours, few]), "dense")["dice"].max() == 0.7
    enough = runs("dense, as published", [0.9, 0.9, 0.9])
    found = results.best_scale(pd.concat([ours, enough]), "dense")
    assert (found["dice"] == 0.9).all() and set(found["label"]) == {"dense"}
    of_another = runs("dense, as published", [0.9, 0.9, 0.9], "staple")
    assert results.best_scale(pd.concat([ours, of_another]), "dense")["dice"].max() == 0.7


def test_methods_stand_beside_the_published_in_their_order():
    rows = pd.concat([runs("dense", [0.8, 0.9], name) for name in ("cm", "mine", "staple")])
    rows.loc[rows["method"] == "staple", "dice"] = 0.7
    table = results.beside_published(results.method_table(rows), "dense")
    assert list(table.index) == ["staple", "cm", "mine"]
    assert table.loc["cm", ["dice_paper", "dice"]].tolist() == pytest.approx([82.92, 85])
    assert pd.isna(table.loc["mine", "dice_paper"])
    assert pd.isna(results.ordering(table)), "two published methods have no order"
    unfinished = rows.assign(status="failed")
    assert results.method_table(unfinished).empty
    assert across_seeds.by_seed(rows, "cm", less="staple").tolist() == pytest.approx([0.1, 0.2])


def test_a_range_is_said_in_words():
    assert across_seeds.range_in_words([0.25, 0.1]) == "0.1 to 0.2"
    assert across_seeds.range_in_words([]) == "(not run)"


def test_an_interval_ends_where_values_can():
    assert across_seeds.interval_of_mean([0.5, 1.0], within=(0, 1))[1:] == (0, 1)
    assert across_seeds.in_words([90, 100], 0, (0, 100)) == "95 (31 to 100, 2 seeds)"
    low, high = across_seeds.interval_of_mean([0.5, 1.0])[1:]
    assert low < 0 and high > 1


def test_full_scale_is_shown_where_any_of_its_forms_has_enough_seeds():
    here = runs("dense", [0.1, 0.1, 0.1])
    assert results.best_runs(here, runs("dense", [0.5, 0.6]), "dense") is here
    ours, published = (runs(one, [0.5] * 3) for one in ("dense", "dense, as published"))
    for full in (ours, published):
        assert results.best_runs(here, full, "dense") is full
    assert results.best_runs(here, ours, "dense", "avap") is here
    assert results.best_runs(here, ours.assign(seed=0), "dense") is here, "one seed thrice"
    assert results.best_runs(here, ours.assign(status="missing"), "dense") is here
    assert results.best_runs(here, pd.DataFrame(), "dense") is here


def test_the_order_is_that_of_both_tables_seed_by_seed():
    def table(label, dice):
        return pd.concat([runs(label, values, name) for name, values in dice.items()])

    dense = {"mode-labels": [0.1, 0.9], "staple": [0.2, 0.2], "cm": [0.3, 0.1], "mine": [1, 0]}
    single = {"every-label": [0.1, 0.1], "staple": [0.2, 0.2], "cm": [0.3, 0.3]}
    tables = {"dense": table("dense", dense), "single": table("single", single)}
    assert results.ordering_by_seed(tables).tolist() == pytest.approx([1, 0])
    few = tables | {"single": table("single", {"cm": [0.1, 0.2], "staple": [0.2, 0.2]})}
    assert results.ordering_by_seed(few).empty, "two methods have no order"
    assert results.ordering_by_seed(tables | {"single": pd.DataFrame()}).empty


def test_the_recovered_truth_is_compared_with_fusions_of_the_same_labels():
    rows = runs("dense", [0.9] * 3).assign(
        dice_with_labels=[0.9, 0.8, 0.7], fused_mode_dice=0.75, fused_staple_dice=0.6
    )
    others = runs("own", [0.9]).assign(dice_with_labels=float("nan"))
    table = confusion.recovered(pd.concat([rows, others]))
    assert list(table.index) == [("dense", "majority vote"), ("dense", "STAPLE")]
    against_vote = table.loc[("dense", "majority vote")]
    assert against_vote["points"] == pytest.approx(5) and against_vote["ahead"] == 2
    assert against_vote["low"] < 0 < against_vote["high"] and against_vote["runs"] == 3
    assert table.loc[("dense", "STAPLE"), "low"] < 20 < table.loc[("dense", "STAPLE"), "high"]
    assert confusion.recovered(others).empty


def test_claims_take_three_seeds_with_interval_and_coverage():
    def table(label, dice, **fields):
        return pd.concat([runs(label, [d] * 3, name) for name, d in dice.items()]).assign(**fields)

    fields = {"n_training": 400, "cm_error": 0.1, "ged": 0.5}
    methods = {"mode-labels": 0.5, "cm-no-trace": 0.6, "staple": 0.7, "cm": 0.8}
    dense = table("dense", methods, **fields)
    single = table("single", {"every-label": 0.3, "staple": 0.4, "cm": 0.5}, **fields)
    found = confusion.claim_values(dense, single)
    assert set(found) == {
        *(
            f"cm-mnist-{which}-{what}"
            for which in ("dense", "single")
            for what in ("dice", "error")
        ),
        *("cm-trace-helps", "cm-ordering", "cm-ged-table"),
    }
    assert found["cm-trace-helps"]["value"] == pytest.approx(20)
    assert found["cm-mnist-single-dice"]["value"] == pytest.approx(50)
    assert found["cm-ordering"]["value"] == pytest.approx((0.8 + 1) / 2)
    for claim in found.values():
        assert (
            claim["n"] == 3 and claim["coverage"] == (400, 60_000) and len(claim["interval"]) == 2
        )
    two = dense[dense["seed"] < 2]
    assert not [name for name in confusion.claim_values(two, single) if "single" not in name]
    assert confusion.claim_values(pd.DataFrame(), pd.DataFrame()) == {}


def test_by_how_much_the_truth_is_ahead_is_said_in_words():
    rows = runs("dense", [0.9] * 2).assign(dice_with_labels=[0.9, 0.7], fused_mode_dice=0.75)
    table = confusion.recovered(rows)
    told = confusion.ahead_in_words(table, "dense", "majority vote")
    assert told.startswith("5.00 points (") and told.endswith("; ahead in 1 of 2 runs)")
    assert confusion.ahead_in_words(table, "phantom", "STAPLE") == "(not run)"
    one = confusion.recovered(rows[rows["seed"] == 0])
    assert confusion.ahead_in_words(one, "dense", "majority vote") == "15.00 points (one seed)"
