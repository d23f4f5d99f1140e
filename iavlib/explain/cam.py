"""Class activation maps of whole batches, for several targets and methods at once.

The formulas are those of the grad-cam package. It sends an image forward and back through the whole
network for each method and target, though all of them need no more than the last map and the
gradient at it. Here a batch goes forward once, the graph begins at that map, and the way back is no
longer than the head. EigenCAM is computed here: the package takes the full decomposition of each
image (for 1,280 channels a matrix of 1,280 by 1,280), and its sign is left to chance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.explain.errors import ExplainError
from iavlib.explain.layers import FeatureLayer, frozen
from iavlib.explain.targets import Target
from iavlib.models.network import Network
from iavlib.training.predict import evaluating

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
