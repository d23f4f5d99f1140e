"""The two files of a saved model: its tensors, and beside them what it is.

``model.safetensors`` holds the tensors. ``model.json`` is moved into place last and names their
SHA-256, so that two files of different savings are never taken for one model.

Saving a network, and reading it back bit by bit the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import torch as safetensors
from torch import nn

from iavlib.core.errors import DataError, ModelError
from iavlib.core.files import write_bytes, write_json
from iavlib.core.versions import loaded_versions
from iavlib.models.heads import HeadSpec
from iavlib.models.loading import differences, read_tensors
from iavlib.models.network import Network, build_network
from iavlib.models.weights import Weights

TENSORS, SIDECAR = "model.safetensors", "model.json"
HINT = "save the model again, or train it again"


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
        raise DataError(path, f"is no JSON ({error})", HINT) from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise DataError(path, "does not describe a model", HINT)
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
        raise DataError(path, problem, HINT)
    state = read_tensors(path)
    if wrong := differences(network.state_dict(), state):
        raise DataError(path, f"tensors do not fit the model that {SIDECAR} tells: {wrong}", HINT)
    network.load_state_dict(state, strict=True)


def cannot_build(folder: str | Path, error: Exception) -> DataError:
    """Say that a sidecar does not describe what it should."""
    return DataError(Path(folder) / SIDECAR, f"does not describe a model ({error!r})", HINT)


def save_network(network: Network, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into a folder.

    See :mod:`iavlib.models.model_files` for the two files.

    Parameters
    ----------
    network : Network
        On any device.
    folder : str or Path
        Created if needed.

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
        "backbone": network.backbone_name,
        "timm_name": network.spec.timm_name,
        "features": network.n_features,
        "size": network.weights.input_size,
        "heads": {name: asdict(spec) for name, spec in network.specs.items()},
        "weights": asdict(network.weights),
    }
    return write_model(network, folder, sidecar, backbone=network.backbone_name)


def load_network(folder: str | Path) -> Network:
    """Read a network that :func:`save_network` wrote.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    Network
        On the CPU, in evaluation mode, with every tensor as it was saved.

    Raises
    ------
    FileNotFoundError
        If one of the two files is not there.
    iavlib.core.DataError
        If a file is damaged, they do not belong together, or tensors do not fit.
    """
    sidecar = read_sidecar(folder)
    network = _build(sidecar, folder)
    read_state(folder, sidecar, network)
    return network.eval()


def _build(sidecar: dict, folder: str | Path) -> Network:
    try:
        heads = {name: HeadSpec(**spec) for name, spec in sidecar["heads"].items()}
        weights = dict(sidecar["weights"])
        weights |= {key: tuple(weights[key]) for key in ("mean", "std")}
        record = Weights(**weights)
        network = build_network(
            sidecar["backbone"], heads, size=record.input_size, padding=record.padding
        )
        network.weights = record
    except (KeyError, TypeError, AttributeError, ModelError) as error:
        raise cannot_build(folder, error) from error
    return network
