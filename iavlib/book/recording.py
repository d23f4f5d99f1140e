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

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from iavlib.book.evidence import EFFECTS, SETTINGS
from iavlib.core.errors import ClaimError, suggest
from iavlib.core.project import RUN_VARIABLE, find_project
from iavlib.core.settings import Settings, describe, read_yaml

if TYPE_CHECKING:
    import pandas as pd

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

#: Options that a kind of comparison needs; those about an effect or a level need the smallest one
#: that matters, and why.
_NEEDS = {"equal": (), "p-below": ("threshold",)}
_EFFECT = ("smallest", "because")


class Comparison(Settings):
    """How a measured value is compared with a claim (see :func:`iavlib.book.evidence.judge`)."""

    kind: Literal[
        *("equal", "p-below", "positive", "negative", "reduction"),
        *("equivalent", "at-most", "at-least"),
    ]
    #: The smallest effect that would matter, in the unit of the claim: margin of an equivalence
    #: test, tolerance of a level.
    smallest: Annotated[float, Field(gt=0)] | None = None
    because: Text | None = None  #: why no smaller one would matter
    tolerance: Annotated[float, Field(ge=0)] | None = None  #: rounding of the printed number
    threshold: float | None = None  #: of a p-value

    @model_validator(mode="after")
    def _check_options(self) -> Comparison:
        needed = _NEEDS.get(self.kind, _EFFECT)
        for name in ("smallest", "because", "tolerance", "threshold"):
            given = getattr(self, name) is not None
            if given and name not in (*needed, *(("tolerance",) if self.kind == "equal" else ())):
                raise ValueError(f"{self.kind} has no {name!r}")
            if not given and name in needed:
                raise ValueError(f"{self.kind} needs {name}")
        return self


#: Source of what this book found and no paper claims.
THIS_BOOK = "this book"


class Claim(Settings):
    """One statement of a source, or a finding of this book, and how it is judged."""

    id: Text  #: short name, unique in the list
    source: Text  #: key of the paper, as in the book's references, or "this book"
    place: Text  #: where in the source it was read, or who quotes it
    statement: Text  #: what is claimed, in a sentence
    reported: int | float | None  #: the number that the source prints, if it prints one
    computed: float | None = None  #: the claimed effect as we work it out from printed numbers
    computed_from: Text | None = None  #: those numbers
    unit: Literal["count", "p", "points", "%", "Dice", "r", "error", "share"]
    compare: Comparison
    cohorts: Annotated[list[str], Field(min_length=1)]  #: on which it can be judged
    #: Those of them that are the source's own data; all where it is left out.
    own_data: list[str] | None = None
    #: Whether the notebook follows the published protocol; a measurement may say otherwise.
    protocol: Literal["published", "other"] = "other"
    setting: Literal[SETTINGS] | None = None  #: given where no data are needed
    over_seeds: bool = False  #: the interval is over runs that differ in their seeds
    range: tuple[float, float] | None = None  #: of possible values
    not_comparable: Text | None = None  #: why what the notebook measures is another quantity
    notebook: Text  #: stem of the notebook that measures it
    needs: Text  #: what is needed to measure it

    @property
    def finding(self) -> bool:
        """Whether this book found it, and no source claims it."""
        return self.source == THIS_BOOK

    @property
    def own(self) -> list[str]:
        """Cohorts that are the source's own data."""
        return self.cohorts if self.own_data is None else self.own_data

    @property
    def claimed(self) -> float | None:
        """The effect or level that is claimed, None where only a direction is."""
        return self.computed if self.computed is not None else self.reported

    @model_validator(mode="after")
    def _check_numbers(self) -> Claim:
        kind, smallest = self.compare.kind, self.compare.smallest
        if (self.computed is None) != (self.computed_from is None):
            raise ValueError("computed and computed_from belong together")
        if self.finding and self.reported is not None:
            raise ValueError("a finding of this book has no reported value")
        if self.claimed is None and kind in ("equal", "at-most", "at-least"):
            raise ValueError(f"{kind} compares with a number; give reported or computed")
        if kind in EFFECTS and self.claimed is not None:
            size = -self.claimed if kind == "negative" else self.claimed
            if size < smallest:
                raise ValueError("the claimed effect is less than the smallest that matters")
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
        entries = read_yaml(path)
    except ValueError as error:
        raise ClaimError(f"{path}: {error}") from error
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
    seeds: Annotated[int, Field(ge=1)] | None = None
    patients: Annotated[int, Field(ge=1)] | None = None
    protocol: Literal["published", "other"] | None = None

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
    seeds: int | None = None,
    patients: int | None = None,
    protocol: str | None = None,
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
        Number of units behind the value: test images, or pairs of masks.
    interval : pair of float, optional
        Lower and upper end of its 95 % interval. Without one a claim about an effect is
        inconclusive; one of no width or beyond the possible range is no interval.
    note : str, optional
        Anything a reader of the value must know.
    coverage : pair of int, optional
        How many of the paper's units were available, and of how many, for instance
        ``(1053, 2394)`` images; the scorecard shows it.
    baseline : float, optional
        For an error: that of the constant median on these data and these very units. Required
        where the claim is about the reduction of an error; elsewhere the scorecard shows the
        reduction beside the value.
    reduction_interval : pair of float, optional
        Interval of the relative reduction, 1 - value / baseline, as
        :func:`iavlib.stats.relative_reduction` gives it. Without it the ends of `interval` are
        compared with `baseline`, as though that were known exactly.
    simulated : bool
        The images are real, their annotators simulated. Such a value is marked, and one with real
        annotators takes precedence.
    seeds : int, optional
        Runs that differ in their seeds, where the value is of trained models.
    patients : int, optional
        Patients whose images were judged.
    protocol : {"published", "other"}, optional
        Whether the runs follow the source's own protocol, where that is not as the claim says.

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
    reduced = claims[claim].compare.kind == "reduction" or reduction_interval is not None
    if baseline is None and reduced:
        raise ClaimError(f"{place}: needs baseline=, the constant median's error on the same data")
    try:
        measurement = Measurement(
            **{"id": claim, "value": value, "interval": interval, "n": n, "note": note},
            **{"cohort": str(cohort.name), "synthetic": bool(cohort.synthetic)},
            **{"coverage": coverage, "baseline": baseline, "simulated": bool(simulated)},
            **{"reduction_interval": reduction_interval, "seeds": seeds, "patients": patients},
            protocol=protocol,
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
