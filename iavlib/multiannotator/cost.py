"""How many numbers methods learn, by how many annotators there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from iavlib.multiannotator.method import Problem, make_method

ANNOTATORS = (2, 5, 15, 50)
#: Colour pictures of two classes; with the default U-Net sizes do not count from this on.
SIDE = 64


def parameter_counts(
    methods: Sequence[str], annotators: Sequence[int] = ANNOTATORS, **settings: Any
) -> pd.DataFrame:
    """Count the trained numbers of methods.

    Networks are built without memory for their weights, so that fifty U-Nets cost nothing.

    Parameters
    ----------
    methods : sequence of str
        Names of :data:`iavlib.multiannotator.METHODS`.
    annotators : sequence of int
    **settings
        Of all the methods.

    Returns
    -------
    pandas.DataFrame
        Index ``method``; a column for each number of annotators, and ``percent_each``: by how many
        per cent of the first column one more annotator enlarges the network, on average.

    Raises
    ------
    MethodError
        If there is no such method or setting.
    """
    rows = {name: [_count(name, many, settings) for many in annotators] for name in methods}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(annotators))
    more = (table[annotators[-1]] - table[annotators[0]]) / (annotators[-1] - annotators[0])
    return table.assign(percent_each=100 * more / table[annotators[0]]).rename_axis("method")


def _count(name: str, annotators: int, settings: dict[str, Any]) -> int:
    everybody = tuple(f"annotator {number}" for number in range(annotators))
    grey = (0.5,) * 3
    problem = Problem(everybody, 2, 3, SIDE, SIDE, grey, grey, {"foreground": (1,)})
    with torch.device("meta"):
        network = make_method(name, **settings).build(problem)
    return sum(one.numel() for one in network.parameters())
