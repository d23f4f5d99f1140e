"""What a network is trained for: a loss of a batch, and measures on the validation images.

One objective serves image networks with heads: regression, two-class diagnosis, or both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.core.errors import TrainingError
from iavlib.training.batches import ImageBatches
from iavlib.training.losses import get_loss
from iavlib.training.predict import evaluating, predict, predict_features

#: Names of the two heads, and of their targets in the batches.
DIAGNOSIS, AGREEMENT = "diagnosis", "iaa"
#: Name of a target that is appended to the features of the diagnosis, for a control.
INPUT = "iaa_input"
#: Module of a network that holds learned weights of the two losses while it is trained.
WEIGHTING = "weighting"


class Objective(ABC):
    """What :func:`iavlib.training.loop.fit` trains for; each task derives a small class."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Compute the loss of a batch, a scalar, from ``batch["images"]`` and its targets."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure the model on the validation images; ``Recipe.select`` names one measure."""
        return {}

    def check(self, batches: ImageBatches) -> None:  # noqa: B027 (most have nothing to check)
        """Raise :class:`TrainingError` where the training images do not fit; called at first."""


@dataclass
class ImageObjective(Objective):
    """Predict one number per image, distinguish class 1 (malignant) from class 0, or both.

    Attributes
    ----------
    validation : ImageBatches
        What the model is measured on after each epoch.
    regression : str, optional
        Name of the number: of the head and of the target. Beside a diagnosis, images whose number
        is not known (NaN) take no part in it; alone, all must be known.
    loss_name : str
        Of the regression, in :data:`iavlib.training.losses.LOSSES`; also defines how raw outputs
        become a prediction.
    class_loss : callable, optional
        From logits (n, 2) and labels (n,) to a scalar; the head and the target are called
        ``diagnosis``. None without a diagnosis.
    combine : callable, optional
        From the losses of diagnosis and regression to one. None takes the model's own module
        ``weighting``, whose parameters are learned with it.
    run_all_heads : bool
        Also run heads that are not trained, so that the moving statistics of their BatchNorm
        follow the images, as in the published fine-tuning.
    with_input : bool
        Whether the target ``iaa_input`` is appended to the features of the diagnosis.
    batch_size : int
        For evaluation.
    """

    validation: ImageBatches
    regression: str | None = None
    loss_name: str = "smooth_l1"
    class_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    combine: Callable[[Tensor, Tensor], Tensor] | None = None
    run_all_heads: bool = False
    with_input: bool = False
    batch_size: int = 64

    def __post_init__(self):
        self._loss = get_loss(self.loss_name)

    def check(self, batches: ImageBatches) -> None:
        """Raise :class:`TrainingError` where targets do not fit; the message names images.

        A diagnosis needs both classes among training and validation images; a regression numbers,
        from 0 to 1 where its loss is bounded.
        """
        for subset, images in {"training": batches, "validation": self.validation}.items():
            if self.class_loss is not None:
                labels = images.target(DIAGNOSIS)
                _refuse(images, ~np.isin(labels, (0, 1)), subset, DIAGNOSIS, "neither 0 nor 1")
                if len(np.unique(labels)) < 2:
                    problem = f"the {len(labels)} {subset} images are all of class {labels[0]}"
                    raise TrainingError(f"{problem}: split them so that each subset has both")
            else:
                values, bounded = images.target(self.regression), self._loss.bounded
                wrong = ~np.isfinite(values)
                _refuse(images, wrong, subset, self.regression, "missing or infinite")
                wrong = bounded & ((values < 0) | (values > 1))
                _refuse(images, wrong, subset, self.regression, "outside [0, 1]")
        if self.regression and not np.isfinite(batches.target(self.regression)).any():
            raise TrainingError(f"no training image has a known {self.regression!r}")

    def loss(self, model: nn.Module, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Compute the loss of a batch."""
        if self.class_loss is None:
            return self._loss(self._head(model(batch["images"])), batch[self.regression])
        features = model.features(batch["images"])
        seen = _append_input(features, batch[INPUT]) if self.with_input else features
        diagnosis = self.class_loss(model.heads[DIAGNOSIS](seen), batch[DIAGNOSIS])
        if self.regression is None:
            if self.run_all_heads:
                for name in model.heads.keys() - {DIAGNOSIS}:
                    model.heads[name](features)
            return diagnosis
        raw, target = model.heads[self.regression](features), batch[self.regression]
        known = target.isfinite()
        regression = self._loss(raw[known], target[known]) if known.any() else raw.float().sum() * 0
        return (self.combine or getattr(model, WEIGHTING))(diagnosis, regression)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure the model on the validation images.

        Returns
        -------
        dict of str to float
            Of a diagnosis, which is malignant from a probability of one half, ``class_loss``,
            ``balanced_accuracy``, ``auroc``, ``sensitivity`` and ``specificity``; of a regression
            ``mae``, ``mse`` and ``pearson`` (0 for constant predictions) over images whose number
            is known.
        """
        measures: dict[str, float] = {}
        if self.class_loss is None:
            raw = predict(model, self.validation, self.batch_size)
        else:
            raw = predict_heads(model, self.validation, self.batch_size, self.with_input)
            measures = self._measure_diagnosis(raw[DIAGNOSIS])
        if self.regression is None:
            return measures
        point = self._loss.point(torch.from_numpy(self._head(raw)))
        true = self.validation.target(self.regression).astype(float)
        known = np.isfinite(true)
        predicted, true = point.numpy().astype(float)[known], true[known]
        if not known.any():
            return measures | dict.fromkeys(("mae", "mse", "pearson"), float("nan"))
        error, spread = predicted - true, predicted.std() * true.std()
        together = ((predicted - predicted.mean()) * (true - true.mean())).mean()
        pearson = together / spread if spread > 0 else 0.0
        agreement = {"mae": abs(error).mean(), "mse": (error**2).mean(), "pearson": pearson}
        return measures | {name: float(value) for name, value in agreement.items()}

    def _measure_diagnosis(self, logits: np.ndarray) -> dict[str, float]:
        from sklearn.metrics import roc_auc_score  # slow to import: only where there are classes

        labels = self.validation.target(DIAGNOSIS)
        called = logits[:, 1] >= logits[:, 0]
        sensitivity = float(called[labels == 1].mean())
        specificity = float(1 - called[labels == 0].mean())
        loss = self.class_loss(torch.from_numpy(logits), torch.from_numpy(labels))
        return {
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "auroc": float(roc_auc_score(labels, logits[:, 1] - logits[:, 0])),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "class_loss": float(loss),
        }

    def _head(self, outputs: dict):
        if self.regression not in outputs:
            known = ", ".join(outputs)
            raise TrainingError(f"the model has no output {self.regression!r}; it has: {known}")
        return outputs[self.regression]


def _refuse(images: ImageBatches, wrong, subset: str, target: str, what: str) -> None:
    if wrong.any():
        problem = f"{wrong.sum()} {subset} images have a {target!r} {what}"
        named = ", ".join(map(str, images.ids[wrong][:5]))
        raise TrainingError(f"{problem}: {named}. Leave them out, or correct their targets")


def predict_heads(
    network: nn.Module,
    batches: ImageBatches,
    batch_size: int = 64,
    with_input: bool = False,
    change: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, np.ndarray]:
    """Compute the raw output of each head for all images, from features of all of them.

    Parameters
    ----------
    network : iavlib.models.Network
    batches : ImageBatches
    batch_size : int
        Of the backbone.
    with_input : bool
        As for :class:`ImageObjective`.
    change : callable, optional
        Applied to the images of each batch first.

    Returns
    -------
    dict of str to numpy.ndarray of float32, shape (n, width)
        In the order of ``batches.ids``.
    """
    features = torch.from_numpy(predict_features(network, batches, batch_size, change))
    features = features.to(batches.device)
    outputs = {}
    with evaluating(network), torch.inference_mode():
        for name, head in network.heads.items():
            given = features
            if with_input and name == DIAGNOSIS:
                extra = torch.from_numpy(batches.target(INPUT)).to(batches.device)
                given = _append_input(features, extra)
            outputs[name] = head(given).float().cpu().numpy()
    return outputs


def malignant_probability(logits: np.ndarray) -> np.ndarray:
    """Turn logits (n, 2) into probabilities of class 1 (n,)."""
    difference = logits[:, 1].astype(float) - logits[:, 0]
    return np.exp(-np.logaddexp(0, -difference))


def _append_input(features: Tensor, extra: Tensor) -> Tensor:
    return torch.cat([features, extra[:, None].to(features.dtype)], dim=1)
