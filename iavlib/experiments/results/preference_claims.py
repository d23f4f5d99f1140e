"""The claims of Guo et al. (2022) on every set that was run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from iavlib.experiments.results.across_seeds import SEEDS, by_seed, finished_runs, interval_of_mean
from iavlib.experiments.results.preference import difference, pretrained_first

#: Images that a set's source holds: those of RIGA, and of IMA++ with several annotators.
WHOLE = {"riga": 750, "isic_two_annotators": 2394}
#: Claims that a difference is above 0.
SIGNS = (
    "avap-average-over-mh",
    "avap-two-step",
    "avap-encoding-over-features",
    "avap-pretraining",
)


def comparisons(runs: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Pair the runs of one set as the claims do.

    Returns
    -------
    dict of str to (pandas.DataFrame, pandas.DataFrame)
        Claim to the runs that are to score more and those that are to score less; pairs of which
        one side was not run are left out. Of several joint losses the best on average is taken.
    """
    main, runs = pretrained_first(runs), finished_runs(runs)
    if not len(runs):
        return {}
    avap = main[main["method"] == "avap"]
    joint = main[main["method"] == "avap-joint"]
    if len(joint) and "overrides_joint_weight" in joint:
        weights = joint["overrides_joint_weight"].fillna(0.5)
        best = joint.groupby(weights)["average"].mean().idxmax()
        joint = joint[weights == best]
    started = runs[(runs["method"] == "avap") & (runs["backbone"] != "unet")]
    random = started["weights_random"].astype(bool)
    pairs = {
        "avap-average-over-mh": (avap, main[main["method"] == "mh-unet"]),
        "avap-two-step": (avap, joint),
        "avap-encoding-over-features": (avap, main[main["method"] == "avap-features"]),
        "avap-pretraining": (started[~random], started[random]),
    }
    return {name: pair for name, pair in pairs.items() if len(pair[0]) and len(pair[1])}


def claim_values(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Measure the claims on the runs of one set.

    Returns
    -------
    dict of str to dict
        Claim to ``value``, ``interval`` (over seeds) and ``n`` (seeds), as
        :func:`iavlib.claims.record` takes them; only what at least three seeds say.
    """
    found = {}
    for name, (first, second) in comparisons(runs).items():
        apart = difference(first, second)
        if len(apart.values) >= SEEDS:
            ends = (apart.low, apart.high)
            found[name] = {"value": apart.mean, "interval": ends, "n": len(apart.values)}
    main = pretrained_first(runs)
    vote = "mean_voting_cup" if "mean_voting_cup" in main else "mean_voting"
    wanted = {"avap-own-annotator-best": ("own_best", 1), "avap-mean-voting": (vote, 100)}
    for name, (measure, scale) in wanted.items():
        values = scale * by_seed(main, "avap", measure) if len(main) else pd.Series(dtype=float)
        if len(values) >= SEEDS:
            mean, *ends = interval_of_mean(values, within=(0, scale))
            found[name] = {"value": mean, "interval": tuple(ends), "n": len(values)}
    return found


def claims_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Measure the claims on every set that was run: one row a set and claim.

    Parameters
    ----------
    runs : pandas.DataFrame
        Of any labels.

    Returns
    -------
    pandas.DataFrame
        Index ``set`` and ``claim``: ``value``, its interval over seeds, ``seeds``.
    """
    rows = {}
    for label, some in finished_runs(runs).groupby("label", sort=False):
        for claim, found in claim_values(some).items():
            low, high = found["interval"]
            row = {"value": found["value"], "low": low, "high": high, "seeds": found["n"]}
            rows[label, claim] = row
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "seeds"])
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["set", "claim"])
    return table


def against(table: pd.DataFrame) -> str:
    """Name the rows of :func:`claims_table` about a sign whose interval is wholly below 0.

    Without any such row they are none, and where nothing was run it is said so.
    """
    if table.empty:
        return "(nothing was run with enough seeds)"
    signs = table[table.index.isin(SIGNS, level="claim")]
    found = signs.index[signs["high"] < 0]
    return "; ".join(f"{claim} on {label}" for label, claim in found) or "none"


def coverage(cohort: str, n_images: int) -> tuple[int, int] | None:
    """Say how many images of a set's whole are at hand, where the whole is larger."""
    whole = WHOLE.get(cohort, n_images)
    return (n_images, whole) if n_images < whole else None
