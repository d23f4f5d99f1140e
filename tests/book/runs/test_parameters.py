import pytest
from hypothesis import given, strategies as st

from iavlib.book.parameters import (
    SCALES,
    coerce,
    load_profile,
    parameter_defaults,
    resolve,
)
from iavlib.core.errors import ParameterError
from iavlib.core.project import find_project

CELL = """
# what is run
cohort = "phantom"
n_images = 5
lr: float = 1e-3
clamp = True
limit = None
taus = [.1, .5]
offset = -2
"""


@pytest.fixture
def notebook(workshop):
    return workshop.notebook("01_first", "x = 1", parameters=CELL)


def test_defaults_are_read_without_running(notebook):
    assert parameter_defaults(notebook) == {
        "cohort": "phantom",
        "n_images": 5,
        "lr": 1e-3,
        "clamp": True,
        "limit": None,
        "taus": [0.1, 0.5],
        "offset": -2,
    }


def test_a_notebook_without_parameters_has_none(workshop):
    assert parameter_defaults(workshop.notebook("01_first", "x = 1")) == {}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import os", "only lines such as name = value"),
        ("n = len('abc')", "n is not a literal"),
        ("a = b = 1", "only lines such as name = value"),
        ("a, b = 1, 2", "one plain name per line"),
        ("taus = (1, 2)", "taus must be made of numbers"),
        ("n = ", "not Python"),
    ],
)
def test_a_parameters_cell_holds_only_literals(workshop, cell, message):
    with pytest.raises(ParameterError, match=message):
        parameter_defaults(workshop.notebook("01_first", parameters=cell))


def test_override_beats_profile_beats_default(notebook):
    values = resolve(notebook, {"n_images": 10, "lr": 0.1}, {"n_images": "20"})
    assert (values["n_images"], values["lr"], values["cohort"]) == (20, 0.1, "phantom")


def test_a_misspelt_parameter_is_named_with_near_ones(notebook):
    message = r"01_first.ipynb has no parameter 'n_image'; did you mean 'n_images'"
    with pytest.raises(ParameterError, match=message):
        resolve(notebook, None, {"n_image": "5"})


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("lr", "1e-4", 1e-4),  # YAML reads 1e-4 as text, too
        ("lr", 1e-4, 1e-4),
        ("lr", 1, 1.0),
        ("n_images", "5", 5),
        ("clamp", "false", False),
        ("clamp", "True", True),
        ("limit", "3", 3),
        ("limit", "null", None),
        ("limit", "abc", "abc"),
        ("taus", "[1, 2]", [1, 2]),
        ("cohort", "5", "5"),
    ],
)
def test_values_take_the_type_of_the_default(notebook, name, given, expected):
    value = resolve(notebook, None, {name: given})[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("n_images", "5.5", "'5.5' is not a whole number"),
        ("n_images", 5.0, "is not a whole number"),
        ("n_images", True, "is not a whole number"),
        ("lr", "fast", "'fast' is not a number; give one such as 0.001"),
        ("lr", "nan", "is not a finite number"),
        ("lr", True, "is not a number"),
        ("clamp", "1", "is not true or false"),
        ("clamp", 1, "is not true or false"),
        ("cohort", 5, "is not text; give one such as '5'"),
        ("taus", "0.5", "is not a list"),
        ("limit", "[1", "is not valid YAML"),
    ],
)
def test_values_that_do_not_fit_are_refused(notebook, name, given, message):
    with pytest.raises(ParameterError, match=rf"01_first.ipynb: parameter '{name}'.*{message}"):
        resolve(notebook, None, {name: given})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_survives_being_typed(number):
    assert coerce(repr(number), 1.0, "p") == number


@given(st.integers())
def test_any_whole_number_survives_being_typed(number):
    assert coerce(str(number), 1, "p") == number


def test_profiles_are_checked_against_notebooks(workshop, notebook):
    workshop.profile("quick", {"01_first": {"n_images": 50, "lr": "1e-4"}})
    assert load_profile(workshop.project, "quick")["01_first"]["n_images"] == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"02_other": {}}, r"quick.yaml: no notebook '02_other'"),
        ({"01_first": {"n_imges": 1}}, r"quick.yaml: .*no parameter 'n_imges'; did you mean"),
        ({"01_first": {"n_images": "many"}}, r"quick.yaml: .*'many' is not a whole number"),
        ({"01_first": [1]}, "must map notebooks to their parameters .01_first is .1.,"),
        (["01_first"], "must map notebooks"),
    ],
)
def test_a_wrong_profile_is_refused(workshop, notebook, content, message):
    workshop.profile("quick", content)
    with pytest.raises(ParameterError, match=message):
        load_profile(workshop.project, "quick")


def test_a_missing_profile_is_named(workshop, notebook):
    with pytest.raises(ParameterError, match=r"no profile 'qick'.*did you mean 'quick'"):
        load_profile(workshop.project, "qick")


def test_committed_profiles_fit_the_committed_notebooks():
    from pathlib import Path

    project = find_project(Path(__file__).parent)
    names = {path.stem for path in project.profiles.glob("*.yaml")}
    assert names >= set(SCALES)
    for name in names:
        load_profile(project, name)
    for stem, path in project.notebook_files().items():
        assert parameter_defaults(path), f"{stem} has no parameters cell"
