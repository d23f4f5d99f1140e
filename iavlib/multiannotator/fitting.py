"""Training any method on any set, prediction with it, saving and reading it back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iavlib.core.errors import MethodError
from iavlib.masks import class_dice
from iavlib.models.model_files import read_model, write_model
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import posterior_classes
from iavlib.multiannotator.losses import label_likelihood
from iavlib.multiannotator.method import Method, Outputs, Problem
from iavlib.multiannotator.methods import make_method
from iavlib.multiannotator.prediction import Prediction, join_predictions
from iavlib.training.batches import ImageBatches, normalise
from iavlib.training.hardware import choose_device, seeded
from iavlib.training.loop import CHECKPOINT, fit as train
from iavlib.training.objectives import Objective
from iavlib.training.predict import evaluating
from iavlib.training.recipe import Recipe

N_SAMPLES = 16


@dataclass
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

    method: Method
    network: nn.Module
    problem: Problem
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    weights: Any = None

    def predict(
        self, images, n_samples: int = N_SAMPLES, seed: int = 0, batch_size: int = 64
    ) -> Prediction:
        """Predict images.

        Parameters
        ----------
        images : MultiAnnotatorSet or numpy.ndarray, shape (n, height, width, channels)
            uint8, or float from 0 to 1; of any height and width.
        n_samples : int
            How many label maps are drawn by a method that draws.
        seed : int
            Of these draws.
        batch_size : int

        Raises
        ------
        MethodError
            If the images have another number of channels than those trained on, or there are
            none.
        """
        return join_predictions(list(self.predict_batches(images, n_samples, seed, batch_size)))

    def predict_batches(
        self, images, n_samples: int = N_SAMPLES, seed: int = 0, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """Predict as :meth:`predict`, one batch of images at a time."""
        if isinstance(images, MultiAnnotatorSet):
            ids, pixels = images.ids, images.images
        else:
            pixels = np.asarray(images)
            ids = pd.Index([str(number) for number in range(len(pixels))], name="image_id")
        channels = self.problem.channels
        if pixels.ndim != 4 or pixels.shape[-1] != channels or not len(pixels):
            wanted = f"(n, height, width, {channels}): give at least one such image"
            raise MethodError(f"images of shape {pixels.shape}; the network takes {wanted}")
        for first, outputs in self._outputs(pixels, n_samples, seed, batch_size):
            yield _prediction(ids[first : first + batch_size], self.problem.annotators, outputs)

    def fuse(self, dataset: MultiAnnotatorSet, batch_size: int = 64) -> np.ndarray | None:
        """Combine the predictions of images with the labels that they have.

        By the method's own rule or, with confusion matrices, by Bayes' rule. To be compared with
        the majority vote and STAPLE of the same labels; a prediction uses the image alone.

        Parameters
        ----------
        dataset : MultiAnnotatorSet
            Of the annotators learnt from.
        batch_size : int

        Returns
        -------
        numpy.ndarray of float32, shape (n, classes, height, width), or None
            Probabilities of the true class; None of a method without either.

        Raises
        ------
        MethodError
            If the annotators are not those learnt from.
        """
        if dataset.annotators != self.problem.annotators:
            given, learnt = map(", ".join, (dataset.annotators, self.problem.annotators))
            hint = "give these, in this order"
            raise MethodError(f"labels of {given}; the method learnt from {learnt}: {hint}")
        fused = self.method.fuse(self.network, dataset)
        if fused is not None:
            return fused
        posterior: list[np.ndarray] = []
        for first, outputs in self._outputs(dataset.images, 1, 0, batch_size):
            if outputs.confusion is None:
                return None
            arrays = (_array(outputs.consensus), _array(outputs.confusion))
            posterior += map(posterior_classes, *arrays, dataset.labels[first : first + batch_size])
        return np.stack(posterior).astype(np.float32)

    def _outputs(
        self, pixels: np.ndarray, n_samples: int, seed: int, batch_size: int
    ) -> Iterator[tuple[int, Outputs]]:
        """Run the network over images; yield the position of each batch's first one too."""
        device = next(iter(self.network.parameters())).device
        generator = torch.Generator().manual_seed(seed)
        mean, std = (torch.tensor(v, device=device) for v in (self.problem.mean, self.problem.std))
        for first in range(0, len(pixels), batch_size):
            some = torch.from_numpy(np.ascontiguousarray(pixels[first : first + batch_size]))
            batch = normalise(some.to(device), mean, std)
            with evaluating(self.network), torch.inference_mode():
                yield first, self.method.outputs(self.network, batch, generator, n_samples)

    @property
    def n_parameters(self) -> int:
        """Number of parameters that a prediction uses."""
        return sum(one.numel() for one in self.method.predictor(self.network).parameters())


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
        Of a set that is split, the subset ``train`` is learnt from and ``val`` validated on.
    recipe : iavlib.training.recipe.Recipe
        Its augmentation is ``none`` or ``flips``.
    seed : int
        Of the weights, the order of images, augmentation and draws.
    folder : pathlib.Path, optional
        Where checkpoints are written after each epoch, from which a training that was stopped
        resumes with the same result; :func:`clear_checkpoints` removes them.
    validation : MultiAnnotatorSet, optional
        Measured after each epoch: ``nll``, the negative log-likelihood of the annotators' labels
        (mean over pixels and labels), and ``dice`` to the truth where one is known. Selecting an
        epoch by ``dice`` uses information that a user does not have.
    device : str or torch.device
    progress : bool or callable
        As for :func:`iavlib.training.loop.fit`.

    Returns
    -------
    FittedMethod

    Raises
    ------
    LabelError
        If an annotator labelled none of the training images.
    MethodError
        If the method learns from diagnoses and the set has none.
    TrainingError, CheckpointError, NonFiniteLossError
        As :func:`iavlib.training.loop.fit`.
    """
    if data.subsets is not None:
        if validation is None and "val" in data.subsets:
            validation = data.subset("val")
        data = data.subset("train")
    data.require_seen()
    if method.needs_diagnosis and data.diagnosis is None:
        method.refuse(f"it learns from diagnoses, and set {data.name!r} has none")
    device = choose_device(device)
    problem = Problem.of(data, method.normalise)
    network = build_network(method, problem, seed)
    weights = method.pretrain(network)
    network = network.to(device)
    method.start(network, data, recipe)
    histories = []
    for stage in method.stages:
        with evaluating(network):
            targets = method.targets(data, stage, network)
        key = repr((data.fingerprint, method.name, method.settings, stage))
        given = (data.images, data.ids, targets, problem.mean, problem.std, device, key)
        batches = ImageBatches.from_arrays(*given)
        method.begin(network, stage)
        objective = _StageObjective(method, stage, problem, validation)
        subfolder = None if folder is None else _stage_folder(Path(folder), method, stage)
        history = train(network, batches, objective, recipe, subfolder, seed, progress)
        histories.append(history.assign(stage=stage))
    network.requires_grad_(True)
    history = pd.concat(histories, ignore_index=True)
    return FittedMethod(method, network, problem, history, weights)


def build_network(method: Method, problem: Problem, seed: int) -> nn.Module:
    """Build a method's network with weights that depend on the seed alone."""
    with seeded(seed, torch.device("cpu")):
        return method.build(problem)


