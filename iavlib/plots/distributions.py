"""Distributions: what a cohort holds, agreement by malignancy, predicted against true numbers."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, notice

_AGREEMENT = "mean pairwise Dice"
_MALIGNANCY = {"benign": "o", "malignant": "^", "indeterminate": "s", "unknown": "s"}
#: Room beyond 0 and 1, or beyond values that lie outside, so that values at the limits are visible.
_PAD = 0.02


def count_bars(counts: Mapping[str, pd.Series], label: str) -> Figure:
    """Draw counts as bars on a logarithmic axis, one panel per kind of group.

    Parameters
    ----------
    counts : mapping of str to Series
        What the groups are (annotators, tools) to the count of each group.
    label : str
        What is counted.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> counts = {"annotator": pd.Series([5, 3], ["A1", "A2"]), "tool": pd.Series([8], ["T1"])}
    >>> [ax.get_xlabel() for ax in plots.count_bars(counts, "masks").axes]
    ['annotator', 'tool']
    """
    if not counts:
        return notice("Nothing to count is recorded.")
    widths = [max(3, len(of_kind)) + 1 for of_kind in counts.values()]
    size, ratios = (min(1.5 + 0.33 * sum(widths), 11), 3), {"width_ratios": widths}
    figure, axes = plt.subplots(
        1, len(counts), figsize=size, sharey=True, squeeze=False, gridspec_kw=ratios
    )
    for ax, (kind, of_kind) in zip(axes.flat, counts.items(), strict=True):
        bars = ax.bar(of_kind.index.astype(str), of_kind, color=COLOURS["neutral"])
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=7)
        ax.set(xlabel=kind, yscale="log")
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", labelsize=8, rotation=60 if len(of_kind) > 12 else 0)
    axes[0, 0].set_ylabel(label)
    return figure


def annotator_overlap(counts: pd.Series, max_sets: int = 20) -> Figure:
    """Draw which sets of annotators share images (an UpSet plot).

    Parameters
    ----------
    counts : Series
        Number of images of each set of annotators, the most frequent first; the index names the
        sets, ``"A1, A2"``.
    max_sets : int
        Number of sets shown.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> counts = pd.Series([7, 3], ["A1, A2", "A1"])
    >>> plots.annotator_overlap(counts).axes[1].get_title()
    '2 of 2 sets, 100% of images'
    """
    if counts.empty:
        return notice("No image has masks of several annotators.")
    members_of = [tuple(names.split(", ")) for names in counts.index]
    totals = pd.Series(0, sorted({name for names in members_of for name in names}))
    for names, n in zip(members_of, counts, strict=True):
        totals[list(names)] += n
    shown = counts.head(max_sets)
    members = sorted({name for names in members_of[:max_sets] for name in names})
    figure, axes = plt.subplots(
        2, 2, figsize=(9, 5), sharex="col", gridspec_kw={"width_ratios": [1, 5]}
    )
    (corner, top), (left, matrix) = axes
    corner.axis("off")
    bars = top.bar(range(len(shown)), shown, color=COLOURS["neutral"])
    top.bar_label(bars, fontsize=7)
    top.set_ylabel("images")
    top.set_title(f"{len(shown)} of {len(counts)} sets, {shown.sum() / counts.sum():.0%} of images")
    rows = {name: row for row, name in enumerate(members)}
    for column, names in enumerate(members_of[:max_sets]):
        inside = sorted(rows[name] for name in names)
        matrix.scatter([column] * len(members), range(len(members)), s=18, color="#DDDDDD")
        matrix.plot([column] * len(inside), inside, "o-", ms=4.5, color=COLOURS["neutral"])
    matrix.set(yticks=range(len(members)), yticklabels=members, xticks=[])
    matrix.set(xlabel="set of annotators", ylim=(len(members) - 0.5, -0.5))
    matrix.grid(visible=False)
    left.barh(range(len(members)), totals[members], color=COLOURS["neutral"])
    left.set(yticks=[], xlabel="all images", ylim=matrix.get_ylim())
    left.invert_xaxis()
    return figure


def histograms(table: pd.DataFrame, unit: str) -> Figure:
    """Draw counted distributions, one panel per quantity and one line per group.

    Parameters
    ----------
    table : DataFrame
        One row per bin: ``panel`` (what is measured, with its unit), ``group``, ``low``, ``high``
        (ends of the bin) and ``count``. Groups are compared by the share of their rows.
    unit : str
        What was counted.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> bins = pd.DataFrame({"low": [0, 0.5], "high": [0.5, 1], "count": [3, 9]})
    >>> bins = bins.assign(panel="Dice", group="all")
    >>> plots.histograms(bins, "pairs of masks").axes[0].get_ylabel()
    'share of pairs of masks (%)'
    """
    panels = list(dict.fromkeys(table["panel"]))
    size = (1 + min(3.6, 9.5 / len(panels)) * len(panels), 2.9)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, panel in zip(axes.flat, panels, strict=True):
        for group, bins in table[table["panel"] == panel].groupby("group", sort=False):
            total, colour = bins["count"].sum(), COLOURS.get(group, COLOURS["neutral"])
            edges = [*bins["low"], bins["high"].iloc[-1]]
            name = f"{group} (n {total:,})"
            ax.stairs(100 * bins["count"] / max(total, 1), edges, lw=1.8, color=colour, label=name)
        ax.set_xlabel(panel, fontsize=9)
        ax.legend(fontsize=7)
    axes[0, 0].set_ylabel(f"share of {unit} (%)")
    return figure


def completeness(share: pd.Series, max_columns: int = 36) -> Figure:
    """Draw for what share of the images each column of the metadata is filled.

    Parameters
    ----------
    share : Series
        Name of the column to share of images, 0 to 1.
    max_columns : int
        The most complete columns are drawn.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> (ax,) = plots.completeness(pd.Series({"age": 0.5})).axes
    >>> print(ax.patches[0].get_width())
    50.0
    """
    share = 100 * share.sort_values().tail(max_columns)
    figure, ax = plt.subplots(figsize=(7, 0.19 * len(share) + 0.8))
    ax.barh(share.index, share, color=COLOURS["neutral"])
    ax.set(xlabel="images with a value (%)", xlim=(0, 100))
    ax.tick_params(axis="y", labelsize=7)
    ax.grid(axis="y", visible=False)
    ax.margins(y=0.01)
    return figure


def predicted_against_true(predictions: pd.DataFrame, label: str = _AGREEMENT) -> Figure:
    """Draw predicted against true values, with the distribution of each at the margins.

    Parameters
    ----------
    predictions : DataFrame
        ``true`` and ``predicted``, and optionally ``malignancy`` and ``image_id`` (else the index).
    label : str
        What is predicted, with its unit.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"true": [0.7, 0.8, 0.9], "predicted": [0.75, 0.8, 0.85]})
    >>> plots.predicted_against_true(table).axes[0].get_xlabel()
    'predicted mean pairwise Dice'
    """
    values = predictions[["true", "predicted"]].to_numpy()
    limits = min(0.0, values.min()) - _PAD, max(1.0, values.max()) + _PAD
    table = predictions.assign(malignancy="all")
    if "malignancy" in predictions:
        table["malignancy"] = predictions["malignancy"].astype(object).fillna("unknown")
    with plt.rc_context({"figure.constrained_layout.use": False}):  # seaborn lays it out itself
        grid = sns.JointGrid(table, x="predicted", y="true", height=5.4, xlim=limits, ylim=limits)
    main = grid.ax_joint
    main.plot(limits, limits, color="black", lw=0.8, label="predicted = true")
    for name, rows in table.groupby("malignancy"):
        style = {
            "marker": _MALIGNANCY.get(name, "o"),
            "color": COLOURS.get(name, COLOURS["neutral"]),
        }
        text = None if name == "all" else f"{name} ({len(rows):,})"
        points = main.scatter(
            rows["predicted"], rows["true"], s=9, alpha=0.5, lw=0, label=text, **style
        )
        points.hover = [  # shown under the pointer by iavlib.book.figure
            f"{image}: predicted {predicted:.2f}, true {true:.2f}"
            for image, predicted, true in zip(
                rows.get("image_id", rows.index), rows["predicted"], rows["true"], strict=True
            )
        ]
    if np.ptp(table["predicted"]) > 0:
        slope, intercept = np.polyfit(table["predicted"], table["true"], 1)
        ends = np.array([table["predicted"].min(), table["predicted"].max()])
        text = f"least squares, slope {slope:.2f}"
        style = {"color": COLOURS["highlight"], "ls": "--", "lw": 1.8, "label": text}
        main.plot(ends, intercept + slope * ends, **style)
    grid.plot_marginals(sns.histplot, bins=np.linspace(*limits, 41), color=COLOURS["neutral"])
    grid.set_axis_labels(f"predicted {label}", f"true {label}")
    main.legend(fontsize=7, loc="upper left", markerscale=1.6)
    return grid.figure


#: Groups of equally many images in :func:`residuals`.
_GROUPS = 8


def residuals(predictions: pd.DataFrame, label: str = _AGREEMENT) -> Figure:
    """Draw the error of each prediction against the prediction, with a running mean.

    Mean and 10 to 90 % range are those of eight groups of equally many images.

    Parameters
    ----------
    predictions : DataFrame
        ``true`` and ``predicted``.
    label : str
        What is predicted, with its unit.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"true": [0.7, 0.8, 0.9], "predicted": [0.75, 0.8, 0.85]})
    >>> plots.residuals(table).axes[0].get_ylabel()
    'predicted - true'
    """
    error = predictions["predicted"] - predictions["true"]
    figure, (ax, side) = plt.subplots(
        1, 2, figsize=(7, 3.4), sharey=True, gridspec_kw={"width_ratios": [4, 1]}
    )
    ax.scatter(predictions["predicted"], error, s=9, alpha=0.4, lw=0, color=COLOURS["neutral"])
    groups = pd.qcut(predictions["predicted"].rank(method="first"), min(_GROUPS, len(error)))
    table = pd.DataFrame({"x": predictions["predicted"], "error": error}).groupby(
        groups.to_numpy(), observed=True
    )
    centre, mean = table["x"].mean(), table["error"].mean()
    low, high = (table["error"].quantile(q) for q in (0.1, 0.9))
    ax.fill_between(centre, low, high, color=COLOURS["malignant"], alpha=0.15, label="10 to 90 %")
    ax.plot(centre, mean, "o-", color=COLOURS["malignant"], ms=4, label="mean error")
    ax.axhline(0, color="black", lw=0.8)
    ax.set(xlabel=f"predicted {label}", ylabel="predicted - true")
    ax.legend(fontsize=8, loc="upper right")
    side.hist(error, bins=40, orientation="horizontal", color=COLOURS["neutral"])
    side.axhline(0, color="black", lw=0.8)
    side.set_xlabel("images")
    return figure
