"""DiFF: masks fused, and lesions segmented, so that they serve the diagnosis (Wu et al. 2024).

``take-give`` is the network Take and Give (:class:`iavlib.models.TakeGive`), which segments and
diagnoses; it learns one mask per image: the ``majority`` of the annotators, their ``mean`` vote, or
DF-GT, their masks fused by the expertness of a generator (:mod:`iavlib.multiannotator.expertness`).
For the last a diagnosis net (DL-CAT, as in the released code) is trained first, with the majority's
masks; the fused masks are those that lower its loss. ``diff`` is Take and Give that learns DF-GT by
ExpG, in small networks. ``df-gt`` is the fusion alone: it does not segment, and only
:meth:`iavlib.multiannotator.FittedMethod.fuse` can be used, which needs the masks *and the
diagnosis* of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.models.assisted import LEVELS, SMALL, TakeGive, build_assisted
from iavlib.multiannotator import assisted_training
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.expertness import GENERATORS, optimise_expertness
from iavlib.multiannotator.fusion import fuse
from iavlib.multiannotator.method import Method, Outputs, Problem
from iavlib.multiannotator.methods import register

JUDGE, SEGMENTATION = "judge", "segmentation"
#: Masks that do not depend on a diagnosis, and how they are fused.
PLAIN = {"majority": "mode", "mean": "mean"}


class JudgedNetwork(nn.Module):
    """The diagnosis net that judges fused masks and the network that learns these, if needed."""

    def __init__(self, networks: Mapping[str, nn.Module], seed: int):
        super().__init__()
        self.networks, self.seed = nn.ModuleDict(networks), seed
        self.stage = next(iter(networks))

    @property
    def backbone(self) -> nn.Module:
        """The backbone of the network that is being trained."""
        return self.networks[self.stage].backbone


@register("take-give", "Take and Give", learns="majority", segments=True)
@register("diff", "DiFF", segments=True)
@register("df-gt", "DF-GT")
class DiFF(Method):
    """The methods of the module's description, for colour images of two classes.

    Settings: ``encoder`` of all networks, ``small`` or a convolutional network of timm (the paper:
    ResNet-50), with its ``weights``; ``blocks``, connected levels, 0 (Baseline-Seg and
    Baseline-Dia) to 4; ``learns``, ``majority``, ``mean`` or a generator of expertness, with its
    ``steps`` of optimisation; ``segments``, whether Take and Give is trained at all.
    """

    needs_diagnosis: ClassVar[bool] = True
    normalise: ClassVar[bool] = False  # encoders do
    defaults: ClassVar[Mapping[str, Any]] = {
        "encoder": SMALL,
        "weights": "none",
        "blocks": LEVELS,
        "learns": "expg",
        "steps": 20,
        "segments": False,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require("learns", [*PLAIN, *GENERATORS])
        self.require_minimum(1, "steps")
        if not 0 <= self.settings["blocks"] <= LEVELS:
            self.refuse(f"blocks is {self.settings['blocks']}: give 0 to {LEVELS} blocks")
        judged = self.settings["learns"] in GENERATORS
        self.stages = (JUDGE,) * judged + (SEGMENTATION,) * self.settings["segments"]
        if not self.stages:
            self.refuse("nothing is learnt: name a generator, or set segments")

    def build(self, problem: Problem) -> nn.Module:
        """Make the networks; all follow from one seed, as they do on their own."""
        encoder, weights = self.settings["encoder"], self.settings["weights"]
        seed, networks = torch.initial_seed(), {}
        if JUDGE in self.stages:
            networks[JUDGE] = build_assisted("cat", encoder, weights, seed, problem.height)
        if SEGMENTATION in self.stages:
            given = (encoder, weights, self.settings["blocks"], seed, problem.height)
            networks[SEGMENTATION] = TakeGive(*given)
        return JudgedNetwork(networks, seed)

    def pretrain(self, network: nn.Module):
        """Return the weights that encoders were built with."""
        backbone = self.predictor(network).backbone
        return (backbone["diagnosis"] if isinstance(backbone, nn.ModuleDict) else backbone).weights

    def predictor(self, network: nn.Module) -> nn.Module:
        """Return Take and Give; of the fusion alone, the net that judges."""
        return network.networks[self.stages[-1]]

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Give folded batch norms their statistics back."""
        if not recipe.freeze_batchnorm:
            for one in network.networks.values():
                assisted_training.restore_statistics(one, data.images, network.seed)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train the network of the stage alone."""
        network.stage = stage
        network.requires_grad_(False)
        network.networks[stage].requires_grad_(True)

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return the majority's masks, then those that are learnt, with the diagnoses."""
        fused = fuse(data, "mode") if stage == JUDGE else self.fuse(network, data)
        return assisted_training.assisted_targets(data, fused[:, 1])

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the cross-entropy of the diagnosis and, of Take and Give, of the mask."""
        return assisted_training.assisted_loss(network.networks[stage], batch)

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the segmentation, of probabilities, and the diagnosis."""
        if not self.settings["segments"]:
            self.refuse("it fuses masks and does not segment: use fuse()")
        outputs = network.networks[SEGMENTATION](images)
        lesion = outputs["mask"].sigmoid().float()
        consensus = torch.stack((1 - lesion, lesion), 1)
        return Outputs(consensus, diagnosis=outputs["diagnosis"].sigmoid())

    def fuse(self, network: nn.Module, dataset: MultiAnnotatorSet) -> np.ndarray:
        """Fuse masks as those that are learnt; by expertness, this needs diagnoses."""
        learns = self.settings["learns"]
        if learns in PLAIN:
            return fuse(dataset, PLAIN[learns])
        given = (network.networks[JUDGE], dataset, learns, self.settings["steps"], network.seed)
        fused = optimise_expertness(*given).fused
        return np.stack([1 - fused, fused], axis=1)
