"""Reading a published CSV and saying exactly what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError
from iavlib.data.schemas import check_table

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


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
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(path, f"the file is no readable CSV table ({error})", hint) from None
    if table.empty:
        raise DataError(path, "the table has a header but no rows", hint)
    return table


def bare_id(names: pd.Series) -> pd.Series:
    """Strip an image file's ending (``.JPG``, ``.png`` …, in any case) from names that have one."""
    endings = "|".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
    return names.str.replace(rf"(?i)\.(?:{endings})$", "", regex=True)
