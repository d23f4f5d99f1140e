"""Does a second task help the diagnosis? Runs in pairs, and the average of their differences.

A *pair* is two runs that share dataset, backbone and seed, one with the auxiliary task and one
without; its *gain* is the difference of their scores. A *cell* is a dataset with a backbone; its
gain is the mean over its seeds.

The average gain is the mean over seeds in each cell, then the plain mean of all cells. Its
bootstrap intervals differ in what is resampled:

- seeds, within each cell: training these networks on these datasets again;
- backbones and datasets, each drawn as a whole and crossed: other networks, other datasets. The
  weight of a cell is the product of how often its dataset and its backbone were drawn, which is
  slightly conservative (Owen 2007);
- patients, within each dataset and the same for all runs on it: other test images.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.stats.resampling import block_sizes, percentiles
from iavlib.stats.samples import OneClassError, boolean_labels, cluster_codes

#: What two runs of a pair have in common.
PAIR = ("dataset", "backbone", "seed")

#: What the pairs of a cell have in common.
CELL = ("dataset", "backbone")


class UnpairedRunsError(ValueError):
    """A run has no partner that differs from it in the arm alone, or has two of them."""


def paired_gains(
    runs: pd.DataFrame,
    score: str = "balanced_accuracy",
    arm: str = "arm",
    treatment: str = "multitask",
    control: str = "single",
    complete: bool = True,
) -> pd.DataFrame:
    """Pair the runs of two arms and subtract their scores.

    Parameters
    ----------
    runs : DataFrame
        One row per run, with columns ``dataset``, ``backbone``, ``seed``, `arm` and `score`.
        Other arms are ignored.
    score : str
        Column where more is better.
    arm : str
        Column of the arms.
    treatment, control : str
        Its values.
    complete : bool
        Whether a run without a partner is an error; otherwise it is left out.

    Returns
    -------
    DataFrame
        One row per pair, in order of `PAIR`: the columns of `PAIR`, ``control``, ``treatment`` and
        ``gain`` (treatment minus control).

    Raises
    ------
    KeyError
        When a column does not exist.
    UnpairedRunsError
        When a run comes twice, has no partner, or no pair is left; the message names it.
    ValueError
        When a score is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import paired_gains
    >>> runs = pd.DataFrame({"arm": ["single", "multitask"], "balanced_accuracy": [0.7, 0.75]})
    >>> pairs = paired_gains(runs.assign(dataset="ph2", backbone="vgg16", seed=0))
    >>> pairs["gain"].round(3).tolist()
    [0.05]
    """
    missing = [name for name in (*PAIR, arm, score) if name not in runs]
    if missing:
        raise KeyError(f"the table of runs has no column {', '.join(map(repr, missing))}")
    of_arms = runs[runs[arm].isin([treatment, control])]
    bad = of_arms[~np.isfinite(of_arms[score].astype(float))]
    if len(bad):
        raise ValueError(f"{len(bad)} runs have no {score}, for instance {_name(bad.iloc[0], arm)}")
    twice = of_arms[of_arms.duplicated([*PAIR, arm])]
    if len(twice):
        raise UnpairedRunsError(
            f"{len(twice)} runs come twice, for instance {_name(twice.iloc[0], arm)}: keep one "
            "recipe and one setting (alpha) in the table"
        )
    wide = of_arms.pivot(index=list(PAIR), columns=arm, values=score)
    wide = wide.reindex(columns=[control, treatment]).astype(float)
    alone = wide[wide.isna().any(axis=1)]
    if len(alone) and (complete or len(alone) == len(wide)):
        raise UnpairedRunsError(
            f"{len(alone)} of {len(wide)} combinations have only one of {control!r} and "
            f"{treatment!r}, for instance {', '.join(map(str, alone.index[0]))}: run the "
            "other, or pass complete=False to leave them out"
        )
    if wide.empty:
        raise UnpairedRunsError(f"no run of {control!r} or {treatment!r} in column {arm!r}")
    pairs = wide.dropna().set_axis(["control", "treatment"], axis=1)
    return pairs.assign(gain=pairs["treatment"] - pairs["control"]).reset_index()


def _name(run: pd.Series, arm: str) -> str:
    return ", ".join(f"{name} {run[name]}" for name in (*PAIR, arm))


@dataclass(frozen=True)
class _Layout:
    """Cell of each pair, dataset and backbone of each cell."""

    cell: np.ndarray
    dataset: np.ndarray
    backbone: np.ndarray

    def count(self, level: str) -> int:
        """Number of units of a level; of seeds, the maximum over cells."""
        if level == "seed":
            return int(np.bincount(self.cell).max())
        return int(getattr(self, level).max()) + 1


def average_gain_on_other_images(
    predictions: pd.DataFrame,
    arm: str = "arm",
    treatment: str = "multitask",
    control: str = "single",
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Average the gain in balanced accuracy, resampling the patients of each test split too.

    Parameters
    ----------
    predictions : DataFrame
        One row per run and image: ``dataset``, ``backbone``, ``seed``, `arm`, ``patient_id``,
        ``malignant`` and ``called`` (both true or false). An image without a patient needs a label
        of its own there.
    arm, treatment, control : str
        Columns, and the values of `arm`.
    n_boot, seed
        Number of replicates and random seed.

    Returns
    -------
    DataFrame
        Index ``drawn_again``: "patient", "patient, seed", and "patient, dataset, backbone, seed";
        columns ``estimate``, ``ci_low``, ``ci_high``, ``se``, ``n_pairs``, ``n_cells`` and
        ``note``. The estimate is the same in all rows; every cell has the same weight. A patient
        drawn twice counts twice in all runs on the dataset, in both arms: what makes an image hard
        for all does not widen the interval. Replicates in which a dataset is left with one class
        have no value. Where a level has one unit the interval is NaN and the note says so.
        Percentile intervals of few units are too narrow (by a factor near the root of (n - 1) /
        n), which the note states below six.

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

    References
    ----------
    Owen, A. B. (2007). The pigeonhole bootstrap. Annals of Applied Statistics 1, 386-411.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import average_gain_on_other_images
    >>> rows = pd.DataFrame({"patient_id": list("abcdef"), "malignant": [True, False] * 3})
    >>> rows = rows.assign(dataset="ph2", backbone="vgg16", seed=0)
    >>> single = rows.assign(arm="single", called=[True, True, False, False, True, True])
    >>> both = pd.concat([single, rows.assign(arm="multitask", called=rows["malignant"])])
    >>> average_gain_on_other_images(both, n_boot=20).loc["patient", "estimate"].round(2).item()
    0.5
    """
    needed = [*PAIR, arm, "patient_id", "malignant", "called"]
    missing = [name for name in needed if name not in predictions]
    if missing:
        raise KeyError(f"the predictions have no column {', '.join(map(repr, missing))}")
    used = predictions[predictions[arm].isin([treatment, control])]
    pairs, cells = _count_by_patient(used, arm, (treatment, control))
    layout = _layout(pairs)
    rng = np.random.default_rng(seed)
    values = _gains_of(cells, [np.ones((1, p.shape[1])) for _, p in cells], len(pairs))
    rows = {}
    for levels in (("patient",), ("patient", "seed"), ("patient", "dataset", "backbone", "seed")):
        blocks = []
        for size in block_sizes(n_boot):
            drawn = [_multinomial(p.shape[1], size, rng) for _, p in cells]
            gain = _gains_of(cells, drawn, len(pairs))
            blocks.append(_draw(gain, layout, levels, size, rng))
        rows[", ".join(levels)] = _row(values, layout, levels, np.concatenate(blocks))
    columns = ["estimate", "ci_low", "ci_high", "se", "n_pairs", "n_cells", "note"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("drawn_again")


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


def _row(values, layout: _Layout, levels: tuple, replicates: np.ndarray) -> tuple:
    """Row of one resampling scheme."""
    of_cells = np.bincount(layout.cell, values[0]) / np.bincount(layout.cell)
    counts = {name: layout.count(name) for name in levels if name != "patient"}
    if len(counts) > 1 and counts["seed"] < 2:
        # Resampled cells carry the chance of their seeds with them.
        del counts["seed"]
    notes = [f"one {name} only" for name, count in counts.items() if count < 2]
    low, high, se, undefined = percentiles(replicates, 0.95)
    if np.isnan(low):
        notes.append(f"{undefined} of {len(replicates)} draws have no value")
    if notes:
        low = high = se = np.nan
    else:
        notes = [f"{count} {name}s: too narrow" for name, count in counts.items() if count < 6]
    counted = len(layout.cell), len(layout.dataset)
    return float(of_cells.mean()), low, high, se, *counted, "; ".join(notes)


def _count_by_patient(used: pd.DataFrame, arm: str, arms: tuple) -> tuple:
    """Pairs of runs, and for each dataset its pairs' numbers and counts (kind, patients, runs).

    Kinds are malignant rows detected, malignant rows, benign rows spared and benign rows; runs are
    the treatment's and then the control's, in the order of the pairs.
    """
    malignant, called = boolean_labels(used["malignant"]), boolean_labels(used["called"])
    counts = pd.DataFrame(
        {
            "detected": malignant & called,
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
    cells = []
    for dataset, numbers in pairs.groupby("dataset").indices.items():
        inside = (used["dataset"] == dataset).to_numpy()
        order = [(*pairs.loc[i, list(PAIR)], name) for name in arms for i in numbers]
        run = pd.MultiIndex.from_tuples(order).get_indexer(
            pd.MultiIndex.from_frame(used.loc[inside, [*PAIR, arm]])
        )
        patient, n_patients = cluster_codes(used.loc[inside, "patient_id"], int(inside.sum()))
        table = np.zeros((counts.shape[1], n_patients, len(order)))
        np.add.at(table, (slice(None), patient, run), counts[inside].to_numpy().T)
        cells.append((numbers, table))
    return pairs, cells


def _gains_of(cells: list, weights: list[np.ndarray], n_pairs: int) -> np.ndarray:
    """Gain of each pair with patients weighted, shape (b, pairs)."""
    gain = np.empty((len(weights[0]), n_pairs))
    for (numbers, (detected, malignant, spared, benign)), drawn in zip(cells, weights, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            sensitivity = (drawn @ detected) / (drawn @ malignant)
            specificity = (drawn @ spared) / (drawn @ benign)
        treatment, control = np.split((sensitivity + specificity) / 2, 2, axis=1)
        gain[:, numbers] = treatment - control
    return gain
