r"""PHiSeg: label maps drawn from coarse to fine (Baumgartner et al. 2019).

Every resolution level l of the image has a map of codes z_l, drawn given the image and the codes
of the next coarser level. A prior network sees the image, a posterior network the image and one of
its labels, drawn at random without knowing whose it is. A likelihood network sees the codes alone:
from coarse to fine each level adds its logits to the sum of the coarser ones, and so corrects
what they left open. The loss is, per pixel of the image,

.. math:: \sum_l \mathrm{CE}\Big(\sum_{k \ge l} s_k,\, y\Big) +
    \beta \sum_l 4^l\, \mathrm{KL}\big(q(z_l \mid z_{l+1}, x, y) \,\|\, p(z_l \mid z_{l+1}, x)\big)

with l = 0 the finest level; a level has a fourth of the codes of the next finer one. A prediction
draws all codes from the prior; the consensus is the mean of the draws.

Built from the released code (github.com/baumgach/PHiSeg-code, the networks phiseg and the loss).
There seven levels are for images of 128 pixels and the coarsest five have codes; here there are as
many as :func:`iavlib.models.unet.stages_for` leaves room for, and ``levels``, those with codes, are
the coarsest of them. Encoders are those of the probabilistic U-Net here (two convolutions per level
with instance normalisation, instead of three with batch normalisation); networks after codes have
batch normalisation, as published.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from iavlib.models.unet import WIDTHS, Encoder, pad_to_multiple, stages_for
from iavlib.multiannotator import losses
from iavlib.multiannotator.method import Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.probabilistic_unet import Probabilistic, draw_labels

#: Deviations of codes are at least this.
_MIN_SCALE = 1e-3


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Make two convolutions with batch normalisation."""
    first, second = (nn.Conv2d(n, outputs, 3, padding=1, bias=False) for n in (inputs, outputs))
    norms = (nn.BatchNorm2d(outputs) for _ in range(2))
    return nn.Sequential(first, next(norms), nn.ReLU(), second, next(norms), nn.ReLU())


class _Join(nn.Module):
    """Joins maps with those of the next coarser level."""

    def __init__(self, coarse: int, fine: int):
        super().__init__()
        self.up, self.join = _block(coarse, fine), _block(2 * fine, fine)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        twice = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.join(torch.cat((fine, self.up(twice)), 1))


class CodesOfLevels(nn.Module):
    """Distributions of the codes of all levels, coarsest first; prior and posterior are such."""

    def __init__(self, channels: int, widths: Sequence[int], levels: int, latent: int):
        super().__init__()
        self.encoder, coded = Encoder(channels, widths), widths[::-1][:levels]
        self.join = nn.ModuleList(_Join(latent, width) for width in coded[1:])
        self.last = nn.ModuleList(nn.Conv2d(width, 2 * latent, 1) for width in coded)

    def forward(
        self, maps: Tensor, draw: Callable[[int, Normal], Tensor]
    ) -> tuple[list[Tensor], list[Normal]]:
        """Return codes and their distributions, of all levels.

        Parameters
        ----------
        maps : torch.Tensor, shape (B, channels, H, W)
        draw : callable
            From level, counted from the coarsest, and its distribution to its codes.
        """
        seen, codes, distributions = self.encoder(maps)[::-1], [], []
        for level, last in enumerate(self.last):
            features = self.join[level - 1](seen[level], codes[-1]) if level else seen[level]
            mean, scale = last(features).chunk(2, 1)
            distributions.append(Normal(mean, F.softplus(scale) + _MIN_SCALE))
            codes.append(draw(level, distributions[-1]))
        return codes, distributions


