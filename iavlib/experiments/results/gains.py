"""What a second head, its weight, and a start change.

See also :mod:`iavlib.stats.diagnosis.multitask_gain`.

Gains are in balanced accuracy at a probability of one half, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from iavlib.experiments.results.diagnosis import (
    GIVEN,
    LEARNED,
    MULTI,
    SHUFFLED,
    SINGLE,
    SWITCH,
    pooled_scores,
)
from iavlib.stats.diagnosis.gain_intervals import average_gain_on_other_images
from iavlib.stats.diagnosis.multitask_gain import paired_gains

#: What is compared with what in notebook 04.
CONTRASTS = (
    (MULTI, SINGLE),
    (SHUFFLED, SINGLE),
    (MULTI, SHUFFLED),
    (LEARNED, SINGLE),
    (GIVEN, SINGLE),
)
_PAIR = ["dataset", "backbone", "seed"]


def both_arms(predictions: pd.DataFrame, treatment: str, control: str, arm: str = "arm"):
    """Keep the runs of two arms that have a partner in the other.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`iavlib.experiments.results.diagnosis.held_out_predictions`.
    treatment, control : str
        Values of the column `arm`.
    arm : str

    Returns
    -------
    pandas.DataFrame
        Empty where there is no pair.
    """
    of_arms = predictions[predictions[arm].isin([treatment, control])]
    n_arms = of_arms.groupby(_PAIR)[arm].transform("nunique")
    return of_arms[n_arms == 2]


def gains_between(
    predictions: pd.DataFrame,
    contrasts: Sequence[tuple[str, str]] = CONTRASTS,
    n_boot: int = 2000,
    seed: int = 0,
    arm: str = "arm",
) -> pd.DataFrame:
    """Average the gain of each arm over another, drawing patients, and seeds, again.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`iavlib.experiments.results.diagnosis.held_out_predictions`, with one weight of
        the losses (:func:`iavlib.experiments.results.diagnosis.one_alpha`).
    contrasts : sequence of tuple of str
        Treatment and control; those without a pair of runs are left out.
    n_boot, seed : int
        Of the bootstrap.
    arm : str
        Column that tells the arms apart.

    Returns
    -------
    pandas.DataFrame
        Index ``treatment``, ``control``; ``n_pairs`` of runs, ``n`` images of the test parts,
        ``estimate``, ``ci_low`` and ``ci_high`` (patients and, where there are several, seeds
        drawn again), and ``auroc_gain``, the mean difference of AUROC.
    """
    rows = {}
    for treatment, control in contrasts:
        pairs = both_arms(predictions, treatment, control, arm)
        if pairs.empty:
            continue
        names = {"arm": arm, "treatment": treatment, "control": control}
        table = average_gain_on_other_images(pairs, **names, n_boot=n_boot, seed=seed)
        drawn = table.loc["patient, seed"]
        if not np.isfinite(drawn["ci_low"]):
            drawn = table.loc["patient"]
        scores = pooled_scores(pairs)
        areas = paired_gains(scores, "auroc", **names)
        rows[treatment, control] = {
            "n_pairs": int(drawn["n_pairs"]),
            "n": int(pairs.drop_duplicates(["dataset", "image_id"]).shape[0]),
            **drawn[["estimate", "ci_low", "ci_high"]].to_dict(),
            "auroc_gain": areas["gain"].mean(),
        }
    index = pd.MultiIndex.from_tuples(list(rows), names=["treatment", "control"])
    return pd.DataFrame(list(rows.values()), index=index)


def effects_of_switches(
    predictions: pd.DataFrame, control: str = SINGLE, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Average what each switched setting changes against the same runs without it.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`iavlib.experiments.results.diagnosis.held_out_predictions`; those of runs on a
        share of the training part are left out.
    control : str
        The arm that the switches depart from.
    n_boot, seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        As of :func:`gains_between`, one row a switch; empty where none was run.
    """
    whole = predictions[predictions["train_share"] == 1]
    arms = [arm for arm in whole["arm"].unique() if arm.startswith(SWITCH)]
    return gains_between(whole, [(arm, control) for arm in arms], n_boot, seed)


def best_weight(runs: pd.DataFrame, predictions: pd.DataFrame, n_boot: int = 1000, seed: int = 0):
    """Choose the weight of the diagnosis loss on validation, and see what it is worth on test.

    Only seeds at which every weight was run are used, so that weights and not seeds are compared.

    Parameters
    ----------
    runs : pandas.DataFrame
        From :func:`iavlib.experiments.results.diagnosis.describe_arms`.
    predictions : pandas.DataFrame
        Held-out predictions of the same runs.
    n_boot, seed : int
        Of the bootstrap of patients.

    Returns
    -------
    dict or None
        ``alpha``, ``lead`` (balanced accuracy of its test predictions less the mean over the
        other weights), ``low``, ``high``, ``n`` (images) and ``scores`` (mean on validation and
        on test by weight); None where only one weight was run.
    """
    multi = runs[runs["arm"] == MULTI]
    n_weights = multi["alpha"].nunique()
    at_all = multi.groupby(_PAIR)["alpha"].transform("nunique") == n_weights
    multi = multi[at_all]
    if n_weights < 2 or multi.empty:
        return None
    val = multi.groupby("alpha")["val_balanced_accuracy"].mean()
    best = float(val.idxmax())
    keys = multi[_PAIR].drop_duplicates()
    tested = predictions[predictions["arm"] == MULTI].merge(keys, on=_PAIR)
    hits = _hit_table(tested)
    lead, low, high = _lead(hits, best, n_boot, seed)
    scores = pd.DataFrame({"validation": val, "test": _balanced(hits, np.ones(hits[2]))})
    n = tested["image_id"].nunique()
    return {"alpha": best, "lead": lead, "low": low, "high": high, "n": n, "scores": scores}


def _hit_table(tested: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Count, by weight and patient, rows of each class that were called rightly, and all rows."""
    right = tested.assign(
        right=(tested["called"] == tested["malignant"]).astype(float),
        patient=pd.factorize(tested["dataset"] + "|" + tested["patient_id"])[0],
    )
    cells = right.groupby(["alpha", "malignant", "patient"])["right"].agg(["sum", "size"])
    n = right["patient"].max() + 1
    wide = cells.unstack("patient").fillna(0)
    return wide["sum"].reindex(columns=range(n)), wide["size"].reindex(columns=range(n)), n


def _balanced(hits, weights: np.ndarray) -> pd.Series:
    """Balanced accuracy by weight of the loss, patients weighted."""
    rates = (hits[0] @ weights) / (hits[1] @ weights)
    return rates.groupby("alpha").mean()


def _lead(hits, best: float, n_boot: int, seed: int) -> tuple[float, float, float]:
    generator, n = np.random.default_rng(seed), hits[2]

    def lead(weights: np.ndarray) -> float:
        scores = _balanced(hits, weights)
        return float(scores[best] - scores.drop(best).mean())

    drawn = [lead(generator.multinomial(n, np.full(n, 1 / n))) for _ in range(n_boot)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return lead(np.ones(n)), float(low), float(high)


def mean_over_runs(predictions: pd.DataFrame) -> pd.DataFrame:
    """Average each image's probability over the seeds of an arm, for curves that show one model.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Held-out predictions of one arm on one dataset.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``malignant``, ``probability``, ``patient_id``, ``true_iaa``.
    """
    images = predictions.groupby("image_id")
    facts = images[["malignant", "patient_id", "true_iaa"]].first()
    return facts.assign(probability=images["probability"].mean())
