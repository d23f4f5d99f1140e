"""The experiments of each notebook at each scale, as files list them.

``notebooks/profiles/experiments/<profile>.yaml`` maps a notebook's stem to entries such as::

    03_iaa_regression:
      - label: probe
        backbone: [resnet18, mobilenetv2]
        recipe: probe
        overrides: {head: [ridge, svr]}
        split: {kind: kfold, fold: [0, 1, 2, 3, 4]}
        seed: [0, 1, 2]

Lists are crossed: this entry stands for 2 x 2 x 5 x 3 experiments. A value that is a list itself is
written as a list of one (but for ``fractions`` and ``stratify`` of a split and ``select`` of a
recipe, which are lists always). What ``start`` is given as a list is crossed too. ``method: all``
is the list of every method that the task knows, where it knows several.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from iavlib.core.errors import ExperimentError, suggest
from iavlib.core.project import Project
from iavlib.experiments.config import Experiment, check_fields, from_mapping
from iavlib.experiments.tasks import find_task

FOLDER = "experiments"
#: Stands for every method of a task.
ALL = "all"
_MAPPINGS = ("cohort_options", "overrides", "split", "start")
_LISTS = ("split.fractions", "split.stratify", "overrides.select")


def expand(entry: Any, where: Any = "experiment") -> list[Experiment]:
    """Cross the lists of an entry.

    Parameters
    ----------
    entry : mapping
        Fields of an experiment, any of them a list of values.
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
    check_fields(entry, where)
    axes = []
    for name, value in entry.items():
        if name in _MAPPINGS and isinstance(value, Mapping):
            axes += [((name, key), _choices(f"{name}.{key}", v)) for key, v in value.items()]
        else:
            value = _every_method(entry, where) if (name, value) == ("method", ALL) else value
            axes.append(((name,), _choices(name, value)))
    for place, choices in axes:
        if not choices:
            raise ExperimentError(where, f"{'.'.join(place)} is an empty list", "give a value")
    found = []
    for values in itertools.product(*(choices for _, choices in axes)):
        fields: dict[str, Any] = {}
        for (place, _), value in zip(axes, values, strict=True):
            if len(place) == 2:
                fields.setdefault(place[0], {})[place[1]] = value
            else:
                fields[place[0]] = value
        found.append(_of_this_version(from_mapping(fields, where)))
    return found


def _every_method(entry: Mapping[str, Any], where: Any) -> list[str]:
    """Name the methods of an entry's task."""
    methods = find_task(str(entry.get("task", ""))).methods
    if methods is None:
        raise ExperimentError(where, "its task knows no methods by name", "leave 'method' out")
    return list(methods())


def _of_this_version(experiment: Experiment) -> Experiment:
    """Give an experiment, and what it starts from, the version that its task has."""
    begun = experiment.init_from
    start = _of_this_version(begun).to_json() if begun else experiment.start
    return replace(experiment, start=start, version=find_task(experiment.task).version)


def _choices(place: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    if place in _LISTS and not any(isinstance(item, list) or item is None for item in value):
        return [value]
    return value


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
    found = {}
    for stem, entries in read_yaml(path).items():
        files = project.notebook_files()
        if stem not in files:
            raise ExperimentError(path, f"no notebook {stem!r}", suggest(str(stem), files))
        if not isinstance(entries, list):
            raise ExperimentError(path, f"{stem} is no list", "begin each entry with '- '")
        numbered = enumerate(entries, start=1)
        crossed = [expand(entry, f"{path}: {stem}, entry {n}") for n, entry in numbered]
        found[stem] = list(dict.fromkeys(itertools.chain.from_iterable(crossed)))
    return found


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
        raise ExperimentError(path, f"is no valid YAML ({error})", "mend it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ExperimentError(path, "holds no mapping", "write name: value, one a line")
    return content
