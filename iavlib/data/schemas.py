"""Reading and checking tables: CSV files, and the schemas of the tables of a cohort.

Checks are declared as pandera schemas; a failure becomes a :class:`DataError` that names the
table, the rows and the remedy. The metrics of a pair are those registered in
:mod:`iavlib.masks.metrics`.
"""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, refuse
from iavlib.masks.metrics import METRICS, metric_names

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MALIGNANCY = ("benign", "malignant", "indeterminate", "unknown")
SUBSETS = ("train", "val", "test")
GEOMETRY = ("original", "squashed", "cropped")
FACTORS = ("annotator", "tool", "skill")
PAIR_TEXT = (
    *("image_id", "mask_1", "mask_2"),
    *(f"{factor}_{side}" for side in (1, 2) for factor in FACTORS),
)

_FREE = ("path", "diagnosis", "patient_id", "lesion_id", "licence", "sex", "site")
IMAGES = pa.DataFrameSchema(
    {name: pa.Column(nullable=True) for name in _FREE}
    | {name: pa.Column(nullable=True, checks=pa.Check.ge(1)) for name in ("width", "height")}
    | {
        "malignancy": pa.Column(checks=pa.Check.isin(MALIGNANCY)),
        "geometry": pa.Column(checks=pa.Check.isin(GEOMETRY)),
        "age": pa.Column(nullable=True, checks=pa.Check.in_range(0, 120)),
        "melanoma": pa.Column(float, pa.Check.isin((0, 1)), nullable=True, required=False),
        "subset": pa.Column(checks=pa.Check.isin(SUBSETS), nullable=True, required=False),
    },
    index=pa.Index(str, name="image_id", unique=True),
)

MASKS = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str),
        "path": pa.Column(nullable=True),
        "annotator": pa.Column(str, pa.Check.str_length(min_value=1)),
        "tool": pa.Column(str, nullable=True),
        "skill": pa.Column(str, nullable=True),
    },
    index=pa.Index(str, name="mask_id", unique=True),
)


def pair_columns() -> tuple[str, ...]:
    """Return the columns of a table of pairs: names, then every registered metric."""
    return (*PAIR_TEXT, *metric_names())


def pairs_schema() -> pa.DataFrameSchema:
    """Return the schema of a table of pairs; optional metrics may be absent."""
    columns = {c: pa.Column(str, nullable=c not in PAIR_TEXT[:3]) for c in PAIR_TEXT}
    for metric in METRICS.values():
        required, distance = metric.column == "required", metric.kind == "distance"
        nullable = distance or not required
        bounds = pa.Check.in_range(metric.low, metric.high)
        columns[metric.name] = pa.Column(float, bounds, nullable=nullable, required=required)
        for name in metric.columns[1:]:
            unit = pa.Check.in_range(0, 1)
            columns[name] = pa.Column(float, unit, nullable=not required, required=required)
    return pa.DataFrameSchema(columns, unique=["mask_1", "mask_2"])


def empty_pairs() -> pd.DataFrame:
    """Return a pairs table without rows, with the right columns and types."""
    types = {name: "str" if name in PAIR_TEXT else float for name in pair_columns()}
    return pd.DataFrame(columns=[*types]).astype(types)


def empty_masks() -> pd.DataFrame:
    """Return a masks table without rows, with the right columns and types."""
    index = pd.Index([], dtype="str", name="mask_id")
    return pd.DataFrame({c: pd.Series(dtype="str") for c in MASKS.columns}).set_index(index)


def check_table(schema: pa.DataFrameSchema, table: pd.DataFrame, where, hint: str, first_line=None):
    """Validate a table and report every failure at once.

    Parameters
    ----------
    schema : pandera.DataFrameSchema
    table : pandas.DataFrame
    where : str or path
        The file or table to name in the error.
    hint : str
        What the user can do.
    first_line : int, optional
        Line of the file that holds row 0; with it rows are named by their line.

    Raises
    ------
    DataError
        Listing, for each failed check, the column, the check and the first rows with their values.
    """
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as failure:
        cases = failure.failure_cases
        groups = cases.groupby(["column", "check"], sort=False, dropna=False)
        problems = [_describe(key, group, first_line) for key, group in groups]
        raise DataError(where, "; ".join(problems), hint) from None


