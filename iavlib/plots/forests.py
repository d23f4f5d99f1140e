"""Forest plots: estimates with their intervals, one row each."""

from collections.abc import Mapping
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iavlib.plots.style import COLOURS, CYCLE, MARKERS, draw_lines, notice

#: Columns of a single series of estimates.
_SINGLE = ("estimate", "ci_low", "ci_high")


def forest(
    table: pd.DataFrame | Mapping[str, pd.DataFrame],
    label: str,
    *,
    series: Mapping[str, str] | None = None,
    reference: float | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw estimates with their intervals, one row each, from top to bottom as in the table.

    Parameters
    ----------
    table : DataFrame or mapping of str to DataFrame
        One table, or the title of each panel and its table. The index labels the rows; where the
        first of several index levels changes, a gap is left. Columns ``estimate``, ``ci_low`` and
        ``ci_high``, or those of `series`; estimates without interval are drawn as points. ``n``
        and ``n_malignant``, where present, are added to the labels, ``note`` is written where an
        estimate is missing.
    label : str
        What the estimates are, with their unit.
    series : mapping of str to str, optional
        Columns drawn side by side, in one colour each, with their legend: ``<name>`` with
        ``<name>_low`` and ``<name>_high``. Those without any value are left out.
    reference : float, optional
        Value of no effect, drawn as a vertical line.
    lines : mapping of str to float, optional
        Further values drawn as dashed lines, with their legend, such as a baseline.

    Returns
    -------
    Figure
        One that states that there is nothing to draw where no row has a value.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"estimate": [0.1], "ci_low": [-0.1], "ci_high": [0.3]}, ["Dice"])
    >>> [tick.get_text() for tick in plots.forest(table, "effect").axes[0].get_yticklabels()]
    ['Dice']
    """
    panels = table if isinstance(table, Mapping) else {"": table}
    columns = {name: (name, f"{name}_low", f"{name}_high") for name in series or ()}
    columns = columns or {"estimate": _SINGLE}
    columns = {
        name: limits
        for name, limits in columns.items()
        if any(name in panel and panel[name].notna().any() for panel in panels.values())
    }
    rows = list(dict.fromkeys(key for panel in panels.values() for key in panel.index))
    if not columns and not any("note" in panel and len(panel) for panel in panels.values()):
        return notice("There is nothing to draw: no finished run, or no value.")
    first = [key[0] if isinstance(key, tuple) else "" for key in rows]
    gaps = np.cumsum([0, *(0.5 * (a != b) for a, b in pairwise(first))])
    heights = dict(zip(rows, np.arange(len(rows)) + gaps, strict=True))
    size = (4.6 + 2.4 * len(panels), 0.3 * (gaps[-1] + len(rows) * max(1, len(columns) / 2)) + 1.2)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        if reference is not None:
            ax.axvline(reference, color="black", lw=0.8)
        positions = np.array([heights[key] for key in panel.index])
        for number, limits in enumerate(columns.values()):
            shift = 0.22 * (number - (len(columns) - 1) / 2)
            colour = CYCLE[number] if series and len(columns) > 1 else COLOURS["neutral"]
            style = {"marker": MARKERS[number % len(MARKERS)], "color": colour}
            draw_intervals(ax, panel, limits, positions + shift, **style)
        _write_notes(ax, panel, positions, next(iter(columns), None))
        draw_lines(ax, lines or {}, vertical=True)
        ax.set(title=title, xlabel=label)
        ax.grid(axis="y", visible=False)
    labels = [_row_label(key, panels.values()) for key in rows]
    axes[0, 0].set_yticks(list(heights.values()), labels, fontsize=8)
    axes[0, 0].set_ylim(max(heights.values()) + 0.7, -0.7)
    names = {name: series[name] for name in columns} if series and len(columns) > 1 else {}
    _legend(figure, names, axes[0, 0], lines)
    return figure


def draw_intervals(ax: Axes, table: pd.DataFrame, columns, rows, **style) -> None:
    """Draw points and, where there are limits, horizontal bars."""
    estimate, low, high = (table.get(c, pd.Series(np.nan, table.index)) for c in columns)
    estimate = estimate.to_numpy(float)
    bars = np.abs([low.to_numpy(float) - estimate, high.to_numpy(float) - estimate])
    ax.errorbar(estimate, rows, xerr=np.nan_to_num(bars), ls="", ms=4.5, capsize=2, **style)


def _write_notes(ax: Axes, table: pd.DataFrame, rows: np.ndarray, column: str | None) -> None:
    """Write the notes of rows without an estimate."""
    if "note" not in table:
        return
    missing = table[column].isna() if column else pd.Series(True, table.index)
    for row, note in zip(rows[missing], table.loc[missing, "note"], strict=True):
        style = {"va": "center", "size": 8, "color": "#777777", "style": "italic"}
        ax.text(0.02, row, note, transform=ax.get_yaxis_transform(), **style)


def _row_label(key, tables) -> str:
    """Name a row by its index levels and its number of rows."""
    names = key if isinstance(key, tuple) else (key,)
    text = ", ".join(dict.fromkeys(map(str, names)))
    table = next(table for table in tables if key in table.index)
    counts = [table.loc[key, name] for name in ("n_malignant", "n") if name in table]
    if not counts or not np.isfinite(counts).all():
        return text
    return f"{text} (n {' of '.join(f'{count:,.0f}' for count in counts)})"


def _legend(figure: Figure, names: Mapping[str, str], ax: Axes, lines) -> None:
    """Name the series and the dashed lines above the panels."""
    marks = [
        Line2D([], [], ls="", marker=MARKERS[i % len(MARKERS)], color=CYCLE[i], label=text)
        for i, text in enumerate(names.values())
    ]
    if lines:
        marks += [line for line in ax.lines if not line.get_label().startswith("_")]
    if marks:
        figure.legend(handles=marks, loc="outside upper center", ncols=3, fontsize=8)


def methods_compared(
    table: pd.DataFrame, measures: Mapping[str, str], better: Mapping[str, bool]
) -> Figure:
    """Draw every method's measures, one panel per measure and one row of panels per cohort.

    Parameters
    ----------
    table : DataFrame
        Index: cohort and method. Column ``sees``, what a method is given, which sets the colour;
        measures with ``_low`` and ``_high``.
    measures : mapping of str to str
        Column to the label of its axis.
    better : mapping of str to bool
        Whether more of it is better, shown by an arrow.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> index = pd.MultiIndex.from_tuples([("phantom", "cm"), ("phantom", "avap")])
    >>> table = pd.DataFrame({"sees": "masks", "dice": [0.8, 0.9]}, index)
    >>> plots.methods_compared(table, {"dice": "Dice"}, {"dice": True}).axes[0].get_xlabel()
    'Dice (→ better)'
    """
    if table.empty:
        return notice("No finished run to draw.")
    cohorts = list(dict.fromkeys(table.index.get_level_values(0)))
    kinds = list(dict.fromkeys(table["sees"]))
    longest = max(len(table.loc[cohort]) for cohort in cohorts)
    size = (2.4 * len(measures) + 1.8, (0.19 * longest + 0.9) * len(cohorts))
    figure, axes = plt.subplots(len(cohorts), len(measures), figsize=size, squeeze=False)
    for cohort, line in zip(cohorts, axes, strict=True):
        methods = table.loc[cohort]
        rows = np.arange(len(methods))
        for (name, words), ax in zip(measures.items(), line, strict=True):
            for number, kind in enumerate(kinds):
                member = (methods["sees"] == kind).to_numpy()
                style = {"marker": MARKERS[number], "color": CYCLE[number]}
                limits = (name, f"{name}_low", f"{name}_high")
                draw_intervals(ax, methods[member], limits, rows[member], **style)
            arrow = "→ better" if better.get(name, True) else "← better"
            ax.set_xlabel(f"{words} ({arrow})", fontsize=8)
            ax.tick_params(labelsize=7)
            ax.set_yticks(rows, methods.index if ax is line[0] else [], fontsize=7)
            ax.invert_yaxis()
        line[0].set_title(cohort, loc="left", fontsize=9)
    _legend(figure, dict(zip(kinds, kinds, strict=True)), axes[0, 0], None)
    return figure


def specification_curve(curve: pd.DataFrame, choices: Mapping[str, str], label: str) -> Figure:
    """Draw estimates in increasing order with intervals, and below which choices led to each.

    Parameters
    ----------
    curve : DataFrame
        One row per estimate: ``effect``, ``effect_low``, ``effect_high`` and a column per choice,
        as from :func:`iavlib.stats.specification_curve`.
    choices : mapping of str to str
        Column of a choice to its name; every value of a column is a line of the lower panel.
    label : str
        What the estimates are, with their unit.

    Returns
    -------
    Figure
        Estimates whose interval excludes zero are coloured, red below and blue above.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> curve = pd.DataFrame({"effect": [0.1, -0.3], "effect_low": [-0.1, -0.5]})
    >>> curve = curve.assign(effect_high=[0.3, -0.1], adjustment=["tool", "none"])
    >>> figure = plots.specification_curve(curve, {"adjustment": "adjustment"}, "Cohen's d")
    >>> [text.get_text() for text in figure.axes[1].get_yticklabels()]
    ['none', 'tool']
    """
    if curve.empty:
        return notice("There is nothing to draw: no estimate.")
    curve = curve.sort_values("effect").reset_index(drop=True)
    lines = [(c, value) for c in choices for value in dict.fromkeys(curve[c])]
    below, above = curve["effect_high"] < 0, curve["effect_low"] > 0
    colour = np.select([below, above], [COLOURS["malignant"], COLOURS["benign"]], "#888888")
    height = 0.2 * len(lines)
    ratios = {"height_ratios": [2.6, height + 0.2]}
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9.5, 3 + height), sharex=True, gridspec_kw=ratios
    )
    top.vlines(curve.index, curve["effect_low"], curve["effect_high"], color=colour, lw=1)
    top.scatter(curve.index, curve["effect"], s=9, color=colour, zorder=3)
    top.axhline(0, color="black", lw=0.8)
    top.set_ylabel(label)
    for row, (column, value) in enumerate(lines):
        member = np.flatnonzero(curve[column] == value)
        bottom.scatter(member, np.full(len(member), row), s=11, marker="|", color=colour[member])
    bottom.set(yticks=range(len(lines)), yticklabels=[value for _, value in lines], xticks=[])
    bottom.tick_params(axis="y", labelsize=8)
    bottom.set(ylim=(len(lines) - 0.5, -0.5), xlabel=f"{len(curve)} specifications")
    for number in range(1, len(lines)):
        if lines[number][0] != lines[number - 1][0]:
            bottom.axhline(number - 0.5, color="black", lw=0.6)
    return figure
