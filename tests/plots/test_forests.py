"""Forest plots: rows in the table's order, one mark per series, notes and lines."""

import numpy as np
import pandas as pd
import pytest

from iavlib import plots, stats


def ticks(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def legend_of(figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def estimates(index, values=(1.0, 2.0)) -> pd.DataFrame:
    table = pd.DataFrame({"estimate": values}, index=index)
    return table.assign(ci_low=table["estimate"] - 0.5, ci_high=table["estimate"] + 0.5)


def test_rows_keep_the_order_of_the_table_and_intervals_their_limits():
    table = estimates(["first", "second"]).assign(ci_high=[1.2, 2.9])
    (ax,) = plots.forest(table, "effect", reference=0).axes
    assert ticks(ax) == ["first", "second"]
    assert ax.yaxis_inverted()
    (bars,) = ax.containers
    segments = bars.lines[2][0].get_segments()
    assert [tuple(s[:, 0]) for s in segments] == [(0.5, 1.2), (1.5, 2.9)]
    assert list(bars.lines[0].get_xdata()) == [1, 2]


def test_baselines_are_named_with_their_value():
    figure = plots.forest(estimates(["a", "b"]), "MAE", lines={"constant median": 0.141})
    assert legend_of(figure) == ["constant median 0.141"]


def test_series_without_values_are_left_out():
    table = pd.DataFrame(
        {"a": [1.0, 2.0], "a_low": [0.5, 1.0], "a_high": [2.0, 3.0]}
        | {f"b{end}": [np.nan] * 2 for end in ("", "_low", "_high")},
        index=["x", "y"],
    )
    ax = plots.forest(table, "points", series={"a": "A", "b": "B"}, reference=0).axes[0]
    assert ticks(ax) == ["x", "y"] and len(ax.containers) == 1
    both = plots.forest(table.assign(b=[3.0, 4.0]), "points", series={"a": "A", "b": "B"})
    assert legend_of(both) == ["A", "B"]
    places = [container.lines[0].get_ydata()[0] for container in both.axes[0].containers]
    assert places[0] < 0 < places[1]
    assert "nothing to draw" in plots.forest(table.iloc[:0], "points").texts[0].get_text()


def test_panels_share_their_rows():
    tables = {"band": estimates(["a", "b"]), "lesion": estimates(["b"], [2.0])}
    band, lesion = plots.forest(tables, "attribution / chance", reference=1).axes
    assert (band.get_title(), lesion.get_title()) == ("band", "lesion")
    assert ticks(band) == ["a", "b"]
    assert lesion.containers[0].lines[0].get_ydata() == [1]
    assert "nothing to draw" in plots.forest({}, "x").texts[0].get_text()


def test_groups_are_set_apart_and_small_ones_say_why():
    malignant = np.arange(200) % 4 == 0
    score = np.random.default_rng(0).random(200)
    site = np.where(np.arange(200) < 8, "palms", "torso")
    table = stats.scores_by_group(malignant, score, {"site": site}, n_boot=20)
    (ax,) = plots.forest(table, "AUROC", series={"auroc": "AUROC"}).axes
    assert ticks(ax) == ["all (n 50 of 200)", "site, palms (n 2 of 8)", "site, torso (n 48 of 192)"]
    assert list(np.diff(ax.get_yticks())) == [1.5, 1]
    assert [text.get_text() for text in ax.texts] == [table.loc[("site", "palms"), "note"]]
    none = table.assign(auroc=np.nan)
    assert len(plots.forest(none, "AUROC", series={"auroc": "AUROC"}).axes[0].texts) == 3


@pytest.mark.parametrize("seeds", [1, 3])
def test_gains_and_their_averages(seeds):
    rows = [(d, b, s) for d in ("ph2", "isic2017") for b in ("vgg16", "vit") for s in range(seeds)]
    gains = pd.DataFrame(rows, columns=["dataset", "backbone", "seed"])
    gains["gain"] = np.random.default_rng(1).normal(0.03, 0.02, len(gains))
    cells = gains.groupby(["dataset", "backbone"])["gain"]
    rows = {key: (*vars(stats.mean_interval(values)).values(), seeds) for key, values in cells}
    rows["average", "resampled: backbone, seed"] = (0.03, 0.01, 0.05, np.nan, len(gains))
    columns = ["estimate", "ci_low", "ci_high", "p", "n"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(rows)
    table[columns[:3]] *= 100
    figure = plots.forest(table, "gain (points)", reference=0, lines={"reported": 4.2})
    assert ticks(figure.axes[0])[0] == f"isic2017, vgg16 (n {seeds})"
    assert ticks(figure.axes[0])[-1].startswith("average, resampled: backbone, seed")
    assert legend_of(figure) == ["reported 4.200"]


def test_methods_have_a_panel_per_measure_and_a_row_per_cohort():
    index = pd.MultiIndex.from_product([["here", "there"], ["m", "n"]])
    table = pd.DataFrame(
        {"sees": ["the image", "its masks"] * 2, "dice": [0.1, 0.2, 0.3, 0.4]}, index
    )
    figure = plots.methods_compared(table, {"dice": "Dice"}, {"dice": True})
    assert len(figure.axes) == 2
    assert ticks(figure.axes[0]) == ["m", "n"]
    assert legend_of(figure) == ["the image", "its masks"]
    assert plots.methods_compared(table.iloc[:0], {"dice": "Dice"}, {}).texts


def test_specifications_in_order_with_their_choices():
    curve = pd.DataFrame({"effect": [0.3, -0.3, 0.0], "unit": ["images", "pairs", "pairs"]})
    curve = curve.assign(effect_low=curve["effect"] - 0.1, effect_high=curve["effect"] + 0.1)
    figure = plots.specification_curve(curve, {"unit": "unit"}, "effect")
    top, bottom = figure.axes
    assert top.collections[1].get_offsets()[:, 1].tolist() == [-0.3, 0, 0.3]
    assert len({tuple(colour) for colour in top.collections[1].get_facecolors()}) == 3
    marks = {
        label.get_text(): list(marks.get_offsets()[:, 0])
        for label, marks in zip(bottom.get_yticklabels(), bottom.collections, strict=True)
    }
    assert marks == {"pairs": [0, 1], "images": [2]}
    assert not plots.specification_curve(curve.head(0), {"unit": "unit"}, "effect").axes
