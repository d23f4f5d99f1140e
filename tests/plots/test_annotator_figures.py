"""Figures of learning from several annotators."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from iavlib import multiannotator as annotators, plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_matrices_stand_above_the_true_ones():
    learnt = np.array([[[0.9, 0.2], [0.1, 0.8]], [[0.6, np.nan], [0.4, np.nan]]])
    figure = plots.confusion_pictures(learnt, learnt, ["a", "b"])
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == ["a", "b", "", ""]
    assert [t.get_text() for t in figure.axes[0].texts] == ["0.90", "0.20", "0.10", "0.80"]
    assert len(plots.confusion_pictures(learnt, None, ["a", "b"], largest=1).axes) == 2


def test_rates_are_drawn_one_point_an_annotator():
    learnt = np.array([[[0.9, 0.2], [0.1, 0.8]], [[0.6, 0.5], [0.4, 0.5]]])
    rates = annotators.error_rates(learnt, ["a", "b"])
    left, right = plots.rates_learnt_against_true(rates, rates).axes
    points = left.collections[0].get_offsets()
    assert [tuple(np.round(one, 2)) for one in points] == [(0.1, 0.1), (0.4, 0.4)]
    assert right.get_xlabel() == "true false-negative rate"


def test_curves_have_a_line_a_model_and_tell_when_there_is_nothing():
    table = pd.DataFrame({"level": [0, 1, 0, 1], "method": list("aabb"), "dice": [1, 0.9, 1, 0.5]})
    (ax,) = plots.curves(table, "level", "method", {"dice": "Dice"}, "noise").axes
    assert ax.get_legend_handles_labels()[1] == ["a", "b"] and ax.get_xlabel() == "noise"
    empty = plots.curves(table.head(0), "level", "method", {"dice": "Dice"}, "noise")
    assert "No finished run" in empty.texts[0].get_text()


def test_the_network_is_drawn():
    texts = [text.get_text() for text in plots.confusion_architecture().axes[0].texts]
    assert "picture" in texts and any("A_r(x) p(x)" in text for text in texts)
