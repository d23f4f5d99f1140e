"""The two files of a saved model: its tensors, and beside them what it is.

``model.safetensors`` holds the tensors. ``model.json`` is moved into place last and names their
SHA-256, so that two files of different savings are never taken for one model.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import torch as safetensors
from torch import nn

from iavlib.data.errors import DataError
from iavlib.files import write_bytes, write_json
from iavlib.models.loading import read_tensors
from iavlib.models.state import differences
from iavlib.versions import loaded_versions

TENSORS, SIDECAR = "model.safetensors", "model.json"
MEND = "save the model again, or train it again"


def write_model(
    network: nn.Module, folder: str | Path, sidecar: Mapping[str, Any], **metadata: str
) -> Path:
    """Write a network's tensors and, last, what it is.

    Parameters
    ----------
    network : torch.nn.Module
        On any device.
    folder : str or Path
        Created if needed.
    sidecar : mapping
        What is to be told of it, as JSON; the number of parameters, the SHA-256 of the tensors
        and the versions of packages are added.
    **metadata : str
        Written into the header of the tensors.

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
    state = {name: item.detach().cpu().contiguous() for name, item in network.state_dict().items()}
    content = safetensors.save(state, {"format": "pt", **metadata})
    added = {
        "parameters": sum(item.numel() for item in network.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": loaded_versions(),
    }
    write_bytes(folder / TENSORS, content)
    write_json(folder / SIDECAR, {**sidecar, **added})
    return folder / TENSORS


def read_sidecar(folder: str | Path) -> dict[str, Any]:
    """Read what a saved model is.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    DataError
        If it is damaged.
    """
    path = Path(folder) / SIDECAR
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(path, f"is no JSON ({error})", MEND) from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise DataError(path, "does not describe a model", MEND)
    return content


def read_state(folder: str | Path, sidecar: Mapping[str, Any], network: nn.Module) -> None:
    """Read saved tensors into a network that was built as the sidecar says.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    DataError
        If they are damaged, belong to another sidecar, or do not fit the network.
    """
    path = Path(folder) / TENSORS
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sidecar["sha256"]:
        problem = f"is not the file that {SIDECAR} was written for (its SHA-256 differs)"
        raise DataError(path, problem, MEND)
    state = read_tensors(path)
    if wrong := differences(network.state_dict(), state):
        raise DataError(path, f"tensors do not fit the model that {SIDECAR} tells: {wrong}", MEND)
    network.load_state_dict(state, strict=True)


def cannot_build(folder: str | Path, error: Exception) -> DataError:
    """Say that a sidecar does not describe what it should."""
    return DataError(Path(folder) / SIDECAR, f"does not describe a model ({error!r})", MEND)
