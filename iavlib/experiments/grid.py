"""The experiments of each notebook at each scale, as files list them.

``notebooks/profiles/experiments/<profile>.yaml`` maps a notebook's stem to entries such as::

    03_iaa_regression:
      - label: probe
        backbone: [resnet18, mobilenetv2]
        recipe: {name: probe, head: [ridge, svr]}
        split: {kind: kfold, fold: [0, 1, 2, 3, 4]}
        seed: [0, 1, 2]

Lists are crossed: this entry stands for 2 x 2 x 5 x 3 experiments. What is a list by its type
(``fractions`` of a split, ``select`` of a recipe) is one value; where no type is declared
(``cohort_options``, settings of methods) a list as a value is written as a list of one.
``method: all`` is the list of every method that the task knows, where it knows several.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.project import Project
from iavlib.experiments.config import (
    Experiment,
    HoldoutSplit,
    KFoldSplit,
    check_mapping,
    from_mapping,
    from_version_1,
)
from iavlib.experiments.tasks import find_task
from iavlib.training.recipe import Recipe

FOLDER = "experiments"
#: Stands for every method of a task.
ALL = "all"
Place = tuple[str, ...]


def expand(entry: Any, where: Any = "experiment") -> list[Experiment]:
    """Cross the lists of an entry.

    Parameters
    ----------
    entry : mapping
        Fields of an experiment, any of them, also within its parts, a list of values.
    where : str or Path
        How to name the place in an error.

    Returns
    -------
    list of Experiment
        In the order of the lists, the last varying fastest; not resolved.

    Raises
    ------
    ExperimentError
        If a field is unknown or a value does not fit.
    """
    check_mapping(entry, where)
    present = from_version_1(entry)
    if present != entry:
        message = f"{where}: write recipe, method, settings and init_from (book/experiments.md)"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    axes = list(_axes(present, str(present.get("task", "iaa")), where))
    for place, choices in axes:
        if not choices:
            raise ExperimentError(where, f"{'.'.join(place)} is an empty list", "give a value")
    experiments = []
    for values in itertools.product(*(choices for _, choices in axes)):
        fields: dict[str, Any] = {}
        for (place, _), value in zip(axes, values, strict=True):
            part = fields
            for name in place[:-1]:
                part = part.setdefault(name, {})
            part[place[-1]] = value
        experiments.append(from_mapping(fields, where))
    return experiments


def _axes(
    entry: Mapping[str, Any], task: str, where: Any, outer: Place = ()
) -> Iterator[tuple[Place, list[Any]]]:
    """Go through the fields of an entry and of its parts, each with its values."""
    for name, value in entry.items():
        place = (*outer, name)
        if isinstance(value, Mapping):
            inner = str(value.get("task", "iaa")) if name == "init_from" else task
            yield from _axes(value, inner, where, place)
        elif value == ALL and place in (("method",), ("method", "name")):
            yield place, _every_method(task, where)
        elif isinstance(value, list) and not _is_one_value(place, value, task):
            yield place, value
        else:
            yield place, [value]


def _is_one_value(place: Place, value: list[Any], task: str) -> bool:
    """Return whether a list is one value by the type of its field."""
    kinds = {"recipe": [Recipe], "split": [KFoldSplit, HoldoutSplit]}
    part = place[-2] if len(place) > 1 else ""
    models = [find_task(task).settings] if part == "settings" else kinds.get(part, [])
    for model in models:
        if place[-1] in model.model_fields:
            try:
                TypeAdapter(model.model_fields[place[-1]].annotation).validate_python(value)
            except ValidationError:
                return False
            return True
    return False


def _every_method(task: str, where: Any) -> list[str]:
    """Name the methods of a task."""
    methods = find_task(task).methods
    if methods is None:
        raise ExperimentError(where, "its task knows no methods by name", "leave 'method' out")
    return list(methods())


def listing_path(project: Project, profile: str) -> Path:
    """Return the file that lists a profile's experiments, whether it is there or not."""
    return project.profiles / FOLDER / f"{profile}.yaml"


def listed(project: Project, profile: str) -> dict[str, list[Experiment]]:
    """Read which experiments the notebooks read at a scale.

    Parameters
    ----------
    project : Project
    profile : str

    Returns
    -------
    dict of str to list of Experiment
        Notebook stem to experiments, each once; not resolved. Empty without a file.

    Raises
    ------
    ExperimentError
        If the file is damaged, names no notebook here, or an entry is wrong.
    """
    path = listing_path(project, profile)
    if not path.is_file():
        return {}
    experiments = {}
    for stem, entries in read_yaml(path).items():
        files = project.notebook_files()
        if stem not in files:
            raise ExperimentError(path, f"no notebook {stem!r}", suggest(str(stem), files))
        if not isinstance(entries, list):
            raise ExperimentError(path, f"{stem} is no list", "begin each entry with '- '")
        numbered = enumerate(entries, start=1)
        crossed = [expand(entry, f"{path}: {stem}, entry {n}") for n, entry in numbered]
        experiments[stem] = list(dict.fromkeys(itertools.chain.from_iterable(crossed)))
    return experiments


def all_listed(project: Project) -> Iterator[Experiment]:
    """Go through the experiments of every committed list, of all notebooks and scales."""
    for path in sorted((project.profiles / FOLDER).glob("*.yaml")):
        for experiments in listed(project, path.stem).values():
            yield from experiments


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML or JSON file that holds a mapping; empty if it holds nothing."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(path, f"cannot be read ({error.strerror})", "correct it") from error
    except yaml.YAMLError as error:
        raise ExperimentError(path, f"is no valid YAML ({error})", "correct it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ExperimentError(path, "holds no mapping", "write name: value, one per line")
    return content
