"""Saving a model and reading it back bit by bit.

``model.safetensors`` holds the tensors. ``model.json`` describes what they belong to; it is moved
into place last and holds their SHA-256, so that files of different models are never combined.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import torch as safetensors
from torch import nn

from iavlib.core.errors import DataError, FileGone
from iavlib.core.files import digest, load_json, write_bytes, write_json
from iavlib.core.versions import loaded_versions
from iavlib.models.heads import HeadSpec
from iavlib.models.loading import differences, read_tensors
from iavlib.models.network import Network, build_network
from iavlib.models.weights import Weights

TENSORS, SIDECAR = "model.safetensors", "model.json"
HINT = "save the model again, or train it again"
Model = TypeVar("Model")
_UNBUILT = (AttributeError, RuntimeError, MemoryError)


def write_model(
    network: nn.Module, folder: str | Path, sidecar: Mapping[str, Any], **metadata: str
) -> Path:
    """Write a network's tensors and, last, the sidecar.

    Parameters
    ----------
    network : torch.nn.Module
        On any device.
    folder : str or Path
        Created if needed.
    sidecar : mapping
        What is needed to build the network again, as JSON. Memory format, number of parameters,
        SHA-256 of the tensors and versions of packages are added.
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
    # one entry: several would be written in a random order, and equal models differ in their hash
    content = safetensors.save(state, {"iavlib": json.dumps({"format": "pt", **metadata})})
    added = {
        "channels_last": any(map(_is_channels_last, network.parameters())),
        "parameters": sum(item.numel() for item in network.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": loaded_versions(),
    }
    write_bytes(folder / TENSORS, content)
    write_json(folder / SIDECAR, {**sidecar, **added}, durable=True)
    return folder / TENSORS


def _is_channels_last(tensor: torch.Tensor) -> bool:
    last = torch.channels_last
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=last) > tensor.is_contiguous()


def read_sidecar(folder: str | Path) -> dict[str, Any]:
    """Read the description of a saved model.

    Raises
    ------
    FileGone
        If it is not there.
    DataError
        If it is damaged.
    """
    path = Path(folder) / SIDECAR
    try:
        content = load_json(path)
    except FileNotFoundError:
        raise FileGone(path, "is missing", HINT) from None
    except (OSError, ValueError) as error:
        raise DataError(path, f"is no JSON ({error})", HINT) from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise DataError(path, "does not describe a model", HINT)
    return content


def read_model(folder: str | Path, build: Callable[[dict[str, Any]], Model]) -> Model:
    """Read a model that :func:`write_model` wrote.

    Parameters
    ----------
    folder : str or Path
    build : callable
        From the sidecar to a network, or to an object whose attribute ``network`` is one. A
        ValueError, KeyError, TypeError or AttributeError means that the sidecar is wrong.

    Returns
    -------
    torch.nn.Module or object
        What `build` returned, its network on the CPU, in evaluation mode, with every tensor and
        the memory format as they were saved; kernels for another memory format differ in the last
        bits.

    Raises
    ------
    FileGone
        If one of the two files is not there.
    DataError
        If a file is damaged, they do not belong together, or tensors do not fit.
    """
    sidecar, path = read_sidecar(folder), Path(folder) / TENSORS
    try:
        model = build(sidecar)
    except (LookupError, TypeError, ValueError, ArithmeticError, *_UNBUILT) as error:
        problem = f"does not describe a model ({error!r})"
        raise DataError(Path(folder) / SIDECAR, problem, HINT) from error
    network: nn.Module = getattr(model, "network", model)
    try:
        found = digest(path)
    except FileNotFoundError:
        raise FileGone(path, "is missing", HINT) from None
    except IsADirectoryError:
        raise DataError(path, "is a folder", HINT) from None
    if found != sidecar["sha256"]:
        problem = f"is not the file that {SIDECAR} was written for (its SHA-256 differs)"
        raise DataError(path, problem, HINT)
    state = read_tensors(path)
    if wrong := differences(network.state_dict(), state):
        raise DataError(path, f"tensors do not fit the model of {SIDECAR}: {wrong}", HINT)
    network.load_state_dict(state, strict=True)
    if sidecar.get("channels_last"):
        network.to(memory_format=torch.channels_last)
    network.eval()
    return model


def save_network(network: Network, folder: str | Path) -> Path:
    """Write a network with its heads; see :func:`write_model`."""
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
    """Read a network that :func:`save_network` wrote; see :func:`read_model`."""
    return read_model(folder, _build)


def _build(sidecar: dict[str, Any]) -> Network:
    heads = {name: HeadSpec(**spec) for name, spec in sidecar["heads"].items()}
    record = dict(sidecar["weights"])
    weights = Weights(**record | {key: tuple(record[key]) for key in ("mean", "std")})
    network = build_network(
        sidecar["backbone"], heads, size=weights.input_size, padding=weights.padding
    )
    network.weights = weights
    return network
