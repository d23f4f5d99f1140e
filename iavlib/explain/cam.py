"""Class activation maps of whole batches, for several targets and methods at once.

The formulas are those of the grad-cam package. It sends an image forward and back through the whole
network for each method and target, though all of them need no more than the last map and the
gradient at it. Here a batch goes forward once, the graph begins at that map, and the way back is no
longer than the head. EigenCAM is computed here: the package takes the full decomposition of each
image (for 1,280 channels a matrix of 1,280 by 1,280), and its sign is left to chance.

What is explained: one number of a network's output, and in which direction.

grad-cam's own default, the largest output, is the only output of a regression head: it can only
show what *raises* the prediction. Here each head has two targets, one a direction.

Where in a network attribution is read: its last feature map, found by looking, not by name.

One image goes through the network. The last part whose output is a map (channels by rows by
columns, or tokens that are patches) of the network's features, and on whose places the features
depend, is taken. Where a class token is read off, the patches of the last normalisation have no
influence any more; the first normalisation of the last block is found then, as is usual for
Vision Transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ExplainError
from iavlib.models.heads import predicted_mean
from iavlib.models.network import Network
from iavlib.training.predict import evaluating

RAISES, LOWERS = "raises agreement", "lowers agreement"
MALIGNANT, BENIGN = "malignant", "benign"


@dataclass(frozen=True)
class Target:
    """A number that each image has, to be explained.

    Attributes
    ----------
    name : str
        One of :data:`RAISES`, :data:`LOWERS`, :data:`MALIGNANT` and :data:`BENIGN`.
    head : str
        Name of the network's head.
    kind : str
        Kind of a regression head, as :class:`iavlib.models.HeadSpec` has it; empty for a
        classification of two classes.
    sign : {1, -1}
        -1 turns the number round.
    """

    name: str
    head: str
    kind: str
    sign: int

    def level(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number itself, whatever the direction, of shape (B,).

        The predicted agreement, or the logit of class 1 minus that of class 0.
        """
        raw = outputs[self.head]
        return predicted_mean(self.kind, raw) if self.kind else raw[:, 1] - raw[:, 0]

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return what attribution is made for, of shape (B,): the number times ``sign``."""
        return self.sign * self.level(outputs)


def find_targets(network: Network) -> dict[str, Target]:
    """List what can be explained of a network.

    Parameters
    ----------
    network : Network
        Its heads of one output (or of a distribution) predict agreement, those of two outputs tell
        class 1 (malignant, melanoma) from class 0.

    Returns
    -------
    dict of str to Target
        By name, two a head: that which lowers agreement before that which raises it, malignant
        before benign.

    Raises
    ------
    ExplainError
        If a head has another number of outputs, or two predict the same.
    """
    found: dict[str, Target] = {}
    for head, spec in network.specs.items():
        if spec.kind in ("beta", "quantile") or spec.outputs == 1:
            own = (Target(LOWERS, head, spec.kind, -1), Target(RAISES, head, spec.kind, 1))
        elif spec.outputs == 2:
            own = (Target(MALIGNANT, head, "", 1), Target(BENIGN, head, "", -1))
        else:
            told = f"has {spec.outputs} outputs"
            raise ExplainError(f"head {head!r}", told, "explain heads of one or two outputs")
        if own[0].name in found:
            told = f"predicts the same as head {found[own[0].name].head!r}"
            raise ExplainError(f"head {head!r}", told, "explain a network with one of them")
        found |= {target.name: target for target in own}
    return found


def choose_targets(network: Network, names) -> tuple[Target, ...]:
    """Return the targets of these names, or all where `names` is None.

    Raises
    ------
    ExplainError
        If the network has none of that name.
    """
    known = find_targets(network)
    names = tuple(known) if names is None else tuple(names)
    for name in names:
        if name not in known:
            raise ExplainError(f"target {name!r}", "is not there", f"known: {', '.join(known)}")
    return tuple(known[name] for name in names)


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

    subsets = [
        (name, subset)
        for name, subset in backbone.named_modules()
        if named is None or name in named
    ]
    handles = [subset.register_forward_hook(look(name)) for name, subset in subsets]
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


GRADCAM, GRADCAM_PLUS, EIGENCAM = "Grad-CAM", "Grad-CAM++", "EigenCAM"
HIRESCAM, LAYERCAM = "HiResCAM", "Layer-CAM"
#: Grad-CAM less its mean over reference images; see :meth:`iavlib.explain.Explainer.centre_on`.
CENTRED = "centred Grad-CAM"
CAM_METHODS = (GRADCAM, GRADCAM_PLUS, EIGENCAM, HIRESCAM, LAYERCAM, CENTRED)
_PACKAGE = {
    GRADCAM: "GradCAM",
    GRADCAM_PLUS: "GradCAMPlusPlus",
    HIRESCAM: "HiResCAM",
    LAYERCAM: "LayerCAM",
}


@dataclass(frozen=True, eq=False)
class Captured:
    """What class activation maps of a batch are made of.

    Attributes
    ----------
    activations : numpy.ndarray of float32, shape (B, C, h, w)
        The feature map.
    gradients : dict of str to numpy.ndarray, same shape
        Target's name to the gradient of its score.
    outputs : dict of str to torch.Tensor
        What the heads gave.
    """

    activations: np.ndarray
    gradients: dict[str, np.ndarray]
    outputs: dict[str, Tensor]


def capture(
    network: Network, layer: FeatureLayer, images: Tensor, targets: Sequence[Target]
) -> Captured:
    """Send a batch forward, and back from each target to the feature map.

    Parameters
    ----------
    network : Network
        It evaluates meanwhile, and no parameter gets a gradient.
    layer : FeatureLayer
        Of this network.
    images : torch.Tensor of shape (B, 3, S, S)
        Normalised, on the network's device.
    targets : sequence of Target

    Returns
    -------
    Captured
    """
    kept: list[Tensor] = []

    def cut(_module, _inputs, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()  # what follows may work in place

    handle = layer.module.register_forward_hook(cut)
    try:
        with evaluating(network), frozen(network), torch.enable_grad():
            outputs = network(images)
            gradients = _gradients(outputs, kept[-1], targets)
    finally:
        handle.remove()
    maps = {name: layer.maps(one).float().cpu().numpy() for name, one in gradients.items()}
    activations = layer.maps(kept[-1].detach()).float().cpu().numpy()
    return Captured(activations, maps, {name: one.detach() for name, one in outputs.items()})


def _gradients(outputs: Mapping[str, Tensor], at: Tensor, targets) -> dict[str, Tensor]:
    """One way back a head: opposite directions differ in sign alone."""
    by_head: dict[str, Tensor] = {}
    for target in targets:
        if target.head not in by_head:
            total = target.level(outputs).sum()  # images do not depend on each other
            by_head[target.head] = torch.autograd.grad(total, at, retain_graph=True)[0]
    return {target.name: target.sign * by_head[target.head] for target in targets}


def cam_maps(captured: Captured, method: str, target: Target, rectify: bool = True) -> np.ndarray:
    """Compute the map of one method and target.

    Parameters
    ----------
    captured : Captured
    method : str
        One of :data:`CAM_METHODS` but the centred one, which needs other images too. EigenCAM is
        the same for every target.
    target : Target
        One of those that were captured.
    rectify : bool
        Set what counts against the target to 0, as all these methods do before they show a map.

    Returns
    -------
    numpy.ndarray of float32, shape (B, h, w)
        As coarse as the feature map, in units of activation times gradient; not scaled to [0, 1],
        so that images can be compared.

    Raises
    ------
    ExplainError
        If there is no such method.
    """
    if method == EIGENCAM:
        maps = _first_component(captured.activations)
    else:
        maps = _package_formula(method)(captured.activations, captured.gradients[target.name])
    return np.maximum(maps, 0) if rectify else maps


def _package_formula(method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Take a method's formula from grad-cam, without the way through the network around it."""
    import pytorch_grad_cam

    if method not in _PACKAGE:
        raise ExplainError(f"method {method!r}", "is unknown", f"use {', '.join(CAM_METHODS)}")
    of = getattr(pytorch_grad_cam, _PACKAGE[method])
    # its formulas ask an instance for nothing but the weights of channels
    instance = SimpleNamespace(get_cam_weights=partial(of.get_cam_weights, None))

    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        found = of.get_cam_image(instance, None, None, None, activations, gradients, False)
        return found.astype(np.float32)

    return formula


def _first_component(activations: np.ndarray) -> np.ndarray:
    """Project each image's map on its first principal component, larger values being positive."""
    n, channels, height, width = activations.shape
    rows = torch.from_numpy(activations).reshape(n, channels, -1).transpose(1, 2).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    # places by places is far smaller than channels by channels, and has the same first component
    values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
    found = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    turned = found.amax(dim=1) < -found.amin(dim=1)
    found[turned] *= -1
    return found.reshape(n, height, width).float().numpy()


def enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    """Bring maps (B, h, w) to (B, size, size) by bilinear interpolation."""
    given = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None]
    scaled = F.interpolate(given, (size, size), mode="bilinear", align_corners=False)
    return scaled[:, 0].numpy()


def displayed(maps: np.ndarray) -> np.ndarray:
    """Scale each map (B, h, w) from 0 to 1 for showing it; one of a single value becomes 0.

    What is lost is how much attribution an image has: maps scaled like that cannot be compared
    between images.
    """
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    return np.where(spread > 0, (maps - low) / np.where(spread > 0, spread, 1), 0)
