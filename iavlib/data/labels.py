"""Reading a dataset's own labels and facts, and refusing what is none of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iavlib.data.errors import DataError

NOT_KNOWN = ("", "unknown", "n/a", "na", "nan", "none")


@dataclass(frozen=True)
class Label:
    """What a dataset's own label means.

    Attributes
    ----------
    melanoma : float
        1 for melanoma, 0 for everything else, NaN where the label does not tell.
    malignancy : str
        Of the lesion, whatever it is: a basal cell carcinoma is malignant and no melanoma.
    """

    melanoma: float
    malignancy: str


def one_hot(table: pd.DataFrame, labels: Mapping[str, Label], path: Path, others=()) -> pd.Series:
    """Read the label of each row from one column a class.

    Parameters
    ----------
    table : pandas.DataFrame
        As read from ``path``, indexed by place in the file.
    labels : mapping of str to Label
        The classes known; a class that the table lacks occurs in no row.
    path : pathlib.Path
    others : sequence of str
        Columns that are no class.

    Raises
    ------
    DataError
        If the table has a class outside the map, or a row has not exactly one class.
    """
    if strange := [name for name in table if name not in labels and name not in others]:
        raise DataError(
            path, f"label {strange[0]!r} is outside the map ({', '.join(labels)})", "correct it"
        )
    values = table[[name for name in labels if name in table]]
    wrong = ~(values.isin([0, 1]).all(axis=1) & (values.sum(axis=1) == 1))
    if wrong.any():
        raise DataError(
            path,
            f"{wrong.sum()} rows have not exactly one class marked 1 and the others 0, first line "
            f"{wrong.idxmax() + 2}",
            "put the published table there",
        )
    return values.idxmax(axis=1)


def meaning(labels: pd.Series, known: Mapping[object, Label], path: Path, column: str):
    """Look the labels of a column up.

    Returns
    -------
    pandas.DataFrame
        Columns ``melanoma`` and ``malignancy``, indexed as ``labels``; missing labels are NaN and
        unknown.

    Raises
    ------
    DataError
        If a label is outside the map.
    """
    strange = labels[labels.notna() & ~labels.isin(list(known))]
    if len(strange):
        raise DataError(
            path,
            f"column {column!r}: {len(strange)} labels outside the map, first "
            f"{strange.iloc[0]!r}; known are {', '.join(map(str, known))}",
            "correct the label, or put the published table there",
        )
    found = [known.get(label, Label(float("nan"), "unknown")) for label in labels]
    return pd.DataFrame(
        {"melanoma": [x.melanoma for x in found], "malignancy": [x.malignancy for x in found]},
        index=labels.index,
    ).astype({"melanoma": float})


def known_text(values: pd.Series) -> pd.Series:
    """Turn the ways to write that something is not known into missing values."""
    text = values.astype("str").str.strip()
    return text.where(values.notna() & ~text.str.lower().isin(NOT_KNOWN))


def known_number(values: pd.Series, path: Path) -> pd.Series:
    """Read numbers among which some may be said not to be known.

    Raises
    ------
    DataError
        If a cell is neither a number nor said not to be known.
    """
    text = known_text(values)
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = text[numbers.isna() & text.notna()]
    if len(wrong):
        raise DataError(
            path, f"column {values.name!r} has {wrong.iloc[0]!r}, which is no number", "correct it"
        )
    return numbers.astype(float)