class LabelsOfCodes(nn.Module):
    """From the codes of all levels to the logits of each, summed over coarser ones."""

    def __init__(self, widths: Sequence[int], levels: int, latent: int, classes: int):
        super().__init__()
        coded = widths[::-1][:levels]
        self.read = nn.ModuleList(_block(latent, width) for width in coded)
        self.join = nn.ModuleList(_Join(*pair) for pair in pairwise(coded))
        self.last = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in coded)

    def forward(self, codes: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Return logits (B, C, *size) of all levels, coarsest first."""
        features, total, sums = codes[0], 0, []
        for level, some in enumerate(codes):
            read = self.read[level](some)
            features = self.join[level - 1](read, features) if level else read
            total = total + F.interpolate(self.last[level](features), size)
            sums.append(total)
        return sums


class HierarchicalNetwork(nn.Module):
    """Prior, posterior and likelihood."""

    def __init__(self, channels, classes, widths: Sequence[int], levels: int, latent: int):
        super().__init__()
        levels, self.classes, self.stride = min(levels, len(widths)), classes, 2 ** len(widths) // 2
        self.prior = CodesOfLevels(channels, widths, levels, latent)
        self.posterior = CodesOfLevels(channels + classes, widths, levels, latent)
        self.likelihood = LabelsOfCodes(widths, levels, latent, classes)

    def _logits(self, codes: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """Return logits of all levels for the images, without what was padded."""
        padded, top, left = pad_to_multiple(images, self.stride)
        height, width = images.shape[-2:]
        sums = self.likelihood(codes, padded.shape[-2:])
        return [some[..., top : top + height, left : left + width] for some in sums]

    def reconstruct(self, images: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return logits of all levels by codes from the posterior, and the weighted divergence.

        Parameters
        ----------
        images : torch.Tensor, shape (B, channels, H, W)
        labels : torch.Tensor of int, shape (B, 1, H, W)

        Returns
        -------
        logits : list of torch.Tensor, shape (B, C, H, W)
            Coarsest level first.
        divergence : torch.Tensor, shape (B,)
            In nats, each level weighted by the number of finest codes that one of its own covers.
        """
        marked = losses.one_hot(labels, self.classes)[:, 0] - 0.5
        seen, _, _ = pad_to_multiple(torch.cat((images, marked), 1), self.stride)
        codes, posterior = self.posterior(seen, lambda level, given: given.rsample())
        _, prior = self.prior(seen[:, : images.shape[1]], lambda level, given: codes[level])
        divergence = 0
        for pair in zip(posterior, prior, strict=True):  # from the coarsest level
            divergence = kl_divergence(*pair).sum((1, 2, 3)) + divergence * 4
        return self._logits(codes, images), divergence

    def sample(self, images: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the probabilities of `n` draws from the prior: (B, n, C, H, W)."""
        padded, _, _ = pad_to_multiple(images, self.stride)

        def draw(level: int, given: Normal) -> Tensor:
            noise = torch.randn(given.loc.shape, generator=generator).to(given.loc)
            return given.loc + given.scale * noise

        drawn = (self._logits(self.prior(padded, draw)[0], images) for _ in range(n))
        return torch.stack([logits[-1].softmax(1) for logits in drawn], 1)


@register("phiseg", "PHiSeg")
class PHiSeg(Probabilistic):
    """The method of the module's description.

    Settings: ``widths``; ``levels``, how many have codes at most; ``latent``, channels of a map of
    codes; ``beta``, the weight of the divergence.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "widths": WIDTHS,
        "levels": 5,
        "latent": 2,
        "beta": 1.0,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require_minimum(1, "levels", "latent")
        self.require_minimum(0, "beta")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        widths = stages_for(problem.height, problem.width, self.settings["widths"])
        given = (problem.channels, problem.n_classes, widths)
        return HierarchicalNetwork(*given, self.settings["levels"], self.settings["latent"])

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of the module's description, of one label per image."""
        labels, _ = draw_labels(batch["labels"])
        logits, divergence = network.reconstruct(batch["images"], labels)
        pixels = labels.shape[-2] * labels.shape[-1]
        each = [F.cross_entropy(some.float(), labels[:, 0].long()) for some in logits]
        return sum(each) + self.settings["beta"] * divergence.mean() / pixels
