"""Saving a network, and reading it back bit by bit the same.

``model.safetensors`` holds the tensors, ``model.json`` beside it what the network is.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import timm
import torch
from safetensors import torch as safetensors

import iavlib
from iavlib.data.errors import DataError
from iavlib.models.errors import ModelError
from iavlib.models.heads import HeadSpec
from iavlib.models.loading import read_tensors
from iavlib.models.network import Network, build_network
from iavlib.models.state import differences
from iavlib.models.weights import Weights

TENSORS, SIDECAR = "model.safetensors", "model.json"
_MEND = "save the network again, or train it again"


def save_network(network: Network, folder: str | Path) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into a folder.

    Each file is written beside its place and moved there. The sidecar is moved last and names the
    SHA-256 of the tensors, so that two files of different savings are never taken for a network.

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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: item.detach().cpu().contiguous() for name, item in network.state_dict().items()}
    content = safetensors.save(state, {"format": "pt", "backbone": network.backbone_name})
    sidecar = {
        "backbone": network.backbone_name,
        "timm_name": network.spec.timm_name,
        "features": network.n_features,
        "size": network.weights.input_size,
        "heads": {name: asdict(spec) for name, spec in network.specs.items()},
        "weights": asdict(network.weights),
        "parameters": sum(item.numel() for item in network.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {
            "iavlib": iavlib.__version__,
            "torch": str(torch.__version__),
            "timm": timm.__version__,
        },
    }
    _write(folder / TENSORS, content)
    _write(folder / SIDECAR, (json.dumps(sidecar, indent=1, allow_nan=False) + "\n").encode())
    return folder / TENSORS


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
    iavlib.data.DataError
        If a file is damaged, they do not belong together, or tensors do not fit.
    """
    folder = Path(folder)
    sidecar = _read_sidecar(folder / SIDECAR)
    path = folder / TENSORS
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sidecar["sha256"]:
        problem = f"is not the file that {SIDECAR} was written for (its SHA-256 differs)"
        raise DataError(path, problem, _MEND)
    network = _build(sidecar, folder / SIDECAR)
    state = read_tensors(path)
    wrong = differences(network.state_dict(), state)
    if wrong:
        raise DataError(path, f"tensors do not fit {network.spec.timm_name}: {wrong}", _MEND)
    network.load_state_dict(state, strict=True)
    return network.eval()


def _build(sidecar: dict, path: Path) -> Network:
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
        raise DataError(path, f"does not describe a network ({error!r})", _MEND) from error
    return network


def _read_sidecar(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(path, f"is no JSON ({error})", _MEND) from error
    if not isinstance(content, dict) or "sha256" not in content:
        raise DataError(path, "does not describe a network", _MEND)
    return content


def _write(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, then move it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
