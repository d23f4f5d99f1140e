r"""The claim's own average, the gain over datasets and backbones, with bootstrap intervals.

The average is the mean over seeds in each cell (a dataset with a backbone), then the plain mean of
all cells. What is drawn again says what the interval speaks of:

- seeds, within each cell: training these networks on these datasets once more;
- backbones and datasets, each drawn as a whole and crossed: other networks, other datasets. The
  weight of a cell is the product of how often its dataset and its backbone were drawn, which is a
  little cautious (Owen);
- patients, within each dataset and the same for all runs on it: other test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.stats.diagnosis.diagnosis_samples import OneClassError
from iavlib.stats.diagnosis.multitask_gain import CELL, PAIR, UnpairedRunsError
from iavlib.stats.samples import boolean_labels, cluster_codes

__all__ = ["average_gain", "average_gain_on_other_images"]

#: What is drawn again, in the rows of :func:`average_gain`.
_LEVELS = (
    ("seed",),
    ("backbone", "seed"),
    ("dataset", "seed"),
    ("dataset", "backbone", "seed"),
)

#: Replicates held in memory at a time.
_BLOCK = 256

#: Above this share of replicates without a value no interval is given.
_MOST_UNDEFINED = 0.1


@dataclass(frozen=True)
class _Layout:
    """Cell of each pair, dataset and backbone of each cell."""

    cell: np.ndarray
    dataset: np.ndarray
    backbone: np.ndarray

    def count(self, level: str) -> int:
        """Units of a level; of seeds, the most that one cell has."""
        if level == "seed":
            return int(np.bincount(self.cell).max())
        return int(getattr(self, level).max()) + 1


def average_gain(
    gains: pd.DataFrame,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Average the gain over datasets and backbones, with an interval for each way of drawing again.

    Parameters
    ----------
    gains : DataFrame
        From :func:`iavlib.stats.diagnosis.multitask_gain.paired_gains`. Cells need not have
        equally many seeds, and not every backbone need have every dataset; each cell
        there is counts alike.
    n_boot, seed, level
        Replicates, random seed and coverage.

    Returns
    -------
    DataFrame
        Index ``drawn_again``, such as "backbone, seed"; columns ``estimate``, ``ci_low``,
        ``ci_high``, ``se``, ``n_pairs``, ``n_cells`` and ``note``. The estimate is the same in
        all rows. Where a level has one unit the interval is NaN and the note says so. Percentile
        intervals of few units are too narrow (by a factor near the root of (n - 1) / n), which
        the note says below six.

    References
    ----------
    Owen, A. B. (2007). The pigeonhole bootstrap. Annals of Applied Statistics 1, 386-411.
    """
    layout = _layout(gains)
    values = gains["gain"].to_numpy(dtype=float)[None, :]
    rng = np.random.default_rng(seed)
    rows = {}
    for levels in _LEVELS:
        blocks = [_draw(values, layout, levels, size, rng) for size in _sizes(n_boot)]
        rows[", ".join(levels)] = _row(values, layout, levels, np.concatenate(blocks), level)
    return _table(rows, layout)


