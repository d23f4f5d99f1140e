"""Training any method on any set, and using what was learnt.

Saving what a method learnt, and reading it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iavlib.core.errors import MethodError
from iavlib.models.model_files import read_model, write_model
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import posterior_classes
from iavlib.multiannotator.method import Method, Outputs, Problem, label_likelihood, make_method
from iavlib.multiannotator.metrics import mean_dice
from iavlib.multiannotator.prediction import Prediction, join_predictions
from iavlib.training.batches import ImageBatches, normalise
from iavlib.training.hardware import choose_device, seeded
from iavlib.training.loop import CHECKPOINT, fit as train
from iavlib.training.objectives import Objective
from iavlib.training.predict import evaluating
from iavlib.training.recipe import Recipe

TRAIN, VALIDATION = "train", "val"
N_SAMPLES = 16


class FittedMethod:
    """A method with a trained network.

    Attributes
    ----------
    method : Method
    network : torch.nn.Module
    problem : Problem
    history : pandas.DataFrame
        As :func:`iavlib.training.loop.fit`, with a column ``stage``.
    weights : iavlib.models.Weights or None
        Those that its encoder started from; None where all weights were random.
    """

    def __init__(
        self, method: Method, network: nn.Module, problem: Problem, history=None, weights=None
    ):
        self.method, self.network, self.problem = method, network, problem
        self.weights = weights
        self.history: pd.DataFrame = pd.DataFrame() if history is None else history

    def predict(
        self, images, n_samples: int = N_SAMPLES, seed: int = 0, batch_size: int = 64
    ) -> Prediction:
        """Predict pictures.

        Parameters
        ----------
        images : MultiAnnotatorSet or numpy.ndarray, shape (n, height, width, channels)
            uint8, or float from 0 to 1; of any height and width.
        n_samples : int
            How many label maps are drawn by a method that draws.
        seed : int
            Of these.
        batch_size : int

        Raises
        ------
        MethodError
            If the pictures have another number of channels than those trained on, or there are
            none.
        """
        subsets = list(self.predict_parts(images, n_samples, seed, batch_size))
        return join_predictions(subsets)

    def predict_parts(
        self, images, n_samples: int = N_SAMPLES, seed: int = 0, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """Predict as :meth:`predict`, one lot of pictures at a time."""
        ids, pixels = _pictures(images, self.problem)
        for first, found in self._outputs(pixels, n_samples, seed, batch_size):
            yield _prediction(ids[first : first + batch_size], self.problem.annotators, found)

    def fuse(self, labelled: MultiAnnotatorSet, batch_size: int = 64) -> np.ndarray | None:
        """Combine what is predicted of pictures with the labels that they have, by Bayes' rule.

        What majority vote and STAPLE make of the same labels is to be compared with this; a
        prediction sees the picture alone.

        Parameters
        ----------
        labelled : MultiAnnotatorSet
            Of the annotators learnt from.
        batch_size : int

        Returns
        -------
        numpy.ndarray of float32, shape (n, classes, height, width), or None
            Probabilities of the true class; None of a method without confusion matrices.

        Raises
        ------
        MethodError
            If the annotators are not those learnt from.
        """
        if labelled.annotators != self.problem.annotators:
            raise MethodError(
                f"labels of {', '.join(labelled.annotators)}; the method learnt from "
                f"{', '.join(self.problem.annotators)}: give these, in this order"
            )
        fused = []
        for first, found in self._outputs(labelled.images, 1, 0, batch_size):
            if found.confusion is None:
                return None
            arrays = (one.float().cpu().numpy() for one in (found.consensus, found.confusion))
            fused += map(posterior_classes, *arrays, labelled.labels[first : first + batch_size])
        return np.stack(fused).astype(np.float32)

    def _outputs(
        self, pixels: np.ndarray, n_samples: int, seed: int, batch_size: int
    ) -> Iterator[tuple[int, Outputs]]:
        """Run the network over pictures; yield the position of each lot's first one too."""
        device = next(iter(self.network.parameters())).device
        generator = torch.Generator().manual_seed(seed)
        mean, std = (torch.tensor(v, device=device) for v in (self.problem.mean, self.problem.std))
        for first in range(0, len(pixels), batch_size):
            some = torch.from_numpy(np.ascontiguousarray(pixels[first : first + batch_size]))
            batch = normalise(some.to(device), mean, std)
            with evaluating(self.network), torch.inference_mode():
                yield first, self.method.outputs(self.network, batch, generator, n_samples)

    def confusion(self) -> np.ndarray | None:
        """Return matrices (R, C, C) that are known without a picture; None where there are none."""
        return self.method.known_confusion(self.network)

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(one.numel() for one in self.network.parameters())


