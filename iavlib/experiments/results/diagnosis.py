"""What many runs of diagnosis say together: arms, pairs, and predictions of images not learnt from.

Runs that differ in the fold alone are put together, so that each image of a cohort is judged once
by a model that had not seen its patient.

The data that finished runs stand for, as claims name them.

What a second head, its weight, and a start change.

See also :mod:`iavlib.stats.gains`.

Gains are in balanced accuracy at a probability of one half, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from iavlib.core.errors import ExperimentError
from iavlib.experiments.config import PROBE
from iavlib.experiments.runner import read_predictions
from iavlib.experiments.store import FINISHED
from iavlib.experiments.tasks.diagnosis import DIAGNOSIS, MULTITASK
from iavlib.stats.classification import choose_threshold, classification_scores
from iavlib.stats.gains import average_gain_on_other_images, paired_gains


@dataclass(frozen=True)
class RunData:
    """Name a claim's data where the page that shows the runs need not have them.

    Attributes
    ----------
    name : str
        Of the cohort.
    synthetic : bool
        Whether its images, or the weights that training began from, mean nothing.
    simulated : bool
        Whether the images are real and their annotators simulated.
    """

    name: str
    synthetic: bool
    simulated: bool = False
    #: For :func:`iavlib.book.record`: results may be stored ones, of data not on this machine.
    of_runs: ClassVar[bool] = True


SINGLE, MULTI = "single", "multitask"
SHUFFLED, GIVEN, LEARNED = "shuffled agreement", "agreement given", "learned weights"
IMAGENET, RANDOM = "ImageNet", "random weights"
#: Labels that begin so are arms of their own: one setting is as published, or as it might be.
SWITCH = "switch: "
#: What a model of :func:`held_out_predictions` is told apart by, but for the fold.
KEYS = ("dataset", "backbone", "seed", "arm", "alpha", "start", "train_share")


def finished_or_stored(own: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Take the runs of the full scale where any are finished on real data, else one's own.

    Parameters
    ----------
    own, full : pandas.DataFrame
        Rows of :func:`iavlib.experiments.runner`, and of :func:`iavlib.experiments.read_results` of
        the full scale.

    Returns
    -------
    pandas.DataFrame
        Finished runs only, with ``scale`` (``full`` or ``own``). For each cohort, one of both
        scales.

    Raises
    ------
    ExperimentError
        If none is finished.
    """
    tables = []
    for scale, table in (("full", full), ("own", own)):
        done = table[table["status"] == FINISHED] if len(table) else table
        tables.append(done.assign(scale=scale))
    done, mine = tables
    if len(done):
        done = done[~done["synthetic"].astype(bool) & ~done["weights_random"].astype(bool)]
    if len(mine) and len(done):
        mine = mine[~mine["cohort_name"].isin(done["cohort_name"])]
    kept = [table for table in (done, mine) if len(table)]
    if not kept:
        reasons = "; ".join(sorted(set(own.get("reason", [])) - {""})[:3]) or "none was run"
        raise ExperimentError("experiments", f"none is finished ({reasons})", "see 'iav runs'")
    return describe_arms(pd.concat(kept, ignore_index=True))


def describe_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Say of each run what is compared.

    Parameters
    ----------
    runs : pandas.DataFrame
        Finished runs of the tasks ``diagnosis`` and ``multitask``.

    Returns
    -------
    pandas.DataFrame
        The same with ``dataset`` (its cohort), ``arm`` (one of the names of this module, a label
        that begins with `SWITCH`, or ``probe``) and ``start`` (``ImageNet``, ``random weights``,
        or the arm of the experiment it starts from). Alpha is 1 of a diagnosis alone.
    """
    table = runs.drop_duplicates("id").copy()
    for name in ("control", "combine", "init_from_task", "alpha"):
        table[name] = table.get(name)
    control, learned = table["control"], table["combine"] == "uncertainty"
    switched = table["label"].astype(str).str.startswith(SWITCH)
    choices = {
        "probe": table["recipe"] == PROBE,
        GIVEN: control == "iaa_input",
        SHUFFLED: control == "shuffled_iaa",
        LEARNED: learned,
        MULTI: table["task"] == MULTITASK,
        SINGLE: table["task"] == DIAGNOSIS,
    }
    table["arm"] = np.select(list(choices.values()), list(choices), default="other")
    table["arm"] = table["arm"].where(~switched, table["label"])
    table["dataset"] = table["cohort_name"]
    begun = table["init_from_task"].map({DIAGNOSIS: SINGLE, MULTITASK: MULTI})
    weights = table["weights_random"].map({True: RANDOM, False: IMAGENET})
    table["start"] = begun.where(begun.notna(), weights)
    table["alpha"] = table["alpha"].astype(float).where(table["arm"] != SINGLE, 1.0)
    return table


def held_out_predictions(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what runs predicted on their test parts.

    Parameters
    ----------
    runs : pandas.DataFrame
        From :func:`describe_arms`.

    Returns
    -------
    pandas.DataFrame
        One row a run and image: `KEYS`, ``image_id``, ``malignant``, ``probability``, ``called``
        (from one half), ``tuned`` (from the threshold best on the run's validation part),
        ``patient_id`` (the cluster), ``true_iaa``, ``predicted_iaa`` and ``n_train`` (training
        images of the run).
    """
    everything = read_predictions(runs)
    val = everything[everything["subset"] == "val"]
    thresholds = {
        run: choose_threshold(rows["true"], rows["predicted"]).value
        for run, rows in val.groupby("id")
    }
    tested = everything[everything["subset"] == "test"].drop(columns=["backbone", "seed", "label"])
    about = runs.set_index("id")[[*KEYS, "n_train"]]
    tested = tested.join(about, on="id")
    tested["called"] = tested["predicted"] >= 0.5
    tested["tuned"] = tested["predicted"] >= tested["id"].map(thresholds).fillna(0.5)
    names = {"true": "malignant", "predicted": "probability", "cluster": "patient_id"}
    tested = tested.rename(columns=names).astype({"malignant": bool})
    for name in ("true_iaa", "predicted_iaa"):
        tested[name] = tested.get(name, np.nan)
    shown = ["image_id", "malignant", "probability", "called", "tuned", "patient_id"]
    tested = tested[[*KEYS, *shown, "true_iaa", "predicted_iaa", "n_train"]]
    return tested.reset_index(drop=True)


