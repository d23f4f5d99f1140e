"""Numbers on a page."""

import pandas as pd

from iavlib.plots import format_table


def test_numbers_counts_p_values_and_gaps():
    frame = pd.DataFrame(
        {
            "n": [3103.0, 2.0],
            "d": [-0.17403, float("nan")],
            "p": [4.335e-06, 0.5],
            "who": ["a", "b"],
        },
        index=["pairs", "images"],
    )
    table = format_table(frame)
    assert table["n"].tolist() == ["3,103", "2"]
    assert table["d"].tolist() == ["-0.174", ""]
    assert table["p"].tolist() == ["4.3e-06", "0.5"]
    assert table["who"].tolist() == ["a", "b"]
    assert table.index.equals(frame.index)


def test_p_values_in_rows():
    table = format_table(pd.DataFrame({"value": [0.95, 0.0005]}, index=["gap", "p_gap"]))
    assert table["value"].tolist() == ["0.950", "0.0005"]


def test_one_and_zero_stay_numbers_unless_they_count():
    assert format_table(pd.DataFrame({"mean": [1.0, 0.0]}))["mean"].tolist() == ["1.000", "0.000"]
    assert format_table(pd.DataFrame({"n": [1, 0]}))["n"].tolist() == ["1", "0"]
