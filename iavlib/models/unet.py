"""A U-Net with instance normalisation, as deep as its images allow.

Each stage is two 3 x 3 convolutions (zero-padded by one pixel, without bias), each followed by
instance normalisation and a leaky ReLU. Stages are joined by 2 x 2 max-pooling on the way down and
by 2 x 2 transposed convolutions on the way up. Images whose sides are no multiple of the last
stage's stride are padded to the next one, by repeating their border on all sides, and what was
added is cut off at the end: 28 x 28 digits become 32 x 32 within.

A U-Net on an encoder of timm, built by segmentation-models-pytorch, with weights of our own.

The library's downloads are not used: weights come as those of every other backbone here, from the
hub's cache or a file of the data home (:mod:`iavlib.models.loading`), so that what a network
started from is known to the last digit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ModelError
from iavlib.models.backbones import find_backbone
from iavlib.models.loading import from_file, from_hub, padding_of_file
from iavlib.models.weights import Weights

#: Channels of the stages, from the finest to the coarsest, in Zhang et al. (2023).
WIDTHS = (32, 64, 128, 256)
#: Pixels that the coarsest map keeps at least: normalising a map of one pixel leaves nothing.
SMALLEST = 4


def stages_for(height: int, width: int, widths: Sequence[int] = WIDTHS) -> tuple[int, ...]:
    """Return the channels of those stages that images of a size have room for.

    Parameters
    ----------
    height, width : int
        Of the images, in pixels.
    widths : sequence of int
        Channels wanted.

    Returns
    -------
    tuple of int
        The first of `widths`, so many that the coarsest map has at least 4 x 4 pixels.
    """
    n = 1
    while n < len(widths) and -(-min(height, width) // 2**n) >= SMALLEST:
        n += 1
    return tuple(widths[:n])


class ConvBlock(nn.Sequential):
    """Twice: 3 x 3 convolution, instance normalisation with weights, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int):
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.InstanceNorm2d(outputs, affine=True),
                nn.LeakyReLU(0.01),
            ]
        super().__init__(*layers)


