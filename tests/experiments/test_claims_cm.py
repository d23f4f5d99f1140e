"""Means over seeds, paired tests, and the claims of CM, on tables made by hand."""

import pandas as pd
import pytest

from iavlib.experiments import by_seed, claims, paired_with_best, summarise


def runs(label, dice, method="cm"):
    rows = [
        {"label": label, "method": method, "seed": seed, "dice": value, "status": "finished"}
        for seed, value in enumerate(dice)
    ]
    return pd.DataFrame(rows)


def test_runs_are_averaged_over_seeds_with_their_interval():
    rows = pd.concat([runs("dense", [0.8, 0.9], "cm"), runs("dense", [0.7], "staple")])
    rows = rows.assign(n_test=[200, 200, 100], ged=[0.1, 0.2, None])
    table = summarise(rows, "method", ["dice", "ged", "nothing"], {"dice": 100}, {"dice": (0, 100)})
    assert list(table.index) == ["cm", "staple"] and "nothing" not in table
    assert table.loc["cm", ["dice", "ged", "runs", "seeds"]].tolist() == pytest.approx(
        [85, 0.15, 2, 2]
    )
    assert table["n_test"].tolist() == [200, 100]
    assert table.loc["cm", "dice_low"] < 85 and table.loc["cm", "dice_high"] == 100
    assert pd.isna(table.loc["staple", "dice_low"]) and pd.isna(table.loc["staple", "ged"])
    by_two = summarise(rows, ["label", "method"], ["dice"])
    assert by_two.index.names == ["label", "method"] and len(by_two) == 2
    unfinished = summarise(rows.assign(status="failed"), "method", ["dice"])
    assert unfinished.empty and "dice_low" in unfinished
    assert by_seed(rows, "cm", less="staple").tolist() == pytest.approx([0.1])
    assert by_seed(rows, "cm", "unknown").empty


def test_methods_are_paired_with_the_best_on_the_images_of_all():
    values = pd.DataFrame(
        {"a": [0.9, 0.8, 0.7, None], "b": [0.5, 0.6, 0.4, 0.9], "c": [0.9, 0.8, 0.6, 0.1]}
    )
    table = paired_with_best(values, n_boot=50)
    assert set(table["best"]) == {"a"} and set(table["images"]) == {3}
    assert table.loc["b", "difference"] == pytest.approx(-0.3)
    assert table.loc["b", "low"] <= -0.3 <= table.loc["b", "high"] and pd.isna(table.loc["a", "p"])
    assert set(paired_with_best(values, larger_is_better=False)["best"]) == {"b"}


def test_the_order_is_that_of_both_tables_seed_by_seed():
    def table(label, dice):
        return pd.concat([runs(label, values, name) for name, values in dice.items()])

    dense = {"mode-labels": [0.1, 0.9], "staple": [0.2, 0.2], "cm": [0.3, 0.1], "mine": [1, 0]}
    single = {"every-label": [0.1, 0.1], "staple": [0.2, 0.2], "cm": [0.3, 0.3]}
    tables = {"dense": table("dense", dense), "single": table("single", single)}
    assert claims.ordering_by_seed(tables).tolist() == pytest.approx([1, 0])
    few = tables | {"single": table("single", {"cm": [0.1, 0.2], "staple": [0.2, 0.2]})}
    assert claims.ordering_by_seed(few).empty, "two methods have no order"
    assert claims.ordering_by_seed(tables | {"single": pd.DataFrame()}).empty


def test_claims_take_three_seeds_with_interval_and_coverage():
    def table(label, dice, **fields):
        return pd.concat([runs(label, [d] * 3, name) for name, d in dice.items()]).assign(**fields)

    fields = {"n_training": 400, "n_test": 90.0, "cm_error": 0.1, "ged": 0.5}
    methods = {"mode-labels": 0.5, "cm-no-trace": 0.6, "staple": 0.7, "cm": 0.8}
    dense = table("dense", methods, **fields)
    single = table("single", {"every-label": 0.3, "staple": 0.4, "cm": 0.5}, **fields)
    found = claims.cm_claims(dense, single)
    assert set(found) == {
        *(
            f"cm-mnist-{which}-{what}"
            for which in ("dense", "single")
            for what in ("dice", "error")
        ),
        *("cm-trace-helps", "cm-ordering", "cm-ged-table"),
        *("cm-over-vote", "cm-over-staple", "cm-over-staple-single"),
    }
    assert found["cm-trace-helps"]["value"] == pytest.approx(20)
    gains = [found[f"cm-over-{name}"]["value"] for name in ("vote", "staple", "staple-single")]
    assert gains == pytest.approx([30, 10, 10])
    assert found["cm-mnist-single-dice"]["value"] == pytest.approx(50)
    assert found["cm-ordering"]["value"] == pytest.approx((0.8 + 1) / 2)
    for claim in found.values():
        assert (claim["n"], claim["seeds"], claim["coverage"]) == (90, 3, (400, 60_000))
        assert len(claim["interval"]) == 2
    classes = table("two", {"cm": 0.5, "mode-labels": 0.8}, **fields)
    found = claims.cm_claims(dense, single, classes)
    assert found["cm-two-classes"]["value"] == pytest.approx(-30)
    two = dense[dense["seed"] < 2]
    assert not [name for name in claims.cm_claims(two, single) if "single" not in name]
    assert claims.cm_claims(pd.DataFrame(), pd.DataFrame()) == {}
