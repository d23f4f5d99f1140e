"""Training of diagnosis nets with masks, of networks that segment, and prediction with both."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.assisted import AssistedNet, Pyramid
from iavlib.models.heads import has_folded_batchnorm, restore_batchnorm
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.expertness import check_diagnosis, unit_pixels
from iavlib.training.batches import ImageBatches
from iavlib.training.loop import fit
from iavlib.training.objectives import Objective
from iavlib.training.predict import evaluating
from iavlib.training.recipe import Recipe

_BATCH = 64
#: Images by which folded batch norms are given back their statistics.
_RESTORED_BY = 256


def assisted_loss(network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Add the cross-entropies of the diagnosis and of the mask, of what a network predicts.

    Of Take and Give that is the mask alone (Wu et al. 2024, Eq. 1).

    Parameters
    ----------
    network : AssistedNet or torch.nn.Module
        The first is given the mask beside the image.
    batch : mapping of str to torch.Tensor
        ``images`` from 0 to 1, ``mask`` and ``diagnosis``.
    """
    assisted = isinstance(network, AssistedNet)
    outputs = network(batch["images"], batch["mask"]) if assisted else network(batch["images"])
    names = [name for name in ("diagnosis", "mask") if name in outputs]
    losses = [F.binary_cross_entropy_with_logits(outputs[name], batch[name]) for name in names]
    return torch.stack(losses).sum()


class _AssistedObjective(Objective):
    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        return assisted_loss(model, batch)


def train(
    network: nn.Module,
    dataset: MultiAnnotatorSet,
    masks: np.ndarray,
    recipe: Recipe,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool | Callable[[dict], None] = False,
) -> pd.DataFrame:
    """Train a diagnosis net with given masks, or a network that predicts them.

    Parameters
    ----------
    network : AssistedNet or TakeGive
    dataset : MultiAnnotatorSet
        Its images and diagnoses.
    masks : numpy.ndarray, shape (n, height, width)
        From 0 to 1.
    recipe, seed, folder, progress
        As for :func:`iavlib.training.loop.fit`.

    Returns
    -------
    pandas.DataFrame
        One row per epoch.

    Raises
    ------
    DiagnosisFirstError
        If masks do not fit the images, or a diagnosis is missing.
    """
    targets = assisted_targets(dataset, masks)
    plain = ((0.0,) * 3, (1.0,) * 3)  # encoders normalise
    batches = ImageBatches.from_arrays(
        dataset.images, dataset.ids, targets, *plain, key=dataset.fingerprint
    )
    if not recipe.freeze_batchnorm:
        restore_statistics(network, dataset.images, seed)
    return fit(network, batches, _AssistedObjective(), recipe, folder, seed, progress=progress)


def restore_statistics(network: nn.Module, images: np.ndarray, seed: int) -> None:
    """Give folded batch norms their statistics back, which the first batch would destroy."""
    order = np.random.default_rng(seed).permutation(len(images))[:_RESTORED_BY]
    for encoder in network.modules():
        if isinstance(encoder, Pyramid) and has_folded_batchnorm(encoder):
            restore_batchnorm(encoder, _batches(encoder, images[order]))


def assisted_targets(dataset: MultiAnnotatorSet, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``mask`` and ``diagnosis`` of a training set, as :func:`assisted_loss` needs them.

    Raises
    ------
    DiagnosisFirstError
        If masks do not fit the images, or a diagnosis is missing.
    """
    expected = (len(dataset), *dataset.images.shape[1:3])
    if masks.shape != expected:
        raise DiagnosisFirstError(f"masks {masks.shape}: give {expected}")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise DiagnosisFirstError("masks have values outside 0 to 1: give probabilities")
    check_diagnosis(dataset)
    return {"mask": np.asarray(masks, float), "diagnosis": np.asarray(dataset.diagnosis, float)}


def diagnose(net: nn.Module, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Let a trained net diagnose images with masks: probabilities, shape (n,)."""
    chosen = torch.from_numpy(np.asarray(masks, np.float32)).split(_BATCH)
    pairs = zip(_batches(net, images), chosen, strict=True)
    logits = (net(batch, some.to(batch.device))["diagnosis"] for batch, some in pairs)
    return _logits_to_probabilities(net, logits)


def segment(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Let a trained network segment images: probabilities, shape (n, H, W)."""
    logits = (network(batch)["mask"] for batch in _batches(network, images))
    return _logits_to_probabilities(network, logits)


def _batches(network: nn.Module, images: np.ndarray) -> Iterator[Tensor]:
    """Yield images (n, 3, H, W) from 0 to 1, batch by batch, where the network is."""
    for first in range(0, len(images), _BATCH):
        yield unit_pixels(images[first : first + _BATCH], next(network.parameters()).device)


def _logits_to_probabilities(network: nn.Module, logits: Iterable[Tensor]) -> np.ndarray:
    """Run a network in evaluation mode over batches of logits that are computed as they come."""
    with evaluating(network), torch.inference_mode():
        return torch.cat(list(logits)).sigmoid().float().cpu().numpy()
