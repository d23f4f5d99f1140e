"""From maps at four depths to one map of logits as large as the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.diagnosis_first.encoders import LEVELS, Change
from iavlib.models.unet import ConvBlock

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
