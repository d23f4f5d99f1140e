"""The claims in ``book/claims.yml``, and recording what a notebook measured for one of them.

:func:`keep` records whole tables of derived numbers beside them.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from iavlib.core.errors import ClaimError, suggest
from iavlib.core.project import RUN_VARIABLE, find_project
from iavlib.core.settings import Settings, describe

if TYPE_CHECKING:
    import pandas as pd

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

#: Option that a kind of comparison needs, if any.
_NEEDS = {"close": "tolerance", "p-below": "threshold", "p-above": "threshold"}
#: Kinds that compare with a limit, by default the reported number, give or take a tolerance.
_LIMITS = ("at-most", "at-least")
#: Kinds about the whole interval of what was measured.
NEED_INTERVAL = ("negative", "positive")


class Comparison(Settings):
    """How a measured value is compared with a claim."""

    kind: Literal[
        "equal", "close", "p-below", "p-above", "negative", "positive", "at-most", "at-least"
    ]
    tolerance: Annotated[float, Field(ge=0)] | None = None
    threshold: float | None = None
    limit: float | None = None

    @model_validator(mode="after")
    def _check_options(self) -> Comparison:
        allowed = {_NEEDS.get(self.kind), *(("limit", "tolerance") if self.kind in _LIMITS else ())}
        for name in ("tolerance", "threshold", "limit"):
            given = getattr(self, name) is not None
            if given and name not in allowed:
                raise ValueError(f"{self.kind} has no {name!r}")
            if not given and name == _NEEDS.get(self.kind):
                raise ValueError(f"{self.kind} needs {name}")
        return self


class Claim(Settings):
    """One statement of a paper and how to compare it with a measured value."""

    id: Text  #: short name, unique in the list
    source: Text  #: key of the paper, as in the book's references
    place: Text  #: section, table or figure
    statement: Text  #: what is claimed, in a sentence
    reported: int | float | None  #: the number the paper gives, if it gives one
    compare: Comparison
    cohorts: Annotated[list[str], Field(min_length=1)]  #: on which it can be judged
    notebook: Text  #: stem of the notebook that measures it
    needs: Text  #: what is needed to measure it
    #: For an error: that of the constant median on the paper's own data. The claim is then judged
    #: by its reduction against the constant median of each dataset as well.
    baseline: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check_reported(self) -> Claim:
        kind = self.compare.kind
        if self.baseline is not None and (kind != "at-most" or self.reported is None):
            raise ValueError(
                "a baseline is for an error with a reported value and compare {kind: at-most}"
            )
        by_number = kind in ("equal", "close") or (kind in _LIMITS and self.compare.limit is None)
        if self.reported is None and by_number:
            raise ValueError(f"{kind} compares with a number; give reported")
        return self


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
        If the file is not such a list, an id appears twice, or a claim is not valid; the message
        names the claim.
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
        try:
            claim = Claim.model_validate(entry)
        except ValidationError as error:
            name = entry.get("id") if isinstance(entry, dict) else None
            where = f"{path.name}, claim {number}" + (f" ({name})" if name else "")
            raise ClaimError(f"{where}: {describe(error)}") from None
        if claim.id in claims:
            raise ClaimError(f"{path.name}: the id {claim.id!r} appears twice; rename one")
        claims[claim.id] = claim
    return claims


class Measurement(BaseModel):
    """What a run measured for a claim, as its manifest holds it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    id: str
    value: int | float
    interval: list[int | float] | None
    n: Annotated[int, Field(ge=1)]
    cohort: str
    synthetic: bool
    note: str | None
    # manifests of earlier versions have none of these
    coverage: list[Annotated[int, Field(ge=1)]] | None = None
    baseline: Annotated[float, Field(gt=0)] | None = None
    reduction_interval: list[int | float] | None = None
    simulated: bool = False

    @field_validator("*", mode="before")
    @classmethod
    def _to_plain(cls, value: Any) -> Any:
        """Turn numbers and arrays of NumPy, and tuples, into what JSON can hold."""
        if isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1):
            return [cls._to_plain(item) for item in value]
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return int(value) if isinstance(value, numbers.Integral) else float(value)
        return value

    @field_validator("interval", "reduction_interval", "coverage")
    @classmethod
    def _check_pair(cls, value: list[Any] | None) -> list[Any] | None:
        if value is not None and (len(value) != 2 or value[0] > value[1]):
            raise ValueError("it should be two numbers, the smaller first")
        return value


#: Measurements that wait for the manifest, by claim and cohort, each with whether it is of runs
#: (see :func:`record`).
_pending: dict[tuple[str, str], tuple[dict[str, Any], bool]] = {}


