"""Figures of the diagnosis and of the gain show what they are given, at sizes from one up."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from iavlib import plots, stats


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def sample(n=200, seed=0):
    rng = np.random.default_rng(seed)
    malignant = rng.random(n) < 0.3
    return malignant, 1 / (1 + np.exp(1 - rng.normal(size=n) - 1.2 * malignant))


def gains(datasets=("ph2", "isic2017"), backbones=("resnet18", "mobilenetv2"), seeds=3):
    rng = np.random.default_rng(1)
    rows = [(d, b, s) for d in datasets for b in backbones for s in range(seeds)]
    table = pd.DataFrame(rows, columns=["dataset", "backbone", "seed"])
    table = table.assign(control=rng.normal(0.7, 0.02, len(table)))
    table = table.assign(gain=rng.normal(0.03, 0.02, len(table)))
    return table.assign(treatment=table["control"] + table["gain"])


def legend_of(ax):
    legend = ax.get_legend() or ax.figure.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_roc_names_areas_and_marks_the_threshold():
    malignant, score = sample()
    curve, area = stats.roc_curve(malignant, score), stats.auroc(malignant, score)
    band = stats.roc_band(malignant, score, n_boot=20)
    (ax,) = plots.roc({"a": curve}, {"a": area}, {"a": band}, {"a": (0.7, 0.8)}).axes
    assert legend_of(ax) == [f"a: {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"]
    line, dot, _ = ax.lines
    assert line.get_ydata().tolist() == curve["sensitivity"].tolist()
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx((0.2, 0.7))
    assert len(ax.collections) == 1


def test_area_under_the_drawn_steps_is_the_average_precision():
    malignant, score = sample()
    curve = stats.precision_recall_curve(malignant, score)
    average = stats.classification_scores(malignant, score, n_boot=2).loc["average_precision"]
    value = average["estimate"]
    (ax,) = plots.precision_recall({"a": curve}, {"a": value}, malignant.mean()).axes
    recall, precision = ax.lines[0].get_data()
    assert ax.lines[0].get_drawstyle() == "steps-pre"
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(value)
    assert legend_of(ax)[-1] == f"guessing: {malignant.mean():.3f}"


@pytest.mark.parametrize("n_models", [1, 2])
def test_reliability_counts_every_image(n_models):
    malignant, score = sample()
    curves = {f"model {i}": stats.reliability_curve(malignant, score) for i in range(n_models)}
    top, bottom = plots.reliability(curves).axes
    assert sum(bar.get_height() for bar in bottom.patches) == n_models * len(score)
    filled = (curves["model 0"]["n"] > 0).sum()
    assert len(top.containers[0].lines[0].get_xdata()) == filled
    assert legend_of(top) == list(curves)


def test_subgroups_too_small_say_so():
    malignant, score = sample()
    site = np.where(np.arange(200) < 8, "palms", "torso")
    table = stats.scores_by_group(malignant, score, {"site": site}, n_boot=20)
    (ax,) = plots.subgroup_forest(table).axes
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[0] == f"all  ({malignant.sum()} of 200)"
    assert [text.get_text() for text in ax.texts] == [table.loc[("site", "palms"), "note"]]
    assert len(ax.containers[0].lines[0].get_xdata()) == 2


def test_each_pair_is_a_line():
    table = gains()
    axes = plots.paired_runs(table).axes
    assert [ax.get_title() for ax in axes] == ["isic2017", "ph2"]
    slopes = [line for ax in axes for line in ax.lines if len(line.get_xdata()) == 2]
    assert len(slopes) == len(table)
    drawn = sorted(np.diff(line.get_ydata())[0] for line in slopes)
    assert drawn == pytest.approx(sorted(table["gain"]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_gains_and_their_averages(seeds):
    table = gains(seeds=seeds)
    averages = stats.average_gain(table, n_boot=20)
    (ax,) = plots.gain_forest(table, averages, reported=0.042).axes
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[0] == f"isic2017, mobilenetv2  (n {seeds})"
    assert labels[-1] == "average (drawn again: dataset, backbone, seed)"
    assert "reported" in legend_of(ax)
    one = averages.iloc[:1].rename(index={"seed": "mixed model"}).rename_axis("")
    (ax,) = plots.gain_forest(table, one).axes
    assert ax.get_yticklabels()[-1].get_text() == "mixed model"


def test_single_pair_can_be_drawn():
    table = gains(("ph2",), ("resnet18",), 1)
    assert len(plots.paired_runs(table).axes) == 1
    assert len(plots.gain_forest(table, stats.average_gain(table, n_boot=10)).axes) == 1


def test_ablation_has_a_line_a_backbone():
    alphas = (0.1, 0.5, 0.9, 1.0)
    rows = [
        (a, b, s, 0.7 + 0.01 * s) for a in alphas for b in ("resnet18", "vgg16") for s in (0, 1)
    ]
    runs = pd.DataFrame(rows, columns=["alpha", "backbone", "seed", "balanced_accuracy"])
    (ax,) = plots.alpha_ablation(runs).axes
    assert set(legend_of(ax)) == {"resnet18", "vgg16", "diagnosis alone"}
    assert ax.get_xticks().tolist() == list(alphas)
    assert [c.lines[0].get_ydata().tolist() for c in ax.containers] == [
        pytest.approx([0.705] * 4)
    ] * 2


def test_training_sizes_have_a_panel_a_dataset():
    rows = [
        (d, n, start, s, 0.6 + n / 1000)
        for d in ("ph2", "isic2017")
        for n in (20, 140)
        for start in ("ImageNet", "multi-task")
        for s in (0, 1)
    ]
    columns = ["dataset", "n_train", "start", "seed", "balanced_accuracy"]
    runs = pd.DataFrame(rows, columns=columns)
    figure = plots.training_size_curves(runs)
    assert [ax.get_title() for ax in figure.axes] == ["isic2017", "ph2"]
    assert legend_of(figure.axes[0]) == ["ImageNet", "multi-task"]
    assert figure.axes[0].get_xscale() == "log"
    alone = plots.training_size_curves(runs[runs["dataset"] == "ph2"].drop(columns="dataset"))
    assert len(alone.axes) == 1


def test_subgroups_that_are_all_too_small_are_said_to_be():
    malignant, score = sample(12)
    groups = pd.DataFrame({"sex": ["f", "m"] * 6})
    table = stats.scores_by_group(malignant, score, groups, min_per_class=100, n_boot=10)
    assert table["auroc"].isna().all()
    ax = plots.subgroup_forest(table).axes[0]
    assert len(ax.texts) >= len(table)
