"""Parameters of a notebook: which it has, and which values a run gives them.

The cell tagged ``parameters`` is read without being run, so it may hold only assignments of
literal values. Each default defines the type to which other values are converted: ``"1e-4"`` is a
number where the default is one. Papermill itself only warns of unknown parameters and would inject
``1e-4`` as text.

A profile, such as ``notebooks/profiles/quick.yaml``, maps notebooks to the parameters that differ
from their own defaults at one scale.
"""

import ast
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from iavlib.book.notebook_source import read_cells
from iavlib.core.errors import ParameterError, suggest
from iavlib.core.project import Project
from iavlib.core.settings import describe, read_yaml

TAG = "parameters"
_WANTED = {
    **{bool: "true or false", int: "a whole number", float: "a number", str: "text"},
    **{list: "a list", dict: "a dict"},
}


def parameter_defaults(notebook: Path) -> dict[str, Any]:
    """Read the parameters of a notebook and their defaults.

    Parameters
    ----------
    notebook : Path
        Source notebook.

    Returns
    -------
    dict of str to object
        Name to default, in the order of the cell; empty when no cell is tagged
        ``parameters``.

    Raises
    ------
    ParameterError
        If two cells are tagged, or the cell holds anything but assignments of
        literals (numbers, text, booleans, None, lists and dicts of these).
    """
    tagged = [cell for cell in read_cells(notebook) if TAG in cell.tags]
    if len(tagged) > 1:
        raise ParameterError(f"{notebook.name}: {len(tagged)} cells are tagged {TAG!r}; keep one")
    if not tagged:
        return {}
    try:
        statements = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise ParameterError(
            f"{notebook.name}: the parameters cell is not Python (line {error.lineno}: {error.msg})"
        ) from error
    return dict(_literal_assignment(notebook, statement) for statement in statements)


def _literal_assignment(notebook: Path, statement: ast.stmt) -> tuple[str, Any]:
    place = f"{notebook.name}: parameters cell, line {statement.lineno}"
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    is_assignment = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value
    if not is_assignment or len(targets) > 1:
        raise ParameterError(f"{place}: only lines such as name = value may stand here")
    target, value = targets[0], statement.value
    if not isinstance(target, ast.Name):
        raise ParameterError(f"{place}: assign to one plain name per line")
    try:
        default = ast.literal_eval(value)
    except ValueError as error:
        raise ParameterError(
            f"{place}: {target.id} is not a literal value; write the value itself"
        ) from error
    if not _survives_json(default):
        raise ParameterError(
            f"{place}: {target.id} must be made of numbers, text, true or false, None, lists and "
            "dicts with text keys, as it has to pass through JSON"
        )
    return target.id, default


def _survives_json(value: Any) -> bool:
    """Return whether JSON gives the same value back (not for a tuple or an integer key)."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def resolve(
    notebook: Path,
    profile_values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fix the value of every parameter for one run.

    Parameters
    ----------
    notebook : Path
        Source notebook; its defaults come first.
    profile_values : mapping, optional
        Values of the chosen profile; they replace defaults.
    overrides : mapping, optional
        Values typed by the user; they replace both.

    Returns
    -------
    dict of str to object
        Every parameter of the notebook with its value, in the notebook's order,
        each of the type of its default.

    Raises
    ------
    ParameterError
        If a name is unknown to the notebook or a value does not fit the type.
    """
    defaults = parameter_defaults(notebook)
    values = dict(defaults)
    for given in (profile_values or {}, overrides or {}):
        for name, value in given.items():
            if name not in defaults:
                raise ParameterError(
                    f"{notebook.name} has no parameter {name!r}; {suggest(name, defaults)}"
                )
            values[name] = coerce(value, defaults[name], f"{notebook.name}: parameter {name!r}")
    return values


def coerce(value: Any, default: Any, place: str) -> Any:
    """Bring a value to the type of a parameter's default.

    Parameters
    ----------
    value : object
        From a profile (already typed by YAML) or from the command line (text).
    default : object
        The parameter's default.
    place : str
        Names the parameter in an error.

    Returns
    -------
    object
        A value of the default's type. A default of None takes any YAML value,
        a default of list or dict takes YAML text of that kind.

    Raises
    ------
    ParameterError
        If the value does not fit. Integers do not take fractions, numbers do
        not take true or false, and no number may be infinite or NaN.
    """
    kind, parsed = type(default), value
    if isinstance(value, str) and kind in (int, float):
        with suppress(ValueError):
            parsed = kind(value)
    elif isinstance(value, str) and kind is not str:
        parsed = _from_yaml(value, place)
    if default is None:
        return parsed
    if kind is float and type(parsed) is int:
        parsed = float(parsed)
    wanted, fits = _WANTED[kind], type(parsed) is kind
    if kind is float and fits and not math.isfinite(parsed):
        wanted, fits = "a finite number", False
    if not fits:
        example = {str: repr(str(value)), list: "[a, b]", dict: "{a: 1}"}.get(kind, default)
        example = str(default).lower() if kind is bool else example
        raise ParameterError(f"{place} = {value!r} is not {wanted}; give one such as {example}")
    return parsed


def _from_yaml(value: str, place: str) -> Any:
    try:
        return read_yaml(value)
    except ValueError as error:
        raise ParameterError(f"{place} = {value!r} {error}; correct or quote it") from error


#: Committed profiles from small to large; where two scales of one claim were
#: measured, the larger is shown.
SCALES = ("smoke", "quick", "paper")


def load_profile(project: Project, name: str) -> dict[str, dict[str, Any]]:
    """Read one profile and check it against the notebooks.

    Parameters
    ----------
    project : Project
        The project.
    name : str
        Name of the profile, such as ``"quick"``.

    Returns
    -------
    dict of str to dict
        Notebook stem to parameter values. A notebook that is not named keeps
        its defaults.

    Raises
    ------
    ParameterError
        If the profile does not exist or is not such a mapping, names an unknown
        notebook or parameter, or holds a value that does not fit.
    """
    path = project.profiles / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in project.profiles.glob("*.yaml")]
        raise ParameterError(f"no profile {name!r} ({path} is missing); {suggest(name, known)}")
    try:
        content = read_yaml(path) or {}
        mapping = TypeAdapter(dict[str, dict[str, Any] | None]).validate_python(content)
    except ValueError as error:  # of pydantic too
        reason = describe(error) if isinstance(error, ValidationError) else str(error)
        raise ParameterError(
            f"{path}: must map notebooks to their parameters ({reason})"
        ) from error
    values, files = {stem: given or {} for stem, given in mapping.items()}, project.notebook_files()
    for stem, parameters in values.items():
        if stem not in files:
            raise ParameterError(f"{path}: no notebook {stem!r}; {suggest(stem, files)}")
        try:
            resolve(files[stem], parameters)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error
    return values
