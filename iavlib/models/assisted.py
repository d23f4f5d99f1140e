"""Diagnosis nets that a mask assists, and Take and Give (Wu et al. 2024).

Nets that are given a mask beside the image return one logit per image, larger for melanoma (or
malignant); each in its simplest form:

- ``cat`` (DL-CAT) joins the mask to the image as a fourth channel, which a 1 x 1 convolution
  reduces to the three that a pre-trained encoder takes;
- ``roi`` (DL-ROI) sees the lesion alone: outside of the mask the image has the mean colour;
- ``att`` (DL-ATT) pools the features of all but the finest level with the mask as attention,
  beside the plain mean of the deepest;
- ``ssl`` (DL-SSL) learns to predict the mask beside the diagnosis. The mask is a target there, so
  that the mask given afterwards has no effect; the one it *learnt* does;
- ``seat`` (DL-SeAT) lets the diagnosis attend to features of the mask at these levels.

:class:`TakeGive` segments with the help of a diagnosis net, Baseline-Dia (``seat``), which is
trained before and frozen. At each connected level its features are queried with those of the
segmentation encoder, and the result is added to them (*Give*), in place of what it attends to in a
mask, which is not there yet; the decoder then queries its own features with that, and adds the
result before it goes up a level (*Take*). Without connected levels it is Baseline-Seg, a U-Net.
Attention between maps is patch by patch (Eqs. 6 to 10).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import DiagnosisFirstError
from iavlib.models.network import build_network, random_start
from iavlib.models.unet import ConvBlock, Encoder
from iavlib.models.weights import Weights

#: Maximum of patches along a side of a map: attention costs their fourth power.
TOKENS = 8
#: Initial factor of what attention adds, so that a pre-trained encoder is hardly changed.
FIRST_SCALE = 0.1


class PatchAttention(nn.Module):
    r"""Attention between maps: :math:`\mathrm{MLP}(\mathrm{softmax}(QK^T/\sqrt{P^2C})\,V)`.

    Both maps are divided into patches of P x P pixels; queries come from the first, keys and values
    from the second, each by a linear map. Sinusoidal positions are added to the patches before the
    maps of queries and keys (the released code learns them, and adds LayerNorm, heads and dropped
    paths).

    Parameters
    ----------
    query, memory : int
        Channels of the two maps.
    patch : int
        P. Maps whose sides are no multiples of it are padded with zeros and cropped again.
    scale : float
        Initial factor of the result; it is learnt.
    """

    def __init__(self, query: int, memory: int, patch: int = 1, scale: float = FIRST_SCALE):
        super().__init__()
        if patch < 1:
            raise DiagnosisFirstError(f"patches of {patch} pixels: give 1 or more")
        self.patch = patch
        width = self.width = memory * patch**2
        self.query = nn.Linear(query * patch**2, width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
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
        q = self.query(first + _positions(grid, first.shape[-1]).to(first))
        k = self.key(second + _positions(grid, self.width).to(first))
        weights = (q @ k.transpose(1, 2) / math.sqrt(self.width)).softmax(-1)
        result = self.mlp(weights @ self.value(second)).transpose(1, 2)
        maps = F.fold(result, tuple(n * self.patch for n in grid), self.patch, stride=self.patch)
        return self.scale * maps[..., :height, :width]

    def _tokens(self, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Divide a map into patches: (B, N, P * P * C), and their number along each side."""
        height, width = maps.shape[-2:]
        padded = F.pad(maps, (0, -width % self.patch, 0, -height % self.patch))
        grid = tuple(side // self.patch for side in padded.shape[-2:])
        return F.unfold(padded, self.patch, stride=self.patch).transpose(1, 2), grid


def patch_for(size: int, stride: int) -> int:
    """Return the side of patches of which an encoder's map has at most 8 x 8."""
    return max(1, -(-(size // stride) // TOKENS))


def _positions(grid: tuple[int, int], width: int) -> Tensor:
    """Return sines and cosines of every patch's row and column: (rows * columns, width)."""
    places = torch.meshgrid(*(torch.arange(n).float() for n in grid), indexing="ij")
    frequencies = 10000 ** (-torch.arange(0, width, 4).float() / max(width, 1))
    angles = [place.flatten()[:, None] * frequencies for place in places]
    return torch.cat([wave for a in angles for wave in (a.sin(), a.cos())], 1)[:, :width]


#: The encoder that needs no timm: that of a small U-Net.
SMALL = "small"
SMALL_WIDTHS = (8, 16, 32, 48)
LEVELS = 4
Change = Callable[[int, Tensor], Tensor]


class Pyramid(nn.Module):
    """An encoder, from images with values from 0 to 1 to maps at four depths, finest first.

    Parameters
    ----------
    body : torch.nn.Module
        With ``forward_features``, or called itself.
    modules : sequence of str
        Its four submodules whose outputs are the maps.
    channels, strides : sequence of int
        Of the maps.
    weights : Weights
        Of the body, with the normalisation of its input.
    """

    def __init__(self, body: nn.Module, modules, channels, strides, weights: Weights):
        super().__init__()
        self.body, self.modules_shown = body, tuple(modules)
        self.channels, self.strides = tuple(channels), tuple(strides)
        self.weights = weights
        self.register_buffer("mean", torch.tensor(weights.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(weights.std)[:, None, None])

    def forward(self, images: Tensor, change: Change | None = None) -> list[Tensor]:
        """Return the maps; `change` replaces the map of a level (from 0) before it goes deeper."""
        maps: list[Tensor] = []

        def keep(_module, _inputs, output: Tensor) -> Tensor:
            maps.append(change(len(maps), output) if change else output)
            return maps[-1]

        with ExitStack() as hooks:  # during one call, so that copies of the network have none
            for name in self.modules_shown:
                hooks.enter_context(self.body.get_submodule(name).register_forward_hook(keep))
            getattr(self.body, "forward_features", self.body)((images - self.mean) / self.std)
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
        if weights not in ("none", "auto"):
            raise DiagnosisFirstError(f"encoder 'small' has no weights {weights!r}: give none")
        if size % 2 ** (LEVELS - 1) or size < 2 ** (LEVELS + 1):
            raise DiagnosisFirstError(f"encoder 'small': {size} is no multiple of 8 from 32")
        with random_start(seed):
            body = Encoder(3, SMALL_WIDTHS)
        record = Weights("none", f"random, seed {seed}", (0.5,) * 3, (0.25,) * 3, size)
        names = [f"stages.{level}" for level in range(LEVELS)]
        return Pyramid(body, names, SMALL_WIDTHS, [2**level for level in range(LEVELS)], record)
    network = build_network(name, {}, weights, seed, size)
    maps = getattr(network.backbone, "feature_info", None) or []
    maps = [one for one in maps if one["reduction"] >= LEVELS][-LEVELS:]
    strides = [one["reduction"] for one in maps]
    if strides != [4, 8, 16, 32]:
        hint = "give a convolutional network with four stages, at strides 4, 8, 16, 32, or small"
        raise DiagnosisFirstError(f"encoder {name!r} has maps at strides {strides}: {hint}")
    if size < strides[-1]:
        raise DiagnosisFirstError(f"encoder {name!r}: give images from {strides[-1]} pixels")
    weights = network.weights
    if weights.is_random:  # these expect no other inputs: around 0
        weights = weights.with_normalisation((0.5,) * 3, (0.25,) * 3)
    names, channels = ([one[key] for one in maps] for key in ("module", "num_chs"))
    return Pyramid(network.backbone, names, channels, strides, weights)


#: Maximum of channels in decoding: more gain nothing at these image sizes.
MAX_WIDTH = 48


class Decoder(nn.Module):
    """The decoder of a U-Net.

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
        self.widths = (*(min(one, MAX_WIDTH) for one in channels[:-1]), channels[-1])
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
            Takes a level and the features there, before they are upsampled to the next finer one.
        """
        features, levels = maps[-1], range(LEVELS - 1, 0, -1)
        for level, up, block in zip(levels, self.up, self.blocks, strict=True):
            features = change(level, features) if change else features
            skip = maps[level - 1]
            raised = F.interpolate(up(features), skip.shape[-2:], mode="nearest")
            features = block(torch.cat((raised, skip), 1))
        features = change(0, features) if change else features
        return F.interpolate(self.last(features), size, mode="bilinear", align_corners=False)[:, 0]


#: Net to its title.
NETS = {"cat": "DL-CAT", "roi": "DL-ROI", "att": "DL-ATT", "ssl": "DL-SSL", "seat": "DL-SeAT"}
#: Levels at which ``att`` and ``seat`` use masks: the deepest alone has too few pixels.
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
            If the shapes of masks are not those of the images.
        """
        if images.ndim != 4 or masks.shape != (len(images), *images.shape[-2:]):
            shapes = f"images {tuple(images.shape)}, masks {tuple(masks.shape)}"
            raise DiagnosisFirstError(f"{shapes}: give (B, 3, H, W) and (B, H, W)")
        return self.diagnose(images, masks)

    @abstractmethod
    def diagnose(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Diagnose as :meth:`forward` describes."""

    def _of_maps(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return {"diagnosis": self.head(maps[-1].mean((2, 3)))[:, 0]}


class Concatenated(AssistedNet):
    """DL-CAT."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size)
        self.join = nn.Conv2d(4, 3, 1)
        with torch.no_grad():  # at first the image as it is, shaded by the mask
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
        """Hide what lies outside the mask."""
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
        """Predict a mask beside the diagnosis."""
        maps = self.backbone(images)
        return {**self._of_maps(maps), "mask": self.decoder(maps, images.shape[-2:])}


class _MaskPyramid(nn.Module):
    """Features of masks (B, 1, H, W), halved in size from one stage to the next.

    Nothing is normalised: an instance norm would hide how much of a map the mask fills, and is
    not defined where a map has one pixel.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding=1) for pair in zip((1, *widths), widths, strict=False)
        )
        for stage in self.stages:
            nn.init.kaiming_normal_(stage.weight)
            nn.init.zeros_(stage.bias)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Give the features of all stages, finest first."""
        maps = []
        for stage in self.stages:
            maps.append(stage(F.avg_pool2d(maps[-1], 2) if maps else features).relu())
        return maps


class SegmentationAttending(AssistedNet):
    """DL-SeAT."""

    def __init__(self, encoder: Pyramid, size: int):
        super().__init__(encoder, size)
        #: Stage of the mask's features that has the resolution of each level of the encoder.
        self.stages = [stride.bit_length() - 1 for stride in encoder.strides]
        self.of_mask = _MaskPyramid(_MASK_WIDTHS[: self.stages[-1] + 1])
        widths = [_MASK_WIDTHS[stage] for stage in self.stages]
        self.attention, self.back = nn.ModuleDict(), nn.ModuleDict()
        for level in SHOWN:
            given = (encoder.channels[level], widths[level])
            patch = patch_for(size, encoder.strides[level])
            self.attention[str(level)] = PatchAttention(*given, patch, 1.0)
        for level in SHOWN:
            self.back[str(level)] = nn.Conv2d(widths[level], encoder.channels[level], 1)

    def diagnose(self, images, masks):
        """Attend to features of the mask."""
        stride = 2 ** (len(self.of_mask.stages) - 1)
        height, width = masks.shape[-2:]
        of_mask = self.of_mask(F.pad(masks[:, None], (0, -width % stride, 0, -height % stride)))

        def change(level: int, features: Tensor) -> Tensor:
            if level not in SHOWN:
                return features
            memory = F.interpolate(of_mask[self.stages[level]], features.shape[-2:])
            attended = self.attention[str(level)](features, memory)
            # At first attention is much the same in all pixels: the mask itself is added too.
            return features + self.back[str(level)](attended + memory)

        return self._of_maps(self.backbone(images, change))


def attended(features: Tensor, masks: Tensor) -> Tensor:
    """Average features (B, C, h, w) where masks (B, H, W) are, as (B, C)."""
    weights = F.adaptive_avg_pool2d(masks[:, None], features.shape[-2:])
    return (features * weights).sum((2, 3)) / (weights.sum((2, 3)) + _EMPTY)


_NETS = (Concatenated, RegionOfInterest, Attending, SelfSegmenting, SegmentationAttending)
_CLASSES = dict(zip(NETS, _NETS, strict=True))


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
    with random_start(seed):
        return _CLASSES[net](body, size)


class BaselineSegmentation(nn.Module):
    """Baseline-Seg: an encoder and a decoder, without a diagnosis.

    Parameters
    ----------
    encoder, weights, seed, size
        As for :func:`iavlib.models.build_encoder`.
    """

    def __init__(self, encoder: str, weights: str = "none", seed: int = 0, size: int = 64):
        super().__init__()
        self.backbone = build_encoder(encoder, weights, seed, size)
        with random_start(seed):
            self.decoder = Decoder(self.backbone.channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give ``mask``, logits (B, H, W), of images (B, 3, H, W) from 0 to 1."""
        return {"mask": self.decoder(self.backbone(images), images.shape[-2:])}


#: Levels that are connected unless others are named: the best of the paper's Table 5b.
BLOCKS = "B1 B2 B3"


def block_names(blocks: int | str) -> str:
    """Write a set of connected levels of Take and Give in one way.

    Parameters
    ----------
    blocks : int or str
        Names in any order, such as ``"B3 B2"``, or ``"none"``; a number counts from the finest.

    Raises
    ------
    DiagnosisFirstError
        If there is no such level.

    Examples
    --------
    >>> block_names("B3 B2"), block_names(2), block_names(0)
    ('B2 B3', 'B1 B2', 'none')
    """
    known = [f"B{level}" for level in range(1, LEVELS + 1)]
    text = str(blocks).replace("none", "0")
    names = known[: int(text)] if text in {*"01234"} else text.split()
    if not set(names) <= set(known):
        raise DiagnosisFirstError(f"blocks is {blocks}: give some of {', '.join(known)}, or none")
    return " ".join(name for name in known if name in names) or "none"


class TakeGive(BaselineSegmentation):
    """Take and Give, as the module's description has it.

    Parameters
    ----------
    encoder : str
        Of both halves (the paper: ResNet-50).
    weights : str
    blocks : int or str
        Which levels are connected, of B1, the finest, to B4; see :func:`block_names`.
    seed : int
    size : int
        Side of the images in pixels.

    Attributes
    ----------
    backbone : Pyramid
        The encoder of the segmentation.
    diagnosis : AssistedNet
        Baseline-Dia. Frozen as it is made; to be trained before with ``requires_grad_``.

    Raises
    ------
    DiagnosisFirstError
        If there is no such level, or the encoder does not fit.
    """

    def __init__(
        self, encoder: str, weights: str = "none", blocks: int | str = BLOCKS, seed=0, size=64
    ):
        names = block_names(blocks)
        super().__init__(encoder, weights, seed, size)
        self.blocks = names
        self.diagnosis = build_assisted("seat", encoder, weights, seed, size).requires_grad_(False)
        channels, strides = self.backbone.channels, self.backbone.strides
        with random_start(seed):
            self.give, self.take = nn.ModuleDict(), nn.ModuleDict()
            for level in (level for level in range(LEVELS) if f"B{level + 1}" in self.blocks):
                n, patch = channels[level], patch_for(size, strides[level])
                self.give[str(level)] = PatchAttention(n, n, patch)
                self.take[str(level)] = PatchAttention(n, self.decoder.widths[level], patch)

    def train(self, mode: bool = True):
        """Set the mode, but for a frozen diagnosis net, whose statistics do not move either."""
        super().train(mode)
        frozen = not any(one.requires_grad for one in self.diagnosis.parameters())
        self.diagnosis.train(mode and not frozen)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Segment images (B, 3, H, W), values from 0 to 1.

        Returns
        -------
        dict of str to torch.Tensor
            ``mask``, logits (B, H, W).

        Raises
        ------
        DiagnosisFirstError
            If the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise DiagnosisFirstError(f"images of shape {tuple(images.shape)}: give (B, 3, H, W)")
        of_lesion = self.backbone(images)
        given: dict[int, Tensor] = {}

        def give(level: int, features: Tensor) -> Tensor:
            if str(level) not in self.give:
                return features
            given[level] = self.give[str(level)](of_lesion[level], features)
            return features + given[level]

        def take(level: int, features: Tensor) -> Tensor:
            if level not in given:
                return features
            return features + self.take[str(level)](given[level], features)

        if len(self.give):
            self.diagnosis.backbone(images, give)
        return {"mask": self.decoder(of_lesion, images.shape[-2:], take)}
