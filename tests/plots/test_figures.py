"""Every figure can be drawn, from the smallest table to a usual one, and shows what it is given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from iavlib import plots, stats
from iavlib.agreement import labelled_images, labelled_pairs


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    from iavlib.data.datasets import phantom

    return phantom.load(n_images=60, size=(96, 72), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def heights(ax) -> list[float]:
    return [bar.get_height() for bar in ax.patches]


def test_bars_count_the_masks(cohort):
    annotator, tool, skill = plots.long_tails(cohort.masks).axes
    assert sum(heights(annotator)) == sum(heights(tool)) == sum(heights(skill)) == len(cohort.masks)
    masks, annotators = plots.masks_per_image(cohort.masks).axes
    assert sum(heights(masks)) == sum(heights(annotators)) == len(cohort.images)


def test_upset_counts_images(cohort):
    figure = plots.annotator_overlap(cohort.masks, most=1000)
    top = figure.axes[1]
    assert sum(heights(top)) == len(cohort.images)


def test_distributions_have_a_panel_a_metric(cohort):
    figure = plots.metric_distributions(cohort.pairs, ("dice", "assd_normalized"))
    assert [ax.get_xlabel() for ax in figure.axes] == ["Dice", "ASSD / diagonal"]
    assert sum(heights(figure.axes[0])) == len(cohort.pairs)


def test_completeness_is_a_percentage(cohort):
    (ax,) = plots.completeness(cohort.images).axes
    widths = [bar.get_width() for bar in ax.patches]
    assert max(widths) == 100
    assert min(widths) == 100 * cohort.images.notna().mean().min()


def test_outlines_of_chosen_examples(cohort):
    chosen = plots.examples_by_agreement(cohort, n=4)
    mean = cohort.pairs.groupby("image_id")["dice"].mean()[chosen]
    assert mean.is_monotonic_increasing
    assert mean.iloc[0] == cohort.pairs.groupby("image_id")["dice"].mean().min()
    figure = plots.outlines(cohort, chosen)
    titled = [ax for ax in figure.axes if ax.get_title()]
    assert len(titled) == 4
    assert all(len(ax.images) == 1 for ax in titled)


def test_a_cropped_image_gets_no_outline(cohort):
    from dataclasses import replace

    image = cohort.images.index[0]
    cropped = replace(cohort, images=cohort.images.assign(geometry="cropped"))
    assert plots.examples_by_agreement(cropped) == []
    (ax,) = [ax for ax in plots.outlines(cropped, [image]).axes if ax.get_title()]
    assert not ax.collections


def test_no_files_no_examples(cohort):
    from dataclasses import replace

    bare = replace(cohort, images=cohort.images.assign(path=None))
    assert plots.examples_by_agreement(bare) == []


def test_association_figures(cohort):
    pairs = labelled_pairs(cohort)
    images = labelled_images(pairs)
    assert len(plots.by_malignancy({"pairs": pairs, "images": images}).axes) == 2
    dominance = stats.first_order_dominance(
        images["dice"], images["malignant"], images["cluster"], n_permutations=20
    )
    top, _ = plots.dominance_curves(dominance).axes
    assert top.lines[0].get_ydata()[-1] == 1
    matrices = {f: stats.factor_matrix(pairs, f, n_boot=20) for f in ("tool", "skill")}
    figure = plots.factor_heatmaps(matrices)
    assert [ax.get_title() for ax in figure.axes] == ["mean Dice by tool", "mean Dice by skill"]


def test_forest_keeps_the_order_of_the_table():
    table = pd.DataFrame(
        {"estimate": [-1.0, 0.5], "ci_low": [-2.0, 0.1], "ci_high": [0.0, np.inf]},
        index=["first", "second"],
    ).replace(np.inf, 0.9)
    (ax,) = plots.forest(table, "effect").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert ax.yaxis_inverted()
