"""Curves: scores over a setting, ROC and reliability, distribution functions, triage."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from iavlib.plots.style import COLOURS, CYCLE, MARKERS, draw_lines, notice


def curves(
    runs: pd.DataFrame,
    x: str,
    by: str | None,
    measures: Mapping[str, str],
    x_label: str,
    *,
    log: bool = False,
    panels: str | None = None,
    errorbar: str | tuple | Callable | None = ("pi", 100),
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw measures over a setting: a dot per run, and one line per model through the means.

    Parameters
    ----------
    runs : DataFrame
        One row per run.
    x : str
        Column of the setting.
    by : str or None
        Column of the model (or other group); None, or a column that does not exist, draws one
        line.
    measures : mapping of str to str
        Column to the label of its axis; one panel each.
    x_label : str
    log : bool
        Whether the setting has a logarithmic axis.
    panels : str, optional
        Column whose values get a panel each, for instance the dataset.
    errorbar : str, tuple, callable or None
        As in :func:`seaborn.lineplot`: the range of the runs by default, or a function from the
        values at a setting to lower and upper limit, for instance
        ``lambda values: stats.mean_interval(values).interval``.
    lines : mapping of str to float, optional
        Baselines, drawn as dashed lines in all panels.

    Returns
    -------
    Figure
        One that states that there is nothing to draw without any run.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> runs = pd.DataFrame({"noise": [0, 0, 1, 1], "dice": [0.9, 0.8, 0.7, 0.6], "method": "cm"})
    >>> (ax,) = plots.curves(runs, "noise", "method", {"dice": "Dice"}, "label noise").axes
    >>> ax.lines[0].get_ydata().round(2).tolist()
    [0.85, 0.65]
    """
    if runs.empty:
        return notice("No finished run to draw.")
    by = by if by in runs else None
    subsets = dict(list(runs.groupby(panels))) if panels in runs else {"": runs}
    cells = [(title, rows, m) for title, rows in subsets.items() for m in measures]
    size = (1 + 4 * len(cells), 3.5)
    shared = len(measures) == 1
    figure, axes = plt.subplots(1, len(cells), figsize=size, sharey=shared, squeeze=False)
    order = list(dict.fromkeys(runs[by])) if by else []
    for ax, (title, rows, measure) in zip(axes[0], cells, strict=True):
        rows = rows.dropna(subset=[measure])
        options = {"data": rows, "x": x, "y": measure, "hue": by, "style": by, "ax": ax}
        if by:
            options |= {"hue_order": order, "style_order": order}
            options |= {"palette": [CYCLE[i % len(CYCLE)] for i in range(len(order))]}
            options |= {"markers": [MARKERS[i % len(MARKERS)] for i in range(len(order))]}
        style = {"dashes": False, "err_style": "bars", "err_kws": {"capsize": 2}}
        style["legend"] = "auto" if ax is axes[0, -1] else False
        sns.lineplot(**options, **style, errorbar=errorbar)
        sns.scatterplot(**options, legend=False, alpha=0.4, s=14, linewidth=0)
        draw_lines(ax, lines or {}, vertical=False)
        ax.set(title=title, xlabel=x_label, ylabel=measures[measure])
        if log:
            ax.set_xscale("log")
        values = sorted(rows[x].unique())
        ax.set_xticks(values[:: max(1, len(values) // 8)])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    if axes[0, -1].get_legend_handles_labels()[0]:
        axes[0, -1].legend(fontsize=8, title=None)  # without the title that seaborn gives it
    return figure


def cascade_lines(cascade: pd.DataFrame, limit: float) -> Figure:
    """Draw how much of a map is left while a network's weights are randomised stage by stage.

    Parameters
    ----------
    cascade : DataFrame
        ``stage``, ``method``, ``spearman``, ``ssim``, in the order of randomisation.
    limit : float
        Drawn as a line: below it a method passes.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"stage": ["head", "block 4"], "spearman": [0.4, 0.1]})
    >>> figure = plots.cascade_lines(table.assign(method="Grad-CAM", ssim=0.3), 0.5)
    >>> figure.axes[0].get_ylabel()
    'rank correlation with the map before'
    """
    if not len(cascade):
        return notice("No run has randomised weights.")
    measures = {"spearman": "rank correlation", "ssim": "structural similarity"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for ax, (measure, label) in zip(axes, measures.items(), strict=True):
        sns.lineplot(
            cascade, x="stage", y=measure, hue="method", marker="o", ms=4, errorbar=None, ax=ax
        )
        ax.axhline(limit, color="#888888", linewidth=1, linestyle="--")
        ax.tick_params(axis="x", rotation=45, labelsize=8)
        ax.set(xlabel="", ylabel=f"{label} with the map before")
    axes[0].get_legend().remove()
    axes[1].legend(fontsize=7)
    return figure


def roc(rates: Mapping[str, pd.DataFrame], areas: Mapping[str, object]) -> Figure:
    """Draw ROC curves, with the area and its interval in the legend.

    Parameters
    ----------
    rates : mapping of str to DataFrame
        Model to its curve (``sensitivity``, ``specificity``), as from
        :func:`iavlib.stats.roc_curve`.
    areas : mapping of str to object
        Model to its area, with attributes ``value``, ``low`` and ``high``, as from
        :func:`iavlib.stats.auroc`.

    Examples
    --------
    >>> from iavlib import plots, stats
    >>> malignant, score = [True, False, True, False], [0.9, 0.8, 0.7, 0.2]
    >>> curve, area = stats.roc_curve(malignant, score), stats.auroc(malignant, score)
    >>> plots.roc({"model": curve}, {"model": area}).axes[0].get_xlabel()
    '1 - specificity'
    """
    figure, ax = plt.subplots(figsize=(5.2, 4.6))
    for name, curve in rates.items():
        area = areas[name]
        label = f"{name}: {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
        ax.plot(1 - curve["specificity"], curve["sensitivity"], lw=1.8, label=label)
    _diagonal(ax)
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    ax.legend(loc="lower right", fontsize=8, title="AUROC (95 % interval)", title_fontsize=8)
    return figure


def _diagonal(ax: Axes) -> None:
    """Draw the line of equality from 0 to 1."""
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":", zorder=1)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def agreement_reliability(bins: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw which share of annotators marks pixels of each predicted share.

    Parameters
    ----------
    bins : mapping of str to sequence of DataFrame
        Name of a map to the tables of its runs (``predicted``, ``observed``, ``n``), one line per
        run.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "n": [5, 5]})
    >>> plots.agreement_reliability({"mean vote": [table]}).axes[0].get_xlabel()
    'predicted share of annotators'
    """
    if not bins:
        return notice("No finished run to draw.")
    figure, ax = plt.subplots(figsize=(4.2, 3.8))
    _diagonal(ax)
    for number, (name, tables) in enumerate(bins.items()):
        for table in tables:
            style = {"marker": MARKERS[number % len(MARKERS)], "color": CYCLE[number % len(CYCLE)]}
            label = name if table is tables[0] else None
            ax.plot(table["predicted"], table["observed"], label=label, ms=4, lw=1, **style)
    ax.set(xlabel="predicted share of annotators", ylabel="observed share of annotators")
    ax.legend()
    return figure


def dominance_curves(distributions: pd.DataFrame, label: str = "Dice") -> Figure:
    """Draw both distribution functions and their difference, and mark where dominance fails.

    Parameters
    ----------
    distributions : DataFrame
        ``value``, ``malignant``, ``other`` (shares up to the value) and ``difference``: the
        ``curves`` of :func:`iavlib.stats.first_order_dominance`.
    label : str
        The value, with its unit.

    Examples
    --------
    >>> from iavlib import plots, stats
    >>> dice, malignant = [0.9, 0.8, 0.7, 0.6], [False, False, True, True]
    >>> result = stats.first_order_dominance(dice, malignant, n_permutations=20)
    >>> len(plots.dominance_curves(result.curves).axes)
    2
    """
    value, difference = distributions["value"], distributions["difference"]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(6, 4.4), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
    )
    for name, column in (("benign", "other"), ("malignant", "malignant")):
        top.step(value, distributions[column], where="post", color=COLOURS[name], label=name)
    top.set_ylabel(f"share of lesions with {label} up to x", fontsize=9)
    bottom.step(value, difference, where="post", color=COLOURS["neutral"])
    for part, colour, text in (
        (difference.clip(lower=0), COLOURS["highlight"], "malignant lower: for dominance"),
        (difference.clip(upper=0), CYCLE[3], "malignant higher: against it"),
    ):
        bottom.fill_between(value, 0, part, step="post", color=colour, label=text)
    bottom.axhline(0, color="black", lw=0.8)
    bottom.set(xlabel=label, ylabel="difference")
    for ax in (top, bottom):
        ax.legend(fontsize=8, loc="upper left")
    return figure


def triage_curves(orders: Mapping[str, pd.DataFrame], label: str = "1 - Dice") -> Figure:
    """Draw the share of the total loss found over the share of images reviewed.

    Parameters
    ----------
    orders : mapping of str to DataFrame
        Name of an order to its curve (``examined``, ``found``), as from
        :func:`iavlib.stats.triage_curve`.
    label : str
        What the loss is.

    Examples
    --------
    >>> from iavlib import plots, stats
    >>> orders = {"model": stats.triage_curve([0.1, 0.3, 0.6], [1, 2, 3])}
    >>> plots.triage_curves(orders).axes[0].get_ylabel()
    'found of all 1 - Dice'
    """
    figure, ax = plt.subplots(figsize=(5.6, 4.2))
    for number, (name, curve) in enumerate(orders.items()):
        dashes = ("-", "--", "-.", (0, (3, 1, 1, 1)))[number % 4]
        ax.plot(curve["examined"], curve["found"], ls=dashes, label=str(name))
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":", label="random order")
    ax.set(xlabel="images reviewed", ylabel=f"found of all {label}", xlim=(0, 1), ylim=(0, 1.01))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="lower right", fontsize=8)
    return figure
