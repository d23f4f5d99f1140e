"""Networks: backbones that see an image, heads that predict from what they see.

>>> from iavlib import models
>>> models.find_backbone("swin_v2_t").size
256
>>> network = models.build_network(
...     "resnet18", {"iaa": models.HeadSpec("paper")}, weights="none", seed=3
... )
>>> network.weights.detail
'random, seed 3'

Names are imported when they are first used: the list of backbones is at hand without torch.
"""

import importlib
from typing import TYPE_CHECKING

from iavlib.models.backbones import PAPER_BACKBONES, Backbone, find_backbone
from iavlib.models.errors import ModelError, UnknownBackboneError, WeightsUnavailable
from iavlib.models.weights import Normalisation, Weights, find_weights, normalisation

if TYPE_CHECKING:
    from iavlib.models.batchnorm import has_folded_batchnorm, restore_batchnorm
    from iavlib.models.heads import (
        HEAD_KINDS,
        HeadSpec,
        build_head,
        predicted_mean,
        predicted_quantiles,
        quantile_levels,
    )
    from iavlib.models.network import Network, build_network, load_state
    from iavlib.models.released import read_released
    from iavlib.models.saving import load_network, save_network

_NEED_TORCH = {
    "HEAD_KINDS": "heads",
    "HeadSpec": "heads",
    "Network": "network",
    "build_head": "heads",
    "build_network": "network",
    "has_folded_batchnorm": "batchnorm",
    "load_network": "saving",
    "load_state": "network",
    "predicted_mean": "heads",
    "predicted_quantiles": "heads",
    "quantile_levels": "heads",
    "read_released": "released",
    "restore_batchnorm": "batchnorm",
    "save_network": "saving",
}

__all__ = [
    "HEAD_KINDS",
    "PAPER_BACKBONES",
    "Backbone",
    "HeadSpec",
    "ModelError",
    "Network",
    "Normalisation",
    "UnknownBackboneError",
    "Weights",
    "WeightsUnavailable",
    "build_head",
    "build_network",
    "find_backbone",
    "find_weights",
    "has_folded_batchnorm",
    "load_network",
    "load_state",
    "normalisation",
    "predicted_mean",
    "predicted_quantiles",
    "quantile_levels",
    "read_released",
    "restore_batchnorm",
    "save_network",
]


def __getattr__(name: str):
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)


def __dir__() -> list[str]:
    return __all__