def record(
    claim: str,
    value: float,
    *,
    cohort: Any,
    n: int,
    interval: Sequence[float] | None = None,
    note: str | None = None,
    coverage: Sequence[int] | None = None,
    baseline: float | None = None,
    reduction_interval: Sequence[float] | None = None,
    simulated: bool = False,
) -> None:
    """Keep a measured value for a claim until the notebook writes its manifest.

    Parameters
    ----------
    claim : str
        Id of a claim in ``book/claims.yml``.
    value : float
        What was measured: the statistic for means and coefficients, p for tests.
    cohort : Cohort
        The data it was measured on; its ``name`` and ``synthetic`` are kept. A user's own data may
        be recorded: the ledger leaves them out. Where it has a true attribute ``of_runs``, the
        manifest need not list it: runs may be stored ones, of data that are not on this machine.
    n : int
        Number of units (pairs, images, runs) behind the value.
    interval : pair of float, optional
        Lower and upper end of its interval; required where the claim is about a sign.
    note : str, optional
        Anything a reader of the value must know.
    coverage : pair of int, optional
        How many of the paper's units were available, and of how many, for instance
        ``(1053, 2394)`` images; the scorecard shows it.
    baseline : float, optional
        For an error: that of the constant median on these data and these very units. Required
        where the claim has a baseline; elsewhere the scorecard shows the reduction beside the
        value.
    reduction_interval : pair of float, optional
        Interval of the relative reduction, 1 - value / baseline, as
        :func:`iavlib.stats.relative_reduction` gives it. Without it the ends of `interval` are
        compared with `baseline`, as though that were known exactly.
    simulated : bool
        The images are real, their annotators simulated. Such a value is marked, and one with real
        annotators takes precedence.

    Raises
    ------
    ClaimError
        If the id is unknown, a value does not fit, or something that the claim requires is
        missing. In a run by `iav run` also if the same claim is recorded twice on the same data;
        interactively the later value replaces the earlier.
    ProjectError
        Outside a project folder.
    """
    claims = load_claims(find_project().claims)
    if claim not in claims:
        raise ClaimError(f"no claim {claim!r} in book/claims.yml; {suggest(claim, claims)}")
    place = f"claims.record({claim!r})"
    if interval is None and claims[claim].compare.kind in NEED_INTERVAL:
        raise ClaimError(f"{place}: a claim about a sign needs interval=(low, high)")
    if baseline is None and (claims[claim].baseline is not None or reduction_interval is not None):
        raise ClaimError(f"{place}: needs baseline=, the constant median's error on the same data")
    try:
        measurement = Measurement(
            **{"id": claim, "value": value, "interval": interval, "n": n, "note": note},
            **{"cohort": str(cohort.name), "synthetic": bool(cohort.synthetic)},
            **{"coverage": coverage, "baseline": baseline, "simulated": bool(simulated)},
            reduction_interval=reduction_interval,
        )
    except ValidationError as error:
        raise ClaimError(f"{place}: {describe(error)}") from None
    key = claim, measurement.cohort
    if key in _pending and os.environ.get(RUN_VARIABLE):
        raise ClaimError(f"{place}: already recorded on {measurement.cohort}; record it once")
    _pending.pop(key, None)
    _pending[key] = measurement.model_dump(), bool(getattr(cohort, "of_runs", False))


def take_pending() -> list[tuple[dict[str, Any], bool]]:
    """Return what was recorded since the last call, each with whether it is of runs; forget it."""
    taken = list(_pending.values())
    _pending.clear()
    return taken


#: Size of a kept table: rows and columns, the index included.
_MAX_ROWS, _MAX_COLUMNS = 500, 24
#: Tables that wait for the manifest, by name and cohort.
_tables: dict[tuple[str, str], dict[str, Any]] = {}


def keep(name: str, table: pd.DataFrame, *, cohort: Any) -> None:
    """Keep a table of derived numbers in the manifest of this run, for machines without the data.

    ``iav results export`` stores it with the book; :func:`iavlib.book.stored_tables` reads it.

    Parameters
    ----------
    name : str
        What the table is, unique in the notebook, such as ``"groups"``. A later table of the same
        name replaces the earlier.
    table : DataFrame
        Numbers, and texts that name their rows. Named index levels are kept, an unnamed index is
        not. Numbers are rounded to seven significant digits.
    cohort : Cohort
        The data it was computed from; it must be among those given to ``book.finish``.

    Raises
    ------
    ValueError
        If the table has more than 500 rows or 24 columns, holds something else than numbers and
        texts, or names single images or masks: statistics are kept, never copies of the data.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import book, data
    >>> study = data.load("phantom", n_images=4)
    >>> groups = pd.DataFrame({"group": ["benign", "malignant"], "mean": [0.8, 0.7]})
    >>> book.keep("groups", groups, cohort=study)
    """
    place = f"book.keep({name!r})"
    levels = [level for level in table.index.names if level is not None]
    flat = table.reset_index() if levels else table.reset_index(drop=True)
    if len(flat) > _MAX_ROWS or flat.shape[1] > _MAX_COLUMNS:
        raise ValueError(
            f"{place}: {len(flat)} rows and {flat.shape[1]} columns are more than {_MAX_ROWS} and "
            f"{_MAX_COLUMNS}; keep statistics, not the data they are computed from"
        )
    columns = {str(column): [_plain(value, place) for value in flat[column]] for column in flat}
    texts = {value for values in columns.values() for value in values if isinstance(value, str)}
    units = set(cohort.images.index) | set(cohort.masks.index)
    if single := texts & units:
        raise ValueError(
            f"{place}: names the image or mask {min(single)!r}; keep statistics of groups only"
        )
    _tables[name, str(cohort.name)] = {
        **{"name": name, "cohort": str(cohort.name), "synthetic": bool(cohort.synthetic)},
        **{"index": list(map(str, levels)), "columns": columns},
    }


def _plain(value: Any, place: str) -> Any:
    """Turn a cell into what JSON can hold; nothing for a missing or infinite number."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str | bool | int):
        return value
    if value is None or isinstance(value, float) or str(value) == "<NA>":
        return float(f"{value:.7g}") if isinstance(value, float) and math.isfinite(value) else None
    raise ValueError(f"{place}: {type(value).__name__} {value!r} is neither number nor text")


def take_tables() -> list[dict[str, Any]]:
    """Return the tables kept since the last call, and forget them."""
    taken = list(_tables.values())
    _tables.clear()
    return taken
