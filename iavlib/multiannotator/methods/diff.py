"""DiFF: masks fused, and lesions segmented, so that they serve the diagnosis (Wu et al. 2024).

``take-give`` and ``diff`` are the network Take and Give (:class:`iavlib.models.TakeGive`); it
learns one mask per image (Eq. 1): DF-GT, the annotators' masks fused by the expertness of a
generator (:mod:`iavlib.multiannotator.expertness`), their ``majority``, or their ``mean`` vote.
Up to three networks are trained one after the other: for DF-GT a net that judges masks (DL-CAT, as
in the released code), then Baseline-Dia, both with the majority's masks, and then, beside
Baseline-Dia as it is, Take and Give. A diagnosis is what Baseline-Dia says of an image with its
predicted mask. ``df-gt`` is the fusion alone: it does not segment, and only
:meth:`iavlib.multiannotator.FittedMethod.fuse` can be used, which needs the masks *and the
diagnosis* of an image.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.models.assisted import BLOCKS, SMALL, TakeGive, block_names, build_assisted
from iavlib.multiannotator import assisted_training
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.expertness import GENERATORS, optimise_expertness
from iavlib.multiannotator.fusion import fuse
from iavlib.multiannotator.method import Method, Outputs, Problem
from iavlib.multiannotator.methods import register

JUDGE, DIAGNOSIS, SEGMENTATION = "judge", "diagnosis", "segmentation"
#: Masks that do not depend on a diagnosis, and how they are fused.
PLAIN = {"majority": "mode", "mean": "mean"}


class JudgedNetwork(nn.Module):
    """The diagnosis net that judges fused masks, and Take and Give with Baseline-Dia, if needed."""

    def __init__(self, networks: Mapping[str, nn.Module], seed: int):
        super().__init__()
        self.networks, self.seed = nn.ModuleDict(networks), seed
        self.stage = next(iter(networks))

    @property
    def trained(self) -> nn.Module:
        """The network that is being trained."""
        nets, stage = self.networks, self.stage
        return nets[SEGMENTATION].diagnosis if stage == DIAGNOSIS else nets[stage]

    @property
    def backbone(self) -> nn.Module:
        """The backbone of the network that is being trained."""
        return self.trained.backbone


@register("take-give", "Take and Give", segments=True)
@register("diff", "DiFF", segments=True)
@register("df-gt", "DF-GT")
class DiFF(Method):
    """The methods of the module's description, for colour images of two classes.

    Settings: ``encoder`` of all networks, ``small`` or a convolutional network of timm (the paper:
    ResNet-50), with its ``weights``; ``blocks``, connected levels, as of
    :func:`iavlib.models.block_names`; ``learns``, ``majority``, ``mean`` or a generator of
    expertness, with its ``steps`` of optimisation; ``segments``, whether Take and Give is trained
    at all.
    """

    needs_diagnosis: ClassVar[bool] = True
    normalise: ClassVar[bool] = False  # encoders do
    defaults: ClassVar[Mapping[str, Any]] = {
        "encoder": SMALL,
        "weights": "none",
        "blocks": BLOCKS,
        "learns": "expg",
        "steps": 20,
        "segments": False,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require("learns", [*PLAIN, *GENERATORS])
        self.require_minimum(1, "steps")
        self.settings["blocks"] = block_names(self.settings["blocks"])
        judged = self.settings["learns"] in GENERATORS
        self.stages = (JUDGE,) * judged + (DIAGNOSIS, SEGMENTATION) * self.settings["segments"]
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
        return self.predictor(network).backbone.weights

    def predictor(self, network: nn.Module) -> nn.Module:
        """Return Take and Give; of the fusion alone, the net that judges."""
        return network.networks[self.stages[-1]]

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Give folded batch norms their statistics back."""
        if not recipe.freeze_batchnorm:
            assisted_training.restore_statistics(network, data.images, network.seed)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train the network of the stage alone."""
        network.stage = stage
        network.requires_grad_(False)
        network.trained.requires_grad_(True)
        if stage == SEGMENTATION:
            network.trained.diagnosis.requires_grad_(False)

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return the majority's masks, then those that are learnt, with the diagnoses."""
        fused = self.fuse(network, data) if stage == SEGMENTATION else fuse(data, "mode")
        return assisted_training.assisted_targets(data, fused[:, 1])

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the cross-entropy of the diagnosis or, of Take and Give, of the mask."""
        return assisted_training.assisted_loss(network.trained, batch)

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the segmentation, of probabilities, and what Baseline-Dia makes of it."""
        if not self.settings["segments"]:
            self.refuse("it fuses masks and does not segment: use fuse()")
        segmenting = network.networks[SEGMENTATION]
        lesion = segmenting(images)["mask"].sigmoid().float()
        diagnosis = segmenting.diagnosis(images, lesion)["diagnosis"].sigmoid()
        return Outputs(torch.stack((1 - lesion, lesion), 1), diagnosis=diagnosis)

    def fuse(self, network: nn.Module, dataset: MultiAnnotatorSet) -> np.ndarray:
        """Fuse masks as those that are learnt; by expertness, this needs diagnoses."""
        learns = self.settings["learns"]
        if learns in PLAIN:
            return fuse(dataset, PLAIN[learns])
        given = (network.networks[JUDGE], dataset, learns, self.settings["steps"], network.seed)
        fused = optimise_expertness(*given).fused
        return np.stack([1 - fused, fused], axis=1)
