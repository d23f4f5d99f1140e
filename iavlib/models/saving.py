"""Saving a network, and reading it back bit by bit the same."""

from dataclasses import asdict
from pathlib import Path

from iavlib.models.errors import ModelError
from iavlib.models.heads import HeadSpec
from iavlib.models.model_files import cannot_build, read_sidecar, read_state, write_model
from iavlib.models.network import Network, build_network
from iavlib.models.weights import Weights


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
    iavlib.data.DataError
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