def average_gain_on_other_images(
    predictions: pd.DataFrame,
    arm: str = "arm",
    treatment: str = "multitask",
    control: str = "single",
    patient: str = "patient_id",
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Average the gain in balanced accuracy, drawing the patients of each test part again too.

    Parameters
    ----------
    predictions : DataFrame
        One row a run and image: ``dataset``, ``backbone``, ``seed``, `arm`, `patient`,
        ``malignant`` and ``called`` (both true or false). An image without a patient needs a label
        of its own in `patient`.
    arm, treatment, control, patient : str
        Columns, and the values of `arm`.
    n_boot, seed, level
        As :func:`average_gain`.

    Returns
    -------
    DataFrame
        As :func:`average_gain`, for drawing "patient", "patient, seed", and "patient, dataset,
        backbone, seed". A patient drawn twice counts twice in all runs on the dataset, in both
        arms: what makes an image hard for all does not widen the interval. Replicates in which a
        dataset is left with one class have no value.

    Raises
    ------
    KeyError
        When a column does not exist.
    UnpairedRunsError
        When a run has no partner.
    OneClassError
        When a run has test images of one class alone.
    ValueError
        When a label or patient is missing.
    """
    needed = [*PAIR, arm, patient, "malignant", "called"]
    missing = [name for name in needed if name not in predictions]
    if missing:
        raise KeyError(f"the predictions have no column {', '.join(map(repr, missing))}")
    used = predictions[predictions[arm].isin([treatment, control])]
    pairs, parts = _count_by_patient(used, arm, (treatment, control), patient)
    layout = _layout(pairs)
    rng = np.random.default_rng(seed)
    values = _gains_of(parts, [np.ones((1, p.shape[1])) for _, p in parts], len(pairs))
    rows = {}
    for levels in (("patient",), ("patient", "seed"), ("patient", *_LEVELS[-1])):
        blocks = []
        for size in _sizes(n_boot):
            drawn = [_multinomial(p.shape[1], size, rng) for _, p in parts]
            gain = _gains_of(parts, drawn, len(pairs))
            blocks.append(_draw(gain, layout, levels, size, rng))
        rows[", ".join(levels)] = _row(values, layout, levels, np.concatenate(blocks), level)
    return _table(rows, layout)


def _layout(pairs: pd.DataFrame) -> _Layout:
    """Number cells, and datasets and backbones of cells."""
    codes = pd.factorize(pd.MultiIndex.from_frame(pairs[list(CELL)]), sort=True)[0]
    first = pairs.iloc[np.unique(codes, return_index=True)[1]]
    dataset, backbone = (pd.factorize(first[name], sort=True)[0] for name in CELL)
    return _Layout(codes, dataset, backbone)


def _draw(
    gain: np.ndarray, layout: _Layout, levels: tuple, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Average gains (b or 1, pairs) over cells in `size` replicates, drawing `levels` again."""
    seeds = np.ones((size, len(layout.cell)))
    if "seed" in levels:
        for cell in range(len(layout.dataset)):
            members = np.flatnonzero(layout.cell == cell)
            seeds[:, members] = _multinomial(len(members), size, rng)
    member = np.eye(len(layout.dataset))[layout.cell]
    of_cells = ((gain * seeds) @ member) / (seeds @ member)
    weights = np.ones_like(of_cells)
    for name in ("dataset", "backbone"):
        if name in levels:
            drawn = _multinomial(layout.count(name), size, rng)
            weights = weights * drawn[:, getattr(layout, name)]
    with np.errstate(invalid="ignore"):
        # With holes in the grid a draw may hit none of the cells there are.
        return (weights * of_cells).sum(axis=1) / weights.sum(axis=1)


def _multinomial(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n units is drawn in n draws, shape (size, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=size).astype(float)


def _sizes(n_boot: int) -> list[int]:
    if n_boot < 2:
        raise ValueError(f"n_boot must be at least 2, not {n_boot}")
    return [min(_BLOCK, n_boot - start) for start in range(0, n_boot, _BLOCK)]


def _row(values, layout: _Layout, levels: tuple, replicates: np.ndarray, level: float) -> tuple:
    """Estimate, interval, standard error and note of one way of drawing."""
    ones = np.ones(len(layout.cell))
    of_cells = np.bincount(layout.cell, values[0]) / np.bincount(layout.cell, ones)
    counts = {name: layout.count(name) for name in levels if name != "patient"}
    if len(counts) > 1 and counts["seed"] < 2:
        # Whoever draws cells again draws the chance of their seeds with them.
        del counts["seed"]
    notes = [f"one {name} only" for name, count in counts.items() if count < 2]
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(replicates):
        notes.append(f"{len(replicates) - len(defined)} of {len(replicates)} draws have no value")
    if notes:
        low = high = se = np.nan
    else:
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        se = defined.std(ddof=1)
        notes = [f"{count} {name}s: too narrow" for name, count in counts.items() if count < 6]
    return float(of_cells.mean()), low, high, se, "; ".join(notes)


def _table(rows: dict, layout: _Layout) -> pd.DataFrame:
    columns = ["estimate", "ci_low", "ci_high", "se", "note"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.insert(4, "n_pairs", len(layout.cell))
    table.insert(5, "n_cells", len(layout.dataset))
    return table.rename_axis("drawn_again")


def _count_by_patient(used: pd.DataFrame, arm: str, arms: tuple, patient: str) -> tuple:
    """Pairs of runs, and for each dataset its pairs' numbers and counts (kind, patients, runs).

    Kinds are malignant rows found, malignant rows, benign rows spared and benign rows; runs are
    the treatment's and then the control's, in the order of the pairs.
    """
    malignant, called = boolean_labels(used["malignant"]), boolean_labels(used["called"])
    counts = pd.DataFrame(
        {
            "found": malignant & called,
            "malignant": malignant,
            "spared": ~malignant & ~called,
            "benign": ~malignant,
        },
        index=used.index,
    ).astype(float)
    keys = [used[name] for name in (*PAIR, arm)]
    runs = counts.groupby(keys).sum()
    empty = runs[(runs["malignant"] == 0) | (runs["benign"] == 0)]
    if len(empty):
        raise OneClassError(
            f"{len(empty)} runs have test images of one class alone, for instance "
            f"{', '.join(map(str, empty.index[0]))}"
        )
    there = runs.index.to_frame(index=False).pivot(index=list(PAIR), columns=arm, values=arm)
    there = there.reindex(columns=list(arms))
    alone = there[there.isna().any(axis=1)]
    if len(alone):
        raise UnpairedRunsError(
            f"{len(alone)} of {len(there)} combinations lack one of {arms}, for instance "
            f"{', '.join(map(str, alone.index[0]))}"
        )
    pairs = there.index.to_frame(index=False)
    parts = []
    for dataset, numbers in pairs.groupby("dataset").indices.items():
        inside = (used["dataset"] == dataset).to_numpy()
        order = [(*pairs.loc[i, list(PAIR)], name) for name in arms for i in numbers]
        run = pd.MultiIndex.from_tuples(order).get_indexer(
            pd.MultiIndex.from_frame(used.loc[inside, [*PAIR, arm]])
        )
        patients = cluster_codes(used.loc[inside, patient], int(inside.sum()))
        parts.append((numbers, _tabulate(counts[inside], run, len(order), *patients)))
    return pairs, parts


def _tabulate(counts: pd.DataFrame, run, n_runs: int, patient, n_patients: int) -> np.ndarray:
    """Sum counts by kind, patient and run."""
    table = np.zeros((counts.shape[1], n_patients, n_runs))
    for kind, column in enumerate(counts):
        np.add.at(table[kind], (patient, run), counts[column].to_numpy())
    return table


def _gains_of(parts: list, weights: list[np.ndarray], n_pairs: int) -> np.ndarray:
    """Gain of each pair with patients weighted, shape (b, pairs)."""
    gain = np.empty((len(weights[0]), n_pairs))
    for (numbers, (found, malignant, spared, benign)), drawn in zip(parts, weights, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            sensitivity = (drawn @ found) / (drawn @ malignant)
            specificity = (drawn @ spared) / (drawn @ benign)
        treatment, control = np.split((sensitivity + specificity) / 2, 2, axis=1)
        gain[:, numbers] = treatment - control
    return gain
