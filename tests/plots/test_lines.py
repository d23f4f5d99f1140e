"""Curves: means of runs, ROC, reliability, dominance and triage show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from iavlib import plots, stats


def legend_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def sample(n=200, seed=0):
    rng = np.random.default_rng(seed)
    malignant = rng.random(n) < 0.3
    return malignant, 1 / (1 + np.exp(1 - rng.normal(size=n) - 1.2 * malignant))


def test_curves_have_a_line_per_model_through_the_means():
    runs = pd.DataFrame({"level": [0, 0, 1, 1] * 2, "method": list("aaaabbbb")})
    runs["dice"] = [1, 0.8, 0.9, 0.7, 1, 1, 0.5, 0.3]
    (ax,) = plots.curves(runs, "level", "method", {"dice": "Dice"}, "noise").axes
    assert legend_of(ax) == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("noise", "Dice")
    means = [line.get_ydata().astype(float) for line in ax.lines if len(line.get_xdata()) == 2]
    drawn = [tuple(np.round(values, 3)) for values in means]
    assert (0.9, 0.8) in drawn and (1.0, 0.4) in drawn
    empty = plots.curves(runs.head(0), "level", "method", {"dice": "Dice"}, "noise")
    assert "No finished run" in empty.texts[0].get_text()


def test_curves_have_panels_baselines_and_intervals_of_the_callers_choice():
    rows = [
        (dataset, n, start, 0.6 + n / 1000 + seed / 100)
        for dataset in ("ph2", "isic2017")
        for n in (20, 140)
        for start in ("ImageNet", "multi-task")
        for seed in (0, 1, 2)
    ]
    runs = pd.DataFrame(rows, columns=["dataset", "n_train", "start", "score"])
    figure = plots.curves(
        runs,
        "n_train",
        "start",
        {"score": "balanced accuracy"},
        "training images",
        log=True,
        panels="dataset",
        errorbar=lambda values: stats.mean_interval(values).interval,
        lines={"guessing": 0.5},
    )
    assert [ax.get_title() for ax in figure.axes] == ["isic2017", "ph2"]
    assert legend_of(figure.axes[1]) == ["ImageNet", "multi-task", "guessing 0.500"]
    assert figure.axes[0].get_legend() is None and figure.axes[0].get_xscale() == "log"
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["20", "140"]
    expected = stats.mean_interval([0.62, 0.63, 0.64]).interval
    segments = [s for c in figure.axes[0].containers for s in c.lines[2][0].get_segments()]
    assert any(np.allclose(s[:, 1], expected) for s in segments)
    alone = runs.drop(columns=["dataset", "start"])
    assert (
        len(plots.curves(alone, "n_train", None, {"score": "s"}, "n", panels="dataset").axes) == 1
    )


def test_cascade_has_its_stages_in_order():
    cascade = pd.DataFrame(
        {"stage": ["heads", "stage 1"] * 2, "method": list("aabb"), "spearman": 0.5, "ssim": 0.4}
    )
    ranks, similar = plots.cascade_lines(cascade, 0.5).axes
    assert [text.get_text() for text in ranks.get_xticklabels()] == ["heads", "stage 1"]
    assert legend_of(similar) == ["a", "b"]
    assert "No run" in plots.cascade_lines(cascade.head(0), 0.5).texts[0].get_text()


def test_roc_names_areas():
    malignant, score = sample()
    curve, area = stats.roc_curve(malignant, score), stats.auroc(malignant, score)
    (ax,) = plots.roc({"a": curve}, {"a": area}).axes
    assert legend_of(ax) == [f"a: {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"]
    assert ax.lines[0].get_ydata().tolist() == curve["sensitivity"].tolist()


def test_agreement_reliability_has_a_line_per_run():
    table = pd.DataFrame({"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "n": [5, 5]})
    ax = plots.agreement_reliability({"mean": [table, table.copy()], "argmax": [table]}).axes[0]
    assert len(ax.lines) == 1 + 3
    assert legend_of(ax) == ["mean", "argmax"]
    assert isinstance(plots.agreement_reliability({}), plt.Figure)


def test_dominance_ends_at_one():
    dice, malignant = np.random.default_rng(0).random(40), np.arange(40) < 15
    result = stats.first_order_dominance(dice, malignant, n_permutations=20)
    top, bottom = plots.dominance_curves(result.curves).axes
    assert top.lines[0].get_ydata()[-1] == 1
    assert legend_of(top) == ["benign", "malignant"] and bottom.get_xlabel() == "Dice"


def test_orders_of_images_are_drawn_between_chance_and_the_best():
    loss = np.random.default_rng(0).beta(1, 4, 60)
    scores = {"by model": loss + 0.1, "by nothing": np.zeros(60), "best possible": loss}
    orders = {name: stats.triage_curve(loss, score) for name, score in scores.items()}
    (ax,) = plots.triage_curves(orders).axes
    drawn = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert set(drawn) == {*orders, "random order"}
    np.testing.assert_allclose(drawn["by model"], drawn["best possible"])
    np.testing.assert_allclose(drawn["by nothing"], drawn["random order"])
