"""What CM learnt of annotators: matrices, error rates, and the truth recovered from labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iavlib.annotators import rate_correlations
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.result import read_facts
from iavlib.experiments.results.across_seeds import SEEDS, by_seed, finished_runs, interval_of_mean
from iavlib.experiments.results.segmentation import ordering_by_seed

#: Which error rates are correlated, as matrices that a run tells of.
COMPARED = {
    "learnt, all test images; true, her test images": ("learnt", "true"),
    "learnt and true, her test images": ("learnt_own", "true"),
    "learnt, all test images; true, all her images": ("learnt", "true_all"),
    "true, her test images; true, her training images": ("true", "true_train"),
}
#: What a correlation, and a Dice in per cent, can be.
CORRELATION, PER_CENT = (-1, 1), (0, 100)
#: Digits that MNIST holds for training, of which the paper took its own.
PUBLISHED_DIGITS = 60_000
#: Fusions of labels without a network that a recovered truth is compared with.
FUSED = {"majority vote": "fused_mode_dice", "STAPLE": "fused_staple_dice"}


def read_confusion(folder: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read the matrices of a finished run, here or stored.

    Returns
    -------
    annotators : list of str
    learnt, true : numpy.ndarray, shape (annotators, classes, classes)
        ``[label, truth]``, of the test part; NaN where the truth is not known.

    Raises
    ------
    ExperimentError
        If its method learns no matrices.
    """
    settings = read_facts(Path(folder))["settings"]
    found = settings.get("confusion")
    if not found:
        told = f"method {settings.get('method')!r} learns no matrices"
        raise ExperimentError(folder, told, "read a run of a method that does")
    learnt = np.array(found["learnt"], dtype=float)
    true = np.full_like(learnt, np.nan) if found["true"] is None else found["true"]
    return settings["annotators"], learnt, np.array(true, dtype=float)


def rate_agreement(runs: pd.DataFrame) -> pd.DataFrame:
    """Correlate the error rates that CM learnt with the true ones, measured in several ways.

    A run's own figure compares matrices over all test pictures with errors on the pictures that an
    annotator labelled among them. Where she labelled few, these errors are a matter of chance, and
    the correlation of true rates with true rates of other pictures says how high any can be.

    Parameters
    ----------
    runs : pandas.DataFrame
        Finished runs of one method on one set whose truth is known.

    Returns
    -------
    pandas.DataFrame
        Index ``compared``; of false-positive and false-negative rates Pearson's r across
        annotators, the mean over seeds with its interval, and ``runs``. Ways that no run tells of
        are left out.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for folder in runs["folder"]:
        settings = read_facts(Path(folder))["settings"]
        matrices = settings["confusion"]
        for told, (first, second) in COMPARED.items():
            if matrices.get(first) is not None and matrices.get(second) is not None:
                pair = [np.array(matrices[name], dtype=float) for name in (first, second)]
                correlations = rate_correlations(*pair, settings["annotators"])
                found.setdefault(told, []).append(correlations)
    rows = {told: _rates_row(pd.DataFrame(values)) for told, values in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("compared")


def _rates_row(values: pd.DataFrame) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in values:
        short = name.removesuffix("_rate")
        ends = interval_of_mean(values[name].dropna(), within=CORRELATION)
        row |= dict(zip((f"{short}_r", f"{short}_low", f"{short}_high"), ends, strict=True))
    return row | {"runs": len(values)}


def recovered(runs: pd.DataFrame, method: str = "cm") -> pd.DataFrame:
    """Compare the truth that a method recovers from images' own labels with that of fusions.

    Parameters
    ----------
    runs : pandas.DataFrame
        Runs of sets whose truth is known, by ``label``.
    method : str

    Returns
    -------
    pandas.DataFrame
        Index ``set`` and ``against`` (:data:`FUSED`): Dice of the method (prediction and labels,
        combined by Bayes' rule) and of the fusion of the same labels; by how many points it is
        ahead, the mean over seeds with its interval; in how many of the ``runs`` it is.
    """
    rows = {}
    for label, some in finished_runs(runs).groupby("label", sort=False):
        ours = 100 * by_seed(some, method, "dice_with_labels")
        for told, column in FUSED.items():
            theirs = 100 * by_seed(some, method, column)
            ahead = (ours - theirs).dropna()
            if len(ahead):
                points, low, high = interval_of_mean(ahead)
                rows[label, told] = {
                    method: ours.mean(),
                    "fused": theirs.mean(),
                    "points": points,
                    "low": low,
                    "high": high,
                    "ahead": int((ahead > 0).sum()),
                    "runs": len(ahead),
                }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["set", "against"])
    return table


def ahead_in_words(table: pd.DataFrame, which: str, against: str) -> str:
    """Say by how much a row of :func:`recovered` is ahead, or that it was not run."""
    if (which, against) not in table.index:
        return "(not run)"
    row = table.loc[which, against]
    if row["runs"] == 1:
        return f"{row['points']:.2f} points (one seed)"
    told = f"{row['points']:.2f} points ({row['low']:.2f} to {row['high']:.2f}"
    return f"{told}; ahead in {row['ahead']:.0f} of {row['runs']:.0f} runs)"


def claim_values(dense: pd.DataFrame, single: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure the claims on the digits of one source.

    Parameters
    ----------
    dense, single : pandas.DataFrame
        Runs with all labels of an image, and with one.

    Returns
    -------
    dict of str to dict
        Claim to ``value``, ``interval`` (over seeds), ``n`` (seeds) and ``coverage`` (training
        digits, of the paper's), as :func:`iavlib.claims.record` takes them; only what at least
        three seeds say.
    """
    order = ordering_by_seed({"dense": dense, "single": single})
    gain = 100 * by_seed(dense, "cm", less="cm-no-trace")
    measured = {
        "cm-trace-helps": (dense, gain, None),
        "cm-ordering": (dense, order, CORRELATION),
        "cm-ged-table": (dense, by_seed(dense, "cm", "ged"), (0, 2)),
    }
    for which, runs in (("dense", dense), ("single", single)):
        measured[f"cm-mnist-{which}-dice"] = (runs, 100 * by_seed(runs, "cm"), PER_CENT)
        measured[f"cm-mnist-{which}-error"] = (runs, by_seed(runs, "cm", "cm_error"), (0, 1))
    found = {}
    for name, (runs, values, within) in measured.items():
        if len(values) >= SEEDS:
            mean, *ends = interval_of_mean(values, within=within)
            used = min(int(runs["n_training"].max()), PUBLISHED_DIGITS)
            coverage = (used, PUBLISHED_DIGITS)
            found[name] = {"value": mean, "interval": ends, "n": len(values), "coverage": coverage}
    return found
