"""Attribution maps of whole batches, for several targets and methods at once.

*Target*: one number of a network's output, and in which direction. grad-cam's own default, the
largest output, is the only output of a regression head: it can only show what *raises* the
prediction. Here each head has two targets, one per direction.

*Class activation maps* use the formulas of the grad-cam package. It sends an image forward and
back through the whole network for each method and target, though all of them need no more than the
last map and the gradient at it. Here a batch goes forward once, the graph begins at that map, and
the backward pass covers the head only. EigenCAM is computed here: the package takes the full
decomposition of each image (for 1,280 channels a matrix of 1,280 by 1,280), and leaves its sign to
chance.

*Layer*: the last feature map, found by running one image through the network, not by name. The
last module is taken whose output is a map (channels by rows by columns, or tokens that are
patches) of the network's features, and on whose places the features depend. Where a class token is
read off, the patches of the last normalisation have no influence any more; then this is the first
normalisation of the last block, as is usual for Vision Transformers.

*Integrated gradients and occlusion* use no feature map: both compare an image with one of a single
colour, its own mean. They check class activation maps, which share one feature map and its errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ExplainError
from iavlib.models.heads import predicted_mean
from iavlib.models.network import Network
from iavlib.training.batches import ImageBatches
from iavlib.training.predict import evaluating, frozen

RAISES, LOWERS = "raises agreement", "lowers agreement"
MALIGNANT, BENIGN = "malignant", "benign"
GRADCAM, EIGENCAM = "Grad-CAM", "EigenCAM"
#: Methods of the grad-cam package and its classes.
_PACKAGE = {
    GRADCAM: "GradCAM",
    "Grad-CAM++": "GradCAMPlusPlus",
    "HiResCAM": "HiResCAM",
    "Layer-CAM": "LayerCAM",
}
#: Grad-CAM less its mean over reference images; see :meth:`Explainer.centre_on`.
CENTRED = "centred Grad-CAM"
CAM_METHODS = (GRADCAM, "Grad-CAM++", EIGENCAM, "HiResCAM", "Layer-CAM", CENTRED)
INTEGRATED, OCCLUSION = "integrated gradients", "occlusion"
METHODS = (*CAM_METHODS, INTEGRATED, OCCLUSION)
CHANNELS_FIRST, CHANNELS_LAST, TOKENS = "channels first", "channels last", "tokens"


@dataclass(frozen=True)
class Target:
    """A number per image to be explained.

    Attributes
    ----------
    name : str
        One of :data:`RAISES`, :data:`LOWERS`, :data:`MALIGNANT` and :data:`BENIGN`.
    head : str
        Name of the network's head.
    kind : str
        Kind of a regression head, see :class:`iavlib.models.HeadSpec`; empty for a classification
        of two classes.
    sign : {1, -1}
        -1 reverses the direction.
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
        """Return what attribution is computed for, of shape (B,): the number times ``sign``."""
        return self.sign * self.level(outputs)


def find_targets(network: Network) -> dict[str, Target]:
    """List the targets of a network.

    Parameters
    ----------
    network : Network
        Its heads of one output (or of a distribution) predict agreement, those of two outputs
        distinguish class 1 (malignant, melanoma) from class 0.

    Returns
    -------
    dict of str to Target
        By name, two per head: that which lowers agreement before that which raises it, malignant
        before benign.

    Raises
    ------
    ExplainError
        If a head has another number of outputs, or two predict the same.
    """
    targets: dict[str, Target] = {}
    for head, spec in network.specs.items():
        regression = spec.kind in ("beta", "quantile") or spec.outputs == 1
        if not regression and spec.outputs != 2:
            problem = f"has {spec.outputs} outputs"
            raise ExplainError(f"head {head!r}", problem, "explain heads of one or two outputs")
        signs = {LOWERS: -1, RAISES: 1} if regression else {MALIGNANT: 1, BENIGN: -1}
        for name, sign in signs.items():
            if name in targets:
                problem = f"predicts the same as head {targets[name].head!r}"
                raise ExplainError(f"head {head!r}", problem, "explain a network with one of them")
            targets[name] = Target(name, head, spec.kind if regression else "", sign)
    return targets


