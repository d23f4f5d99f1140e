"""A U-Net with instance normalisation, as deep as its images allow.

Each stage is two 3 x 3 convolutions (zero-padded by one pixel, without bias), each followed by
instance normalisation and a leaky ReLU. Stages are joined by 2 x 2 max-pooling on the way down and
by 2 x 2 transposed convolutions on the way up. Images whose sides are no multiple of the last
stage's stride are padded to the next one, by repeating their border on all sides, and what was
added is cut off at the end: 28 x 28 digits become 32 x 32 within.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.models.errors import ModelError

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
