"""Two runs beside each other: what was set differently, and what came out."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from iavlib.experiments.result import Result
from iavlib.experiments.table import fact_columns, spec_columns


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Parameters
    ----------
    settings : pandas.DataFrame
        Index: fields of the experiments that differ; one column a run.
    metrics : pandas.DataFrame
        Index: every number of the test part, and of the baselines; one column a run.
    n_common : int
        Test images that both have.
    difference : float or None
        Mean over these of the first run's absolute error less the second's; None without any.
    """

    settings: pd.DataFrame
    metrics: pd.DataFrame
    n_common: int
    difference: float | None


def compare(first: Result, second: Result) -> Comparison:
    """Put two finished runs beside each other.

    Parameters
    ----------
    first, second : Result

    Returns
    -------
    Comparison
        With no test of the difference: that takes more than two runs.
    """
    names = [first.experiment.id, second.experiment.id]
    specs = [spec_columns(result.experiment) for result in (first, second)]
    keys = dict.fromkeys([*specs[0], *specs[1]])
    differing = [key for key in keys if specs[0].get(key) != specs[1].get(key)]
    settings = pd.DataFrame(
        [[spec.get(key) for spec in specs] for key in differing], index=differing, columns=names
    )
    facts = [fact_columns(result.facts) for result in (first, second)]
    numbers = [key for key, value in facts[0].items() if isinstance(value, int | float)]
    metrics = pd.DataFrame(
        [[fact.get(key) for fact in facts] for key in numbers], index=numbers, columns=names
    )
    errors = [_test_errors(result) for result in (first, second)]
    common = errors[0].index.intersection(errors[1].index)
    gap = (errors[0].loc[common] - errors[1].loc[common]).mean() if len(common) else None
    return Comparison(settings, metrics, len(common), None if gap is None else float(gap))


def _test_errors(result: Result) -> pd.Series:
    table = result.predictions
    table = table[table["part"] == "test"].set_index("image_id")
    return (table["true"] - table["predicted"]).abs()
