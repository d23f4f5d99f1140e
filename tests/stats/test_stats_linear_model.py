"""What the formula of a linear model must not hide."""

import numpy as np
import pandas as pd
import pytest

from iavlib.stats.linear_models import DependentColumnsError, formula_model


@pytest.fixture
def table():
    generator = np.random.default_rng(3)
    malignant = np.repeat(np.arange(40), 5) % 2 == 0
    return pd.DataFrame({"y": generator.normal(size=200), "malignant": malignant})


def test_text_columns_become_indicators_against_the_first_level(table):
    table["tool"] = np.resize(["T1", "T2", "T3"], 200)
    model = formula_model(table, "y ~ malignant + tool")
    assert model.exog_names == ["Intercept", "tool[T.T2]", "tool[T.T3]", "malignant"]
    assert model.exog[:, -1].tolist() == table["malignant"].astype(float).tolist()


def test_rows_are_never_dropped_in_silence(table):
    table.loc[[4, 9], "y"] = np.nan
    with pytest.raises(ValueError, match=r"2 of 200 rows have a missing value.*\(y\)"):
        formula_model(table, "y ~ malignant")
    # A missing value elsewhere in the table does not matter.
    table["y"] = table["y"].fillna(0)
    table["sex"] = None
    assert len(formula_model(table, "y ~ malignant").endog) == 200


def test_a_term_without_a_finite_value_is_named(table):
    table["area"] = np.r_[0.0, np.ones(199)]
    with (
        np.errstate(divide="ignore"),
        pytest.raises(ValueError, match="1 of 200 rows have no finite value for a term"),
    ):
        formula_model(table, "y ~ np.log(area)")


def test_dependent_columns_are_named(table):
    table["benign"] = ~table["malignant"]
    with pytest.raises(DependentColumnsError, match="linearly dependent"):
        formula_model(table, "y ~ malignant + benign")
