"""Profiles: the parameters of every notebook at one scale.

``notebooks/profiles/quick.yaml`` maps a notebook's stem to the parameters that
differ from the notebook's own defaults at that scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from iavlib.errors import suggest
from iavlib.execution.errors import ParameterError
from iavlib.execution.parameters import resolve
from iavlib.execution.project import Project

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
    values = _read_mapping(path)
    files = project.notebook_files()
    for stem, parameters in values.items():
        if stem not in files:
            raise ParameterError(f"{path}: no notebook {stem!r}; {suggest(stem, files)}")
        try:
            resolve(files[stem], parameters)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error
    return values


def _read_mapping(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ParameterError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: must map notebooks to their parameters")
    for stem, parameters in content.items():
        if parameters is None:
            content[stem] = {}
        elif not isinstance(parameters, dict):
            raise ParameterError(f"{path}: {stem} must map parameter names to values")
    return content


def check_profiles(project: Project) -> dict[str, dict[str, dict[str, Any]]]:
    """Read every committed profile, raising the first error found.

    Parameters
    ----------
    project : Project
        The project.

    Returns
    -------
    dict of str to dict
        Profile name to what :func:`load_profile` gives.

    Raises
    ------
    ParameterError
        If one of the profiles in `SCALES` is missing, or any profile is wrong.
    """
    names = {*SCALES, *(file.stem for file in project.profiles.glob("*.yaml"))}
    return {name: load_profile(project, name) for name in sorted(names)}