@dataclass(frozen=True)
class FeatureLayer:
    """A module of a network whose output is a map.

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
        """Bring the module's output to shape (B, channels, side, side)."""
        if self.layout == CHANNELS_FIRST:
            return output
        if self.layout == TOKENS:
            patches = output[:, self.prefix :]
            output = patches.reshape(len(patches), self.side, self.side, -1)
        return output.permute(0, 3, 1, 2)


def find_layer(network: Network, stride: int | None = None) -> FeatureLayer:
    """Find the module of a network in which attribution is read.

    Parameters
    ----------
    network : Network
        With any backbone of timm for square images.
    stride : int, optional
        Pixels of the image per place of the map: the end of the last stage of that resolution is
        taken, as timm lists the stages. The last map of all unless given.

    Returns
    -------
    FeatureLayer

    Raises
    ------
    ExplainError
        If no module has such a map, as with images so small that the last map is one place.
    """
    backbone, size, named = network.backbone, network.weights.input_size, None
    if stride is not None:
        stages = getattr(backbone, "feature_info", None) or ()
        named = [item["module"] for item in stages if item["reduction"] == stride]
        if not named:
            known = ", ".join(map(str, sorted({item["reduction"] for item in stages}))) or "none"
            problem = f"{network.backbone_name} has no stage of it"
            raise ExplainError(f"stride {stride}", problem, f"choose of: {known}")
    maps: list[tuple[FeatureLayer, Tensor]] = []

    def record(module: nn.Module, _, output, name: str) -> None:
        layer = _as_layer(name, module, output, network, any_channels=named is not None)
        if layer is not None:
            maps.append((layer, output))

    probe = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    with ExitStack() as hooks, evaluating(network), frozen(network), torch.enable_grad():
        for name, module in backbone.named_modules():
            if named is None or name in named:
                hooks.enter_context(module.register_forward_hook(partial(record, name=name)))
        device = next(network.parameters()).device
        features = network.features(probe.to(device).requires_grad_())
    if maps:
        # a random direction: the plain sum of normalised features is the same for every image
        along = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        score = (features * along.to(features)).sum()
        gradients = torch.autograd.grad(score, [output for _, output in maps], allow_unused=True)
        for (layer, _), gradient in reversed(list(zip(maps, gradients, strict=True))):
            if gradient is not None and bool(layer.maps(gradient).abs().amax() > 0):
                return layer
    problem = f"{network.backbone_name} has no map of more than one place at {size} pixels"
    raise ExplainError("layer", problem, "give larger images, or a smaller stride")


def _as_layer(name, module, output, network: Network, any_channels: bool) -> FeatureLayer | None:
    """Describe a module whose output is a square map with as many channels as features."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return None
    shape, prefix = tuple(output.shape), 0
    if output.ndim == 4:
        last = getattr(network.backbone, "output_fmt", "") == "NHWC"  # timm's name of the layout
        layout, channels = (CHANNELS_LAST, shape[3]) if last else (CHANNELS_FIRST, shape[1])
        rows, columns = shape[1:3] if last else shape[2:]
    else:
        layout, channels = TOKENS, shape[2]
        prefix = getattr(network.backbone, "num_prefix_tokens", 0) or 0
        rows = round(max(shape[1] - prefix, 0) ** 0.5)
        columns = (shape[1] - prefix) / rows if rows else 0
    fits = (any_channels or channels == network.n_features) and rows == columns and rows > 1
    return FeatureLayer(name, module, layout, prefix, rows) if fits else None


@dataclass(frozen=True, eq=False)
class Captured:
    """What class activation maps of a batch are computed from.

    Attributes
    ----------
    activations : numpy.ndarray of float32, shape (B, C, h, w)
        The feature map.
    gradients : dict of str to numpy.ndarray, same shape
        Target's name to the gradient of its score.
    outputs : dict of str to torch.Tensor
        Outputs of the heads.
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
        In evaluation mode meanwhile; no parameter gets a gradient.
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

    by_head: dict[str, np.ndarray] = {}
    handle = layer.module.register_forward_hook(cut)
    with handle, evaluating(network), frozen(network), torch.enable_grad():
        outputs = network(images)
        for target in targets:  # one backward pass per head: opposite targets differ in sign
            if target.head not in by_head:
                total = target.level(outputs).sum()  # images do not depend on each other
                gradient = torch.autograd.grad(total, kept[-1], retain_graph=True)[0]
                by_head[target.head] = layer.maps(gradient).float().cpu().numpy()
    gradients = {target.name: target.sign * by_head[target.head] for target in targets}
    activations = layer.maps(kept[-1].detach()).float().cpu().numpy()
    return Captured(activations, gradients, {key: each.detach() for key, each in outputs.items()})


