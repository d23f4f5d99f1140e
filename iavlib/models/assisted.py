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

Attention between maps, patch by patch (Wu et al. 2024, Eqs. 6 to 10).

Encoders that show their maps at four depths, and let each be changed on its way deeper.

From maps at four depths to one map of logits as large as the image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.network import build_network
from iavlib.models.unet import ConvBlock, Encoder
from iavlib.models.weights import Weights

#: Patches along a side of a map, at most: attention costs their fourth power.
TOKENS = 8
#: What attention adds counts this much at first, so that a pre-trained encoder stays what it is.
FIRST_SCALE = 0.1


class PatchAttention(nn.Module):
    r"""What one map finds in another: :math:`\mathrm{MLP}(\mathrm{softmax}(QK^T/\sqrt{P^2C})\,V)`.

    Both maps are cut into patches of P x P pixels; queries come from the first, keys and values
    from the second, each by a linear map, with sinusoidal positions added (learnt ones in the
    released code, which also adds LayerNorm, heads and dropped paths).

    Parameters
    ----------
    query, memory : int
        Channels of the two maps.
    patch : int
        P. Maps whose sides are no multiples of it are padded with zeros and cut again.
    scale : float
        What the result is multiplied by at first; it is learnt.
    """

    def __init__(self, query: int, memory: int, patch: int = 1, scale: float = FIRST_SCALE):
        super().__init__()
        if patch < 1:
            raise DiagnosisFirstError(f"patches of {patch} pixels: give 1 or more")
        self.patch = patch
        inside, other = query * patch**2, memory * patch**2
        self.width = other
        self.query = nn.Linear(inside, other)
        self.key, self.value = nn.Linear(other, other), nn.Linear(other, other)
        self.mlp = nn.Sequential(nn.Linear(other, other), nn.GELU(), nn.Linear(other, other))
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        query : torch.Tensor, shape (B, query, h, w)
        memory : torch.Tensor, shape (B, memory, h, w)

        Returns
        -------
        torch.Tensor, shape (B, memory, h, w)

        Raises
        ------
        DiagnosisFirstError
            If the maps differ in height or width.
        """
        if query.shape[-2:] != memory.shape[-2:]:
            shapes = f"{tuple(query.shape)} and {tuple(memory.shape)}"
            raise DiagnosisFirstError(f"maps of shapes {shapes}: give one height and width")
        height, width = query.shape[-2:]
        first, grid = self._tokens(query)
        second, _ = self._tokens(memory)
        q = self.query(first) + _positions(grid, self.width).to(first)
        k = self.key(second) + _positions(grid, self.width).to(first)
        weights = (q @ k.transpose(1, 2) / math.sqrt(self.width)).softmax(-1)
        found = self.mlp(weights @ self.value(second)).transpose(1, 2)
        sides = tuple(n * self.patch for n in grid)
        maps = F.fold(found, sides, self.patch, stride=self.patch)
        return self.scale * maps[..., :height, :width]

    def _tokens(self, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Cut a map into patches: (B, N, P * P * C), and how many there are along each side."""
        height, width = maps.shape[-2:]
        padded = F.pad(maps, (0, -width % self.patch, 0, -height % self.patch))
        grid = tuple(side // self.patch for side in padded.shape[-2:])
        return F.unfold(padded, self.patch, stride=self.patch).transpose(1, 2), grid


def patch_for(size: int, stride: int) -> int:
    """Return the side of patches that leaves no more than 8 x 8 of an encoder's map."""
    return max(1, -(-(size // stride) // TOKENS))


def _positions(grid: tuple[int, int], width: int) -> Tensor:
    """Give every patch sines and cosines of its row and column: (rows * columns, width)."""
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in grid), indexing="ij")
    frequencies = 10000 ** (-torch.arange(0, width, 4).float() / max(width, 1))
    waves = []
    for place in (rows.flatten(), columns.flatten()):
        angles = place[:, None] * frequencies
        waves += [angles.sin(), angles.cos()]
    return torch.cat(waves, 1)[:, :width]


#: The encoder that needs no timm: the way down of a small U-Net.
SMALL = "small"
SMALL_WIDTHS = (8, 16, 32, 48)
LEVELS = 4
Change = Callable[[int, Tensor], Tensor]


class Pyramid(nn.Module):
    """From images with values from 0 to 1 to maps at four depths, finest first.

    Parameters
    ----------
    body : torch.nn.Module
        With ``forward_features``, or called itself.
    modules : sequence of str
        Its four parts whose outputs are the maps.
    channels, strides : sequence of int
        Of the maps.
    weights : Weights
        What the body holds, and how its input is normalised.
    """

    def __init__(self, body: nn.Module, modules, channels, strides, weights: Weights):
        super().__init__()
        self.body, self.modules_shown = body, tuple(modules)
        self.channels, self.strides = tuple(channels), tuple(strides)
        self.weights = weights
        self.register_buffer("mean", torch.tensor(weights.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(weights.std)[:, None, None])

    def forward(self, images: Tensor, change: Change | None = None) -> list[Tensor]:
        """Give the maps; `change` takes a level from 0 and a map, and what it returns goes on."""
        maps: list[Tensor] = []

        def keep(_module, _inputs, output: Tensor) -> Tensor:
            output = output if change is None else change(len(maps), output)
            maps.append(output)
            return output

        # Hooks live as long as one call, so that copies of the network are like it.
        shown = [self.body.get_submodule(name) for name in self.modules_shown]
        handles = [subset.register_forward_hook(keep) for subset in shown]
        try:
            run = getattr(self.body, "forward_features", self.body)
            run((images - self.mean) / self.std)
        finally:
            for handle in handles:
                handle.remove()
        return maps


def build_encoder(name: str, weights: str = "none", seed: int = 0, size: int = 64) -> Pyramid:
    """Build an encoder.

    Parameters
    ----------
    name : str
        ``small``, or a convolutional network of :func:`iavlib.models.find_backbone`, such as
        ``mobilenetv2_100`` (the paper: ResNet-50).
    weights : str
        As for :func:`iavlib.models.build_network`; ``none`` of ``small``.
    seed : int
    size : int
        Side of the images in pixels, a multiple of 8 for ``small``.

    Raises
    ------
    DiagnosisFirstError
        If the network has no four maps, or the images are too small for it.
    """
    if name == SMALL:
        return _small(weights, seed, size)
    network = build_network(name, {}, weights, seed, size)
    shown = getattr(network.backbone, "feature_info", None) or []
    shown = [one for one in shown if one["reduction"] >= LEVELS][-LEVELS:]
    strides = [one["reduction"] for one in shown]
    if strides != [4, 8, 16, 32]:
        told = f"encoder {name!r} shows maps at strides {strides}, not 4, 8, 16 and 32"
        raise DiagnosisFirstError(f"{told}: give a convolutional network of four stages, or small")
    if size < strides[-1]:
        raise DiagnosisFirstError(f"encoder {name!r}: give images from {strides[-1]} pixels")
    channels = [one["num_chs"] for one in shown]
    names = [one["module"] for one in shown]
    return Pyramid(network.backbone, names, channels, strides, _normalised(network.weights))


def _small(weights: str, seed: int, size: int) -> Pyramid:
    if weights not in ("none", "auto"):
        raise DiagnosisFirstError(f"encoder 'small' has no weights {weights!r}: give none")
    if size % 2 ** (LEVELS - 1) or size < 2 ** (LEVELS + 1):
        raise DiagnosisFirstError(f"encoder 'small': {size} is no multiple of 8 from 32 on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = Encoder(3, SMALL_WIDTHS)
    record = Weights("none", f"random, seed {seed}", (0.5,) * 3, (0.25,) * 3, size)
    names = [f"stages.{level}" for level in range(LEVELS)]
    return Pyramid(body, names, SMALL_WIDTHS, [2**level for level in range(LEVELS)], record)


def _normalised(weights: Weights) -> Weights:
    """Give random weights, which ask for nothing, inputs around 0."""
    return weights.with_normalisation((0.5,) * 3, (0.25,) * 3) if weights.is_random else weights


#: Channels beyond which decoding a level gains nothing at these image sizes.
WIDEST = 48


class Decoder(nn.Module):
    """The way up of a U-Net.

    Parameters
    ----------
    channels : sequence of int
        Of an encoder's maps, finest first.

    Attributes
    ----------
    widths : tuple of int
        Channels of the decoder's features at each level; the deepest are the encoder's own.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.widths = (*(min(one, WIDEST) for one in channels[:-1]), channels[-1])
        pairs = list(zip(self.widths[1:], self.widths[:-1], channels[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, 2) for deep, fine, _ in pairs)
        self.blocks = nn.ModuleList(ConvBlock(fine + skip, fine) for _, fine, skip in pairs)
        self.last = nn.Conv2d(self.widths[0], 1, 1)

    def forward(
        self, maps: Sequence[Tensor], size: tuple[int, int], change: Change | None = None
    ) -> Tensor:
        """Give logits (B, H, W).

        Parameters
        ----------
        maps : sequence of torch.Tensor
            Of an encoder.
        size : (H, W)
        change : callable, optional
            Takes a level and the features there, before they are brought up to the next finer one.
        """
        deepest = LEVELS - 1
        features = maps[deepest]
        for step, (up, block) in enumerate(zip(self.up, self.blocks, strict=True)):
            level = deepest - step
            features = features if change is None else change(level, features)
            skip = maps[level - 1]
            raised = F.interpolate(up(features), skip.shape[-2:], mode="nearest")
            features = block(torch.cat((raised, skip), 1))
        features = features if change is None else change(0, features)
        logits = F.interpolate(self.last(features), size, mode="bilinear", align_corners=False)
        return logits[:, 0]


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
        As for :func:`iavlib.models.build_encoder`.

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