def check_cohort(name: str, images: pd.DataFrame, masks: pd.DataFrame, pairs: pd.DataFrame) -> None:
    """Validate the three tables of a cohort and that they refer to each other.

    Raises
    ------
    DataError
        Naming the table, the rows and the remedy.
    """
    hint = "correct the table, or build the cohort with iavlib.data.load"
    named = {"images": (images, IMAGES), "masks": (masks, MASKS), "pairs": (pairs, pairs_schema())}
    for label, (table, schema) in named.items():
        check_table(schema, table, f"{name}, table {label}", hint)
    check_known(masks["image_id"], images.index, f"{name}, table masks", "image_id")
    for column in ("mask_1", "mask_2"):
        check_known(pairs[column], masks.index, f"{name}, table pairs", column)


def check_known(values: pd.Series, known: pd.Index, where, column: str, hint: str | None = None):
    """Raise :class:`DataError` where a column names something that another table does not hold."""
    listed = set(known)  # a plain set: isin of string columns is slow for long lists
    unknown = values[[value not in listed for value in values]].to_list()
    hint = hint or "add the missing rows to the table they refer to, or remove these"
    refuse(unknown, where, f"rows of column {column!r} name what is not listed", hint)


def _describe(key, group: pd.DataFrame, first_line: int | None) -> str:
    column, check = key
    if check == "column_in_dataframe":
        return f"column {group['failure_case'].iloc[0]!r} is missing"
    rows = group.dropna(subset=["index"]).drop_duplicates("index")
    line = (lambda index: index) if first_line is None else lambda i: f"line {int(i) + first_line}"
    cases = zip(rows["index"][:3], rows["failure_case"][:3], strict=True)
    shown = ", ".join(f"{line(index)}: {value!r}" for index, value in cases)
    shown = shown or group["failure_case"].iloc[0]
    return f"column {column!r} fails {check} in {max(len(rows), 1)} rows ({shown})"


def read_table(path: Path, schema: pa.DataFrameSchema, hint: str, **options) -> pd.DataFrame:
    """Read a CSV file and validate it.

    Parameters
    ----------
    path : pathlib.Path
    schema : pandera.DataFrameSchema
        What the table must look like.
    hint : str
        What the user can do when it does not; ends the error message.
    **options
        Passed to :func:`pandas.read_csv`.

    Raises
    ------
    DataError
        As :func:`read_csv`, or if the table does not satisfy the schema; rows are named by their
        line in the file.
    """
    table = read_csv(path, hint, **options)
    check_table(schema, table, path, hint, first_line=2)
    return table


def read_csv(path: Path, hint: str, **options) -> pd.DataFrame:
    """Read a CSV file that has rows. Byte-order marks and Windows line ends are accepted.

    Raises
    ------
    DataError
        If the file is missing, empty, cut off or not a CSV, or has no rows.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8-sig", low_memory=False, **options)
    except FileNotFoundError:
        raise DataError(path, "the file is missing", hint) from None
    except pd.errors.EmptyDataError:
        raise DataError(path, "the file is empty", hint) from None
    except (OSError, ValueError, RecursionError) as error:  # pandas' parser raises ValueError
        raise DataError(path, f"the file is no readable CSV table ({error})", hint) from None
    if table.empty:
        raise DataError(path, "the table has a header but no rows", hint)
    return table


def bare_id(names: pd.Series) -> pd.Series:
    """Strip an image file's suffix (``.JPG``, ``.png`` …, in any case) from names that have one."""
    suffixes = "|".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
    return names.str.replace(rf"(?i)\.(?:{suffixes})$", "", regex=True)
