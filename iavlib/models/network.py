"""A backbone with heads."""

import zlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from iavlib.core.errors import DataError, ModelError
from iavlib.models import loading
from iavlib.models.backbones import Backbone, find_backbone
from iavlib.models.heads import HeadSpec, build_head
from iavlib.models.weights import SOURCES, Weights, random_weights


class Network(nn.Module):
    """An image network: pooled features of a backbone and named heads on top of them.

    Parameters
    ----------
    backbone : torch.nn.Module
        From images (B, 3, S, S) to features (B, F).
    heads : mapping of str to HeadSpec
        New heads are built for them.
    spec : Backbone
    weights : Weights
        Of `backbone`.
    n_features : int
    seed : int
        Of the heads. Each is drawn from the seed and its own name, so that its start depends
        neither on the backbone nor on other heads.

    Attributes
    ----------
    backbone, heads : torch.nn.Module
        ``heads[name]`` maps features to raw output.
    specs : dict of str to HeadSpec
    backbone_name : str
    n_features : int
    weights : Weights
        Replace it by ``weights.with_normalisation(...)`` where images are normalised differently.
    """

    def __init__(self, backbone, heads, spec: Backbone, weights: Weights, n_features, seed=0):
        super().__init__()
        self.backbone, self.spec, self.weights = backbone, spec, weights
        self.n_features, self.specs = n_features, dict(heads)
        self.heads = nn.ModuleDict()
        for name, head in self.specs.items():
            if not name.isidentifier():
                raise ModelError(f"head {name!r}: a head's name is letters, digits and _")
            with random_start(zlib.crc32(f"{seed}:{name}".encode())):
                self.heads[name] = build_head(head, n_features)

    @property
    def backbone_name(self) -> str:
        """The name by which the backbone was chosen."""
        return self.spec.name

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return pooled features.

        Parameters
        ----------
        images : torch.Tensor of shape (B, 3, S, S)
            Floating point, normalised as :attr:`weights` require.

        Returns
        -------
        torch.Tensor of shape (B, F)
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ModelError(f"images must be normalised floating point (B, 3, S, S), not {given}")
        return self.backbone(images).flatten(1)

    def from_features(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the output of each head for features (B, F): name -> (B, width)."""
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the output of each head for images (B, 3, S, S): name -> (B, width)."""
        return self.from_features(self.features(images))


def build_network(
    backbone: str,
    heads: Mapping[str, HeadSpec],
    weights: str | Path = "none",
    seed: int = 0,
    size: int | None = None,
    padding: str = "",
) -> Network:
    """Build a network.

    Parameters
    ----------
    backbone : str
        See :func:`iavlib.models.find_backbone`.
    heads : mapping of str to HeadSpec
        May be empty, for features only.
    weights : {"hub", "file", "package", "released", "none"} or path
        timm's weights; the file of the data home; those of an installed package; the authors'
        released checkpoint; random. A path ``*.safetensors`` is read as such a file, a path
        ``*.pth`` as a checkpoint of the authors. A released head is given to a head of kind
        ``paper`` of the same shape that is called ``iaa`` or ``regression``, or ``diagnosis`` or
        ``classification``; then ``weights.detail`` states it.
    seed : int
        Of all random starts; the random state of the process is left as it was.
    size : int, optional
        Side of the input in pixels; that of the weights unless given.
    padding : {"", "same"}
        Of strided convolutions in a network that starts at random; see :class:`Weights`.
        Pre-trained weights define their own.

    Raises
    ------
    UnknownBackboneError, WeightsUnavailable, ModelError
    iavlib.core.DataError
        If a file is damaged or its tensors do not fit.
    """
    spec, chosen, released = find_backbone(backbone), str(weights), None
    path = None if chosen in SOURCES else Path(chosen)
    with random_start(seed):
        if chosen == "none":
            body = loading.create(spec, size, padding=padding)
            used = random_weights(spec, seed, size, padding)
        elif chosen in loading.LOADERS:
            body, used = loading.LOADERS[chosen](spec, size=size)
        elif chosen.endswith(".safetensors"):
            body, used = loading.from_file(spec, path, size)
        elif chosen == "released" or chosen.endswith((".pth", ".pt")):
            released = loading.read_released(spec, path, size)
            body, used = loading.create(spec, size), released.weights
        else:
            known = f"{', '.join(SOURCES)}, or a path *.safetensors or *.pth"
            raise ModelError(f"weights {chosen!r}: known are {known}")
        body = loading.strip(body, spec)
        n_features = spec.features or _count_features(body, used.input_size)
    network = Network(body, heads, spec, used, n_features, seed)
    if released is not None:
        _load_released(network, released)
    return network


def _load_released(network: Network, released: loading.Released) -> None:
    """Put a released checkpoint into a network, and record which heads it filled."""
    path = released.weights.detail
    if wrong := loading.differences(network.backbone.state_dict(), released.backbone):
        hint = f"give a released checkpoint of {network.backbone_name}"
        raise DataError(path, f"tensors do not fit {network.spec.architecture}: {wrong}", hint)
    network.backbone.load_state_dict(released.backbone, strict=False)
    filled = []
    for wrapper, state in released.heads.items():
        for name in loading.HEADS[wrapper]:
            paper = name in network.heads and network.specs[name].kind == "paper"
            if paper and not loading.differences(network.heads[name].state_dict(), state):
                network.heads[name].load_state_dict(state, strict=False)
                filled.append(name)
    what = f"with head {', '.join(filled)}" if filled else "backbone only"
    network.weights = replace(released.weights, detail=f"{path}, {what}")


def _count_features(body: nn.Module, size: int) -> int:
    """Return the length of the features, by one image: timm's attributes are not always right."""
    training = body.training
    with torch.no_grad():  # not inference mode: what a network caches must stay usable
        features = body.eval()(torch.zeros(1, 3, size, size)).flatten(1)
    body.train(training)
    return features.shape[1]


@contextmanager
def random_start(seed: int):
    """Draw the CPU's random numbers from a seed; the process's own state is restored after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' too
        yield
