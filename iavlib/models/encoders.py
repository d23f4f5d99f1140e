"""A U-Net on an encoder of timm, built by segmentation-models-pytorch, with weights of our own.

The library's downloads are not used: weights come as those of every other backbone here, from the
hub's cache or a file of the data home (:mod:`iavlib.models.loading`), so that what a network
started from is known to the last digit.
"""

import functools
from collections.abc import Sequence

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from iavlib.models.backbones import find_backbone
from iavlib.models.errors import ModelError
from iavlib.models.loading import from_file, from_hub, padding_of_file
from iavlib.models.unet import pad_to_multiple
from iavlib.models.weights import Weights

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
        WeightsUnavailable, ModelError, iavlib.data.DataError
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
    encoders = [part for part in network.modules() if isinstance(part, EncoderUNet)]
    if not encoders:
        raise ModelError(f"weights {weights!r} are for an encoder, and the network has none")
    return next(encoder.load(weights) for encoder in encoders)


def padding_for(backbone: str, weights: str) -> str:
    """Say how strided convolutions are padded where weights come from.

    Raises
    ------
    WeightsUnavailable, iavlib.data.DataError
        If a file is asked for that is not there or damaged.
    """
    return padding_of_file(find_backbone(backbone)) if weights == "file" else PADDINGS[0]
