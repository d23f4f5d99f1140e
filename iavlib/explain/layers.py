"""Where in a network attribution is read: its last feature map, found by looking, not by name.

One image goes through the network. The last part whose output is a map (channels by rows by
columns, or tokens that are patches) of the network's features, and on whose places the features
depend, is taken. Where a class token is read off, the patches of the last normalisation have no
influence any more; the first normalisation of the last block is found then, as is usual for
Vision Transformers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from iavlib.explain.errors import ExplainError
from iavlib.models.network import Network
from iavlib.training.predict import evaluating

CHANNELS_FIRST, CHANNELS_LAST, TOKENS = "channels first", "channels last", "tokens"
_LAST_FORMAT = "NHWC"  # timm's name for maps with channels last


@dataclass(frozen=True)
class FeatureLayer:
    """A part of a network whose output is a map.

    Attributes
    ----------
    name : str
        Its name within the backbone.
    module : torch.nn.Module
    layout : {"channels first", "channels last", "tokens"}
    prefix : int
        Tokens before those of patches.
    side : int
        Rows, and columns, of the map.
    """

    name: str
    module: nn.Module
    layout: str
    prefix: int
    side: int

    def maps(self, output: Tensor) -> Tensor:
        """Bring what the part gives to shape (B, channels, side, side)."""
        if self.layout == CHANNELS_FIRST:
            return output
        if self.layout == TOKENS:
            patches = output[:, self.prefix :]
            output = patches.reshape(len(patches), self.side, self.side, -1)
        return output.permute(0, 3, 1, 2)


def find_layer(network: Network, stride: int | None = None) -> FeatureLayer:
    """Find the part of a network in which attribution is read.

    Parameters
    ----------
    network : Network
        With any backbone of timm for square images.
    stride : int, optional
        Pixels of the image a place of the map stands for: the end of the last stage with maps that
        fine is taken, as timm tells the stages. The last map of all unless given.

    Returns
    -------
    FeatureLayer

    Raises
    ------
    ExplainError
        If no part has such a map, as with images so small that the last map is one place.
    """
    named = None if stride is None else _stages_of(network, stride)
    outputs, features = _outputs(network, named)
    depends = _dependence(features, outputs)
    for (layer, _), is_used in reversed(list(zip(outputs, depends, strict=True))):
        if is_used:
            return layer
    size = network.weights.input_size
    told = f"{network.backbone_name} has no map of more than one place at {size} pixels"
    raise ExplainError("layer", told, "give larger images, or a smaller stride")


def _stages_of(network: Network, stride: int) -> list[str]:
    """Name the parts that timm calls the ends of stages of that stride."""
    stages = getattr(network.backbone, "feature_info", None) or ()
    known = [(item["reduction"], item["module"]) for item in stages]
    found = [module for reduction, module in known if reduction == stride]
    if found:
        return found
    there = ", ".join(str(one) for one in sorted({one for one, _ in known})) or "none"
    told = f"{network.backbone_name} has no stage of it"
    raise ExplainError(f"stride {stride}", told, f"there are: {there}")


def _outputs(
    network: Network, named: list[str] | None
) -> tuple[list[tuple[FeatureLayer, Tensor]], Tensor]:
    """Send an image through the network; list parts that give maps, in the order of their end."""
    found: list[tuple[FeatureLayer, Tensor]] = []
    backbone = network.backbone

    def look(name):
        def hook(module, _, output):
            layer = _as_layer(name, module, output, network, free=named is not None)
            if layer is not None:
                found.append((layer, output))

        return hook

    parts = [
        (name, part) for name, part in backbone.named_modules() if named is None or name in named
    ]
    handles = [part.register_forward_hook(look(name)) for name, part in parts]
    try:
        with evaluating(network), frozen(network), torch.enable_grad():
            features = network.features(_probe(network).requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    return found, features


def _dependence(features: Tensor, outputs: list[tuple[FeatureLayer, Tensor]]) -> list[bool]:
    """Tell on which maps the features depend, in other places than tokens of no patch."""
    if not outputs:
        return []
    # a random direction: the plain sum of normalised features is the same for every image
    along = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    score = (features * along.to(features)).sum()
    gradients = torch.autograd.grad(score, [one for _, one in outputs], allow_unused=True)
    return [
        gradient is not None and bool(layer.maps(gradient).abs().amax() > 0)
        for (layer, _), gradient in zip(outputs, gradients, strict=True)
    ]


def _as_layer(name, module, output, network: Network, free: bool) -> FeatureLayer | None:
    """Describe a part whose output is a map with as many channels as the network has features.

    With `free` any number of channels will do.
    """
    if not isinstance(output, Tensor):
        return None
    n, shape = network.n_features, tuple(output.shape)
    last = getattr(network.backbone, "output_fmt", "") == _LAST_FORMAT
    if output.ndim == 4:
        layout = CHANNELS_LAST if last else CHANNELS_FIRST
        channels = shape[-1] if last else shape[1]
        rows, columns = shape[1:3] if last else shape[2:]
        fits = (free or channels == n) and rows == columns and rows > 1
        return FeatureLayer(name, module, layout, 0, rows) if fits else None
    if output.ndim == 3:
        prefix = getattr(network.backbone, "num_prefix_tokens", 0) or 0
        side = round(max(shape[1] - prefix, 0) ** 0.5)
        fits = (free or shape[2] == n) and side > 1 and side**2 == shape[1] - prefix
        return FeatureLayer(name, module, TOKENS, prefix, side) if fits else None
    return None


def _probe(network: Network) -> Tensor:
    size = network.weights.input_size
    device = next(network.parameters()).device
    return torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter have a gradient, and put all back as they were afterwards."""
    flags = [(one, one.requires_grad) for one in network.parameters()]
    for one, _ in flags:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one, flag in flags:
            one.requires_grad_(flag)
