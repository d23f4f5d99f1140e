"""Runs of several methods beside the published figures."""

import pandas as pd
import pytest

from iavlib.experiments.results import segmentation as results


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
    assert results.by_seed(rows, "cm", less="staple").tolist() == pytest.approx([0.1, 0.2])


def test_a_range_is_said_in_words():
    assert results.range_in_words([0.25, 0.1]) == "0.1 to 0.2"
    assert results.range_in_words([]) == "(not run)"