def cam_maps(captured: Captured, method: str, target: Target) -> np.ndarray:
    """Compute the map of one method and target.

    Parameters
    ----------
    captured : Captured
    method : str
        One of :data:`CAM_METHODS` but the centred one, which needs other images too. EigenCAM is
        the same for every target.
    target : Target
        One of those that were captured.

    Returns
    -------
    numpy.ndarray of float32, shape (B, h, w)
        With its sign and as coarse as the feature map, in units of activation times gradient; not
        scaled to [0, 1], so that images can be compared.

    Raises
    ------
    ExplainError
        If there is no such method.
    """
    if method == EIGENCAM:
        return _first_component(captured.activations)
    if method not in _PACKAGE:
        raise ExplainError(f"method {method!r}", "is unknown", f"use {', '.join(CAM_METHODS)}")
    import pytorch_grad_cam

    formula = getattr(pytorch_grad_cam, _PACKAGE[method])
    # its formulas ask an instance for nothing but the weights of channels
    instance = SimpleNamespace(get_cam_weights=partial(formula.get_cam_weights, None))
    arrays = captured.activations, captured.gradients[target.name]
    return formula.get_cam_image(instance, None, None, None, *arrays, False).astype(np.float32)


def _first_component(activations: np.ndarray) -> np.ndarray:
    """Project each image's map on its first principal component, larger values being positive."""
    n, channels, height, width = activations.shape
    rows = torch.from_numpy(activations).reshape(n, channels, -1).transpose(1, 2).double()
    rows -= rows.mean(dim=1, keepdim=True)
    # places by places is far smaller than channels by channels, and has the same first component
    values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
    component = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
    component[component.amax(dim=1) < -component.amin(dim=1)] *= -1
    return component.reshape(n, height, width).float().numpy()


def enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    """Bring maps (B, h, w) to (B, size, size) by bilinear interpolation."""
    given = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None]
    return F.interpolate(given, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()


def displayed(maps: np.ndarray) -> np.ndarray:
    """Scale each map (B, h, w) from 0 to 1 for display; one of a single value becomes 0.

    How much attribution an image has is lost: maps scaled like that cannot be compared between
    images.
    """
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    return np.where(spread > 0, (maps - low) / np.where(spread > 0, spread, 1), 0)


def mean_colour(images: Tensor) -> Tensor:
    """Return images (B, 3, S, S) of one colour each, the mean of the image given."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def integrated_gradients(
    network: Network, images: Tensor, target: Target, steps: int = 16, batch_size: int = 32
) -> np.ndarray:
    """Integrate the gradient along the straight line from the mean colour to the image.

    Parameters
    ----------
    network : Network
    images : torch.Tensor of shape (B, 3, S, S)
        Normalised.
    target : Target
    steps : int
        Points on the line, in the middles of equal pieces.
    batch_size : int
        Points computed at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (B, S, S)
        Summed over colours. The sum over an image is, but for the error of integration, the
        difference of the target's score between the image and its mean colour.

    References
    ----------
    Sundararajan, M., Taly, A. and Yan, Q. (2017). Axiomatic attribution for deep networks. ICML.
    """
    if steps < 1:
        raise ExplainError(f"steps = {steps}", "leave nothing to integrate", "give 1 or more")
    maps = np.empty((len(images), *images.shape[2:]), np.float32)
    along = (torch.arange(steps, device=images.device) + 0.5) / steps
    with evaluating(network), frozen(network), torch.enable_grad():
        for number, image in enumerate(images):
            base, total = mean_colour(image[None])[0], torch.zeros_like(image)
            for piece in along.split(batch_size):
                points = base + piece[:, None, None, None] * (image - base)
                points = points.detach().requires_grad_()
                score = target.score(network(points)).sum()
                total += torch.autograd.grad(score, points)[0].sum(dim=0)
            maps[number] = ((image - base) * total / steps).sum(dim=0).cpu().numpy()
    return maps


def occlusion(network: Network, images: Tensor, target: Target) -> np.ndarray:
    """Cover a window of a quarter of the image's side with its mean colour, everywhere in turn.

    Windows overlap by half their side.

    Parameters
    ----------
    network, images, target
        As for :func:`integrated_gradients`.

    Returns
    -------
    numpy.ndarray of float32, shape (B, S, S)
        By how much the score falls where a pixel is covered, the mean over windows that cover it.
    """
    size, batch_size = images.shape[-1], 64
    side = max(1, round(size / 4))
    starts = sorted({*range(0, size - side + 1, max(1, side // 2)), size - side})
    windows = torch.zeros(len(starts) ** 2, size, size, dtype=torch.bool)
    for window, (top, left) in zip(windows, product(starts, starts), strict=True):
        window[top : top + side, left : left + side] = True
    maps = []
    with evaluating(network), torch.inference_mode():
        for image, whole in zip(images, target.score(network(images)), strict=True):
            base, falls = mean_colour(image[None]), []
            for some in windows[:, None].to(images.device).split(batch_size):
                covered = torch.where(some, base, image.repeat(len(some), 1, 1, 1))
                falls.append(whole - target.score(network(covered)))
            falls = torch.cat(falls)[:, None, None].float().cpu().numpy()
            maps.append((falls * windows.numpy()).sum(axis=0))
    return np.stack(maps) / windows.numpy().sum(axis=0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Explained:
    """Maps of a batch of images.

    Attributes
    ----------
    ids : pandas.Index
    images : torch.Tensor of shape (B, 3, S, S)
        Input of the network.
    levels : dict of str to numpy.ndarray of shape (B,)
        By target's name, the number that is explained: the predicted agreement, or the difference
        of two logits.
    maps : dict of (str, str) to numpy.ndarray of float32, shape (B, S, S)
        By target's name and method; what counts against the target is 0; not scaled.
    signed : dict of (str, str) to numpy.ndarray of float32, shape (B, h, w)
        The same with their signs, at the resolution at which they are computed.
    """

    ids: pd.Index
    images: Tensor
    levels: dict[str, np.ndarray]
    maps: dict[tuple[str, str], np.ndarray]
    signed: dict[tuple[str, str], np.ndarray]


class Explainer:
    """Explains a network's outputs for many images, one batch at a time.

    Parameters
    ----------
    network : Network
        Any backbone; see :func:`find_layer`.
    targets : sequence of str, optional
        Names of :func:`find_targets`; all of the network's unless given.
    methods : sequence of str
        Of :data:`METHODS`.
    stride : int, optional
        See :func:`find_layer`.
    steps : int
        Of integrated gradients.
    reference : mapping of str to float, optional
        :attr:`reference` of an explainer of the same network that was centred before.

    Attributes
    ----------
    reference : dict of str to float
        Target's name to the zero of the centred method, see :meth:`centre_on`; empty before.

    Raises
    ------
    ExplainError
        If the network has no target of that name, or no map to read.

    Examples
    --------
    >>> explainer = Explainer(network, ["lowers agreement"], ["Grad-CAM"])  # doctest: +SKIP
    >>> for batch in explainer.over(batches):  # doctest: +SKIP
    ...     batch.maps["lowers agreement", "Grad-CAM"]
    """

    def __init__(
        self,
        network: Network,
        targets: Sequence[str] | None = None,
        methods: Sequence[str] = CAM_METHODS[:-1],
        stride: int | None = None,
        steps: int = 16,
        reference: Mapping[str, float] | None = None,
    ):
        self.network, self.methods, self.steps = network, tuple(methods), steps
        known = find_targets(network)
        for name in targets or ():
            if name not in known:
                raise ExplainError(f"target {name!r}", "is unknown", f"use {', '.join(known)}")
        self.targets = tuple(known[name] for name in (known if targets is None else targets))
        self.layer = find_layer(network, stride)
        self.reference: dict[str, float] = dict(reference or {})

    def centre_on(self, batches: Iterable[Tensor]) -> Explainer:
        """Take the mean of Grad-CAM over images and places as the zero of the centred one.

        Whether a place of a feature map counts for or against a *class* has a natural zero. A
        regression has none: how much of a mean Dice of 0.8 is due to the features, and how much to
        the bias, is chance. Less the reference, a map sums up to the difference of an image's
        prediction from the mean prediction of the reference images (exactly so where a linear head
        follows the mean over places).

        Parameters
        ----------
        batches : iterable of torch.Tensor, each of shape (B, 3, S, S)
            Images, normalised; best all that are explained.
        """
        means: dict[str, list[np.ndarray]] = {target.name: [] for target in self.targets}
        for images in batches:
            captured = capture(self.network, self.layer, images, self.targets)
            for target in self.targets:
                means[target.name].append(cam_maps(captured, GRADCAM, target).mean(axis=(1, 2)))
        self.reference = {name: float(np.concatenate(each).mean()) for name, each in means.items()}
        return self

    def explain(self, images: Tensor, ids=None) -> Explained:
        """Explain one batch of images (B, 3, S, S), normalised as the network's weights require."""
        captured = capture(self.network, self.layer, images, self.targets)
        signed: dict[tuple[str, str], np.ndarray] = {}
        for target, method in product(self.targets, self.methods):
            signed[target.name, method] = self._signed(captured, method, target, images, signed)
        maps = {key: enlarge(np.maximum(each, 0), images.shape[-1]) for key, each in signed.items()}
        levels = {target.name: target.level(captured.outputs) for target in self.targets}
        levels = {name: level.double().cpu().numpy() for name, level in levels.items()}
        ids = pd.RangeIndex(len(images)) if ids is None else pd.Index(ids)
        return Explained(ids, images, levels, maps, signed)

    def _signed(self, captured, method: str, target: Target, images, known) -> np.ndarray:
        if method == CENTRED:
            if target.name not in self.reference:
                problem = "needs other images to compare with"
                raise ExplainError(CENTRED, problem, "call centre_on, or leave the method out")
            return cam_maps(captured, GRADCAM, target) - np.float32(self.reference[target.name])
        if method not in (INTEGRATED, OCCLUSION):
            return cam_maps(captured, method, target)
        for other in self.targets:  # the opposite target of the same head is known already
            if (other.name, method) in known and other.head == target.head:
                return -known[other.name, method]
        if method == OCCLUSION:
            return occlusion(self.network, images, target)
        return integrated_gradients(self.network, images, target, self.steps)

    def over(self, batches: ImageBatches, batch_size: int = 32) -> Iterator[Explained]:
        """Explain all images, one batch at a time.

        Parameters
        ----------
        batches : ImageBatches
            Made of an image cache with the mean and deviation of the network's own weights. They
            are the reference of the centred method, unless it has one.
        batch_size : int
        """
        self.network.to(batches.device, memory_format=torch.channels_last)
        if CENTRED in self.methods and not self.reference:
            self.centre_on(batch["images"] for batch in batches.in_order(batch_size))
        for batch in batches.in_order(batch_size):
            yield self.explain(batch["images"], batches.ids[batch["index"].numpy()])
