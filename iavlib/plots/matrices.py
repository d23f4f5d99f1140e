"""Matrices with their numbers: factor levels, confusion, Dice between annotators, correlations."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, notice


def _heatmap(ax: Axes, table: pd.DataFrame, text=None, **options) -> QuadMesh:
    """Draw a matrix with numbers in its cells, none where a cell is empty."""
    if text is None:
        text = table.map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
    # seaborn's heat map draws the whole figure once for each matrix, which takes seconds
    values = np.ma.masked_invalid(table.to_numpy(float))
    mesh = ax.pcolormesh(values, edgecolors="white", lw=0.5, **{"cmap": "magma"} | options)
    for place in np.argwhere(~np.ma.getmaskarray(values)):
        red, green, blue, _ = mesh.to_rgba(values[*place])
        colour = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        label = np.asarray(text)[*place]
        ax.text(*place[::-1] + 0.5, label, size=7, ha="center", va="center", color=colour)
    ax.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns)
    ax.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    ax.set(xlabel=table.columns.name or "", ylabel=table.index.name or "")
    ax.invert_yaxis()
    ax.tick_params(rotation=0, labelsize=8, length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return mesh


def factor_heatmaps(
    matrices: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], label: str = "mean Dice"
) -> Figure:
    """Draw mean agreement for every pair of levels of each factor, with the number of pairs.

    Parameters
    ----------
    matrices : mapping of str to (DataFrame, DataFrame)
        Factor to its means and counts, as the ``matrix`` and ``counts`` of
        :func:`iavlib.stats.factor_matrix`.
    label : str
        What the means are.

    Returns
    -------
    Figure
        One that states that no factor was recorded, without any.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> means = pd.DataFrame([[0.9, 0.7], [0.7, 0.8]], ["T1", "T2"], ["T1", "T2"])
    >>> counts = pd.DataFrame([[5, 3], [3, 4]], ["T1", "T2"], ["T1", "T2"])
    >>> plots.factor_heatmaps({"tool": (means, counts)}).axes[0].get_title()
    'mean Dice by tool'
    """
    if not matrices:
        return notice("No tools and skill levels are recorded.")
    sizes = [max(3, len(means)) for means, _ in matrices.values()]
    size = (1.5 + 0.62 * sum(sizes), 0.5 + 0.42 * max(*sizes, 6))
    ratios = {"width_ratios": sizes}
    figure, axes = plt.subplots(1, len(sizes), figsize=size, gridspec_kw=ratios, squeeze=False)
    everything = np.concatenate([means.to_numpy().ravel() for means, _ in matrices.values()])
    limits = {"vmin": np.nanmin(everything), "vmax": np.nanmax(everything)}
    for ax, (factor, (means, counts)) in zip(axes.flat, matrices.items(), strict=True):
        text = means.map("{:.2f}\n".format) + counts.map("{:,}".format)
        lower = means.mask(np.triu(np.ones(means.shape, bool), k=1))
        _heatmap(ax, lower, text.where(means.notna(), ""), **limits)
        ax.set(title=f"{label} by {factor}")
    return figure


def confusion_maps(
    learnt: np.ndarray, true: np.ndarray | None, annotators: Sequence[str], max_annotators: int = 6
) -> Figure:
    """Draw confusion matrices as learnt and, below, the true ones.

    Parameters
    ----------
    learnt, true : ndarray, shape (annotators, classes, classes)
        Shares ``[label, truth]``; `true` may be None.
    annotators : sequence of str
    max_annotators : int
        Only the first ones are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib import plots
    >>> learnt = np.array([[[0.9, 0.2], [0.1, 0.8]]])
    >>> plots.confusion_maps(learnt, None, ["A1"]).axes[0].get_title()
    'A1'
    """
    rows = {"learnt": learnt} | ({} if true is None else {"true": true})
    names = list(annotators)[:max_annotators]
    size = (1.5 * len(names) + 1.2, 1.7 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(names), figsize=size, squeeze=False)
    for (kind, matrices), line in zip(rows.items(), axes, strict=True):
        for matrix, name, ax in zip(matrices, names, line, strict=False):
            _heatmap(ax, pd.DataFrame(matrix), vmin=0, vmax=1, cmap="cividis")
            ax.set(title=name if kind == "learnt" else "")
        line[0].set_ylabel(f"{kind}\nlabel")
    for ax in axes[-1]:
        ax.set_xlabel("true class")
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label="share", shrink=0.8)
    return figure


def dice_matrices(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the Dice of each prediction (row) with each annotator (column), one panel per model.

    Parameters
    ----------
    matrices : mapping of str to DataFrame
        Title to Dice; the last column is the vote of all. The best annotator of each row is
        framed.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame([[0.9, 0.8, 0.8]], ["A1"], ["A1", "A2", "vote"])
    >>> plots.dice_matrices({"AVAP": table}).axes[0].get_title()
    'AVAP'
    """
    if not matrices:
        return notice("No finished run to draw.")
    columns = min(len(matrices), 2)
    lines = -(-len(matrices) // columns)
    widest = max(table.shape[1] for table in matrices.values())
    height = 0.45 * max(len(table) for table in matrices.values()) + 1.6
    size = (max(0.55 * widest + 1.6, 3.6) * columns, height * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    for (title, table), ax in zip(matrices.items(), axes.flat, strict=False):
        _heatmap(ax, table, vmin=0, vmax=1, cmap="cividis")
        for row, values in enumerate(table.to_numpy(float)[:, :-1]):
            if np.isfinite(values).any():
                frame = {"fill": False, "ec": COLOURS["malignant"], "lw": 2}
                ax.add_patch(plt.Rectangle((np.nanargmax(values), row), 1, 1, **frame))
        ax.tick_params(axis="x", rotation=60)
        ax.set(title=title, xlabel="annotator", ylabel="predicted as")
    return figure


def agreement_matrix(table: pd.DataFrame) -> Figure:
    """Draw mean rank correlations between methods as a matrix with its numbers.

    Parameters
    ----------
    table : DataFrame
        Square, from -1 to 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> methods = ["Grad-CAM", "occlusion"]
    >>> table = pd.DataFrame([[1, 0.4], [0.4, 1]], methods, methods)
    >>> [text.get_text() for text in plots.agreement_matrix(table).axes[0].texts]
    ['1.00', '0.40', '0.40', '1.00']
    """
    if not len(table):
        return notice("No run compares methods.")
    figure, ax = plt.subplots(figsize=(1.8 + 0.6 * len(table), 1.2 + 0.55 * len(table)))
    mesh = _heatmap(ax, table, cmap="RdBu", vmin=-1, vmax=1)
    figure.colorbar(mesh, ax=ax, label="rank correlation", shrink=0.8)
    ax.tick_params(axis="x", rotation=45)
    return figure
