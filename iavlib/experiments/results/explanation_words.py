"""What runs of task ``explain`` say together, in the words of a page.

Each function says so where no run at hand has measured what it is asked for.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from iavlib import explain
from iavlib.experiments.store import FINISHED
from iavlib.experiments.table import STORED

#: In the words of a page, for what no run at hand has measured.
UNMEASURED = "(not measured)"


def coverage_in_words(known: pd.DataFrame) -> str:
    """Say which of the runs that a page reads are at hand, and what is missing.

    Parameters
    ----------
    known : pandas.DataFrame
        Of :func:`best_known`.
    """
    done = known[known["status"] == FINISHED]
    if done.empty:
        return (
            "Not run: none of the runs that this page reads is finished or stored here, and what "
            'they would measure stands as "(not measured)" or is left empty.'
        )
    missing = [label for label in known["label"].unique() if label not in set(done["label"])]
    stored = int((done["origin"] == STORED).sum()) if "origin" in done else 0
    told = f"{len(done)} of {len(known)} runs are at hand, {stored} of them stored results."
    return told + (f" Not run: {', '.join(missing)}." if missing else "")


def readability_in_words(readable: pd.DataFrame, label: str) -> dict[str, str]:
    """Say what plain and centred Grad-CAM keep, and whether others tell directions apart.

    Parameters
    ----------
    readable : pandas.DataFrame
        Of :func:`readability`.
    label : str
        Whose maps.

    Returns
    -------
    dict of str to str
        ``kept_`` and ``empty_`` of ``lowers_plain``, ``lowers_centred``, ``raises_plain`` and
        ``raises_centred``; ``opposite_`` of methods that keep positive gradients only.
    """
    columns = ["kept", "empty", "opposite"]

    def words(target: str, method: str, column: str, form: str) -> str:
        key = (label, target, method)
        value = readable.loc[key, column] if key in readable.index else float("nan")
        return format(value, form) if np.isfinite(value) else UNMEASURED

    found = {}
    for name, target in (("lowers", explain.LOWERS), ("raises", explain.RAISES)):
        for short, method in (("plain", "Grad-CAM"), ("centred", explain.CENTRED)):
            for column in columns[:2]:
                found[f"{column}_{name}_{short}"] = words(target, method, column, ".0%")
    for method in ("Grad-CAM++", "Layer-CAM"):
        found[f"opposite_{method}"] = words(explain.LOWERS, method, "opposite", ".2f")
    return found


def number_in_words(value: float) -> str:
    """Say a number with two digits, or that it was not measured."""
    return f"{value:.2f}" if np.isfinite(value) else UNMEASURED


def best_deletion_in_words(gains: pd.DataFrame) -> str:
    """Name the method of the largest gain by deletion, with its interval."""
    if gains.empty:
        return UNMEASURED
    target, method = gains["deletion_gain"].idxmax()
    row = gains.loc[(target, method)]
    ends = f"{row['deletion_gain_low']:.3f} to {row['deletion_gain_high']:.3f}"
    told = f"{row['deletion_gain']:.3f} ({ends})" if "nan" not in ends else "one patient only"
    return f"{method} ({target}): {told}, {int(row['images'])} images"


def verdicts_in_words(verdicts: pd.DataFrame, passes: bool) -> str:
    """Name the methods that pass (or fail) the sanity check, with what is left of their maps."""
    if verdicts.empty:
        return UNMEASURED
    chosen = verdicts[verdicts["passes"] == passes]
    return ", ".join(f"{name} ({left:.2f})" for name, left in chosen["left"].items()) or "none"


def ratio_in_words(ratios: pd.DataFrame, *key: str) -> str:
    """Say a ratio of :func:`iavlib.explain.attribution_ratios` with its interval and images."""
    if key not in ratios.index:
        return UNMEASURED
    row = ratios.loc[key]
    if not np.isfinite(row["ratio"]):
        return UNMEASURED
    ends = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}, "
    ends = ends if np.isfinite(row["ci_low"]) else ""
    return f"{row['ratio']:.2f} ({ends}{int(row['n'])} images)"
