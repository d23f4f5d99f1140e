"""Distributions of a cohort and of predictions count every row they are given."""

import numpy as np
import pandas as pd
import pytest

from iavlib import plots, stats


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    n = 120
    columns = {"image_id": rng.integers(0, 50, n).astype(str)}
    columns |= {f: rng.choice(list("ABC"), n) for f in ("annotator", "tool", "skill")}
    return pd.DataFrame(columns)


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    true = generator.beta(6, 2, 80)
    predicted = np.clip(0.5 * true + 0.35 + 0.05 * generator.normal(size=80), 0, 1)
    malignancy = generator.choice(["benign", "malignant", None], 80, p=[0.6, 0.3, 0.1])
    table = {"true": true, "predicted": predicted, "malignancy": malignancy}
    return pd.DataFrame(table, index=[f"image{i}" for i in range(80)])


def heights(ax) -> list[float]:
    return [bar.get_height() for bar in ax.patches]


def texts(figure) -> list[str]:
    boxes = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for box in boxes for text in box.get_texts()]


def test_bars_count_the_masks(masks):
    counts = {name: masks[name].value_counts() for name in ("annotator", "tool")}
    for ax in plots.count_bars(counts, "masks").axes:
        assert sum(heights(ax)) == len(masks)
    assert not plots.count_bars({}, "masks").axes


def test_upset_counts_images(masks):
    names = masks.groupby("image_id")["annotator"].agg(lambda names: ", ".join(sorted(set(names))))
    top, left = (plots.annotator_overlap(names.value_counts()).axes[n] for n in (1, 2))
    assert sum(heights(top)) == masks["image_id"].nunique()
    per_annotator = masks.groupby("annotator")["image_id"].nunique()
    widths = sorted(bar.get_width() for bar in left.patches)
    assert widths == sorted(per_annotator)


def test_histograms_show_shares_of_each_group():
    bins = pd.DataFrame({"low": [0, 0.5] * 2, "high": [0.5, 1] * 2, "count": [1, 3, 20, 20]})
    bins = bins.assign(panel="Dice", group=["malignant", "malignant", "benign", "benign"])
    (ax,) = plots.histograms(bins, "images").axes
    assert [list(patch.get_data()[0]) for patch in ax.patches] == [[25, 75], [50, 50]]
    assert texts(ax.figure) == ["malignant (n 4)", "benign (n 40)"]


def test_completeness_is_a_percentage():
    (ax,) = plots.completeness(pd.Series({"age": 0.5, "sex": 1.0})).axes
    assert [bar.get_width() for bar in ax.patches] == [50, 100]


def test_predicted_against_true_has_all_points_and_both_margins(predictions):
    figure = plots.predicted_against_true(predictions)
    main, top, right = figure.axes
    assert sum(len(c.get_offsets()) for c in main.collections) == 80
    assert sum(heights(top)) == sum(bar.get_width() for bar in right.patches) == 80
    assert main.get_xlabel() == "predicted mean pairwise Dice"
    slope = stats.regression_errors(predictions["true"], predictions["predicted"], n_boot=2)
    assert f"least squares, slope {slope.loc['slope', 'estimate']:.2f}" in texts(figure)
    assert any(text.startswith("unknown (") for text in texts(figure))


def test_constant_predictions_without_malignancy_can_be_drawn(predictions):
    constant = predictions[["true"]].assign(predicted=0.8)
    assert texts(plots.predicted_against_true(constant)) == ["predicted = true"]
    plots.residuals(constant)


def test_residuals_show_their_mean(predictions):
    main, side = plots.residuals(predictions).axes
    assert len(main.collections[0].get_offsets()) == 80
    means = main.lines[0].get_ydata()
    error = predictions["predicted"] - predictions["true"]
    assert len(means) == 8 and np.mean(means) == pytest.approx(error.mean())
    assert sum(bar.get_width() for bar in side.patches) == 80
    plots.residuals(predictions.head(3))
