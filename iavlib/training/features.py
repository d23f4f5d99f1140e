"""Pooled features of a network that is not trained, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from iavlib.core.errors import TrainingError
from iavlib.core.files import only_one, write_json
from iavlib.core.home import cache_home
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import ImageCache
from iavlib.training.predict import run_over

#: Part of every key: raise it when the same network would give other features.
VERSION = 1


def frozen_features(
    network: nn.Module,
    cache: ImageCache,
    mean=None,
    std=None,
    device: str | torch.device = "auto",
    batch_size: int = 64,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Compute a network's pooled features of all images of a cache, or read those kept.

    Parameters
    ----------
    network : torch.nn.Module
        With ``features(images)`` and a part ``backbone``, as :class:`iavlib.models.Network`.
    cache : ImageCache
    mean, std : sequence of three floats, optional
        By which images are normalised; those of ``network.weights`` unless given.
    device : str or torch.device
    batch_size : int
    folder : pathlib.Path, optional
        Where features are kept; ``features`` in :func:`iavlib.core.cache_home` unless given.

    Returns
    -------
    pandas.DataFrame of float32
        One row an image, one column a feature.

    Raises
    ------
    TrainingError
        If a feature is NaN or infinite; it names the images.
    """
    if mean is None or std is None:
        mean, std = network.weights.mean, network.weights.std
    about = _about(network, cache, mean, std)
    folder = Path(folder) if folder is not None else cache_home() / "features"
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    path = folder / f"{key[:24]}.npy"
    values = _read(path, about)
    if values is None:
        with only_one(path.with_suffix(".lock"), f"features of {len(cache):,} images"):
            values = _read(path, about)
            if values is None:
                values = _compute(network, cache, mean, std, device, batch_size)
                _write(path, values)
                write_json(path.with_suffix(".json"), {**about, "sha256": _sha256(values)})
    return pd.DataFrame(values, index=cache.ids)


def _about(network: nn.Module, cache: ImageCache, mean, std) -> dict:
    """Return what features depend on: the images, the weights, the layers, the normalisation."""
    digest = hashlib.sha256(repr(network.backbone).encode())
    for name, tensor in network.backbone.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    normalised = [list(map(float, mean)), list(map(float, std))]
    weights = digest.hexdigest()
    return {"version": VERSION, "images": cache.key, "backbone": weights, "normalised": normalised}


def _compute(network, cache: ImageCache, mean, std, device, batch_size: int) -> np.ndarray:
    batches = ImageBatches.from_cache(cache, pd.DataFrame(index=cache.ids), mean, std, None, device)
    found = run_over(
        network, lambda images: {"features": network.features(images)}, batches, "auto", batch_size
    )
    values = found["features"]
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        named = ", ".join(map(str, cache.ids[bad][:5]))
        raise TrainingError(
            f"features of {bad.sum()} images are NaN or infinite: {named}. Look at these images "
            "and at the network's weights"
        )
    return values


def _read(path: Path, about: dict) -> np.ndarray | None:
    """Read features; None where there are none, or where they are not whole."""
    try:
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        checksum = stored.pop("sha256")
        values = np.load(path)
    except (FileNotFoundError, ValueError, KeyError, AttributeError, EOFError):
        return None
    return values if stored == about and checksum == _sha256(values) else None


def _write(path: Path, values: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.tmp")  # we hold its lock
    try:
        with temporary.open("wb") as stream:
            np.save(stream, values)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()