def clear_checkpoints(method: Method, folder: Path) -> None:
    """Remove the checkpoints of a finished training."""
    for stage in method.stages:
        subfolder = _stage_folder(Path(folder), method, stage)
        (subfolder / CHECKPOINT).unlink(missing_ok=True)
        if subfolder != Path(folder) and subfolder.is_dir() and not any(subfolder.iterdir()):
            subfolder.rmdir()


def _stage_folder(folder: Path, method: Method, stage: str) -> Path:
    return folder if len(method.stages) == 1 else folder / f"stage-{stage}"


class _StageObjective(Objective):
    """A stage of a method for the training loop."""

    def __init__(self, method: Method, stage: str, problem: Problem, validation):
        self._method, self._stage, self._problem = method, stage, problem
        self._validation = validation

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        return self._method.loss(model, batch, epoch, self._stage)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._validation is None:
            return {}
        return _validate(FittedMethod(self._method, model, self._problem), self._validation)


def _validate(fitted: FittedMethod, dataset: MultiAnnotatorSet) -> dict[str, float]:
    """Measure ``nll`` and, where the truth is known, ``dice``; see :func:`fit`."""
    total, n_given, dice = 0.0, 0, 0.0
    for batch in fitted.predict_batches(dataset, n_samples=4):
        some = batch.images_of(dataset)
        maps = batch.maps if batch.maps is not None else batch.consensus[:, None]
        maps = torch.from_numpy(maps).expand(-1, len(dataset.annotators), -1, -1, -1)
        loss, given = label_likelihood(maps, torch.from_numpy(some.labels))
        total, n_given = total + float(loss[given].sum()), n_given + int(given.sum())
        if some.truth is not None:
            dice += class_dice(batch.labels, some.truth, dataset.n_classes).mean() * len(batch)
    measured = {"nll": total / n_given}
    return measured if dataset.truth is None else measured | {"dice": float(dice / len(dataset))}


