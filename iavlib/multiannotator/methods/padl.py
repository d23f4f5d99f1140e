r"""PADL: what annotators prefer, and how much chance is in what they draw (Liao et al. 2021).

In each pixel logits are normally distributed: those of a consensus as
:math:`N(\mu, \sigma^2)`, those of annotator r as :math:`N(\mu + \delta_r, \sigma_r^2)`. The shift
:math:`\delta_r` is the annotator's *preference*, the deviation :math:`\sigma_r` the *stochastic
error*. With F the U-Net's features and E the entropy of softmax(mu) in bits, which is not changed
by what follows from it, all but mu are read from

.. math:: (1 + E)\, \mathrm{ReLU}(\mathrm{BN}(F * w)) \,\|\, m

by a 1 x 1 convolution, each with a w of its own; m is mu for sigma and the preferences, and
:math:`\mu + \delta_r` for an annotator's deviation, of which the absolute value is taken. The loss
is the cross-entropy of every label with a draw from its annotator's distribution and with another
one from the consensus.

The cross-entropy is convex in the logits. By Jensen's inequality a draw therefore costs at least
as much as its mean, and this loss is smallest without any deviation, whatever annotators do: what
is random then shows in means near 0, not in sigma. ``padl-marginal`` takes the likelihood of a
label to be the mean over several draws (``draws``), which a deviation can increase.

Built from the released code (github.com/Merrical/PADL); the paper's text could not be read. What
differs: classes exclude each other, so that logits go through a softmax instead of a sigmoid per
structure (for two classes the same family), and the loss is a mean over the labels of a batch.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.multiannotator import losses
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register


class MapsOfEach(nn.Module):
    """Maps of C classes for each of some annotators, read where classes are uncertain."""

    def __init__(self, features: int, n: int, classes: int):
        super().__init__()
        self.shape, maps = (n, classes), n * classes
        self.reduce = nn.Sequential(nn.Conv2d(features, maps, 1), nn.BatchNorm2d(maps), nn.ReLU())
        self.last = nn.Conv2d(2 * maps, maps, 1, groups=n)

    def forward(self, features: Tensor, gain: Tensor, means: Tensor) -> Tensor:
        """Return (B, n, C, H, W) from features, 1 + E (B, 1, H, W) and m (B, n or 1, C, H, W)."""
        read = (gain * self.reduce(features)).unflatten(1, self.shape)
        seen = torch.cat((read, means.expand_as(read)), 2)
        return self.last(seen.flatten(1, 2)).unflatten(1, self.shape)


class AnnotationDistributions(nn.Module):
    """A U-Net with means and deviations of the logits of the consensus and each annotator."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int):
        super().__init__()
        self.backbone, features = backbone, backbone.features
        self.mean = nn.Conv2d(features, classes, 1)
        self.deviation = MapsOfEach(features, 1, classes)
        self.preference = MapsOfEach(features, annotators, classes)
        self.error = MapsOfEach(features, annotators, classes)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Give mean and deviation of the consensus (B, 1, C, H, W) and of all (B, R, C, H, W)."""
        features = self.backbone(images)
        mean = self.mean(features)
        chances = mean.detach().softmax(1)
        gain = 1 - (chances * chances.clamp_min(losses.EPSILON).log2()).sum(1, keepdim=True)
        mean = mean.unsqueeze(1)
        means = mean + self.preference(features, gain, mean)
        deviations = self.error(features, gain, means).abs()
        return (mean, self.deviation(features, gain, mean).abs()), (means, deviations)


def drawn_probabilities(mean: Tensor, deviation: Tensor, draws: int) -> Tensor:
    """Return the mean over draws of the softmax (axis 2) of normally distributed logits."""
    drawn = ((mean + deviation * torch.randn_like(mean)).softmax(2) for _ in range(draws))
    return sum(drawn) / draws


@register("padl", "PADL")
@register("padl-marginal", "PADL, marginal likelihood", draws=8)
class PreferenceAndError(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``draws``, of how many the likelihood of a label is the mean.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "draws": 1}

    def check(self) -> None:
        """Raise :class:`MethodError` where there are no draws."""
        self.require_minimum(1, "draws")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        shape = (problem.n_annotators, problem.n_classes)
        return AnnotationDistributions(self.backbone(problem), *shape)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of the annotators' distributions and of the consensus."""
        labels, total = batch["labels"], 0
        for mean, deviation in network(batch["images"]):
            everybody = (-1, labels.shape[1], -1, -1, -1)
            given = (mean.float().expand(everybody), deviation.float().expand(everybody))
            maps = drawn_probabilities(*given, self.settings["draws"])
            total = total + losses.mean_likelihood(maps, labels)
        return total

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the means, and draws from the consensus."""
        (mean, deviation), (means, _) = network(images)
        drawn = torch.randn(n_samples, *mean.shape, generator=generator).to(mean)
        samples = torch.cat([(mean + deviation * one).argmax(2) for one in drawn], 1)
        return Outputs(mean[:, 0].softmax(1), means.softmax(2), samples)
