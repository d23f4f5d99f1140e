"""The interface of a method that learns from several annotators.

A new method is one file in :mod:`iavlib.multiannotator.methods` or anywhere else (a plugin, see
:mod:`iavlib.core.plugins`), with one class::

    from torch import nn

    from iavlib.multiannotator import Method, Outputs, register
    from iavlib.multiannotator.losses import label_likelihood
    from iavlib.multiannotator.method import UNET_SETTINGS


    @register("mine", "My method")
    class Mine(Method):
        defaults = {**UNET_SETTINGS, "weight": 1.0}

        def build(self, problem):
            unet = self.backbone(problem)
            return nn.Sequential(unet, nn.Conv2d(unet.features, problem.n_classes, 1))

        def loss(self, network, batch, epoch, stage):
            consensus = network(batch["images"]).softmax(1)
            maps = consensus[:, None].expand(-1, batch["labels"].shape[1], -1, -1, -1)
            losses, given = label_likelihood(maps, batch["labels"])
            return self.settings["weight"] * losses.sum() / given.sum()

        def outputs(self, network, images, generator, n_samples):
            return Outputs(network(images).softmax(1))

``batch`` is a mapping with ``images``, float32 of shape (B, channels, height, width), normalised;
``index``, int64 of shape (B,), the positions of the images in the training set, on the CPU; and
what :meth:`Method.targets` returns, by default ``labels``, int8 of shape (B, annotators, height,
width), -1 where an annotator did not label the image. ``stage`` is one of :attr:`Method.stages`.

Everything else (training, resuming, saving, predicting, scores, the run store) is common to all
methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.core.errors import DataError, MethodError, ModelError, suggest
from iavlib.models import unet
from iavlib.models.unet import WIDTHS, EncoderUNet, UNet, stages_for
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.training.batches import channel_statistics

UNET = "unet"
#: Settings of methods whose U-Net is a choice: :meth:`Method.backbone` reads them. ``encoder`` is
#: ``unet``, of ``widths``, or a network of timm under a ``decoder`` of these channels (finest
#: first); ``weights`` (``none``, ``file``, ``hub``) are loaded into it; ``padding`` then follows
#: the weights unless set.
UNET_SETTINGS: Mapping[str, Any] = {
    "widths": WIDTHS,
    "encoder": UNET,
    "weights": "none",
    "padding": "weights",
    "decoder": (16, 32, 64, 128, 256),
}


@dataclass(frozen=True)
class Problem:
    """What networks are built for.

    Attributes
    ----------
    annotators : tuple of str
    n_classes : int
        With the background.
    channels, height, width : int
        Of the images.
    mean, std : tuple of float
        By which images from 0 to 1 are normalised, one per channel; of the training subset.
    structures : mapping of str to tuple of int
        Classes that make up each structure.
    """

    annotators: tuple[str, ...]
    n_classes: int
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    structures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: MultiAnnotatorSet, normalise: bool = True) -> Problem:
        """Describe the training subset of a set; without `normalise`, images stay from 0 to 1."""
        _, height, width, channels = dataset.images.shape
        mean, std = (0.0,) * channels, (1.0,) * channels
        if normalise:
            mean, std = channel_statistics(dataset.images)
        given = (dataset.annotators, dataset.n_classes, channels, height, width)
        return cls(*given, mean, std, dict(dataset.structures))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Problem:
        """Read what :func:`dataclasses.asdict` made of one."""
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list | tuple)}
        structures = {name: tuple(one) for name, one in values.get("structures", {}).items()}
        return cls(**{**values, **lists, "structures": structures})

    @property
    def n_annotators(self) -> int:
        """Number of annotators."""
        return len(self.annotators)


@dataclass
class Outputs:
    """Predictions of a batch of images; see :class:`iavlib.multiannotator.Prediction`.

    Attributes
    ----------
    consensus : torch.Tensor, shape (B, C, H, W)
    maps : torch.Tensor, shape (B, R, C, H, W), optional
    samples : torch.Tensor of int, shape (B, S, H, W), optional
        By default those that follow from maps or consensus.
    confusion : torch.Tensor, shape (B, R, C, C, H, W), optional
        Height and width of 1 where matrices are the same in all pixels.
    levels : torch.Tensor, shape (B, S, R + 1, H, W), optional
        Probabilities of how many annotators mark each structure.
    diagnosis : torch.Tensor, shape (B,), optional
        Probabilities of malignancy.
    """

    consensus: Tensor
    maps: Tensor | None = None
    samples: Tensor | None = None
    confusion: Tensor | None = None
    levels: Tensor | None = None
    diagnosis: Tensor | None = None


class Method(ABC):
    """Base of all methods.

    Parameters
    ----------
    name, title : str
    **settings
        Where they differ from :attr:`defaults`.

    Attributes
    ----------
    defaults : mapping
        Every setting with its default value, which also defines its type.
    stages : tuple of str
        Trainings one after the other, each with a checkpoint of its own and all epochs of the
        recipe; most methods have one.
    needs_diagnosis : bool
        Whether the training set must have the diagnosis of each image.
    normalise : bool
        Whether images are normalised by mean and deviation of the training subset.
    settings : dict
        All settings as they are used, ready for JSON.

    Raises
    ------
    MethodError
        If there is no such setting, or a value does not fit.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"widths": WIDTHS}
    stages: ClassVar[tuple[str, ...]] = ("training",)
    needs_diagnosis: ClassVar[bool] = False
    normalise: ClassVar[bool] = True

    def __init__(self, name: str, title: str, **settings: Any):
        self.name, self.title = name, title
        for key, value in settings.items():
            if key not in self.defaults:
                self.refuse(f"no setting {key!r}; {suggest(key, self.defaults)}")
            if wanted := _other_kind(value, self.defaults[key]):
                self.refuse(f"{key} is {value!r}, it must be {wanted}")
        chosen = {**self.defaults, **settings}
        self.settings = {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}
        if self.settings.keys() >= UNET_SETTINGS.keys():
            self._check_encoder()
        self.check()

    def refuse(self, problem: str) -> None:
        """Raise :class:`MethodError`, naming the method."""
        raise MethodError(f"method {self.name!r}: {problem}")

    def require(self, key: str, known) -> None:
        """Raise :class:`MethodError` where a setting is none of the known values."""
        value = self.settings[key]
        if value not in known:
            self.refuse(f"no {key} {value!r}; {suggest(str(value), known)}")

    def require_minimum(self, minimum: float, *keys: str) -> None:
        """Raise :class:`MethodError` where a setting is below a minimum."""
        for key in keys:
            if self.settings[key] < minimum:
                self.refuse(f"{key} is {self.settings[key]}, below {minimum}")

    def _check_encoder(self) -> None:
        """Refuse an encoder or weights that do not exist, and fix the padding they need."""
        settings = self.settings
        if settings["encoder"] == UNET:
            if settings["weights"] != "none":
                self.refuse(f"{UNET!r} has no weights but random ones: choose an encoder of timm")
            settings["padding"] = "symmetric"
            return
        self.require("weights", ("none", "file", "hub", "package"))
        if settings["padding"] == "weights":
            try:
                settings["padding"] = unet.padding_for(settings["encoder"], settings["weights"])
            except (ModelError, DataError) as error:
                raise MethodError(f"method {self.name!r}: {error}") from error
        self.require("padding", unet.PADDINGS)

    def backbone(self, problem: Problem) -> nn.Module:
        """Make the U-Net of :data:`UNET_SETTINGS`; it gives ``features`` maps of the images' size.

        Its weights are random; :meth:`pretrain` loads others.
        """
        channels, chosen = problem.channels, self.settings
        if chosen["encoder"] == UNET:
            return UNet(channels, stages_for(problem.height, problem.width, chosen["widths"]))
        return EncoderUNet(channels, chosen["encoder"], chosen["decoder"], chosen["padding"])

    def check(self) -> None:  # noqa: B027 (most have nothing more to check)
        """Raise :class:`MethodError` where settings make no sense."""

    @abstractmethod
    def build(self, problem: Problem) -> nn.Module:
        """Make the network; random weights come from PyTorch's global generator, seeded before.

        A recipe that treats a backbone apart finds it as the network's ``backbone``.
        """

    def pretrain(self, network: nn.Module):
        """Load pre-trained weights where the settings ask for them.

        Returns
        -------
        iavlib.models.Weights or None
            Those that were loaded; None where all weights are random.
        """
        if self.settings.get("weights", "none") == "none":
            return None
        return unet.load_encoders(network, self.settings["weights"])

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:  # noqa: B027
        """Set what the network takes from the training subset other than by training."""

    def begin(self, network: nn.Module, stage: str) -> None:  # noqa: B027
        """Prepare a stage: freeze what it does not train (``requires_grad_``)."""

    def targets(
        self, data: MultiAnnotatorSet, stage: str, network: nn.Module | None
    ) -> dict[str, np.ndarray]:
        """Return what batches hold beside images; by default the label maps as they are.

        Parameters
        ----------
        data : MultiAnnotatorSet
            The training subset.
        stage : str
        network : torch.nn.Module
            As the stage before left it; in evaluation mode.
        """
        return {"labels": data.labels}

    @abstractmethod
    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of a batch, a scalar; epochs are counted from 0 in each stage."""

    @abstractmethod
    def outputs(
        self, network: nn.Module, images: Tensor, generator: torch.Generator, n_samples: int
    ) -> Outputs:
        """Predict normalised images (B, channels, H, W).

        Parameters
        ----------
        network : torch.nn.Module
            In evaluation mode; no gradients are kept.
        images : torch.Tensor
        generator : torch.Generator
            Of the CPU, for methods that draw.
        n_samples : int
            How many label maps such methods draw.
        """

    def fuse(self, network: nn.Module, dataset: MultiAnnotatorSet) -> np.ndarray | None:
        """Fuse the labels of images by a rule of the method's own.

        Returns
        -------
        numpy.ndarray of float32, shape (n, classes, height, width), or None
            None where there is no such rule; then Bayes' rule with the confusion matrices is used.
        """
        return None

    def predictor(self, network: nn.Module) -> nn.Module:
        """Return the part of the network that predicts, whose parameters are counted."""
        return network


_KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "a text"),
}


def _other_kind(value: Any, default: Any) -> str:
    """Describe what a setting must be, if it is not; a default of None takes a number or None."""
    if isinstance(default, list | tuple):
        fits = isinstance(value, list | tuple) and len(value) > 0
        fits = fits and all(isinstance(number, int) and number > 0 for number in value)
        return "" if fits else "a list of whole numbers above 0"
    kind = float if default is None else type(default)
    accepted, wanted = _KINDS[kind]
    fits = isinstance(value, accepted) and isinstance(value, bool) == (kind is bool)
    return "" if fits or (value is None and default is None) else wanted
