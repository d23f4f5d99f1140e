"""What a network is trained for: a loss of a batch, and a measure of how well it does.

A network that tells two classes apart, alone or beside the agreement on each image.

One objective serves all: with one head it is the diagnosis alone, with two the multi-task model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from iavlib.core.errors import TrainingError
from iavlib.training.batches import ImageBatches
from iavlib.training.losses import get_loss
from iavlib.training.predict import evaluating, predict, run_over


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
        for subset, images in (("training", batches), ("validation", self.validation)):
            values = images.target(self.target)
            bad, what = ~np.isfinite(values), "missing or infinite"
            if self._loss.bounded and not bad.any():
                bad, what = (values < 0) | (values > 1), "outside [0, 1]"
            if bad.any():
                named = ", ".join(map(str, images.ids[bad][:5]))
                raise TrainingError(
                    f"{bad.sum()} {subset} images have a {self.target!r} {what}: {named}. Leave them "
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


#: Names of the two heads, and of their targets in the batches.
DIAGNOSIS, AGREEMENT = "diagnosis", "iaa"
#: Name of a target that is handed in with the features, for a control.
INPUT = "iaa_input"
#: Part of a model that holds learned weights of the two losses while it is trained.
WEIGHTING = "weighting"
_NAMED = 5


@dataclass
class DiagnosisObjective(Objective):
    """Tell class 1 (malignant) from class 0, and predict agreement beside it if asked.

    Attributes
    ----------
    class_loss : torch.nn.Module
        From logits (n, 2) and labels (n,) to a scalar.
    validation : ImageBatches
    regression_loss : str, optional
        Name in :data:`iavlib.training.losses.LOSSES`; None for the diagnosis alone. Images
        whose agreement is not known (NaN) take no part in it.
    combine : torch.nn.Module, optional
        From both losses to one. None takes the model's own part called ``weighting``, whose
        parameters are learned with it.
    run_all_heads : bool
        Also run heads that are not trained, so that the moving statistics of their BatchNorm
        follow the images, as in the published fine-tuning.
    with_input : bool
        Whether the target ``iaa_input`` is appended to the features of the diagnosis.
    batch_size : int
        For evaluation.
    """

    class_loss: nn.Module
    validation: ImageBatches
    regression_loss: str | None = None
    combine: nn.Module | None = None
    run_all_heads: bool = False
    with_input: bool = False
    batch_size: int = 64

    def check(self, batches: ImageBatches) -> None:
        """Raise :class:`TrainingError` where a part lacks a class, or all agreement."""
        for subset, images in (("training", batches), ("validation", self.validation)):
            labels = images.target(DIAGNOSIS)
            strange = ~np.isin(labels, (0, 1))
            if strange.any():
                named = ", ".join(map(str, images.ids[strange][:_NAMED]))
                raise TrainingError(f"labels must be 0 or 1; they are not for {named}")
            if len(np.unique(labels)) < 2:
                raise TrainingError(
                    f"the {len(labels)} {subset} images are all of class {labels[0]}: split them so "
                    "that each part has both classes"
                )
        if self.regression_loss and not np.isfinite(batches.target(AGREEMENT)).any():
            raise TrainingError("no training image has a known agreement: there is nothing to add")

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Compute the loss of a batch."""
        features = model.features(batch["images"])
        seen = _with_input(features, batch) if self.with_input else features
        diagnosis = self.class_loss(model.heads[DIAGNOSIS](seen), batch[DIAGNOSIS])
        if self.regression_loss is None:
            if self.run_all_heads:
                for name in model.heads.keys() - {DIAGNOSIS}:
                    model.heads[name](features)
            return diagnosis
        raw = model.heads[AGREEMENT](features)
        combine = self.combine or getattr(model, WEIGHTING)
        return combine(diagnosis, self._regression(raw, batch[AGREEMENT]))

    def _regression(self, raw: Tensor, target: Tensor) -> Tensor:
        """Average the loss over images whose target is known; 0 where there are none."""
        known = target.isfinite()
        if not known.any():
            return raw.float().sum() * 0
        return get_loss(self.regression_loss)(raw[known], target[known])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure the diagnosis, called malignant from a probability of one half, and agreement.

        Gives ``balanced_accuracy``, ``auroc``, ``sensitivity``, ``specificity``, ``class_loss``,
        and with a regression ``mae`` and ``pearson`` over images whose agreement is known.
        """
        found = predict_heads(model, self.validation, self.batch_size, self.with_input)
        labels, logits = self.validation.target(DIAGNOSIS), found[DIAGNOSIS]
        called = logits[:, 1] >= logits[:, 0]
        sensitivity = float(called[labels == 1].mean())
        specificity = float(1 - called[labels == 0].mean())
        loss = self.class_loss(torch.from_numpy(logits), torch.from_numpy(labels))
        measured = {
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "auroc": float(roc_auc_score(labels, logits[:, 1] - logits[:, 0])),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "class_loss": float(loss),
        }
        return measured | (self._measure_agreement(found) if self.regression_loss else {})

    def _measure_agreement(self, found: dict[str, np.ndarray]) -> dict[str, float]:
        true = self.validation.target(AGREEMENT).astype(float)
        known = np.isfinite(true)
        if not known.any():
            return {"mae": float("nan"), "pearson": float("nan")}
        point = get_loss(self.regression_loss).point
        predicted = point(torch.from_numpy(found[AGREEMENT])).numpy().astype(float)[known]
        true = true[known]
        spread = predicted.std() * true.std()
        together = ((predicted - predicted.mean()) * (true - true.mean())).mean()
        pearson = together / spread if spread > 0 else 0.0
        return {"mae": float(np.abs(predicted - true).mean()), "pearson": float(pearson)}


def predict_heads(
    network: nn.Module,
    batches: ImageBatches,
    batch_size: int = 64,
    with_input: bool = False,
    change: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, np.ndarray]:
    """Compute what each head makes of all images.

    Parameters
    ----------
    network : iavlib.models.Network
    batches : ImageBatches
    batch_size : int
    with_input : bool
        As for :class:`DiagnosisObjective`.
    change : callable, optional
        Is given the images of each batch first, to turn them.

    Returns
    -------
    dict of str to numpy.ndarray of float32, shape (n, width)
        Raw output of each head, in the order of ``batches.ids``.
    """

    def see(images: Tensor) -> dict[str, Tensor]:
        return {"features": network.features(change(images) if change else images)}

    seen = run_over(network, see, batches, batch_size=batch_size)["features"]
    features = torch.from_numpy(seen).to(batches.device)
    found = {}
    with evaluating(network), torch.inference_mode():
        for name, head in network.heads.items():
            given = features
            if with_input and name == DIAGNOSIS:
                extra = torch.from_numpy(batches.target(INPUT)).to(batches.device)
                given = _with_input(features, {INPUT: extra})
            found[name] = head(given).float().cpu().numpy()
    return found


def malignant_probability(logits: np.ndarray) -> np.ndarray:
    """Turn logits (n, 2) into probabilities of class 1 (n,)."""
    difference = logits[:, 1].astype(float) - logits[:, 0]
    return np.exp(-np.logaddexp(0, -difference))


def _with_input(features: Tensor, batch: dict[str, Tensor]) -> Tensor:
    return torch.cat([features, batch[INPUT][:, None].to(features.dtype)], dim=1)