def pooled_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Judge each model over the test parts of all its folds.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`held_out_predictions`.

    Returns
    -------
    pandas.DataFrame
        One row a model: `KEYS`, ``n``, ``n_train`` (mean over folds), ``tuned_balanced_accuracy``,
        and the estimates of :func:`iavlib.stats.classification_scores` at one half.

    Raises
    ------
    ExperimentError
        If a model judged an image twice, so that runs that differ in more than the fold would be
        put together.
    """
    rows = []
    for key, found in predictions.groupby(list(KEYS), dropna=False, sort=False):
        if found["image_id"].duplicated().any():
            named = ", ".join(f"{k} {v}" for k, v in zip(KEYS, key, strict=True))
            raise ExperimentError(
                "runs", f"several judge the same images as {named}", "give each its own settings"
            )
        table = classification_scores(found["malignant"], found["probability"], n_boot=2)
        tuned = found.groupby("malignant")["tuned"].mean()
        scores = table["estimate"].to_dict() | {
            "tuned_balanced_accuracy": (tuned.get(True, 0) + 1 - tuned.get(False, 1)) / 2,
            "n": len(found),
            "n_train": round(found["n_train"].mean()),
        }
        rows.append(dict(zip(KEYS, key, strict=True)) | scores)
    return pd.DataFrame(rows)


def one_alpha(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Keep one weight of the diagnosis in arms that have any, so that runs can be paired."""
    return table[table["alpha"].isna() | table["arm"].isin([SINGLE]) | (table["alpha"] == alpha)]


def data_of(runs: pd.DataFrame, dataset: str) -> RunData:
    """Say what data the runs on a dataset stand for; random weights make it as good as invented."""
    own = runs[runs["dataset"] == dataset]
    invented = own["synthetic"].astype(bool) | own["weights_random"].astype(bool)
    return RunData(dataset, bool(invented.any()))


def gain_by_agreement(predictions: pd.DataFrame, n_bins: int = 3) -> pd.DataFrame:
    """Compare errors with and without the second head by the true agreement of images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`held_out_predictions`, of the arms ``single`` and ``multitask``.
    n_bins : int
        Groups of equal size, from low to high agreement.

    Returns
    -------
    pandas.DataFrame
        One row a group: ``lowest`` and ``highest`` agreement, ``n`` images, the share called
        wrongly by each arm, and their difference (negative where the second head helps).
    """
    known = predictions[predictions["true_iaa"].notna()]
    wrong = known.assign(wrong=(known["called"] != known["malignant"]).astype(float))
    table = wrong.pivot_table(index=["image_id", "true_iaa"], columns="arm", values="wrong")
    table = table[[SINGLE, MULTI]].dropna().reset_index()
    if table.empty:
        raise ExperimentError("runs", "no image was judged by both arms", "run both")
    ranks = table["true_iaa"].rank(method="first")
    table["group"] = pd.qcut(ranks, min(n_bins, len(table)), labels=False)
    groups = table.groupby("group")
    found = groups[[SINGLE, MULTI]].mean()
    found.insert(0, "n", groups.size())
    found.insert(0, "highest", groups["true_iaa"].max())
    found.insert(0, "lowest", groups["true_iaa"].min())
    return found.assign(difference=found[MULTI] - found[SINGLE]).reset_index(drop=True)


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
