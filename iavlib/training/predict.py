"""What a network outputs for images without training it; features are kept on disk."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iavlib.core.errors import TrainingError
from iavlib.core.files import only_one, write_bytes, write_json
from iavlib.core.project import cache_home
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import ImageCache, read_array

#: Part of every key: raise it when the same network would give other features.
VERSION = 1


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradient of parameters, and restore their flags afterwards."""
    flags = [(weight, weight.requires_grad) for weight in network.parameters()]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


def predict(
    network: nn.Module,
    batches: ImageBatches,
    batch_size: int = 64,
    function: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> dict[str, np.ndarray]:
    """Compute a network's raw outputs for all images.

    Parameters
    ----------
    network : torch.nn.Module
        From images to a dictionary of tensors, as :class:`iavlib.models.Network`. It is moved to
        the device of the images and evaluates (dropout off, stored BatchNorm statistics);
        afterwards it is in the mode in which it came.
    batches : ImageBatches
    batch_size : int
    function : callable, optional
        Computes the outputs of a batch of images in place of `network`.

    Returns
    -------
    dict of str to numpy.ndarray of float32, shape (n, ...)
        In the order of ``batches.ids``.
    """
    network.to(batches.device, memory_format=torch.channels_last)
    outputs: dict[str, list[Tensor]] = {}
    with evaluating(network), torch.inference_mode():
        for batch in batches.in_order(batch_size):
            for name, values in (function or network)(batch["images"]).items():
                outputs.setdefault(name, []).append(values.float())
    return {name: torch.cat(values).cpu().numpy() for name, values in outputs.items()}


def predict_features(
    network: nn.Module,
    batches: ImageBatches,
    batch_size: int = 64,
    change: Callable[[Tensor], Tensor] | None = None,
) -> np.ndarray:
    """Compute the pooled features of all images: float32, shape (n, ``n_features``).

    With `change`, of images changed by it, such as one view of test-time augmentation.
    """

    def features(images: Tensor) -> dict[str, Tensor]:
        return {"features": network.features(change(images) if change else images)}

    return predict(network, batches, batch_size, features)["features"]


def frozen_features(
    network: nn.Module, cache: ImageCache, mean, std, folder: Path | None = None
) -> pd.DataFrame:
    """Compute a network's pooled features of all images of a cache, or read those kept.

    Parameters
    ----------
    network : torch.nn.Module
        With ``features(images)`` and a module ``backbone``, as :class:`iavlib.models.Network`.
    cache : ImageCache
    mean, std : sequence of three floats
        By which images are normalised.
    folder : pathlib.Path, optional
        Where features are kept; ``features`` in :func:`iavlib.core.cache_home` unless given.

    Returns
    -------
    pandas.DataFrame of float32
        One row per image, one column per feature.

    Raises
    ------
    TrainingError
        If a feature is NaN or infinite; it names the images.
    """
    digest = hashlib.sha256(repr(network.backbone).encode())
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    key = {"version": VERSION, "images": cache.key, "backbone": digest.hexdigest()}
    key["normalised"] = [list(map(float, mean)), list(map(float, std))]
    folder = Path(folder) if folder is not None else cache_home() / "features"
    path = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.npy"
    if (values := _read(path, key)) is None:
        with only_one(path.with_suffix(".lock"), f"features of {len(cache):,} images"):
            if (values := _read(path, key)) is None:
                values = _compute(network, cache, mean, std)
                stream = BytesIO()
                np.save(stream, values)
                write_bytes(path, stream.getbuffer())
                write_json(path.with_suffix(".json"), {**key, "sha256": _sha256(values)})
    return pd.DataFrame(values, index=cache.ids)


def _compute(network: nn.Module, cache: ImageCache, mean, std) -> np.ndarray:
    batches = ImageBatches.from_cache(cache, pd.DataFrame(index=cache.ids), mean, std)
    values = predict_features(network, batches)
    if (bad := ~np.isfinite(values).all(1)).any():
        named = ", ".join(map(str, cache.ids[bad][:5]))
        problem = f"features of {bad.sum()} images are NaN or infinite: {named}"
        raise TrainingError(f"{problem}. Check these images and the network's weights")
    return values


def _read(path: Path, key: dict) -> np.ndarray | None:
    """Read features; None where there are none, or where they are not complete."""
    values, checksum = read_array(path, key)
    return values if values is not None and checksum == _sha256(values) else None


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()
