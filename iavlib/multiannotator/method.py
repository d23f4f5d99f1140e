"""What a method that learns from several annotators is: networks, a loss, and what they say.

A new method is one file in :mod:`iavlib.multiannotator.methods` with one class::

    @register("mine", "My method")
    class Mine(Method):
        defaults = {"widths": WIDTHS, "weight": 0.1}

        def build(self, problem): ...             # a torch.nn.Module
        def loss(self, network, batch, epoch): ...
        def outputs(self, network, images, generator, n_samples): ...

Everything else (training, going on after an interruption, saving, predicting, scores, the run
store) is common to all methods.

Losses of overlap, for methods that weigh one beside their cross-entropy.

The methods by name; each file of :mod:`iavlib.multiannotator.methods` adds its own.

A method is a class decorated with :func:`register`. A file that is put into that folder is found:
nothing else has to be changed.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.core.errors import DataError, MethodError, ModelError, suggest
from iavlib.models.unet import WIDTHS, UNet, stages_for
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.training.batches import channel_statistics


def dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Compute 1 less the soft Dice, its sums over the whole batch, the mean over classes.

    Parameters
    ----------
    probabilities, target : torch.Tensor, shape (B, C, H, W)

    Notes
    -----
    A class that is neither predicted nor there counts as met. Sums over the batch rather than each
    picture let a picture without foreground say nothing of the foreground.
    """
    common = (probabilities * target).sum((0, 2, 3))
    both = (probabilities + target).sum((0, 2, 3))
    return 1 - ((2 * common + 1) / (both + 1)).mean()


def overlap_loss(maps: Tensor, labels: Tensor) -> Tensor:
    """Compute the Dice loss of every annotator over the pictures that she labelled.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Probabilities.
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the picture.

    Returns
    -------
    torch.Tensor, shape (R,)
        0 for an annotator who labelled none of them; as :func:`dice_loss` otherwise.
    """
    given = (labels[:, :, 0, 0] >= 0)[..., None, None, None]
    # Missing pictures are taken out before the sums: what is there cannot reach a gradient.
    found = torch.where(given, maps, torch.zeros_like(maps))
    target = torch.zeros_like(found).scatter_(2, labels.clamp_min(0).long().unsqueeze(2), 1.0)
    target = target * given
    common = (found * target).sum((0, 3, 4))
    both = (found + target).sum((0, 3, 4))
    return 1 - ((2 * common + 1) / (both + 1)).mean(1)


#: Probabilities are kept above this before their logarithm is taken.
EPSILON = 1e-7
ONLY_STAGE = "training"
#: Settings of methods whose U-Net is a choice: :meth:`Method.backbone` reads them. ``encoder`` is
#: ``unet``, of ``widths``, or a network of timm under a ``decoder`` of so many channels (finest
#: first); ``weights`` (``none``, ``file``, ``hub``) are put into it; then ``padding`` is theirs.
UNET = "unet"
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
        Of the pictures.
    mean, std : tuple of float
        By which pictures from 0 to 1 are normalised, one a channel; of the training part.
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
    def of(cls, labelled: MultiAnnotatorSet) -> Problem:
        """Take it from the training part of a set."""
        _, height, width, channels = labelled.images.shape
        mean, std = channel_statistics(labelled.images)
        size = (channels, height, width)
        known = dict(labelled.structures)
        return cls(labelled.annotators, labelled.n_classes, *size, mean, std, known)

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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return dataclasses.asdict(self)


@dataclass
class Outputs:
    """What a network says of a batch of pictures; see :class:`iavlib.multiannotator.Prediction`.

    Attributes
    ----------
    consensus : torch.Tensor, shape (B, C, H, W)
    maps : torch.Tensor, shape (B, R, C, H, W), optional
    samples : torch.Tensor of int, shape (B, S, H, W), optional
        Those that follow from maps or consensus unless given.
    confusion : torch.Tensor, shape (B, R, C, C, H, W), optional
        Height and width of 1 where matrices are the same in all pixels.
    levels : torch.Tensor, shape (B, S, R + 1, H, W), optional
        Probabilities of how many annotators mark each structure.
    """

    consensus: Tensor
    maps: Tensor | None = None
    samples: Tensor | None = None
    confusion: Tensor | None = None
    levels: Tensor | None = None


