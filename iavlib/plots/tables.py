"""Tables as a reader wants them: few digits, p-values that do not read as zero."""

import pandas as pd


def readable(frame: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Format a table of numbers for a page.

    Parameters
    ----------
    frame : pandas.DataFrame
    digits : int
        Decimals of numbers; p-values (columns named ``p`` or starting with ``p_``, and rows of
        that name) get two significant digits instead, counts none.

    Returns
    -------
    pandas.DataFrame of str
        Same index and columns; missing values are empty.
    """
    formatted = {
        column: [
            _text(value, column if _is_p(column) else row, digits) for row, value in values.items()
        ]
        for column, values in frame.items()
    }
    return pd.DataFrame(formatted, index=frame.index)


def _is_p(name) -> bool:
    return isinstance(name, str) and (name == "p" or name.startswith("p_"))


def _text(value, name, digits: int) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, str | bool):
        return str(value)
    if _is_p(name):
        return f"{value:.2g}"
    if float(value).is_integer() and (abs(value) >= 2 or isinstance(value, int)):
        return f"{int(value):,}"
    return f"{value:.{digits}f}"
