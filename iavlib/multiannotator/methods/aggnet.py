r"""AggNet: votes are aggregated while the network learns (Albarqouni et al. 2016).

A network gives the probabilities p(x) of the true class in each pixel. In training, an aggregation
layer combines them with the labels y_r of the image and each annotator's matrix A_r,

.. math:: q_j(x) \propto p_j(x) \prod_r A_r[y_r(x), j],

and the network learns q by cross-entropy. From q the matrices are estimated anew: the share of
each label among the pixels of a true class, which with two classes is the annotator's sensitivity
and specificity. This is expectation-maximisation in steps of one batch. It starts from the
majority vote.

Built from slides of the authors (aggregate the votes, estimate sensitivity and specificity of
each annotator, learn jointly by backward passes of the loss) and from Raykar et al. (2010), whose
EM it puts inside a network; the paper's text could not be read. What is settled here: matrices
follow a batch with weight ``1 - momentum``, classes may be more than two, and pixels are the
items that the crowd votes on.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.models.annotator_heads import apply_confusion, normalise_columns
from iavlib.multiannotator import losses
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import fuse, fused_confusion
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.cm import ConfusionNetwork


class EstimatedConfusion(nn.Module):
    """Matrices that follow the classes that labels are found to have, batch by batch."""

    def __init__(self, annotators: int, classes: int):
        super().__init__()
        self.register_buffer("joint", torch.eye(classes).repeat(annotators, 1, 1) / classes)
        self.register_buffer("prior", torch.full((classes,), 1 / classes))

    @property
    def matrices(self) -> Tensor:
        """Return (R, C, C), ``[label, truth]``."""
        return normalise_columns(self.joint[None, ..., None, None])[0, ..., 0, 0]

    def set(self, data: MultiAnnotatorSet) -> None:
        """Start from the majority vote of the training subset."""
        fused = fuse(data, "mode")
        prior = torch.from_numpy(fused.mean((0, 2, 3))).clamp_min(1e-3)
        confusion = torch.from_numpy(fused_confusion(data, fused)).float()
        self.prior.copy_(prior / prior.sum())
        self.joint.copy_(confusion.nan_to_num(1 / len(prior)) * self.prior.cpu())

    def follow(self, truth: Tensor, labels: Tensor, momentum: float) -> None:
        """Move towards a batch.

        Parameters
        ----------
        truth : torch.Tensor, shape (B, C, H, W)
            Probabilities of the true class.
        labels : torch.Tensor, shape (B, R, C, H, W)
            Of :func:`iavlib.multiannotator.losses.one_hot`.
        momentum : float
            Weight of what was known before.
        """
        counts = torch.einsum("brkhw,bjhw->rkj", labels, truth)
        total = counts.sum((1, 2), keepdim=True)
        weight = torch.where(total > 0, 1 - momentum, 0.0)
        self.joint.lerp_(counts / total.clamp_min(1), weight)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, R, C, C, 1, 1)."""
        return self.matrices[None, ..., None, None].expand(len(features), -1, -1, -1, -1, -1)


def add_votes(logits: Tensor, labels: Tensor, votes: Tensor) -> Tensor:
    """Add to the logits of classes what each annotator's label says of them.

    Parameters
    ----------
    logits : torch.Tensor, broadcast to (B, C, H, W)
    labels : torch.Tensor, shape (B, R, C, H, W)
        Of :func:`iavlib.multiannotator.losses.one_hot`: a missing label adds nothing.
    votes : torch.Tensor, shape (R, C, C)
        Logarithms, ``[label, truth]``.

    Returns
    -------
    torch.Tensor, shape (B, C, H, W)
    """
    return logits + torch.einsum("brkhw,rkj->bjhw", labels, votes)


@register("aggnet", "AggNet")
class AggNet(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``momentum`` of the annotators' matrices.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "momentum": 0.9}

    def check(self) -> None:
        """Raise :class:`MethodError` where the momentum makes no sense."""
        if not 0 <= self.settings["momentum"] < 1:
            self.refuse("momentum must be within [0, 1)")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        confusion = EstimatedConfusion(problem.n_annotators, problem.n_classes)
        return ConfusionNetwork(self.backbone(problem), problem.n_classes, confusion)

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Start from the majority vote."""
        network.confusion.set(data)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the cross-entropy towards the aggregated votes, and update the matrices."""
        logits, _ = network(batch["images"])
        labels = losses.one_hot(batch["labels"], logits.shape[1])
        with torch.no_grad():
            truth = add_votes(logits.float(), labels, network.confusion.matrices.log()).softmax(1)
            network.confusion.follow(truth, labels, self.settings["momentum"])
        return losses.soft_cross_entropy(logits.float(), truth).mean()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth, each annotator by the matrix, and the matrices."""
        logits, confusion = network(images)
        consensus = logits.softmax(1)
        return Outputs(consensus, apply_confusion(confusion, consensus), confusion=confusion)
