"""Saving what a method learnt, and reading it back."""

from __future__ import annotations

from pathlib import Path

from iavlib.models.model_files import cannot_build, read_sidecar, read_state, write_model
from iavlib.multiannotator.errors import MethodError
from iavlib.multiannotator.fitting import FittedMethod, build_network
from iavlib.multiannotator.method import Problem
from iavlib.multiannotator.registry import make_method


def save_method(fitted: FittedMethod, folder: str | Path) -> Path:
    """Write the tensors and, last, the method with its settings and what it was built for.

    See :mod:`iavlib.models.model_files` for the two files.

    Returns
    -------
    Path
        Of the tensors.

    Raises
    ------
    OSError
        If the disk is full or not writable; what was there before is still there.
    """
    sidecar = {
        "method": fitted.method.name,
        "settings": fitted.method.settings,
        "problem": fitted.problem.to_json(),
    }
    return write_model(fitted.network, folder, sidecar, method=fitted.method.name)


def load_method(folder: str | Path) -> FittedMethod:
    """Read a model that :func:`save_method` wrote.

    Returns
    -------
    FittedMethod
        On the CPU, without a history.

    Raises
    ------
    FileNotFoundError
        If one of the two files is not there.
    DataError
        If a file is damaged, or they do not belong together.
    """
    sidecar = read_sidecar(folder)
    try:
        method = make_method(sidecar["method"], **sidecar["settings"])
        problem = Problem.from_json(sidecar["problem"])
        network = build_network(method, problem, 0)
    except (ValueError, KeyError, TypeError, MethodError) as error:
        raise cannot_build(folder, error) from error
    read_state(folder, sidecar, network)
    return FittedMethod(method, network.eval(), problem)
