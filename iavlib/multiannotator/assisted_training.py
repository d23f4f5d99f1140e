"""One image for a figure: its raters' expertness, written in several ways.

Training of diagnosis nets and segmentation networks, and what they say of other masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.assisted import AssistedNet, build_assisted
from iavlib.models.heads import has_folded_batchnorm, restore_batchnorm
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.expertness import optimise_expertness
from iavlib.multiannotator.fusion import fuse
from iavlib.training.batches import ImageBatches
from iavlib.training.loop import fit
from iavlib.training.objectives import Objective
from iavlib.training.predict import evaluating
from iavlib.training.recipe import Recipe, get_recipe

#: Pixels go to the networks as they are, from 0 to 1: encoders normalise.
_AS_IT_IS = ((0.0,) * 3, (1.0,) * 3)
_BATCH = 64
#: Images by which folded batch norms are given back their statistics.
_RESTORED_BY = 256


class _AssistedObjective(Objective):
    """Diagnose with a mask; a net that draws masks learns that too."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        found = model(batch["images"], batch["mask"])
        return _losses(found, batch)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


class _JointObjective(_AssistedObjective):
    """Segment and diagnose from the image alone."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        return _losses(model(batch["images"]), batch)


def _losses(found: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Add the cross-entropies of the diagnosis and of the mask, of what there is."""
    named = [name for name in ("diagnosis", "mask") if name in found]
    losses = [F.binary_cross_entropy_with_logits(found[name], batch[name]) for name in named]
    return torch.stack(losses).sum()


def train(
    network: nn.Module,
    labelled: MultiAnnotatorSet,
    masks: np.ndarray,
    diagnosis: np.ndarray,
    recipe: Recipe,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool | Callable[[dict], None] = False,
) -> pd.DataFrame:
    """Train a diagnosis net with masks given, or a network that draws them.

    Parameters
    ----------
    network : AssistedNet or TakeGive
    labelled : MultiAnnotatorSet
        Its images; the masks are the other parameter.
    masks : numpy.ndarray, shape (n, height, width)
        From 0 to 1.
    diagnosis : numpy.ndarray, shape (n,)
        0 or 1.
    recipe, seed, folder, progress
        As for :func:`iavlib.training.loop.fit`.

    Returns
    -------
    pandas.DataFrame
        One row an epoch.

    Raises
    ------
    DiagnosisFirstError
        If masks or diagnoses do not fit the images.
    """
    check_targets(labelled, masks, diagnosis)
    targets = {"mask": np.asarray(masks, float), "diagnosis": np.asarray(diagnosis, float)}
    batches = ImageBatches.from_arrays(
        labelled.images, labelled.ids, targets, *_AS_IT_IS, key=labelled.fingerprint
    )
    if not recipe.freeze_batchnorm:
        _restore_batchnorm(network, labelled.images, seed)
    objective = _AssistedObjective() if isinstance(network, AssistedNet) else _JointObjective()
    return fit(network, batches, objective, recipe, folder, seed, progress=progress)


def _restore_batchnorm(network: nn.Module, images: np.ndarray, seed: int) -> None:
    """Give folded batch norms their statistics back: the first batch would spoil what they know."""
    made = network.backbone
    order = np.random.default_rng(seed).permutation(len(images))[:_RESTORED_BY]
    for encoder in made.values() if isinstance(made, nn.ModuleDict) else [made]:
        if has_folded_batchnorm(encoder):
            lots = (images[order[first : first + _BATCH]] for first in range(0, len(order), _BATCH))
            restore_batchnorm(encoder, (_pixels(lot, encoder) for lot in lots))


def check_targets(labelled: MultiAnnotatorSet, masks: np.ndarray, diagnosis: np.ndarray) -> None:
    """Refuse masks and diagnoses that do not fit the images.

    Raises
    ------
    DiagnosisFirstError
    """
    expected = (len(labelled), *labelled.images.shape[1:3])
    if masks.shape != expected or len(diagnosis) != len(labelled):
        told = f"masks {masks.shape} and {len(diagnosis)} diagnoses"
        raise DiagnosisFirstError(f"{told}: give {expected} and {len(labelled)}")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise DiagnosisFirstError("masks have values outside 0 to 1: give probabilities")
    if not np.isin(diagnosis, (0, 1)).all():
        raise DiagnosisFirstError("a diagnosis is neither 0 nor 1: leave such images out")


def diagnose(net: nn.Module, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Let a trained net diagnose images with masks: probabilities, shape (n,)."""

    def run(some: Tensor, first: int) -> Tensor:
        chosen = torch.from_numpy(np.asarray(masks[first : first + len(some)], np.float32))
        return net(some, chosen.to(some.device))["diagnosis"].sigmoid()

    return _over(net, images, run)[0]


def segment(network: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Let a trained network draw and diagnose: masks (n, H, W) and probabilities (n,).

    The second are None of a network that does not diagnose.
    """

    def run(some: Tensor, first: int) -> tuple[Tensor, ...]:
        found = network(some)
        names = [name for name in ("mask", "diagnosis") if name in found]
        return tuple(found[name].sigmoid() for name in names)

    masks, *diagnosis = _over(network, images, run)
    return masks, diagnosis[0] if diagnosis else None


def _pixels(images: np.ndarray, network: nn.Module) -> Tensor:
    """Turn images (n, H, W, 3) of bytes into (n, 3, H, W) from 0 to 1, where the network is."""
    device = next(network.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 255


def _over(network: nn.Module, images: np.ndarray, run) -> list[np.ndarray]:
    found = []
    for first in range(0, len(images), _BATCH):
        some = _pixels(images[first : first + _BATCH], network)
        with evaluating(network), torch.inference_mode():
            made = run(some, first)
        found.append(made if isinstance(made, tuple) else (made,))
    return [torch.cat(subsets).float().cpu().numpy() for subsets in zip(*found, strict=True)]


#: Titles of ways to write maps.
WAYS = {"pixel": "pixel", "fourier": "waves", "expg": "ExpG"}
_RECIPE = {"epochs": 6, "lr": 3e-3, "warmup_epochs": 0}
_STEPS = 30


def example_masks(source, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Choose the image whose raters differ most, and fuse its masks for its diagnosis.

    A small net is trained for it, with the majority's masks of all images: this is an
    illustration, and measures nothing.

    Parameters
    ----------
    source : iavlib.experiments.tasks.diagnosed_sets.DiagnosedData
    seed : int

    Returns
    -------
    image : numpy.ndarray of uint8, shape (height, width, 3)
    masks : dict of str to numpy.ndarray, shape (height, width)
        The mean vote, the first rater's weight by each of :data:`WAYS`, and ExpG's fused mask.
    """
    labelled, diagnosis = source.labelled, source.diagnosis.to_numpy()
    voted, mean = fuse(labelled, "mode")[:, 1], fuse(labelled, "mean")[:, 1]
    net = build_assisted("cat", "small", seed=seed, size=labelled.images.shape[1])
    train(net, labelled, voted, diagnosis, get_recipe("annotators", **_RECIPE), seed)
    place = int((mean * (1 - mean)).sum((1, 2)).argmax())
    given = ~labelled.missing[place]
    some = (labelled.images[place : place + 1], labelled.labels[place : place + 1][:, given])
    masks = {"mean vote": mean[place]}
    for way, title in WAYS.items():
        known = diagnosis[place : place + 1]
        found = optimise_expertness(net, *some, known, way, _STEPS, seed)
        masks[title] = found.weights[0, 0]
    return labelled.images[place], {**masks, "fused (ExpG)": found.fused[0]}
