"""The Probabilistic U-Net: a U-Net whose last layers see a latent code drawn for the whole image.

Two encoders give a normal distribution of codes each: the *prior* sees the image, the *posterior*
the image and one annotator's label of it. Training draws from the posterior and keeps the two
alike; predicting draws from the prior, each draw one plausible segmentation.

References
----------
Kohl, S. A. A. et al. (2018). A probabilistic U-Net for segmentation of ambiguous images. NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from iavlib.models.unet import WIDTHS, Encoder, UNet, pad_to_multiple

#: Logarithms of standard deviations are kept within this distance of 0.
_LARGEST_LOG = 7.0


class _Codes(nn.Module):
    """From maps of the image's size to a normal distribution of codes."""

    def __init__(self, channels: int, widths: Sequence[int], latent: int):
        super().__init__()
        self.encoder = Encoder(channels, widths)
        self.last = nn.Conv2d(widths[-1], 2 * latent, 1)

    def forward(self, maps: Tensor) -> Independent:
        padded, _, _ = pad_to_multiple(maps, self.encoder.stride)
        pooled = self.encoder(padded)[-1].mean((2, 3), keepdim=True)
        mean, log_scale = self.last(pooled)[..., 0, 0].chunk(2, 1)
        log_scale = log_scale.clamp(-_LARGEST_LOG, _LARGEST_LOG)
        return Independent(Normal(mean, log_scale.exp()), 1)


class ProbabilisticUNet(nn.Module):
    """Network of the module's description.

    Parameters
    ----------
    channels, classes : int
    widths : sequence of int
        Of the U-Net and of both encoders of codes.
    latent : int
        Numbers of a code.
    blocks : int
        1 x 1 convolutions that join code and features, before the last.
    """

    def __init__(self, channels, classes, widths=WIDTHS, latent: int = 6, blocks: int = 2):
        super().__init__()
        self.classes, self.latent = classes, latent
        self.backbone = UNet(channels, widths)
        self.prior = _Codes(channels, widths, latent)
        self.posterior = _Codes(channels + classes, widths, latent)
        layers: list[nn.Module] = []
        inputs, features = self.backbone.features + latent, self.backbone.features
        for _ in range(blocks):
            layers += [nn.Conv2d(inputs, features, 1), nn.LeakyReLU(0.01)]
            inputs = features
        self.join = nn.Sequential(*layers, nn.Conv2d(inputs, classes, 1))

    def decode(self, features: Tensor, codes: Tensor) -> Tensor:
        """Give logits (B, C, H, W) of features (B, F, H, W) and codes (B, latent)."""
        spread = codes[..., None, None].expand(-1, -1, *features.shape[-2:])
        return self.join(torch.cat((features, spread), 1))

    def reconstruct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits by a code drawn from the posterior, and the divergence from the prior.

        Parameters
        ----------
        images : torch.Tensor, shape (B, channels, H, W)
        labels : torch.Tensor of int64, shape (B, H, W)

        Returns
        -------
        logits : torch.Tensor, shape (B, C, H, W)
        divergence : torch.Tensor, shape (B,)
            Kullback-Leibler, of the posterior from the prior, in nats.
        """
        marked = nn.functional.one_hot(labels, self.classes).movedim(-1, 1).to(images.dtype)
        posterior = self.posterior(torch.cat((images, marked - 0.5), 1))
        divergence = kl_divergence(posterior, self.prior(images))
        return self.decode(self.backbone(images), posterior.rsample()), divergence

    def sample(self, images: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Give the probabilities of `n` draws from the prior: (B, n, C, H, W).

        Parameters
        ----------
        images : torch.Tensor, shape (B, channels, H, W)
        n : int
        generator : torch.Generator, optional
            Of the CPU, so that a seed draws the same codes on every device.
        """
        prior = self.prior(images).base_dist
        features = self.backbone(images)
        drawn = torch.randn(n, *prior.loc.shape, generator=generator).to(prior.loc)
        codes = prior.loc + prior.scale * drawn
        maps = [self.decode(features, code).softmax(1) for code in codes]
        return torch.stack(maps, 1)
