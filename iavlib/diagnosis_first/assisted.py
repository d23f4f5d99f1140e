"""Diagnosis nets that a mask assists, each in its simplest form.

Each gives one logit an image, larger for melanoma (or malignant):

- ``cat`` (DL-CAT) joins the mask to the image as a fourth channel, which a 1 x 1 convolution
  brings to the three that a pre-trained encoder takes;
- ``roi`` (DL-ROI) sees the lesion alone: what the mask leaves out has the mean colour;
- ``att`` (DL-ATT) pools the features of all but the finest level with the mask as attention,
  beside the plain mean of the deepest;
- ``ssl`` (DL-SSL) learns to draw the mask beside the diagnosis. The mask is a target there, so that
  which one is given afterwards changes nothing; which one it *learnt* does;
- ``seat`` (DL-SeAT) lets the diagnosis attend to features of the mask at these levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.diagnosis_first.attention import PatchAttention, patch_for
from iavlib.diagnosis_first.decoder import Decoder
from iavlib.diagnosis_first.encoders import Pyramid, build_encoder
from iavlib.diagnosis_first.errors import DiagnosisFirstError

#: Net to its title.
NETS = {
    "cat": "DL-CAT",
    "roi": "DL-ROI",
    "att": "DL-ATT",
    "ssl": "DL-SSL",
    "seat": "DL-SeAT",
}
#: Nets whose diagnosis follows the mask that they are given.
FOLLOW_THE_MASK = ("cat", "roi", "att", "seat")
#: Levels at which masks are seen by ``att`` and ``seat``: the deepest alone has too few pixels.
SHOWN = (1, 2, 3)
_MASK_WIDTHS = (4, 8, 16, 24, 32, 32)
_EMPTY = 1e-3


class AssistedNet(nn.Module, ABC):
    """Base: an encoder as ``backbone``, and a linear head.

    Parameters
    ----------
    encoder : Pyramid
    size : int
        Side of the images in pixels.
    """

    def __init__(self, encoder: Pyramid, size: int, more: int = 0):
        super().__init__()
        self.backbone, self.size = encoder, size
        self.head = nn.Linear(encoder.channels[-1] + more, 1)

    def forward(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Diagnose.

        Parameters
        ----------
        images : torch.Tensor, shape (B, 3, H, W)
            Values from 0 to 1.
        masks : torch.Tensor, shape (B, H, W)
            Probabilities of lesion.

        Returns
        -------
        dict of str to torch.Tensor
            ``diagnosis``, logits (B,); of ``ssl`` also ``mask``, logits (B, H, W).

        Raises
        ------
        DiagnosisFirstError
            If masks do not lie over the images.
        """
        if images.ndim != 4 or masks.shape != (len(images), *images.shape[-2:]):
            shapes = f"images {tuple(images.shape)}, masks {tuple(masks.shape)}"
            raise DiagnosisFirstError(f"{shapes}: give (B, 3, H, W) and (B, H, W)")
        return self.diagnose(images, masks)

    @abstractmethod
    def diagnose(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Do what :meth:`forward` says; each net its own way."""

    def _of_maps(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return {"diagnosis": self.head(maps[-1].mean((2, 3)))[:, 0]}


class Concatenated(AssistedNet):
    """DL-CAT."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size)
        self.join = nn.Conv2d(4, 3, 1)
        with torch.no_grad():  # the image as it is, and the mask as a shade on it
            self.join.weight[:, :3, 0, 0] = torch.eye(3)
            self.join.weight[:, 3] = 0.5
            self.join.bias.fill_(-0.25)

    def diagnose(self, images, masks):
        """Join the mask to the image."""
        joined = self.join(torch.cat((images, masks[:, None]), 1))
        return self._of_maps(self.backbone(joined))


class RegionOfInterest(AssistedNet):
    """DL-ROI."""

    def diagnose(self, images, masks):
        """Show what the mask holds."""
        masks = masks[:, None]
        return self._of_maps(self.backbone(masks * images + (1 - masks) * self.backbone.mean))


class Attending(AssistedNet):
    """DL-ATT."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size, more=sum(encoder.channels[one] for one in SHOWN))

    def diagnose(self, images, masks):
        """Pool with the mask as attention."""
        maps = self.backbone(images)
        pooled = [maps[-1].mean((2, 3)), *(attended(maps[one], masks) for one in SHOWN)]
        return {"diagnosis": self.head(torch.cat(pooled, 1))[:, 0]}


class SelfSegmenting(AssistedNet):
    """DL-SSL."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size)
        self.decoder = Decoder(encoder.channels)

    def diagnose(self, images, masks):
        """Draw a mask beside the diagnosis."""
        maps = self.backbone(images)
        return {**self._of_maps(maps), "mask": self.decoder(maps, images.shape[-2:])}


class _MaskPyramid(nn.Module):
    """Features of masks (B, 1, H, W), halved in size from one stage to the next.

    Nothing is normalised: an instance norm would hide how much of a map the mask fills, and has
    nothing to go by where a map has come down to one pixel.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        inputs = (1, *widths)
        self.stages = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1) for pair in zip(inputs, widths, strict=False)
        )
        for stage in self.stages:
            nn.init.kaiming_normal_(stage.weight)
            nn.init.zeros_(stage.bias)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Give the features of all stages, finest first."""
        found = []
        for stage in self.stages:
            halved = F.avg_pool2d(found[-1], 2) if found else features
            found.append(stage(halved).relu())
        return found


class SegmentationAttending(AssistedNet):
    """DL-SeAT."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size)
        self.levels = SHOWN
        depth = encoder.strides[-1].bit_length()
        self.of_mask = _MaskPyramid(_MASK_WIDTHS[:depth])
        self.attention = nn.ModuleDict(
            {
                str(level): PatchAttention(
                    encoder.channels[level],
                    self._mask_width(level),
                    patch_for(size, encoder.strides[level]),
                    1.0,
                )
                for level in self.levels
            }
        )
        self.back = nn.ModuleDict(
            {
                str(level): nn.Conv2d(self._mask_width(level), encoder.channels[level], 1)
                for level in self.levels
            }
        )

    def _mask_width(self, level: int) -> int:
        return _MASK_WIDTHS[self.backbone.strides[level].bit_length() - 1]

    def diagnose(self, images, masks):
        """Attend to features of the mask."""
        stride = 2 ** (len(self.of_mask.stages) - 1)
        of_mask = self.of_mask(F.pad(masks[:, None], _to_multiple(masks.shape[-2:], stride)))

        def change(level: int, features: Tensor) -> Tensor:
            if level not in self.levels:
                return features
            memory = of_mask[self.backbone.strides[level].bit_length() - 1]
            memory = F.interpolate(memory, features.shape[-2:])
            found = self.attention[str(level)](features, memory)
            # At first attention gives all pixels much the same: each adds the mask in its place.
            return features + self.back[str(level)](found + memory)

        return self._of_maps(self.backbone(images, change))


def attended(features: Tensor, masks: Tensor) -> Tensor:
    """Average features (B, C, h, w) where masks (B, H, W) are, as (B, C)."""
    weights = F.adaptive_avg_pool2d(masks[:, None], features.shape[-2:])
    return (features * weights).sum((2, 3)) / (weights.sum((2, 3)) + _EMPTY)


def _to_multiple(sides, stride: int) -> tuple[int, int, int, int]:
    height, width = sides
    return (0, -width % stride, 0, -height % stride)


_CLASSES = {
    "cat": Concatenated,
    "roi": RegionOfInterest,
    "att": Attending,
    "ssl": SelfSegmenting,
    "seat": SegmentationAttending,
}


def build_assisted(
    net: str, encoder: str, weights: str = "none", seed: int = 0, size: int = 64
) -> AssistedNet:
    """Build a diagnosis net.

    Parameters
    ----------
    net : str
        Name in :data:`NETS`.
    encoder, weights, seed, size
        As for :func:`iavlib.diagnosis_first.build_encoder`.

    Raises
    ------
    DiagnosisFirstError
        If there is no such net, or the encoder does not fit.
    """
    if net not in _CLASSES:
        raise DiagnosisFirstError(f"no diagnosis net {net!r}: give one of {', '.join(NETS)}")
    body = build_encoder(encoder, weights, seed, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _CLASSES[net](body, size)
