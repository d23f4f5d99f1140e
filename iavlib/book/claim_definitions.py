"""The list of claims in ``book/claims.yml``, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iavlib.core.errors import ExecutionError, suggest

#: Kind of comparison to the options it takes; the value says whether it must be given.
KINDS: dict[str, dict[str, bool]] = {
    "equal": {},
    "close": {"tolerance": True},
    "p-below": {"threshold": True},
    "p-above": {"threshold": True},
    "negative": {},
    "positive": {},
    "at-most": {"limit": False, "tolerance": False},
    "at-least": {"limit": False, "tolerance": False},
}
#: Kinds that compare with the reported number, which must then be given.
_NEED_REPORTED = {"equal", "close"}
#: Kinds that look at the whole interval of what was measured.
NEED_INTERVAL = {"negative", "positive"}

_TEXT_KEYS = ("id", "source", "place", "statement", "notebook", "needs")
_KEYS = {*_TEXT_KEYS, "reported", "compare", "cohorts", "baseline"}
#: Kinds that a baseline fits: errors, of which less is better.
_MAY_HAVE_BASELINE = {"at-most"}


class ClaimError(ExecutionError):
    """A claim is badly written, unknown, or recorded with a value that cannot be one."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and how to compare it with a measured value.

    Parameters
    ----------
    id : str
        Short name, unique in the list.
    source : str
        Key of the paper, as in the book's references.
    place : str
        Where in the paper: section, table or figure.
    statement : str
        What is claimed, in a sentence.
    reported : float or int or None
        The number the paper gives, if it gives one.
    kind : str
        One of `KINDS`.
    options : mapping
        What the kind needs: tolerance, threshold or limit.
    cohorts : tuple of str
        Names of the cohorts on which the claim can be judged.
    notebook : str
        Stem of the notebook that measures it.
    needs : str
        What must be at hand to measure it.
    baseline : float, optional
        For an error: that of the constant median on the paper's own data. The claim is then
        judged by its reduction against each data set's own constant median as well.
    """

    id: str
    source: str
    place: str
    statement: str
    reported: float | int | None
    kind: str
    options: Mapping[str, float]
    cohorts: tuple[str, ...]
    notebook: str
    needs: str
    baseline: float | None = None


def load_claims(path: Path) -> dict[str, Claim]:
    """Read the list of claims.

    Parameters
    ----------
    path : Path
        The YAML file: a list of mappings.

    Returns
    -------
    dict of str to Claim
        By id, in the order of the file.

    Raises
    ------
    ClaimError
        If the file is not such a list, an id comes twice, a key is missing or
        unknown, or a comparison does not fit its kind; the message names the
        claim.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(entries, list):
        raise ClaimError(f"{path}: must be a list of claims, each beginning with '- id:'")
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(entries, start=1):
        claim = _read_claim(entry, f"{path.name}, claim {number}")
        if claim.id in claims:
            raise ClaimError(f"{path.name}: the id {claim.id!r} comes twice; rename one")
        claims[claim.id] = claim
    return claims


def _read_claim(entry: Any, place: str) -> Claim:
    if not isinstance(entry, dict):
        raise ClaimError(f"{place}: must be a mapping with the keys {', '.join(sorted(_KEYS))}")
    if isinstance(entry.get("id"), str):
        place = f"{place} ({entry['id']})"
    missing = [key for key in (*_TEXT_KEYS, "reported", "compare", "cohorts") if key not in entry]
    if missing:
        raise ClaimError(f"{place}: {', '.join(missing)} missing")
    for key in entry:
        if key not in _KEYS:
            raise ClaimError(f"{place}: unknown key {key!r}; {suggest(str(key), _KEYS)}")
    for key in _TEXT_KEYS:
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise ClaimError(f"{place}: {key} must be text, not {entry[key]!r}")
    reported = entry["reported"]
    if reported is not None and not is_number(reported):
        raise ClaimError(f"{place}: reported must be a number or null, not {reported!r}")
    cohorts = entry["cohorts"]
    if not isinstance(cohorts, list) or not all(isinstance(c, str) for c in cohorts) or not cohorts:
        raise ClaimError(f"{place}: cohorts must be a list of names, such as [imapp]")
    kind, options = _read_compare(entry["compare"], reported, place)
    texts = {key: entry[key].strip() for key in _TEXT_KEYS}
    return Claim(
        **texts,
        reported=reported,
        kind=kind,
        options=options,
        cohorts=tuple(cohorts),
        baseline=_read_baseline(entry.get("baseline"), reported, kind, place),
    )


def _read_baseline(baseline: Any, reported: Any, kind: str, place: str) -> float | None:
    if baseline is None:
        return None
    if not is_number(baseline) or baseline <= 0:
        raise ClaimError(f"{place}: baseline must be a positive number, not {baseline!r}")
    if kind not in _MAY_HAVE_BASELINE or reported is None:
        raise ClaimError(
            f"{place}: a baseline is for an error with a reported value and compare "
            "{kind: at-most}"
        )
    return float(baseline)


def _read_compare(compare: Any, reported: Any, place: str) -> tuple[str, dict[str, float]]:
    if not isinstance(compare, dict) or "kind" not in compare:
        raise ClaimError(f"{place}: compare must be a mapping with a kind, such as {{kind: equal}}")
    kind = compare["kind"]
    if kind not in KINDS:
        raise ClaimError(f"{place}: unknown kind {kind!r}; {suggest(str(kind), KINDS)}")
    options = {key: value for key, value in compare.items() if key != "kind"}
    for key, value in options.items():
        if key not in KINDS[kind]:
            raise ClaimError(f"{place}: {kind} has no {key!r}; {suggest(str(key), KINDS[kind])}")
        if not is_number(value) or (key == "tolerance" and value < 0):
            raise ClaimError(f"{place}: {key} must be a number (a tolerance not negative)")
    for key, must in KINDS[kind].items():
        if must and key not in options:
            raise ClaimError(f"{place}: {kind} needs {key}")
    if reported is None and (
        kind in _NEED_REPORTED or (kind in {"at-most", "at-least"} and "limit" not in options)
    ):
        raise ClaimError(f"{place}: {kind} compares with a number; give reported")
    return kind, options


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number (true and false are not numbers here)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
