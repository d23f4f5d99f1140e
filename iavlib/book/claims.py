"""The ledger: every claim with what was measured for it and a verdict.

How far an error lies below a constant guess: the part of a claim that other data can share.

A mean absolute error depends on how much the target varies in the data it was measured on. Its
reduction against the constant median of the same data depends on that far less. A claim with a
``baseline`` (the paper's own constant-median error) is therefore judged on both.

Judging one measured value against one claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from iavlib.book.claim_definitions import Claim, load_claims
from iavlib.book.manifest import read_manifest
from iavlib.book.parameters import SCALES
from iavlib.book.stored import describe_stored, read_stored
from iavlib.core.project import Project, find_project


@dataclass(frozen=True)
class Reduction:
    """A share by which an error is below that of a constant.

    Parameters
    ----------
    value : float
        1 - error / baseline; negative when the constant is better.
    low, high : float
        Its interval; both are `value` where none is known.
    """

    value: float
    low: float
    high: float

    def holds_against(self, reported: float) -> bool:
        """Tell whether it is as large as the reported one, give or take its interval.

        The interval must lie above zero besides: what is not shown to beat a constant has not
        reproduced a gain over one, however wide its interval.
        """
        return self.low > 0 and self.high >= reported - 1e-12


def reported_reduction(claim: Claim) -> float | None:
    """Return the reduction that a claim reports, None for one without a baseline."""
    if claim.baseline is None or claim.reported is None:
        return None
    return 1 - claim.reported / claim.baseline


def measured_reduction(entry: Mapping[str, Any]) -> Reduction | None:
    """Work out the reduction of a recorded value, None where no baseline was recorded with it.

    Parameters
    ----------
    entry : mapping
        What :func:`iavlib.book.record` kept. Without an interval of the reduction the ends of
        the value's own interval are set against the baseline, which then counts as known.

    Returns
    -------
    Reduction or None
    """
    baseline = entry.get("baseline")
    if baseline is None:
        return None
    value = 1 - entry["value"] / baseline
    if entry.get("reduction_interval") is not None:
        return Reduction(value, *entry["reduction_interval"])
    if entry["interval"] is not None:
        low, high = entry["interval"]
        return Reduction(value, 1 - high / baseline, 1 - low / baseline)
    return Reduction(value, value, value)


REPRODUCED = "reproduced"
PARTLY = "partly"
CONTRADICTED = "contradicted"
NOT_RUN = "not run"

#: A p-value that misses a paper's stricter threshold still supports it partly below this.
CONVENTIONAL_LEVEL = 0.05

Interval = Sequence[float] | None


def judge(
    claim: Claim,
    measured: float,
    interval: Interval = None,
    reduction: Reduction | None = None,
) -> str:
    """Compare a measured value with a claim.

    Parameters
    ----------
    claim : Claim
        What is claimed and how to compare.
    measured : float
        The measured value, finite.
    interval : pair of float, optional
        Its interval; without one a claim about a sign is reproduced partly at best.
    reduction : Reduction, optional
        Measured reduction of an error against a constant, for a claim with a baseline; without it
        such a claim is reproduced partly at best.

    Returns
    -------
    str
        ``"reproduced"``, ``"partly"`` or ``"contradicted"``:

        - *equal*: the same number, else contradicted.
        - *close*: within the tolerance; partly when the interval holds the
          reported number or the value is within twice the tolerance.
        - *p-below*: below the threshold; partly when below .05.
        - *p-above*: above the threshold, else contradicted.
        - *negative*, *positive*: the whole interval on that side of zero;
          partly when only the value is.
        - *at-most*, *at-least*: on that side of the limit, give or take the
          tolerance; partly when the interval reaches the limit or the value is
          within twice the tolerance.

        A claim with a baseline is judged on two counts instead: the value is
        within the tolerance of the reported one, and its reduction against the
        constant median of its own data is as large as the reported one, give or
        take its interval, which must lie above zero. Both: reproduced; one:
        partly; neither: contradicted.
    """
    alone = _RULES[claim.kind](claim, measured, interval)
    reported = reported_reduction(claim)
    if reported is None:
        return alone
    close = alone == REPRODUCED
    gained = reduction is not None and reduction.holds_against(reported)
    return _graded(close and gained, close or gained)


def _graded(fully: bool, half: bool = False) -> str:
    return REPRODUCED if fully else PARTLY if half else CONTRADICTED


def _within(distance: float, allowed: float) -> bool:
    """Compare with a grain of slack, so that .786 is within .005 of .781 in binary too."""
    return distance <= allowed * (1 + 1e-9) + 1e-12


def _equal(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured == claim.reported)


def _close(claim: Claim, measured: float, interval: Interval) -> str:
    distance, tolerance = abs(measured - claim.reported), claim.options["tolerance"]
    covered = interval is not None and interval[0] <= claim.reported <= interval[1]
    return _graded(_within(distance, tolerance), covered or _within(distance, 2 * tolerance))


def _p_below(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured < claim.options["threshold"], measured < CONVENTIONAL_LEVEL)


def _p_above(claim: Claim, measured: float, _: Interval) -> str:
    return _graded(measured > claim.options["threshold"])


def _negative(_: Claim, measured: float, interval: Interval) -> str:
    return _graded(interval is not None and interval[1] < 0, measured < 0)


def _positive(_: Claim, measured: float, interval: Interval) -> str:
    return _graded(interval is not None and interval[0] > 0, measured > 0)


def _at_most(claim: Claim, measured: float, interval: Interval) -> str:
    limit, tolerance = claim.options.get("limit", claim.reported), claim.options.get("tolerance", 0)
    reaches = interval is not None and interval[0] <= limit
    excess = measured - limit
    return _graded(_within(excess, tolerance), reaches or _within(excess, 2 * tolerance))


def _at_least(claim: Claim, measured: float, interval: Interval) -> str:
    limit, tolerance = claim.options.get("limit", claim.reported), claim.options.get("tolerance", 0)
    reaches = interval is not None and interval[1] >= limit
    shortfall = limit - measured
    return _graded(_within(shortfall, tolerance), reaches or _within(shortfall, 2 * tolerance))


_RULES: dict[str, Callable[[Claim, float, Interval], str]] = {
    "equal": _equal,
    "close": _close,
    "p-below": _p_below,
    "p-above": _p_above,
    "negative": _negative,
    "positive": _positive,
    "at-most": _at_most,
    "at-least": _at_least,
}


#: Keys of a row, in order; `iav claims --json` prints exactly these.
KEYS = (
    "id",
    "source",
    "statement",
    "reported",
    "measured",
    "interval",
    "n",
    "cohort",
    "synthetic",
    "profile",
    "verdict",
    "needs",
    "coverage",
    "simulated",
    "baseline",
    "reduction",
    "reduction_interval",
    "reported_baseline",
    "reported_reduction",
)

#: What manifests of earlier versions do not say of a recorded value.
_UNSAID = {"coverage": None, "simulated": False, "baseline": None, "reduction_interval": None}


def ledger(project: Project | None = None) -> list[dict[str, Any]]:
    """Set every claim beside what was measured.

    Parameters
    ----------
    project : Project, optional
        The project; the one around the working folder by default.

    Returns
    -------
    list of dict
        One row a claim, in the order of ``book/claims.yml``, with the keys
        `KEYS`. A claim measured on one of its cohorts has a verdict; one
        measured only on synthetic data shows that value, with ``synthetic``
        true and the verdict ``"not run"``; one not measured has None. Values
        from other data (a user's own) are left out. Of several values the
        one on real data, with real annotators, at the larger scale, of the
        later run is taken; at the same scale one measured here goes before a
        stored one, which says in ``profile`` that it is stored.

        ``coverage`` is how many of the paper's units were at hand, and of how
        many; ``simulated`` tells of simulated annotators on real images;
        ``reduction`` is that of a measured error against ``baseline``, the
        constant median's on the same data, ``reported_reduction`` the paper's.

    Raises
    ------
    ClaimError, ManifestError
        If the list of claims or a manifest is damaged.
    """
    project = project or find_project()
    found = _measurements([*read_runs(project), *read_stored(project)])
    return [_row(claim, found.get(claim.id, [])) for claim in load_claims(project.claims).values()]


def read_runs(project: Project) -> list[dict[str, Any]]:
    """Read the manifests of all notebooks that were run here.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    list of dict
        In the order of the notebooks. A manifest whose notebook is gone counts
        no more.
    """
    paths = [project.executed / f"{stem}.json" for stem in project.notebook_files()]
    return [read_manifest(path) for path in paths if path.is_file()]


def _measurements(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Collect what was recorded for each claim, with the run it comes from."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for entry in run["claims"]:
            origin = {
                "profile": describe_profile(run),
                "scale": SCALES.index(run["profile"]) if run["profile"] in SCALES else -1,
                "finished": datetime.fromisoformat(run["finished"]),
                "here": "stored" not in run,
            }
            found.setdefault(entry["id"], []).append({**_UNSAID, **entry, **origin})
    return found


def describe_profile(run: Mapping[str, Any]) -> str:
    """Name a run's scale: its profile, what the user set beyond it, and whether it is stored."""
    subsets = [run["profile"], *(f"{k}={v}" for k, v in run["overrides"].items())]
    return ", ".join([*subsets, describe_stored(run)] if "stored" in run else subsets)


def _row(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(KEYS)
    row |= {key: getattr(claim, key) for key in ("id", "source", "statement", "reported", "needs")}
    row |= {"synthetic": False, "simulated": False, "verdict": NOT_RUN}
    row |= {"reported_baseline": claim.baseline, "reported_reduction": reported_reduction(claim)}
    entry = _best(claim, entries)
    if entry is None:
        return row
    row |= {key: entry[key] for key in ("interval", "n", "cohort", "synthetic", "profile")}
    row |= {key: entry[key] for key in ("coverage", "simulated", "baseline")}
    row["measured"] = entry["value"]
    reduction = measured_reduction(entry)
    if reduction is not None:
        row["reduction"] = reduction.value
        row["reduction_interval"] = [reduction.low, reduction.high]
    if not entry["synthetic"]:
        row["verdict"] = judge(claim, entry["value"], entry["interval"], reduction)
    return row


def _best(claim: Claim, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    usable = [e for e in entries if e["synthetic"] or e["cohort"] in claim.cohorts]
    return max(
        usable,
        key=lambda e: (
            *(not e["synthetic"], not e["simulated"]),
            *(e["scale"], e["n"], e["here"], e["finished"]),
        ),
        default=None,
    )
