"""Figures of predictions and models: drawn from small tables, each shows what it is given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from iavlib import plots, stats
from iavlib.plots.prediction import _alike, _density


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    true = generator.beta(6, 2, 80)
    predicted = np.clip(0.5 * true + 0.35 + 0.05 * generator.normal(size=80), 0, 1)
    malignancy = generator.choice(["benign", "malignant", None], 80, p=[0.6, 0.3, 0.1])
    table = {"true": true, "predicted": predicted, "malignancy": malignancy}
    return pd.DataFrame(table, index=[f"image{i}" for i in range(80)])


def texts(figure) -> list[str]:
    boxes = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for box in boxes for text in box.get_texts()]


def test_predicted_against_true_has_all_points_and_both_margins(predictions):
    figure = plots.predicted_against_true(predictions)
    top, _, main, right = figure.axes
    points = np.concatenate([c.get_offsets() for c in main.collections])
    assert len(points) == 80
    assert sum(bar.get_height() for bar in top.patches) == 80
    assert sum(bar.get_width() for bar in right.patches) == 80
    assert (main.get_xlabel(), main.get_ylabel()) == (
        "predicted mean pairwise Dice",
        "true mean pairwise Dice",
    )
    slope = stats.regression_errors(predictions["true"], predictions["predicted"], n_boot=2)
    assert f"least squares, slope {slope.loc['slope', 'estimate']:.2f}" in texts(figure)
    assert any(text.startswith("unknown (") for text in texts(figure))


def test_constant_predictions_without_malignancy_can_be_drawn(predictions):
    constant = predictions[["true"]].assign(predicted=0.8)
    assert texts(plots.predicted_against_true(constant)) == ["predicted = true"]
    plots.residuals(constant)


def test_residuals_show_their_mean(predictions):
    main, side = plots.residuals(predictions, bins=4).axes
    assert len(main.collections[0].get_offsets()) == 80
    means = main.lines[0].get_ydata()
    error = predictions["predicted"] - predictions["true"]
    assert len(means) == 4 and np.mean(means) == pytest.approx(error.mean())
    assert sum(bar.get_width() for bar in side.patches) == 80
    plots.residuals(predictions.head(3))


def test_densities_integrate_to_one_within_the_range(predictions):
    left, right = plots.prediction_densities(predictions).axes
    assert (left.get_title(), right.get_title()) == ("true", "predicted")
    for ax in (left, right):
        for line in ax.lines[::2]:
            x, y = line.get_data()
            assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
    at_the_end = _density(
        pd.Series(np.random.default_rng(0).uniform(size=4000)), np.array([0.0, 1.0])
    )
    assert at_the_end == pytest.approx([1, 1], abs=0.12)  # not halved by the end of the range


def test_coverage_is_in_per_cent_and_widths_start_at_zero(predictions):
    folds = np.arange(80) % 4
    interval = stats.out_of_fold_intervals(
        predictions["true"], predictions["predicted"], folds, 0.2
    )
    table = stats.interval_coverage(
        predictions["true"], interval["lower"], interval["upper"], predictions["malignancy"]
    )
    figure = plots.coverage_and_width({"one": table, "two": table.drop(index="missing")}, 0.8)
    left, right = figure.axes
    assert left.lines[0].get_xdata() == pytest.approx(100 * table["coverage"])
    assert right.get_xlim()[0] == 0
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[-1] == "all (n 80)" and len(labels) == len(table)
    assert texts(figure) == ["one", "two"]


def test_intervals_mark_what_they_miss(predictions):
    interval = {"lower": predictions["predicted"] - 0.05, "upper": predictions["predicted"] + 0.05}
    table = predictions.assign(**interval)
    (ax,) = plots.prediction_intervals(table).axes
    inside, outside = (len(c.get_offsets()) for c in ax.collections[1:])
    covered = stats.interval_coverage(table["true"], table["lower"], table["upper"])
    assert (inside, inside + outside) == (covered.loc["all", "covered"], 80)


@pytest.fixture
def errors():
    generator = np.random.default_rng(1)
    values = 0.12 + 0.01 * generator.normal(size=(3, 5))
    index = pd.Index([0, 1, 2], name="seed")
    return pd.DataFrame(values, columns=list("abcde"), index=index)


def test_forest_puts_the_least_error_first_beside_the_baselines():
    table = pd.DataFrame(
        {"estimate": [0.13, 0.12], "ci_low": [0.12, 0.11], "ci_high": [0.14, 0.13]}
    )
    table.index = ["vgg16", "resnet18"]
    table["random"] = [True, False]
    figure = plots.model_forest(table, {"constant median": 0.141})
    (ax,) = figure.axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["resnet18", "vgg16 (random weights)"]
    assert ax.yaxis_inverted()
    assert texts(figure) == ["constant median 0.141"]
    plots.model_forest(table.drop(columns="random"))


def test_seeds_are_joined(errors):
    figure = plots.paired_by_seed(errors)
    (ax,) = figure.axes
    assert [list(line.get_ydata()) for line in ax.lines] == errors.to_numpy().tolist()
    assert texts(figure) == ["0", "1", "2", "mean"]
    assert plots.paired_by_seed(errors.sample(12, replace=True, random_state=0)).legends == []


def test_learning_curve_joins_the_mean_of_each_size():
    rows = [(10, 0.2), (10, 0.3), (100, 0.1), (100, 0.2)]
    table = pd.DataFrame(rows, columns=["n_train", "error"])
    figure = plots.learning_curve(table, {"constant median": 0.3})
    (ax,) = figure.axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([0.25, 0.15])
    assert ax.get_xlabel() == "training images"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    assert "constant median 0.300" in texts(figure)
    both = pd.concat([table.assign(model="probe"), table.assign(model="fine-tuned")])
    assert texts(plots.learning_curve(both)) == ["probe, mean", "fine-tuned, mean"]


def test_bars_join_what_the_critical_difference_cannot_tell_apart(errors):
    # Demšar's example at 10 %: C4.5 differs from both tuned with m, cf from neither group.
    assert _alike(np.array([1.964, 2.000, 2.893, 3.143]), 1.12) == [(0, 2), (2, 3)]
    assert _alike(np.array([1.0, 2.0]), 0.5) == []
    assert _alike(np.array([1.0, 2.0, 3.0]), 5) == [(0, 2)]
    ranks = stats.friedman(errors).mean_ranks
    (ax,) = plots.critical_difference(ranks, 1.0).axes
    assert len(ax.get_yticklabels()) == 5


def test_orders_of_images_are_drawn_between_chance_and_the_best():
    loss = pd.Series(np.random.default_rng(0).beta(1, 4, 60))
    scores = pd.DataFrame({"by model": loss + 0.1, "by nothing": 0.0})
    (ax,) = plots.triage_curves(loss, scores).axes
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert set(drawn) == {"by model", "by nothing", "best possible", "random order"}
    np.testing.assert_allclose(drawn["by model"], drawn["best possible"])
    np.testing.assert_allclose(drawn["by nothing"], drawn["random order"])
