"""Take and Give: segmentation that a diagnosis net helps, and the other way round.

At each connected level the diagnosis net asks with the segmentation encoder's features what it
knows itself, and adds what it finds (*Give*); the decoder then asks with that what its own
features hold, and adds it before it goes up a level (*Take*). Without connected levels the two
are Baseline-Seg, a U-Net, and Baseline-Dia, whose pooling attends to the predicted mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.assisted import (
    LEVELS,
    Decoder,
    PatchAttention,
    attended,
    build_encoder,
    patch_for,
)


class BaselineSegmentation(nn.Module):
    """Baseline-Seg: an encoder and a decoder, and no diagnosis at all.

    Parameters
    ----------
    encoder, weights, seed, size
        As for :func:`iavlib.models.build_encoder`.
    """

    def __init__(self, encoder: str, weights: str = "none", seed: int = 0, size: int = 64):
        super().__init__()
        self.backbone = build_encoder(encoder, weights, seed, size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(self.backbone.channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give ``mask``, logits (B, H, W), of images (B, 3, H, W) from 0 to 1."""
        return {"mask": self.decoder(self.backbone(images), images.shape[-2:])}


class TakeGive(nn.Module):
    """Network of the module's description.

    Parameters
    ----------
    encoder : str
        Of both halves (the paper: ResNet-50).
    weights : str
    blocks : int
        How many levels are connected, from 0 to 4: B1, the finest, to B4.
    seed : int
    size : int
        Side of the images in pixels.

    Attributes
    ----------
    backbone : torch.nn.ModuleDict
        ``segmentation`` and ``diagnosis``, both encoders.

    Raises
    ------
    DiagnosisFirstError
        If there are no so many blocks, or the encoder does not fit.
    """

    def __init__(
        self, encoder: str, weights: str = "none", blocks: int = LEVELS, seed: int = 0, size=64
    ):
        super().__init__()
        if not 0 <= blocks <= LEVELS:
            raise DiagnosisFirstError(f"{blocks} connected blocks: give 0 to {LEVELS}")
        halves = ("segmentation", "diagnosis")
        made = {half: build_encoder(encoder, weights, seed, size) for half in halves}
        self.backbone, self.blocks = nn.ModuleDict(made), blocks
        channels, strides = made["diagnosis"].channels, made["diagnosis"].strides
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(channels)
            self.head = nn.Linear(2 * channels[-1], 1)
            patches = [patch_for(size, stride) for stride in strides[:blocks]]
            self.give = nn.ModuleList(
                PatchAttention(one, one, patch)
                for one, patch in zip(channels[:blocks], patches, strict=True)
            )
            self.take = nn.ModuleList(
                PatchAttention(one, wide, patch)
                for one, wide, patch in zip(
                    channels[:blocks], self.decoder.widths[:blocks], patches, strict=True
                )
            )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Segment and diagnose images (B, 3, H, W), values from 0 to 1.

        Returns
        -------
        dict of str to torch.Tensor
            Logits: ``mask`` (B, H, W) and ``diagnosis`` (B,).

        Raises
        ------
        DiagnosisFirstError
            If the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise DiagnosisFirstError(f"images of shape {tuple(images.shape)}: give (B, 3, H, W)")
        of_lesion = self.backbone["segmentation"](images)
        given: dict[int, Tensor] = {}

        def give(level: int, features: Tensor) -> Tensor:
            if level >= self.blocks:
                return features
            given[level] = self.give[level](of_lesion[level], features)
            return features + given[level]

        def take(level: int, features: Tensor) -> Tensor:
            if level >= self.blocks:
                return features
            return features + self.take[level](given[level], features)

        deepest = self.backbone["diagnosis"](images, give)[-1]
        mask = self.decoder(of_lesion, images.shape[-2:], take)
        # The diagnosis must not bend the mask but through Give and Take.
        seen = attended(deepest, mask.sigmoid().detach())
        diagnosis = self.head(torch.cat((deepest.mean((2, 3)), seen), 1))[:, 0]
        return {"mask": mask, "diagnosis": diagnosis}