class Method(ABC):
    """Base of all methods.

    Parameters
    ----------
    name, title : str
    **settings
        What differs from :attr:`defaults`.

    Attributes
    ----------
    defaults : mapping
        Every setting with its default value, which also tells its type.
    stages : tuple of str
        Trainings one after the other, each with a checkpoint of its own and all epochs of the
        recipe; most methods have one.
    settings : dict
        All settings as they are used, ready for JSON.

    Raises
    ------
    MethodError
        If there is no such setting, or a value does not fit.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"widths": WIDTHS}
    stages: ClassVar[tuple[str, ...]] = (ONLY_STAGE,)

    def __init__(self, name: str, title: str, **settings: Any):
        self.name, self.title = name, title
        for key, value in settings.items():
            if key not in self.defaults:
                known = suggest(key, self.defaults)
                raise MethodError(f"method {name!r} has no setting {key!r}; {known}")
            _check_kind(name, key, value, self.defaults[key])
        chosen = {**self.defaults, **settings}
        self.settings = {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()}
        if "encoder" in self.settings:
            self._check_encoder()
        self.check()

    def _check_encoder(self) -> None:
        """Refuse an encoder or weights that are not there, and fix the padding they need."""
        chosen = self.settings
        if chosen["encoder"] == UNET:
            if chosen["weights"] != "none":
                told = f"{UNET!r} has no weights but random ones: choose an encoder of timm"
                raise MethodError(f"method {self.name!r}: {told}")
            chosen["padding"] = "symmetric"
            return
        from iavlib.models.unet import PADDINGS, padding_for

        if chosen["weights"] not in ("none", "file", "hub"):
            known = suggest(chosen["weights"], ("none", "file", "hub"))
            raise MethodError(f"method {self.name!r}: no weights {chosen['weights']!r}; {known}")
        if chosen["padding"] == "weights":
            try:
                chosen["padding"] = padding_for(chosen["encoder"], chosen["weights"])
            except (ModelError, DataError) as error:
                raise MethodError(f"method {self.name!r}: {error}") from error
        if chosen["padding"] not in PADDINGS:
            known = suggest(chosen["padding"], PADDINGS)
            raise MethodError(f"method {self.name!r}: no padding {chosen['padding']!r}; {known}")

    def backbone(self, problem: Problem) -> nn.Module:
        """Make the U-Net of :data:`UNET_SETTINGS`: it gives ``features`` maps of pictures' size."""
        chosen = self.settings
        if chosen["encoder"] == UNET:
            widths = stages_for(problem.height, problem.width, chosen["widths"])
            return UNet(problem.channels, widths)
        from iavlib.models.unet import EncoderUNet

        decoder, padding = chosen["decoder"], chosen["padding"]
        return EncoderUNet(problem.channels, chosen["encoder"], decoder, padding)

    def check(self) -> None:  # noqa: B027 (most have nothing more to check)
        """Raise :class:`MethodError` where settings make no sense."""

    @abstractmethod
    def build(self, problem: Problem) -> nn.Module:
        """Make the network; random weights come from PyTorch's global generator, seeded before.

        Where a recipe treats a backbone apart, it finds it as the network's ``backbone``.
        """

    def start(self, network: nn.Module, data: MultiAnnotatorSet) -> None:  # noqa: B027
        """Put into the network what it takes from the training part other than by training."""

    def begin(self, network: nn.Module, stage: str) -> None:  # noqa: B027
        """Make ready for a stage: freeze what it leaves alone (``requires_grad_``)."""

    def targets(
        self, data: MultiAnnotatorSet, stage: str, network: nn.Module | None
    ) -> dict[str, np.ndarray]:
        """Return what batches hold beside pictures; the label maps as they are unless changed.

        Parameters
        ----------
        data : MultiAnnotatorSet
            The training part.
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
        """Say what the network knows of normalised pictures (B, channels, H, W).

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

    def known_confusion(self, network: nn.Module) -> np.ndarray | None:
        """Return matrices (R, C, C) that a method has without looking at a picture, or None."""
        return None

    def fit(self, data, recipe, seed: int = 0, folder=None, **options):
        """Train; see :func:`iavlib.multiannotator.fit`."""
        from iavlib.multiannotator.fitting import fit

        return fit(self, data, recipe, seed, folder, **options)


