"""Saving what a method learnt, and reading it back.

``model.safetensors`` holds the tensors; ``model.json`` beside it the method with its settings and
what the network was built for.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import torch as safetensors

from iavlib.data.errors import DataError
from iavlib.files import write_json
from iavlib.models.state import differences
from iavlib.multiannotator.errors import MethodError
from iavlib.multiannotator.fitting import FittedMethod, build_network
from iavlib.multiannotator.method import Problem
from iavlib.multiannotator.registry import make_method
from iavlib.versions import loaded_versions

TENSORS, SIDECAR = "model.safetensors", "model.json"
_MEND = "save the model again, or train it again"


def save_method(fitted: FittedMethod, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and, last, ``model.json`` into a folder.

    Returns
    -------
    Path
        Of the tensors.

    Raises
    ------
    OSError
        If the disk is full or not writable; what was there before is still there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: one.detach().cpu().contiguous() for name, one in fitted.network.state_dict().items()
    }
    content = safetensors.save(state, {"format": "pt", "method": fitted.method.name})
    _write(folder / TENSORS, content)
    sidecar = {
        "method": fitted.method.name,
        "settings": fitted.method.settings,
        "problem": fitted.problem.to_json(),
        "parameters": fitted.n_parameters,
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": loaded_versions(),
    }
    write_json(folder / SIDECAR, sidecar)
    return folder / TENSORS


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
    path, tensors = Path(folder) / SIDECAR, Path(folder) / TENSORS
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        method = make_method(sidecar["method"], **sidecar["settings"])
        problem = Problem.from_json(sidecar["problem"])
        network, wanted = build_network(method, problem, 0), sidecar["sha256"]
    except (ValueError, KeyError, TypeError, MethodError) as error:
        raise DataError(path, f"does not describe a model ({error!r})", _MEND) from error
    content = tensors.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted:
        raise DataError(tensors, f"is not the file that {SIDECAR} was written for", _MEND)
    state = safetensors.load(content)
    if wrong := differences(network.state_dict(), state):
        raise DataError(tensors, f"tensors do not fit the method: {wrong}", _MEND)
    network.load_state_dict(state)
    return FittedMethod(method, network.eval(), problem)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        temporary.unlink(missing_ok=True)
        raise
