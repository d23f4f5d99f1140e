"""U-Nets: with instance normalisation, on an encoder of timm, and probabilistic.

The plain U-Net is as deep as its images allow. Each stage is two 3 x 3 convolutions (zero-padded by
one pixel, without bias), each followed by instance normalisation and a leaky ReLU. Stages are
joined by 2 x 2 max-pooling in the encoder and by 2 x 2 transposed convolutions in the decoder.
Images whose sides are no multiple of the last stage's stride are padded to the next one, by
repeating their border on all sides, and the result is cropped: 28 x 28 digits become 32 x 32
within.

The U-Net on an encoder of timm is built by segmentation-models-pytorch; weights come as those of
every other backbone here (:mod:`iavlib.models.loading`), not by that library's downloads, so that
the start of a network is known to the last digit.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from iavlib.core.errors import ModelError
from iavlib.models.backbones import find_backbone
from iavlib.models.loading import LOADERS, padding_of_file
from iavlib.models.weights import Weights

#: Channels of the stages, from the finest to the coarsest, in Zhang et al. (2023).
WIDTHS = (32, 64, 128, 256)
#: Minimum side of the coarsest map in pixels: normalising a map of one pixel leaves nothing.
MIN_SIDE = 4
#: Channels of the decoder on an encoder of timm, finest first: the library's own.
DECODER = (16, 32, 64, 128, 256)
#: Padding of strided convolutions: as PyTorch's (both sides), or as TensorFlow's.
PADDINGS = ("symmetric", "same")
#: Bound of the absolute logarithms of the standard deviations of codes.
_MAX_LOG = 7.0


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
    while n < len(widths) and -(-min(height, width) // 2**n) >= MIN_SIDE:
        n += 1
    return tuple(widths[:n])


def convolution_layers(inputs: int, outputs: int, groups: int = 1) -> list[nn.Module]:
    """Make a 3 x 3 convolution, an instance normalisation with weights and a leaky ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, groups=groups)
    return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.LeakyReLU(0.01)]


class ConvBlock(nn.Sequential):
    """Twice the layers of :func:`convolution_layers`."""

    def __init__(self, inputs: int, outputs: int):
        layers = (convolution_layers(channels, outputs) for channels in (inputs, outputs))
        super().__init__(*chain(*layers))


