import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import iavlib.stats
from iavlib.stats.samples import cluster_codes, labels_of, two_samples


def test_no_module_here_knows_a_dataset():
    for source in Path(iavlib.stats.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            imported = []
            if isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            elif isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            assert not [name for name in imported if name.startswith("iavlib.data")], source


def test_every_public_name_exists_and_has_a_docstring():
    for name in iavlib.stats.__all__:
        assert getattr(iavlib.stats, name).__doc__


def test_groups_come_apart():
    sample = two_samples([1.0, 2.0, 3.0], [True, False, True], ["p", "q", "p"])
    assert sample.first.tolist() == [1, 3]
    assert sample.second.tolist() == [2]
    assert sample.clusters.tolist() == [0, 1, 0]
    assert sample.n_clusters == 2


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0, 1],
        [1.0, 0.0, 1.0],
        np.array([1, 0, 1], dtype=np.int8),
        pd.Series([True, False, True], dtype="boolean"),
    ],
)
def test_yes_no_labels_may_be_numbers(labels):
    assert two_samples([1.0, 2.0, 3.0], labels).group.tolist() == [True, False, True]


def test_nan_values_are_counted_and_named():
    values = pd.Series([0.5, np.nan, np.inf], index=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"2 of 3 values are NaN or infinite \(first at row b\)"):
        two_samples(values, [True, False, True])


@pytest.mark.parametrize(("flag", "empty"), [(True, "benign"), (False, "malignant")])
def test_an_empty_group_is_named(flag, empty):
    with pytest.raises(ValueError, match=f"all 2 rows are .* and none is {empty}"):
        two_samples([1.0, 2.0], [flag, flag], names=("malignant", "benign"))


def test_no_rows_at_all():
    with pytest.raises(ValueError, match=r"not shape \(0,\)"):
        two_samples([], [])


def test_two_dimensional_values_are_refused():
    with pytest.raises(ValueError, match="one dimension"):
        two_samples([[1.0, 2.0]], [True, False])


def test_words_are_no_labels():
    with pytest.raises(ValueError, match=r"not 'malignant': compare first"):
        two_samples([1.0, 2.0], ["malignant", "benign"])


def test_numbers_other_than_zero_and_one_are_no_labels():
    with pytest.raises(ValueError, match="not 2"):
        two_samples([1.0, 2.0, 3.0], [0, 1, 2])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_counted(missing):
    with pytest.raises(ValueError, match="1 of 3 group labels are missing"):
        two_samples([1.0, 2.0, 3.0], [True, missing, False])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="3 values but 2 group labels"):
        two_samples([1.0, 2.0, 3.0], [True, False])
    with pytest.raises(ValueError, match="2 rows but 1 cluster labels"):
        two_samples([1.0, 2.0], [True, False], ["p"])


def test_tables_in_different_row_order_are_refused():
    values = pd.Series([1.0, 2.0], index=["a", "b"])
    swapped = pd.Series([True, False], index=["b", "a"])
    with pytest.raises(ValueError, match="different indexes"):
        two_samples(values, swapped)
    assert two_samples(values, swapped.reindex(values.index)).first.tolist() == [2.0]


def test_a_missing_cluster_label_is_not_a_cluster():
    with pytest.raises(ValueError, match="2 of 3 cluster labels are missing"):
        cluster_codes(["p", None, np.nan], 3)


def test_without_clusters_every_row_is_one():
    codes, n_clusters = cluster_codes(None, 4)
    assert codes.tolist() == [0, 1, 2, 3]
    assert n_clusters == 4


def test_labels_from_a_column_or_from_outside():
    frame = pd.DataFrame({"patient": ["p", "q"]}, index=[7, 8])
    assert labels_of(frame, "patient").tolist() == ["p", "q"]
    assert labels_of(frame, ["x", "y"]) == ["x", "y"]
    with pytest.raises(KeyError, match="no column 'patients' in the table; it has patient"):
        labels_of(frame, "patients")
    with pytest.raises(ValueError, match="different indexes"):
        labels_of(frame, pd.Series(["x", "y"]))
