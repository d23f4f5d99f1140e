"""Figures of annotators' preferences."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from iavlib import plots
from iavlib.multiannotator import MultiAnnotatorSet
from iavlib.multiannotator.prediction import Prediction


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_best_of_each_row_is_framed():
    table = pd.DataFrame(
        [[0.9, 0.2, 0.5], [0.8, np.nan, 0.4]], index=["a", "b"], columns=["a", "b", "mean_vote"]
    )
    ax = plots.dice_matrices({"avap": table}).axes[0]
    assert [one.get_xy() for one in ax.patches] == [(-0.5, -0.5), (-0.5, 0.5)]
    assert [t.get_text() for t in ax.texts] == ["0.90", "0.20", "0.50", "0.80", "", "0.40"]
    assert "No finished run" in plots.dice_matrices({}).texts[0].get_text()


def test_pictures_tell_soft_and_hard_dice_and_who_is_missing():
    labels = np.zeros((1, 2, 8, 8), np.int8)
    labels[0, 0, :4], labels[0, 1] = 1, -1
    images, ids = np.zeros((1, 8, 8, 1), np.uint8), pd.Index(["x"])
    data = MultiAnnotatorSet("made", images, labels, ("a", "b"), 2, ids)
    inside = (labels[0, 0] == 1).astype(np.float32)
    maps = np.stack([1 - inside, inside])[None]
    found = Prediction(ids, ("a", "b"), maps, np.stack([maps, maps], 1), np.zeros((1, 2, 8, 8)))
    figure = plots.annotator_pictures(found, data)
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == ["1.00 1.00", "no label", "1.00 1.00"]
    assert [ax.get_title() for ax in figure.axes] == ["picture", "a", "b", "all"]


def test_reliability_has_a_line_a_run():
    table = pd.DataFrame({"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "n": [5, 5]})
    ax = plots.agreement_reliability({"mean": [table, table], "argmax": [table]}).axes[0]
    assert len(ax.lines) == 1 + 3
    assert ax.get_legend_handles_labels()[1] == ["mean", "argmax"]
    assert isinstance(plots.agreement_reliability({}), plt.Figure)
