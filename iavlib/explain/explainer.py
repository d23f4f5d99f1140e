"""Explaining many images: batch by batch, nothing kept of one when the next comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iavlib.core.errors import ExplainError
from iavlib.explain.cam import (
    CAM_METHODS,
    CENTRED,
    EIGENCAM,
    GRADCAM,
    Target,
    cam_maps,
    capture,
    choose_targets,
    enlarge,
    find_layer,
)
from iavlib.explain.perturbation import INTEGRATED, OCCLUSION, integrated_gradients, occlusion
from iavlib.models.network import Network
from iavlib.training.batches import ImageBatches

METHODS = (*CAM_METHODS, INTEGRATED, OCCLUSION)
#: Which of these do not ask what is to be explained.
WITHOUT_TARGET = (EIGENCAM,)


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps of a batch of images.

    Attributes
    ----------
    ids : pandas.Index
    images : torch.Tensor of shape (B, 3, S, S)
        As the network saw them.
    levels : dict of str to numpy.ndarray of shape (B,)
        By target's name, the number that is explained: the predicted agreement, or the difference
        of two logits.
    maps : dict of (str, str) to numpy.ndarray of float32, shape (B, S, S)
        By target's name and method; not negative, not scaled.
    signed : dict of (str, str) to numpy.ndarray of float32, shape (B, h, w)
        The same before what counts against the target is set to 0, as coarse as they are made.
    """

    ids: pd.Index
    images: Tensor
    levels: dict[str, np.ndarray]
    maps: dict[tuple[str, str], np.ndarray]
    signed: dict[tuple[str, str], np.ndarray]


class Explainer:
    """A network made ready to be explained.

    Parameters
    ----------
    network : Network
        Any backbone; see :func:`iavlib.explain.find_layer`.
    targets : sequence of str, optional
        Names of :func:`iavlib.explain.find_targets`; all of the network's unless given.
    methods : sequence of str
        Of :data:`METHODS`.
    stride : int, optional
        See :func:`iavlib.explain.find_layer`.
    steps : int
        Of integrated gradients.
    reference : mapping of str to float, optional
        :attr:`reference` of an explainer of the same network that was centred before.

    Attributes
    ----------
    reference : dict of str to float
        Target's name to the zero of the centred method, see :meth:`centre_on`; empty before.

    Examples
    --------
    >>> explainer = Explainer(network, ["lowers agreement"], ["Grad-CAM"])  # doctest: +SKIP
    >>> for batch in explainer.over(batches):  # doctest: +SKIP
    ...     batch.maps["lowers agreement", "Grad-CAM"]
    """

    def __init__(
        self,
        network: Network,
        targets: Sequence[str] | None = None,
        methods: Sequence[str] = CAM_METHODS[:-1],
        stride: int | None = None,
        steps: int = 16,
        reference: Mapping[str, float] | None = None,
    ):
        self.network, self.methods, self.steps = network, tuple(methods), steps
        self.targets: tuple[Target, ...] = choose_targets(network, targets)
        self.layer = find_layer(network, stride)
        self.reference: dict[str, float] = dict(reference or {})

    def centre_on(self, batches: Iterable[Tensor]) -> Explainer:
        """Take the mean of Grad-CAM over images and places as the zero of the centred one.

        Whether a place of a feature map speaks for or against a *class* has a natural zero. A
        regression has none: how much of a mean Dice of 0.8 the features tell, and how much the
        bias, is chance. Less the reference, a map sums up to by how much an image's prediction
        differs from the mean prediction of the reference images (exactly so where a linear head
        follows the mean over places).

        Parameters
        ----------
        batches : iterable of torch.Tensor, each of shape (B, 3, S, S)
            Images, normalised; best all that are explained.
        """
        sums: dict[str, list[np.ndarray]] = {}
        for images in batches:
            captured = capture(self.network, self.layer, images, self.targets)
            for target in self.targets:
                maps = cam_maps(captured, GRADCAM, target, rectify=False)
                sums.setdefault(target.name, []).append(maps.mean(axis=(1, 2)))
        self.reference = {name: float(np.concatenate(one).mean()) for name, one in sums.items()}
        return self

    def explain(self, images: Tensor, ids=None) -> Explained:
        """Explain one batch of images (B, 3, S, S), normalised as the network's weights say."""
        captured = capture(self.network, self.layer, images, self.targets)
        signed: dict[tuple[str, str], np.ndarray] = {}
        for target in self.targets:
            for method in self.methods:
                signed[target.name, method] = self._signed(captured, method, target, images, signed)
        maps = {key: enlarge(np.maximum(one, 0), images.shape[-1]) for key, one in signed.items()}
        levels = {
            target.name: target.level(captured.outputs).double().cpu().numpy()
            for target in self.targets
        }
        ids = pd.RangeIndex(len(images)) if ids is None else pd.Index(ids)
        return Explained(ids, images, levels, maps, signed)

    def _signed(self, captured, method: str, target: Target, images, known) -> np.ndarray:
        if method == CENTRED:
            if target.name not in self.reference:
                told = "needs other images to compare with"
                raise ExplainError(CENTRED, told, "call centre_on, or leave the method out")
            plain = cam_maps(captured, GRADCAM, target, rectify=False)
            return plain - np.float32(self.reference[target.name])
        if method not in (INTEGRATED, OCCLUSION):
            return cam_maps(captured, method, target, rectify=False)
        for other in self.targets:  # the other direction of the same head is known already
            if (other.name, method) in known and other.head == target.head:
                return -known[other.name, method]
        if method == OCCLUSION:
            return occlusion(self.network, images, target)
        return integrated_gradients(self.network, images, target, self.steps)

    def over(self, batches: ImageBatches, batch_size: int = 32) -> Iterator[Explained]:
        """Explain all images, a batch at a time; what was given before can be forgotten.

        Parameters
        ----------
        batches : ImageBatches
            Made of an image cache with the mean and deviation of the network's own weights: what
            it was trained on. The centred method takes these as its reference, unless it has one.
        batch_size : int
        """
        self.network.to(batches.device, memory_format=torch.channels_last)
        order = np.arange(len(batches))
        plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if CENTRED in self.methods and not self.reference:
            self.centre_on(batch["images"] for batch in batches.stream(plan))
        for batch in batches.stream(plan):
            yield self.explain(batch["images"], batches.ids[batch["index"].numpy()])