def label_likelihood(maps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute how improbable the labels are that annotators gave.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Probabilities, not logits.
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the picture.

    Returns
    -------
    loss : torch.Tensor, shape (B, R)
        Mean over pixels of -log p(label); exactly 0, with no gradient, where labels are missing.
    given : torch.Tensor of bool, shape (B, R)
    """
    given = labels[:, :, 0, 0] >= 0
    chosen = maps.gather(2, labels.clamp_min(0).long().unsqueeze(2)).squeeze(2)
    # Missing labels are taken out before the logarithm: what is there cannot reach a gradient.
    chosen = torch.where(given[..., None, None], chosen, torch.ones_like(chosen))
    return -(chosen.clamp_min(EPSILON)).log().mean((2, 3)), given


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the mean over pixels of the cross-entropy with probabilities: (B,)."""
    return -(target * logits.log_softmax(1)).sum(1).mean((1, 2))


def _check_kind(name: str, key: str, value: Any, default: Any) -> None:
    """Refuse what is not of the default's kind; a default of None takes any number or None."""
    if isinstance(default, bool):
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        good = isinstance(value, int) and not isinstance(value, bool)
        wanted = "a whole number"
    elif isinstance(default, float) or default is None:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        good, wanted = good or (value is None and default is None), "a number"
    elif isinstance(default, str):
        good, wanted = isinstance(value, str), "a text"
    else:
        good = isinstance(value, list | tuple) and len(value) > 0
        good = good and all(isinstance(one, int) and one > 0 for one in value)
        wanted = "a list of whole numbers above 0"
    if not good:
        raise MethodError(f"method {name!r}: {key} is {value!r}, it must be {wanted}")


if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Entry:
    """A method under one name, with the settings that the name stands for.

    Attributes
    ----------
    name, title : str
    method : type
        Derived from :class:`iavlib.multiannotator.Method`.
    settings : mapping
        Those that differ from the class's own defaults.
    """

    name: str
    title: str
    method: type[Method]
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Methods(Mapping):
    """All methods, imported when they are first asked for."""

    def __init__(self):
        self._entries: dict[str, Entry] = {}
        self._found = False

    def add(self, entry: Entry) -> None:
        before = self._entries.get(entry.name)
        if before is not None and before.method.__module__ != entry.method.__module__:
            raise MethodError(f"two methods are called {entry.name!r}: rename one")
        self._entries[entry.name] = entry

    def _all(self) -> dict[str, Entry]:
        if not self._found:
            from iavlib.multiannotator import methods

            for module in pkgutil.iter_modules(methods.__path__):
                importlib.import_module(f"{methods.__name__}.{module.name}")
            self._found = True
        return self._entries

    def __getitem__(self, name: str) -> Entry:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())


#: Name to :class:`Entry`.
METHODS: Mapping[str, Entry] = _Methods()


def register(name: str, title: str, **settings: Any) -> Callable[[type], type]:
    """Make a class known as a method; several names may stand for one class's settings.

    Parameters
    ----------
    name, title : str
        The title stands in tables and figures.
    **settings
        Those of the class's defaults that the name changes.
    """

    def known(method: type) -> type:
        METHODS.add(Entry(name, title, method, settings))
        return method

    return known


def method_names() -> tuple[str, ...]:
    """Read the names of all methods from their files, without importing PyTorch.

    Returns
    -------
    tuple of str
        Those of :data:`METHODS`, sorted.
    """
    found = set()
    for path in (Path(__file__).parent / "methods").glob("*.py"):
        for subset in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            marks = subset.decorator_list if isinstance(subset, ast.ClassDef) else ()
            calls = (one for one in marks if isinstance(one, ast.Call))
            named = (one for one in calls if getattr(one.func, "id", "") == register.__name__)
            found |= {one.args[0].value for one in named}
    return tuple(sorted(found))


def make_method(name: str, **settings: Any) -> Method:
    """Make a method by its name.

    Parameters
    ----------
    name : str
        Of :data:`METHODS`.
    **settings
        What differs from what the name stands for.

    Raises
    ------
    MethodError
        If there is no such method or setting (near names are suggested), or a value is impossible.
    """
    if name not in METHODS:
        raise MethodError(f"there is no method {name!r}; {suggest(name, METHODS)}")
    entry = METHODS[name]
    return entry.method(name, entry.title, **{**entry.settings, **settings})