def _array(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.float().cpu().numpy()


def _prediction(ids, annotators: tuple[str, ...], outputs: Outputs) -> Prediction:
    consensus, samples = outputs.consensus.float(), outputs.samples
    if samples is None:
        samples = (consensus[:, None] if outputs.maps is None else outputs.maps).argmax(2)
    arrays = {name: _array(values) for name, values in vars(outputs).items()}
    arrays["samples"] = samples.to(torch.int8).cpu().numpy()
    if outputs.confusion is not None:
        # The mean of a column over the pixels of its class, and over all pixels.
        matrices = outputs.confusion.float()
        matrices = matrices.expand(*matrices.shape[:4], *consensus.shape[-2:])
        taken = nn.functional.one_hot(consensus.argmax(1), consensus.shape[1])
        weights = taken.movedim(-1, 1)[:, None, None].to(matrices.dtype)
        arrays["confusion"] = _array((matrices * weights).sum((4, 5)) / weights.sum((4, 5)))
        arrays["confusion_plain"] = _array(matrices.mean((4, 5)))
    return Prediction(ids, annotators, **arrays)


def save_method(fitted: FittedMethod, folder: str | Path) -> Path:
    """Write a method; see :func:`iavlib.models.model_files.write_model` for the two files.

    Returns
    -------
    Path
        Of the tensors.
    """
    name, settings = fitted.method.name, fitted.method.settings
    sidecar = {"method": name, "settings": settings, "problem": asdict(fitted.problem)}
    return write_model(fitted.network, folder, sidecar, method=name)


def load_method(folder: str | Path) -> FittedMethod:
    """Read a method that :func:`save_method` wrote; see :func:`iavlib.models.read_model`.

    Returns
    -------
    FittedMethod
        On the CPU, without a history.
    """

    def build(sidecar) -> FittedMethod:
        # An earlier version had a setting for the start of training, which is over.
        settings = {k: v for k, v in sidecar["settings"].items() if k != "start_diagonal"}
        method = make_method(sidecar["method"], **settings)
        problem = Problem.from_json(sidecar["problem"])
        return FittedMethod(method, build_network(method, problem, 0), problem)

    return read_model(folder, build)


def parameter_counts(
    methods: Sequence[str], annotators: Sequence[int] = (2, 5, 15, 50), **settings: Any
) -> pd.DataFrame:
    """Count the parameters of methods, by how many annotators there are.

    Networks for colour images of two classes and 64 x 64 pixels are built without memory for their
    weights.

    Parameters
    ----------
    methods : sequence of str
        Names of :data:`iavlib.multiannotator.METHODS`.
    annotators : sequence of int
    **settings
        Of all the methods.

    Returns
    -------
    pandas.DataFrame
        Index ``method``; a column for each number of annotators, and ``percent_each``: by how many
        per cent of the first column one more annotator enlarges the network, on average.

    Raises
    ------
    MethodError
        If there is no such method or setting.
    """
    rows: dict[str, list[int]] = {}
    for name in methods:
        method = make_method(name, **settings)
        for n in annotators:
            names, grey = tuple(map(str, range(n))), (0.5,) * 3
            problem = Problem(names, 2, 3, 64, 64, grey, grey, {"foreground": (1,)})
            with torch.device("meta"):
                fitted = FittedMethod(method, method.build(problem), problem)
            rows.setdefault(name, []).append(fitted.n_parameters)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(annotators))
    first, last = annotators[0], annotators[-1]
    more = (table[last] - table[first]) / (last - first)
    return table.assign(percent_each=100 * more / table[first]).rename_axis("method")
