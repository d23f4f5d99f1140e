"""How many numbers are learnt by how many annotators."""

import pytest

from iavlib.core.errors import MethodError
from iavlib.multiannotator import Problem, make_method, parameter_counts
from iavlib.multiannotator.fitting import build_network

SMALL = {"widths": [4, 8]}


def test_counts_are_those_of_networks_that_are_built(discs):
    table = parameter_counts(["avap", "cm", "separate"], (2, 5), **SMALL)
    for name, row in table.iterrows():
        data = discs(n=2, annotators=("good", "over"))
        problem = Problem.of(data)
        built = build_network(make_method(name, **SMALL), problem, 0)
        grey = sum(one.numel() for one in built.parameters())
        # three colours instead of one: eight 3 x 3 kernels more in each first layer, if widths is 4
        first = 2 * 4 * 9 * (2 if name == "separate" else 1)
        assert row[2] == grey + first
    assert (table[5] > table[2]).all()


def test_a_network_an_annotator_grows_by_its_whole_and_one_map_for_all_not():
    table = parameter_counts(["avap", "separate", "mode-labels"], (2, 4), **SMALL)
    assert table.loc["separate", "percent_each"] == pytest.approx(50)
    assert table.loc["mode-labels", "percent_each"] == 0
    assert 0 < table.loc["avap", "percent_each"] < 50


def test_unknown_methods_are_named():
    with pytest.raises(MethodError, match="avapp"):
        parameter_counts(["avapp"])
