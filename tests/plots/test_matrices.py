"""Matrices show the number of every cell that has one."""

import numpy as np
import pandas as pd
import pytest

from iavlib import plots


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_factor_levels_with_counts_in_the_lower_triangle():
    means = pd.DataFrame([[0.9, 0.7], [0.7, np.nan]], list("ab"), list("ab"))
    counts = pd.DataFrame([[1200, 3], [3, 0]], list("ab"), list("ab"))
    (ax,) = plots.factor_heatmaps({"tool": (means, counts)}).axes
    assert ax.get_title() == "mean Dice by tool"
    assert [text for text in texts(ax) if text] == ["0.90\n1,200", "0.70\n3"]
    assert "recorded" in plots.factor_heatmaps({}).texts[0].get_text()


def test_matrices_stand_above_the_true_ones():
    learnt = np.array([[[0.9, 0.2], [0.1, 0.8]], [[0.6, np.nan], [0.4, np.nan]]])
    figure = plots.confusion_maps(learnt, learnt, ["a", "b"])
    assert [ax.get_title() for ax in figure.axes[:4]] == ["a", "b", "", ""]
    assert texts(figure.axes[0]) == ["0.90", "0.20", "0.10", "0.80"]
    assert len(plots.confusion_maps(learnt, None, ["a", "b"], max_annotators=1).axes) == 2


def test_the_best_of_each_row_is_framed():
    table = pd.DataFrame(
        [[0.9, 0.2, 0.5], [0.8, np.nan, 0.4]], index=["a", "b"], columns=["a", "b", "mean_vote"]
    )
    ax = plots.dice_matrices({"avap": table}).axes[0]
    assert [frame.get_xy() for frame in ax.patches] == [(0, 0), (0, 1)]
    assert [text for text in texts(ax) if text] == ["0.90", "0.20", "0.50", "0.80", "0.40"]
    assert "No finished run" in plots.dice_matrices({}).texts[0].get_text()


@pytest.mark.parametrize("rows", [0, 2])
def test_correlations(rows):
    table = pd.DataFrame([[1, np.nan], [np.nan, 1]], ["a", "b"], ["a", "b"]).iloc[:rows]
    figure = plots.agreement_matrix(table)
    if rows:
        assert [text for text in texts(figure.axes[0]) if text] == ["1.00", "1.00"]
    else:
        assert "No run" in figure.texts[0].get_text()
