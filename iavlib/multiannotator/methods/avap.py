r"""AVAP: annotator variation and annotator preference (Guo et al. 2022).

A U-Net's features F are read by two heads (:mod:`iavlib.models.annotator_heads`). One predicts for
every structure how many of the M annotators mark a pixel, in M + 1 classes; from these follows the
calibrated map. The other predicts the marks of any annotator, by convolutions that a controller
writes from the pooled features and the annotator's code. Both learn by cross-entropy and Dice.

Training has two stages, each of all the recipe's epochs: U-Net and agreement; then, these frozen,
the preferences, of one annotator per image and step, drawn at random among those who labelled it.
``training: joint`` trains both at once by
``(1 - joint_weight) * agreement + joint_weight * preference``, the alternative of Table V.

What the published description leaves open is settled so: F is the U-Net's output at the images'
size, for both heads; the calibrated map is the mean of the agreement classes over M
(``calibrated: argmax`` takes the most probable one, and scores of both are kept); batch statistics
of the frozen part are not updated in the second stage. F is reduced to ``channels`` maps before
the dynamic layers, which the paper does not mention; with ``reduce: false`` it is not.

Where annotators are missing, the number of marks among all M is a matter of chance. With k marks
among the m annotators who labelled an image, the number j of all M who would mark a pixel is not
known. If who labelled was chosen at random, k is hypergeometric,

.. math:: P(k \mid j) = \binom{j}{k} \binom{M-j}{m-k} \Big/ \binom{M}{m},

and the likelihood of predicted probabilities p_j of the levels is the sum of p_j P(k | j). Where
nobody is missing that is p_k, and the usual cross-entropy.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor, nn

from iavlib.models.annotator_heads import CHANNELS, CONDITIONS, AgreementHead, PreferenceHead
from iavlib.multiannotator import losses
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.probabilistic_unet import draw_labels
from iavlib.training.predict import evaluating


def level_table(annotators: int) -> Tensor:
    """Return P(k | j) for m annotators at hand: shape (M + 1, M + 1, M + 1), axes m, k and j."""
    m, k, j = np.ogrid[(slice(annotators + 1),) * 3]
    return torch.from_numpy(hypergeom.pmf(k, annotators, j, m)).float()


def membership(structures: Mapping[str, Sequence[int]], n_classes: int) -> Tensor:
    """Return which classes make up which structure: bool, shape (structures, classes)."""
    member = torch.zeros(len(structures), n_classes, dtype=torch.bool)
    for row, classes in enumerate(structures.values()):
        member[row, list(classes)] = True
    return member


def count_marks(labels: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Count the annotators who marked a pixel, and those who labelled the image.

    Parameters
    ----------
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the image.
    member : torch.Tensor of bool, shape (S, C)
        Of :func:`membership`.

    Returns
    -------
    marks : torch.Tensor of int64, shape (B, S, H, W)
    n_given : torch.Tensor of int64, shape (B,)
    """
    given = labels[:, :, 0, 0] >= 0
    marked = member[:, labels.clamp_min(0).long()] & given[None, :, :, None, None]
    return marked.sum(2).transpose(0, 1), given.sum(1)


def level_likelihood(marks: Tensor, n_given: Tensor, table: Tensor) -> Tensor:
    """Look up P(k | j) of every pixel: (B, S, M + 1, H, W)."""
    return table[n_given[:, None, None, None].expand_as(marks), marks].movedim(-1, 2)