def fit(
    method: Method,
    data: MultiAnnotatorSet,
    recipe: Recipe,
    seed: int = 0,
    folder: Path | None = None,
    validation: MultiAnnotatorSet | None = None,
    device: str | torch.device = "auto",
    progress: bool | Callable[[dict], None] = False,
) -> FittedMethod:
    """Train a method.

    Parameters
    ----------
    method : Method
        See :func:`iavlib.multiannotator.make_method`.
    data : MultiAnnotatorSet
        Of one that is split, the part ``train`` is learnt from and ``val`` validated on.
    recipe : iavlib.training.recipe.Recipe
        Its augmentation is ``none`` or ``flips``.
    seed : int
        Of the weights, the order of pictures, augmentation and draws.
    folder : pathlib.Path, optional
        Where checkpoints are written after each epoch, from which a training that was stopped
        goes on to the same end; they are removed by :func:`clear_checkpoints`.
    validation : MultiAnnotatorSet, optional
        Measured after each epoch: ``nll``, how improbable the annotators' labels are (mean of -log
        p over pixels and labels), and ``dice`` to the truth where one is known. Choosing an epoch
        by ``dice`` uses what a user does not have.
    device : str or torch.device
    progress : bool or callable
        As for :func:`iavlib.training.loop.fit`.

    Returns
    -------
    FittedMethod

    Raises
    ------
    LabelError
        If an annotator labelled none of the training pictures.
    TrainingError, CheckpointError, NonFiniteLossError
        As :func:`iavlib.training.loop.fit`.
    """
    data, validation = _split(data, validation)
    data.require_seen()
    device = choose_device(device)
    problem = Problem.of(data)
    network = build_network(method, problem, seed)
    weights = _pretrain(method, network)
    network = network.to(device)
    method.start(network, data)
    histories = []
    for stage in method.stages:
        with evaluating(network):
            targets = method.targets(data, stage, network)
        key = repr((data.fingerprint, method.name, method.settings, stage))
        batches = ImageBatches.from_arrays(
            data.images, data.ids, targets, problem.mean, problem.std, device, key
        )
        method.begin(network, stage)
        objective = _StageObjective(method, stage, problem, validation)
        place = None if folder is None else _place(Path(folder), method, stage)
        history = train(network, batches, objective, recipe, place, seed, device, progress)
        histories.append(history.assign(stage=stage))
    network.requires_grad_(True)
    history = pd.concat(histories, ignore_index=True)
    return FittedMethod(method, network, problem, history, weights)


def _pretrain(method: Method, network: nn.Module):
    """Put pre-trained weights into encoders, where the method's settings say so."""
    chosen = method.settings.get("weights", "none")
    if chosen == "none":
        return None
    from iavlib.models.unet import load_encoders  # it brings a library of networks

    return load_encoders(network, chosen)


def build_network(method: Method, problem: Problem, seed: int) -> nn.Module:
    """Build a method's network with weights that follow from the seed alone."""
    with seeded(seed, torch.device("cpu")):
        return method.build(problem)


def clear_checkpoints(method: Method, folder: Path) -> None:
    """Remove the checkpoints of a training that is done."""
    for stage in method.stages:
        place = _place(Path(folder), method, stage)
        (place / CHECKPOINT).unlink(missing_ok=True)
        if place != Path(folder) and place.is_dir() and not any(place.iterdir()):
            place.rmdir()


class _StageObjective(Objective):
    """Ties a stage of a method to the training loop."""

    def __init__(self, method: Method, stage: str, problem: Problem, validation):
        self._method, self._stage, self._problem = method, stage, problem
        self._validation = validation

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        return self._method.loss(model, batch, epoch, self._stage)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._validation is None:
            return {}
        fitted = FittedMethod(self._method, model, self._problem)
        return validate(fitted, self._validation)


