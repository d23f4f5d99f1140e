"""The fingerprint of a run: the same when, and only when, nothing it depends on changed.

It covers the notebook's cells, the resolved parameters, the parts of this
library the notebook imports, the versions of the packages these import, and the
data the notebook asks for. It does not cover outputs, editors' metadata, other
modules, other packages or the text of the claims.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iavlib.execution.closure import import_closure
from iavlib.execution.errors import ParameterError
from iavlib.execution.source import read_cells
from iavlib.versions import package_versions

DataFingerprint = Callable[..., str]

#: A notebook with a parameter of this name works on the data it names.
COHORT_PARAMETER = "cohort"
#: A notebook with a parameter of this name takes a user's own files.
PATH_PARAMETER = "path"


def cohort_fingerprint(name: str, path: str = "") -> str:
    """Ask the data layer, which is slow to load, for the fingerprint of a cohort's files."""
    from iavlib.data import DataError, DatasetUnavailable, fingerprint

    try:
        return fingerprint(name, path=path)
    except KeyError as error:
        raise ParameterError(f"parameter {COHORT_PARAMETER!r}: {error.args[0]}") from error
    except (DataError, DatasetUnavailable) as error:
        raise ParameterError(f"parameter {PATH_PARAMETER!r}: {error}") from error


def run_inputs(
    notebook: Path,
    parameters: Mapping[str, Any],
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> dict[str, Any]:
    """Gather everything a run of a notebook depends on.

    Parameters
    ----------
    notebook : Path
        Source notebook.
    parameters : mapping
        Its resolved parameters.
    data_fingerprint : callable, optional
        Cohort name, and the path of a user's own files where one is given, to a
        string that changes when the files change. Called only for a notebook
        with a text parameter ``cohort``.

    Returns
    -------
    dict
        ``cells``, ``parameters``, ``library``, ``packages`` and ``data``, ready
        for JSON; two of them can be compared to see what changed.
    """
    cells = read_cells(notebook)
    closure = import_closure(cell.source for cell in cells if cell.kind == "code")
    cohort, path = parameters.get(COHORT_PARAMETER), parameters.get(PATH_PARAMETER)
    own = {PATH_PARAMETER: path} if path else {}
    return {
        "cells": [[cell.kind, cell.source, list(cell.tags), cell.figure] for cell in cells],
        "parameters": dict(parameters),
        "library": closure.parts,
        "packages": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **package_versions(closure.external),
        },
        "data": data_fingerprint(cohort, **own) if isinstance(cohort, str) else None,
    }


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash what :func:`run_inputs` gathered.

    Parameters
    ----------
    inputs : mapping
        What the run depends on.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    canonical = json.dumps(inputs, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def condense(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten what :func:`run_inputs` gathered, for the manifest to keep.

    Parameters
    ----------
    inputs : mapping
        What the run depends on.

    Returns
    -------
    dict
        The same keys; cells and parts of the library as short hashes.
    """
    cells = [[cell[0], fingerprint({"cell": cell})[:8]] for cell in inputs["cells"]]
    library = {name: digest[:8] for name, digest in inputs["library"].items()}
    return {**inputs, "cells": cells, "library": library}
