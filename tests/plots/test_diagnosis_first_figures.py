"""Figures of DiFF and of all methods."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from iavlib import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_intervals_draw_a_point_a_row_and_leave_out_what_is_missing():
    table = pd.DataFrame(
        {"a": [1.0, 2.0], "a_low": [0.5, 1.0], "a_high": [2.0, 3.0]}
        | {f"b{end}": [np.nan] * 2 for end in ("", "_low", "_high")},
        index=["x", "y"],
    )
    ax = plots.intervals(table, {"a": "A", "b": "B"}, "points", zero=0).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y"]
    assert len(ax.containers) == 1
    assert plots.intervals(table.iloc[:0], {"a": "A"}, "points").texts


def test_methods_have_a_panel_a_measure_and_a_row_a_cohort():
    index = pd.MultiIndex.from_product([["here", "there"], ["m", "n"]])
    table = pd.DataFrame(
        {"sees": ["the image", "its masks"] * 2, "dice": [0.1, 0.2, 0.3, 0.4]}, index
    )
    figure = plots.methods_compared(table, {"dice": "Dice"}, {"dice": True})
    assert len(figure.axes) == 2
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["m", "n"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["the image", "its masks"]
    assert plots.methods_compared(table.iloc[:0], {"dice": "Dice"}, {}).texts


def test_pictures_stand_in_the_order_asked_for():
    image, mask = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8))
    figure = plots.expertness_pictures(image, {"a": mask, "b": mask}, ["b", "a"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "b", "a"]