class Encoder(nn.Module):
    """The way down: from images to one map of features a stage.

    Parameters
    ----------
    channels : int
        Of the images.
    widths : sequence of int
        Channels of each stage.
    """

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS):
        super().__init__()
        before = (channels, *widths[:-1])
        pairs = zip(before, widths, strict=True)
        self.stages = nn.ModuleList(ConvBlock(old, new) for old, new in pairs)
        self.stride = 2 ** (len(widths) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give the maps of all stages, finest first; sides must be multiples of ``stride``."""
        maps = []
        for number, stage in enumerate(self.stages):
            images = stage(F.max_pool2d(images, 2) if number else images)
            maps.append(images)
        return maps


class UNet(nn.Module):
    """From images to features of the same height and width.

    Parameters
    ----------
    channels : int
        Of the images.
    widths : sequence of int
        Channels of each stage, such as :func:`stages_for` gives; their number less one is how
        often the sides are halved.

    Attributes
    ----------
    features : int
        Channels of the result, the first of `widths`.

    References
    ----------
    Ronneberger, O., Fischer, P. and Brox, T. (2015). U-Net: convolutional networks for biomedical
    image segmentation. MICCAI.
    """

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS):
        super().__init__()
        if not widths or min(widths) < 1:
            raise ModelError(f"a U-Net takes the channels of at least one stage, not {widths}")
        self.encoder = Encoder(channels, widths)
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, 2) for deep, fine in pairs)
        self.decoder = nn.ModuleList(ConvBlock(2 * fine, fine) for _, fine in pairs)
        self.features = widths[0]

    def forward(self, images: Tensor) -> Tensor:
        """Give features (B, features, H, W) of images (B, channels, H, W)."""
        height, width = images.shape[-2:]
        padded, top, left = pad_to_multiple(images, self.encoder.stride)
        *skipped, deepest = self.encoder(padded)
        for up, block, skip in zip(self.up, self.decoder, reversed(skipped), strict=True):
            deepest = block(torch.cat((up(deepest), skip), 1))
        return deepest[..., top : top + height, left : left + width]


def pad_to_multiple(images: Tensor, stride: int) -> tuple[Tensor, int, int]:
    """Repeat the border of images until their sides are multiples of a stride.

    Returns
    -------
    images : torch.Tensor
    top, left : int
        Rows and columns that were added before the first; where the number is odd, one more is
        added after the last.
    """
    missing = [-side % stride for side in images.shape[-2:]]
    top, left = (n // 2 for n in missing)
    if any(missing):
        sides = (left, missing[1] - left, top, missing[0] - top)
        images = F.pad(images, sides, mode="replicate")
    return images, top, left


#: Channels of the decoder's stages, finest first: the library's own.
DECODER = (16, 32, 64, 128, 256)
#: Sides are halved as often as the decoder has stages, up to this.
DEEPEST = 5
#: Padding of strided convolutions: as PyTorch's (both sides), or as TensorFlow's.
PADDINGS = ("symmetric", "same")
_NO_MAPS = "{name!r} gives no maps of five resolutions: choose a network of convolutions"


class EncoderUNet(nn.Module):
    """From images to features of the same height and width, as :class:`iavlib.models.unet.UNet`.

    Parameters
    ----------
    channels : int
        Of the images.
    backbone : str
        A name of :func:`iavlib.models.find_backbone`.
    decoder : sequence of int
        Channels of the decoder's stages, finest first, at most five.
    padding : {"symmetric", "same"}
        Of the encoder's strided convolutions.

    Attributes
    ----------
    features : int
        Channels of the result, the first of `decoder`.

    Raises
    ------
    ModelError
        If the backbone's maps are not those of a U-Net, or the decoder has no or too many stages.
    """

    def __init__(
        self,
        channels: int,
        backbone: str,
        decoder: Sequence[int] = DECODER,
        padding: str = PADDINGS[0],
    ):
        super().__init__()
        if not 1 <= len(decoder) <= DEEPEST:
            raise ModelError(f"a decoder has 1 to {DEEPEST} stages, not {len(decoder)}")
        self.spec, self.channels = find_backbone(backbone), channels
        options = {"pad_type": "same"} if padding == "same" else {}
        try:
            made = smp.Unet(
                f"tu-{self.spec.architecture}",
                encoder_depth=len(decoder),
                encoder_weights=None,
                decoder_channels=tuple(decoder)[::-1],
                in_channels=channels,
                **options,
            )
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(_NO_MAPS.format(name=backbone) + f" ({error})") from error
        self.encoder, self.decoder = made.encoder, made.decoder
        self.features, self.stride = decoder[0], 2 ** len(decoder)

    def forward(self, images: Tensor) -> Tensor:
        """Give features (B, features, H, W) of images (B, channels, H, W)."""
        height, width = images.shape[-2:]
        padded, top, left = pad_to_multiple(images, self.stride)
        found = self.decoder(self.encoder(padded))
        return found[..., top : top + height, left : left + width]

    def load(self, weights: str) -> Weights:
        """Put pre-trained weights into the encoder.

        Parameters
        ----------
        weights : {"file", "hub"}
            See :func:`iavlib.models.build_network`.

        Raises
        ------
        WeightsUnavailable, ModelError, iavlib.core.DataError
            If they are not here, or do not fit.
        """
        if self.channels != 3:
            raise ModelError(f"weights are of colour images; these have {self.channels} channels")
        network, record = (from_file if weights == "file" else from_hub)(self.spec)
        there = {_flat(name): values for name, values in network.state_dict().items()}
        wanted = self.encoder.model.state_dict()
        if absent := [name for name in wanted if _flat(name) not in there]:
            raise ModelError(f"weights of {self.spec.name} lack {', '.join(absent[:3])}")
        self.encoder.model.load_state_dict({name: there[_flat(name)] for name in wanted})
        return record


def _flat(name: str) -> str:
    """Name a tensor as timm does in a network cut into stages, where ``stages.0`` is another."""
    return name.replace(".", "_")


@functools.cache
def try_encoder(backbone: str, decoder: tuple[int, ...], padding: str) -> None:
    """Build a U-Net once, to see whether it can be.

    Raises
    ------
    ModelError
        As :class:`EncoderUNet`.
    """
    EncoderUNet(3, backbone, decoder, padding)


def load_encoders(network: nn.Module, weights: str) -> Weights:
    """Put pre-trained weights into every encoder of a network; return where they are from.

    Raises
    ------
    ModelError
        If it has none; see also :meth:`EncoderUNet.load`.
    """
    encoders = [subset for subset in network.modules() if isinstance(subset, EncoderUNet)]
    if not encoders:
        raise ModelError(f"weights {weights!r} are for an encoder, and the network has none")
    return next(encoder.load(weights) for encoder in encoders)


def padding_for(backbone: str, weights: str) -> str:
    """Say how strided convolutions are padded where weights come from.

    Raises
    ------
    WeightsUnavailable, iavlib.core.DataError
        If a file is asked for that is not there or damaged.
    """
    return padding_of_file(find_backbone(backbone)) if weights == "file" else PADDINGS[0]
