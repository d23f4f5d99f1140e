"""Figures of explanations."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from iavlib import plots
from iavlib.experiments.tasks.explaining import Example


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_overlays_show_outlines_and_say_when_a_map_is_empty():
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    wider = np.roll(mask, 2, axis=1)
    maps = {"lowers": np.zeros((16, 16)), "raises": np.linspace(0, 1, 256).reshape(16, 16)}
    example = Example(
        "ISIC_1",
        np.zeros((16, 16, 3), np.uint8),
        maps,
        (mask, wider),
        mask | wider,
        mask ^ wider,
        0.8,
    )
    axes = plots.overlays([example, example]).axes
    assert len(axes) == 6
    assert "ISIC_1, predicted 0.80" in axes[0].get_title()
    assert axes[1].get_title() == "lowers" and axes[1].texts[0].get_text() == "empty"
    assert not axes[2].texts
    assert "No network" in plots.overlays([]).texts[0].get_text()


def test_forest_has_a_panel_a_region():
    index = pd.MultiIndex.from_product([["a", "b"], ["band", "lesion"]], names=["method", "region"])
    table = pd.DataFrame({"ratio": [1.2, 0.5, np.nan, 2.0]}, index=index)
    table = table.assign(ci_low=table["ratio"] - 0.1, ci_high=table["ratio"] + 0.1)
    band, lesion = plots.attribution_forest(table, ["band", "lesion", "cause"]).axes
    assert band.get_title() == "band" and lesion.get_title() == "lesion"
    assert [text.get_text() for text in band.get_yticklabels()] == ["a", "b"]
    assert "No explained" in plots.attribution_forest(table, ["cause"]).texts[0].get_text()


def test_lines_matrix_and_gains():
    cascade = pd.DataFrame(
        {"stage": ["heads", "stage 1"] * 2, "method": list("aabb"), "spearman": 0.5, "ssim": 0.4}
    )
    ranks, similar = plots.cascade_lines(cascade, 0.5).axes
    assert [text.get_text() for text in ranks.get_xticklabels()] == ["heads", "stage 1"]
    assert similar.get_legend_handles_labels()[1] == ["a", "b"]
    table = pd.DataFrame([[1, np.nan], [np.nan, 1]], ["a", "b"], ["a", "b"])
    texts = [text.get_text() for text in plots.agreement_matrix(table).axes[0].texts]
    assert texts == ["1.00", "", "", "1.00"]
    gains = pd.DataFrame(
        {"gain": [0.1], "gain_low": [0.0], "gain_high": [0.2]},
        index=pd.MultiIndex.from_tuples([("lowers", "a")], names=["target", "method"]),
    )
    (ax,) = plots.gain_bars(gains, ["gain"]).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["lowers, a"]
    for empty in (
        plots.cascade_lines(cascade.head(0), 0.5),
        plots.agreement_matrix(table.iloc[:0]),
        plots.gain_bars(gains.head(0), ["gain"]),
    ):
        assert "No run" in empty.texts[0].get_text()