def validate(fitted: FittedMethod, labelled: MultiAnnotatorSet) -> dict[str, float]:
    """Measure ``nll`` and, where the truth is known, ``dice``; see :func:`fit`."""
    lost, n_given, dice, start = 0.0, 0, 0.0, 0
    for subset in fitted.predict_parts(labelled, n_samples=4):
        some = labelled.take(np.arange(start, start + len(subset)))
        start += len(subset)
        maps = subset.maps if subset.maps is not None else subset.consensus[:, None]
        maps = torch.from_numpy(maps).expand(-1, len(labelled.annotators), -1, -1, -1)
        loss, given = label_likelihood(maps, torch.from_numpy(some.labels))
        lost, n_given = lost + float(loss[given].sum()), n_given + int(given.sum())
        if some.truth is not None:
            dice += mean_dice(subset.labels, some.truth, subset.n_classes) * len(subset)
    measured = {"nll": lost / n_given}
    return measured if labelled.truth is None else measured | {"dice": dice / len(labelled)}


def _split(data: MultiAnnotatorSet, validation):
    if data.subsets is None:
        return data, validation
    if validation is None and VALIDATION in data.subsets:
        validation = data.subset(VALIDATION)
    return data.subset(TRAIN), validation


def _place(folder: Path, method: Method, stage: str) -> Path:
    return folder if len(method.stages) == 1 else folder / f"stage-{stage}"


def _pictures(images, problem: Problem) -> tuple[pd.Index, np.ndarray]:
    if isinstance(images, MultiAnnotatorSet):
        ids, pixels = images.ids, images.images
    else:
        pixels = np.asarray(images)
        ids = pd.Index([str(number) for number in range(len(pixels))], name="image_id")
    if pixels.ndim != 4 or pixels.shape[-1] != problem.channels or not len(pixels):
        raise MethodError(
            f"pictures of shape {pixels.shape}; the network was trained on (n, height, width, "
            f"{problem.channels}): give at least one such picture"
        )
    return ids, pixels


def _prediction(ids, annotators: tuple[str, ...], found: Outputs) -> Prediction:
    consensus = found.consensus.float()
    samples = found.samples
    if samples is None:
        each = consensus[:, None] if found.maps is None else found.maps
        samples = each.argmax(2)
    by_class = plain = None
    if found.confusion is not None:
        by_class, plain = _image_confusion(found.confusion.float(), consensus)
    return Prediction(
        ids=ids,
        annotators=annotators,
        consensus=consensus.cpu().numpy(),
        maps=None if found.maps is None else found.maps.float().cpu().numpy(),
        samples=samples.to(torch.int8).cpu().numpy(),
        confusion=by_class,
        confusion_plain=plain,
        levels=None if found.levels is None else found.levels.float().cpu().numpy(),
    )


def _image_confusion(confusion: Tensor, consensus: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Average matrices (B, R, C, C, H, W) over pixels: a column where its class is, and all."""
    confusion = confusion.expand(*confusion.shape[:4], *consensus.shape[-2:])
    taken = torch.nn.functional.one_hot(consensus.argmax(1), consensus.shape[1])
    weights = taken.movedim(-1, 1)[:, None, None].to(confusion.dtype)
    by_class = (confusion * weights).sum((4, 5)) / weights.sum((4, 5))
    return by_class.cpu().numpy(), confusion.mean((4, 5)).cpu().numpy()


def save_method(fitted: FittedMethod, folder: str | Path) -> Path:
    """Write the tensors and, last, the method with its settings and what it was built for.

    See :mod:`iavlib.models.model_files` for the two files.

    Returns
    -------
    Path
        Of the tensors.

    Raises
    ------
    OSError
        If the disk is full or not writable; what was there before is still there.
    """
    sidecar = {
        "method": fitted.method.name,
        "settings": fitted.method.settings,
        "problem": fitted.problem.to_json(),
    }
    return write_model(fitted.network, folder, sidecar, method=fitted.method.name)


def load_method(folder: str | Path) -> FittedMethod:
    """Read a model that :func:`save_method` wrote; see :func:`iavlib.models.read_model`.

    Returns
    -------
    FittedMethod
        On the CPU, without a history.
    """

    def build(sidecar) -> FittedMethod:
        method = make_method(sidecar["method"], **sidecar["settings"])
        problem = Problem.from_json(sidecar["problem"])
        return FittedMethod(method, build_network(method, problem, 0), problem)

    return read_model(folder, build)