class Encoder(nn.Module):
    """From images to one map of features per stage.

    Parameters
    ----------
    channels : int
        Of the images.
    widths : sequence of int
        Channels of each stage.
    """

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS):
        super().__init__()
        pairs = zip((channels, *widths[:-1]), widths, strict=True)
        self.stages = nn.ModuleList(ConvBlock(old, new) for old, new in pairs)
        self.stride = 2 ** (len(widths) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all stages, finest first; sides must be multiples of ``stride``."""
        maps = []
        for number, stage in enumerate(self.stages):
            images = stage(F.max_pool2d(images, 2) if number else images)
            maps.append(images)
        return maps


class _SameSize(nn.Module):
    """A network whose images are padded to multiples of ``stride``, and its features cropped."""

    stride: int

    def forward(self, images: Tensor, inside: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return features (B, features, H, W) of images (B, channels, H, W).

        What `inside` makes of the coarsest map (B, ``deepest``, h, w) takes its place.
        """
        height, width = images.shape[-2:]
        padded, top, left = pad_to_multiple(images, self.stride)
        maps = list(self.encoder(padded))
        if inside is not None:
            maps[-1] = inside(maps[-1])
        return self._decode(maps)[..., top : top + height, left : left + width]


class UNet(_SameSize):
    """From images to features of the same height and width.

    Parameters
    ----------
    channels : int
        Of the images.
    widths : sequence of int
        Channels of each stage, such as :func:`stages_for` returns; the sides are halved between
        stages.

    Attributes
    ----------
    features, deepest : int
        Channels of the result, the first of `widths`, and of the coarsest map, the last.

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
        self.features, self.deepest, self.stride = widths[0], widths[-1], self.encoder.stride

    def _decode(self, maps: list[Tensor]) -> Tensor:
        *skipped, deepest = maps
        for up, block, skip in zip(self.up, self.decoder, reversed(skipped), strict=True):
            deepest = block(torch.cat((up(deepest), skip), 1))
        return deepest


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
        images = F.pad(images, (left, missing[1] - left, top, missing[0] - top), mode="replicate")
    return images, top, left


class EncoderUNet(_SameSize):
    """From images to features of the same height and width, as :class:`UNet`.

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
    features, deepest : int
        Channels of the result, the first of `decoder`, and of the encoder's coarsest map.

    Raises
    ------
    ModelError
        If the backbone's maps are not those of a U-Net, or the decoder has no or too many stages.
    """

    def __init__(self, channels: int, backbone: str, decoder=DECODER, padding=PADDINGS[0]):
        import segmentation_models_pytorch as smp  # slow to import

        super().__init__()
        if not 1 <= len(decoder) <= len(DECODER):
            raise ModelError(f"a decoder has 1 to {len(DECODER)} stages, not {len(decoder)}")
        self.spec, self.channels = find_backbone(backbone), channels
        options = {"pad_type": "same"} if padding == "same" else {}
        try:
            network = smp.Unet(
                f"tu-{self.spec.architecture}",
                encoder_depth=len(decoder),
                encoder_weights=None,
                decoder_channels=tuple(decoder)[::-1],
                in_channels=channels,
                **options,
            )
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            problem = f"{backbone!r} gives no maps of five resolutions ({error})"
            raise ModelError(f"{problem}: choose a network of convolutions") from error
        self.encoder, self.decoder = network.encoder, network.decoder
        self.features, self.stride = decoder[0], 2 ** len(decoder)
        self.deepest = network.encoder.out_channels[-1]

    def _decode(self, maps: list[Tensor]) -> Tensor:
        return self.decoder(maps)

    def load(self, weights: str) -> Weights:
        """Load pre-trained weights into the encoder.

        Parameters
        ----------
        weights : {"file", "hub", "package"}
            See :func:`iavlib.models.build_network`.

        Raises
        ------
        WeightsUnavailable, ModelError, iavlib.core.DataError
            If they are not here, or do not fit.
        """

        if self.channels != 3:
            raise ModelError(f"weights are of colour images; these have {self.channels} channels")
        network, record = LOADERS[weights](self.spec)
        # In a network cut into stages, timm writes stages_0.
        given = {name.replace(".", "_"): x for name, x in network.state_dict().items()}
        names = {name: name.replace(".", "_") for name in self.encoder.model.state_dict()}
        if absent := [name for name, flat in names.items() if flat not in given]:
            raise ModelError(f"weights of {self.spec.name} lack {', '.join(absent[:3])}")
        self.encoder.model.load_state_dict({name: given[flat] for name, flat in names.items()})
        return record


@functools.cache
def try_encoder(backbone: str, decoder: tuple[int, ...], padding: str) -> None:
    """Build a U-Net once, to see whether that is possible.

    Raises
    ------
    ModelError
        As :class:`EncoderUNet`.
    """
    EncoderUNet(3, backbone, decoder, padding)


def load_encoders(network: nn.Module, weights: str) -> Weights:
    """Load pre-trained weights into every encoder of a network; return where they are from.

    Raises
    ------
    ModelError
        If it has none; see also :meth:`EncoderUNet.load`.
    """
    encoders = [module for module in network.modules() if isinstance(module, EncoderUNet)]
    if not encoders:
        raise ModelError(f"weights {weights!r} are for an encoder, and the network has none")
    records = [encoder.load(weights) for encoder in encoders]
    return records[0]


def padding_for(backbone: str, weights: str) -> str:
    """Return how strided convolutions are padded where weights come from.

    Raises
    ------
    WeightsUnavailable, iavlib.core.DataError
        If the file is missing or damaged.
    """
    return padding_of_file(find_backbone(backbone)) if weights == "file" else PADDINGS[0]


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
        return Independent(Normal(mean, log_scale.clamp(-_MAX_LOG, _MAX_LOG).exp()), 1)


class ProbabilisticUNet(nn.Module):
    """A U-Net whose last layers see a latent code drawn for the whole image.

    Two encoders predict a normal distribution of codes each: the *prior* sees the image, the
    *posterior* the image and one annotator's label of it. Training draws from the posterior and
    keeps the two alike; prediction draws from the prior, each draw one plausible segmentation.

    Parameters
    ----------
    channels, classes : int
    widths : sequence of int
        Of the U-Net and of both encoders of codes.
    latent : int
        Length of a code.
    blocks : int
        1 x 1 convolutions that join code and features, before the last.

    References
    ----------
    Kohl, S. A. A. et al. (2018). A probabilistic U-Net for segmentation of ambiguous images.
    NeurIPS.
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
        """Return logits (B, C, H, W) of features (B, F, H, W) and codes (B, latent)."""
        spread = codes[..., None, None].expand(-1, -1, *features.shape[-2:])
        return self.join(torch.cat((features, spread), 1))

    def reconstruct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits by a code drawn from the posterior, and the divergence from the prior.

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
        marked = F.one_hot(labels, self.classes).movedim(-1, 1).to(images.dtype)
        posterior = self.posterior(torch.cat((images, marked - 0.5), 1))
        divergence = kl_divergence(posterior, self.prior(images))
        return self.decode(self.backbone(images), posterior.rsample()), divergence

    def sample(self, images: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the probabilities of `n` draws from the prior: (B, n, C, H, W).

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
        return torch.stack([self.decode(features, code).softmax(1) for code in codes], 1)
