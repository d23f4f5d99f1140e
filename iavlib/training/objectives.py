"""What a network is trained for: a loss of a batch, and a measure of how well it does."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.training.batches import ImageBatches
from iavlib.training.errors import TrainingError
from iavlib.training.losses import get_loss
from iavlib.training.predict import predict


class Objective(ABC):
    """What :func:`iavlib.training.loop.fit` trains for; each task derives a small class."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Compute the loss of a batch, a scalar, from ``batch["images"]`` and its targets."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure the model on the validation part; ``Recipe.select`` names one of the measures."""

    def check(self, batches: ImageBatches) -> None:  # noqa: B027 (most have nothing to check)
        """Raise :class:`TrainingError` where the training images do not fit; called at first."""


@dataclass
class RegressionObjective(Objective):
    """Predict one number an image.

    Attributes
    ----------
    target : str
        Name of the target in the batches.
    validation : ImageBatches
        What the model is measured on after each epoch.
    head : str, optional
        Name of the model's output; that of the target unless given.
    loss_name : str
        Name in :data:`iavlib.training.losses.LOSSES`, which also says how raw outputs become a
        prediction.
    batch_size : int
        For evaluation.
    """

    target: str
    validation: ImageBatches
    head: str | None = None
    loss_name: str = "smooth_l1"
    batch_size: int = 64

    def __post_init__(self):
        self.head = self.head or self.target
        self._loss = get_loss(self.loss_name)

    def check(self, batches: ImageBatches) -> None:
        """Raise :class:`TrainingError` where targets are missing, or outside [0, 1] if they must.

        That is for training and validation images alike; the message names images.
        """
        for part, images in (("training", batches), ("validation", self.validation)):
            values = images.target(self.target)
            bad, what = ~np.isfinite(values), "missing or infinite"
            if self._loss.bounded and not bad.any():
                bad, what = (values < 0) | (values > 1), "outside [0, 1]"
            if bad.any():
                named = ", ".join(map(str, images.ids[bad][:5]))
                raise TrainingError(
                    f"{bad.sum()} {part} images have a {self.target!r} {what}: {named}. Leave them "
                    "out, or correct their targets"
                )

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Compute the mean loss of a batch."""
        return self._loss(_output(model(batch["images"]), self.head), batch[self.target])

    def predict(self, model: nn.Module, batches: ImageBatches) -> np.ndarray:
        """Compute the point prediction of each image, shape (n,), not clamped."""
        raw = _output(predict(model, batches, batch_size=self.batch_size), self.head)
        return self._loss.point(torch.from_numpy(raw)).numpy()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Compute MAE, MSE and Pearson's r (0 for constant predictions) on the validation part."""
        predicted = self.predict(model, self.validation).astype(float)
        true = self.validation.target(self.target).astype(float)
        error = predicted - true
        spread = predicted.std() * true.std()
        together = ((predicted - predicted.mean()) * (true - true.mean())).mean()
        pearson = together / spread if spread > 0 else 0.0
        measures = {"mae": abs(error).mean(), "mse": (error**2).mean(), "pearson": pearson}
        return {name: float(value) for name, value in measures.items()}


def _output(outputs: dict, head: str):
    if head not in outputs:
        raise TrainingError(f"the model has no output {head!r}; it has: {', '.join(outputs)}")
    return outputs[head]