def level_losses(logits: Tensor, likelihood: Tensor) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of predicted levels.

    Parameters
    ----------
    logits : torch.Tensor, shape (B, S, M + 1, H, W)
    likelihood : torch.Tensor, same shape
        Of :func:`level_likelihood`.

    Returns
    -------
    cross_entropy, dice : torch.Tensor
        Scalars. The Dice loss is towards the likelihood, divided by its sum over levels.
    """
    probabilities = logits.float().softmax(2)
    likely = (probabilities * likelihood).sum(2).clamp_min(losses.EPSILON)
    target = likelihood / likelihood.sum(2, keepdim=True)
    return -likely.log().mean(), losses.dice_loss(probabilities.flatten(0, 1), target.flatten(0, 1))


def shares(levels: Tensor, how: str = "expectation") -> Tensor:
    """Return the calibrated map, the share of annotators who mark a pixel: (B, S, H, W).

    Parameters
    ----------
    levels : torch.Tensor, shape (B, S, M + 1, H, W)
        Probabilities of agreement classes.
    how : {"expectation", "argmax"}
        The mean of the classes, or the most probable one; divided by M.
    """
    n = levels.shape[2] - 1
    if how == "argmax":
        return levels.argmax(2).to(levels.dtype) / n
    steps = torch.arange(n + 1, dtype=levels.dtype, device=levels.device)
    return (levels * steps[:, None, None]).sum(2) / n


def class_shares(of_structures: Tensor, member: Tensor) -> Tensor:
    """Return shares of classes, (B, C, H, W), from those of structures, (B, S, H, W).

    A class's share follows from the structures it is part of (a rim is a disc less its cup); values
    below 0 become 0, background is the rest, and all sum to 1.
    """
    inverse = torch.linalg.pinv(member[:, 1:].to(of_structures.dtype))
    foreground = torch.einsum("cs,bshw->bchw", inverse, of_structures).clamp_min(0)
    background = (1 - foreground.sum(1, keepdim=True)).clamp_min(0)
    classes = torch.cat((background, foreground), 1)
    return classes / classes.sum(1, keepdim=True)


AGREEMENT, PREFERENCE, JOINT = "agreement", "preference", "joint"
TRAININGS = ("two-step", "joint")
MAPS = ("expectation", "argmax")


class AgreementAndPreference(nn.Module):
    """A U-Net, its agreement head and its preference head, with tables for the losses."""

    def __init__(self, backbone: nn.Module, problem: Problem, channels: int | None, condition):
        super().__init__()
        features, annotators = backbone.features, problem.n_annotators
        structures = problem.structures or {"foreground": tuple(range(1, problem.n_classes))}
        self.backbone = backbone
        self.agreement = AgreementHead(features, len(structures), annotators)
        shape = (features, annotators, problem.n_classes)
        self.preference = PreferenceHead(*shape, channels, condition)
        self.register_buffer("table", level_table(annotators), persistent=False)
        self.register_buffer("member", membership(structures, problem.n_classes), persistent=False)

    def everybody(self, features: Tensor) -> Tensor:
        """Give logits of all annotators, (B, R, C, H, W), of features (B, F, H, W)."""
        codes = torch.arange(self.preference.annotators, device=features.device)
        codes = [code.expand(len(features)) for code in codes]
        return torch.stack([self.preference(features, code) for code in codes], 1)


@register("avap", "AVAP")
@register("avap-joint", "AVAP, trained jointly", training="joint")
@register("avap-features", "AVAP without codes", condition="features")
@register("avap-code", "AVAP without pooled features", condition="code")
class AVAP(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``training`` (``two-step`` or ``joint``) and ``joint_weight`` of
    the preferences; ``condition``, the input of the controller (``both``, ``code``, ``features``);
    ``channels`` of the dynamic layers and ``reduce``, whether features are reduced to as many;
    ``calibrated`` (``expectation`` or ``argmax``), the map that is the consensus; ``dice``, the
    weight of the Dice loss beside the cross-entropy.
    """

    stages = (AGREEMENT, PREFERENCE)
    defaults: ClassVar[Mapping[str, Any]] = {
        **UNET_SETTINGS,
        "training": "two-step",
        "joint_weight": 0.5,
        "condition": "both",
        "channels": CHANNELS,
        "reduce": True,
        "calibrated": "expectation",
        "dice": 1.0,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require("training", TRAININGS)
        self.require("condition", CONDITIONS)
        self.require("calibrated", MAPS)
        self.require_minimum(0, "dice")
        self.require_minimum(1, "channels")
        if not 0 < self.settings["joint_weight"] < 1:
            self.refuse("joint_weight must be within (0, 1)")
        if self.settings["training"] == "joint":
            self.stages = (JOINT,)

    def build(self, problem: Problem) -> nn.Module:
        """Make the U-Net and both heads."""
        chosen = self.settings
        channels = chosen["channels"] if chosen["reduce"] else None
        given = (problem, channels, chosen["condition"])
        return AgreementAndPreference(self.backbone(problem), *given)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Freeze what the stage does not train."""
        network.requires_grad_(stage != PREFERENCE)
        network.preference.requires_grad_(stage != AGREEMENT)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of a stage."""
        images, labels = batch["images"], batch["labels"]
        if stage == PREFERENCE:
            with torch.no_grad(), evaluating(network.backbone):
                features = network.backbone(images)
            return self._preference(network, features, labels)
        features = network.backbone(images)
        agreement = self._agreement(network, features, labels)
        if stage == AGREEMENT:
            return agreement
        weight = self.settings["joint_weight"]
        return (1 - weight) * agreement + weight * self._preference(network, features, labels)

    def _agreement(self, network, features: Tensor, labels: Tensor) -> Tensor:
        likelihood = level_likelihood(*count_marks(labels, network.member), network.table)
        cross_entropy, overlap = level_losses(network.agreement(features), likelihood)
        return cross_entropy + self.settings["dice"] * overlap

    def _preference(self, network, features: Tensor, labels: Tensor) -> Tensor:
        chosen, annotators = draw_labels(labels)
        maps = network.preference(features, annotators).float().softmax(1)[:, None]
        each, _ = losses.label_likelihood(maps, chosen)
        return each.mean() + self.settings["dice"] * losses.overlap_loss(maps, chosen).mean()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the calibrated map, each annotator's, and the probabilities of agreement classes."""
        features = network.backbone(images)
        levels = network.agreement(features).softmax(2)
        consensus = class_shares(shares(levels, self.settings["calibrated"]), network.member)
        return Outputs(consensus, network.everybody(features).softmax(2), levels=levels)
