"""The model that comes with the library: two small heads on weights of `iavlib[weights]`.

Photographs are described by the pooled features of an ImageNet network that was not trained
further, averaged over four views. Malignancy is a logistic regression on them. Agreement is a
support vector regression with a Gaussian kernel on their first principal components, of which the
training images' are kept: they are its support, and what new images are compared with. Intervals
are calibrated on predictions of patients who were left out. ``tools/default_model.py`` makes it,
``default_model/README.md`` is its model card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iavlib.core.errors import DataError, PredictionError
from iavlib.core.files import load_json
from iavlib.experiments.config import Experiment
from iavlib.experiments.store import Result
from iavlib.experiments.tasks.image_training import SYMMETRIES, rotate
from iavlib.models.heads import HeadSpec
from iavlib.models.loading import read_tensors
from iavlib.models.network import Network, build_network
from iavlib.models.weights import EXTRA
from iavlib.predict.model import Predictor
from iavlib.predict.ood import OodReference
from iavlib.training.batches import ImageBatches
from iavlib.training.objectives import AGREEMENT, DIAGNOSIS, malignant_probability
from iavlib.training.predict import predict_features

FOLDER = Path(__file__).with_name("default_model")
TENSORS, FACTS = "heads.safetensors", "model.json"
_HINT = "install iavlib again"


class KernelHead(nn.Module):
    """A regression with a Gaussian kernel on principal components of the features.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        ``projection`` (F, K) and ``offset`` (K,): components are features times the former, less
        the latter; ``support`` (N, K); ``dual`` (N,); ``bias`` ().
    gamma : float
        Of the kernel exp(-gamma d²).
    """

    def __init__(self, tensors: Mapping[str, Tensor], gamma: float):
        super().__init__()
        self.gamma = gamma
        for name in ("projection", "offset", "support", "dual", "bias"):
            self.register_buffer(name, tensors[name].float())

    def components(self, features: Tensor) -> Tensor:
        """Return the principal components of features (B, F): (B, K)."""
        return features @ self.projection - self.offset

    def forward(self, features: Tensor) -> Tensor:
        """Return the prediction for features (B, F): (B, 1)."""
        some, support = self.components(features), self.support
        squared = some.square().sum(1)[:, None] + support.square().sum(1) - 2 * some @ support.T
        return (torch.exp(-self.gamma * squared.clamp(min=0)) @ self.dual + self.bias)[:, None]


@dataclass(frozen=True)
class PackagedRun(Result):
    """What is known of the model's training, in place of a run directory."""

    rows: pd.DataFrame

    @property
    def predictions(self) -> pd.DataFrame:
        """Predictions of left-out patients as subset ``val``; ids of all images as ``train``."""
        return self.rows


def load_default_model(folder: Path = FOLDER) -> Predictor:
    """Load the model that comes with the library.

    Raises
    ------
    WeightsUnavailable
        If the package of its weights is not installed.
    PredictionError
        If that package holds other weights.
    DataError
        If a file is damaged.
    """
    try:
        facts: dict[str, Any] = load_json(folder / FACTS)
        tensors = read_tensors(folder / TENSORS)
    except (OSError, ValueError) as error:
        raise DataError(folder, f"cannot be read ({error})", _HINT) from error
    network = add_heads(facts, tensors)
    if network.weights.detail != facts["weights"]["detail"]:
        problem = f"is for {facts['weights']['detail']}, not {network.weights.detail}"
        raise PredictionError("the default model", problem, EXTRA)
    ids = [f"ISIC_{number:07d}" for number in tensors["image"].tolist()]
    columns = {"true_iaa": "agreement", "predicted_iaa": "agreement_predicted"}
    rows = pd.DataFrame({name: tensors[key].numpy() for name, key in columns.items()})
    rows = pd.concat([rows.assign(image_id=ids, subset="val")] * 2, ignore_index=True)
    rows.loc[len(ids) :, ["subset", *columns]] = "train", np.nan, np.nan
    experiment = Experiment(
        **{name: facts[name] for name in ("cohort", "data", "files", "backbone")},
        **{
            "task": "multitask",
            "recipe": "probe",
            "weights": "package",
            "settings": {"alpha": 0.5},
        },
    )
    head: KernelHead = network.heads[AGREEMENT]
    matrix, offset = head.projection.numpy(), head.offset.numpy()
    reference = OodReference(
        head.support.numpy(),
        tensors["distances"].double().numpy(),
        facts["centre"],
        lambda features: features @ matrix - offset,
    )
    predict_fn = partial(predict, network, facts["views"])
    return Predictor(PackagedRun(experiment, folder, facts, rows), network, predict_fn, reference)


def add_heads(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Network:
    """Build the network of the packaged weights and give it its heads."""
    specs = {DIAGNOSIS: HeadSpec("linear", 2, dropout=0), AGREEMENT: HeadSpec("linear", dropout=0)}
    network = build_network(facts["backbone"], specs, "package").eval()
    network.heads[AGREEMENT] = KernelHead(tensors, facts["gamma"]).eval()
    linear, slope = network.heads[DIAGNOSIS][-1], tensors["malignancy"].float()
    with torch.no_grad():  # of two classes: logits differ by the whole
        linear.weight.copy_(torch.stack((-slope, slope)) / 2)
        linear.bias.copy_(facts["malignancy_bias"] * torch.tensor((-0.5, 0.5)))
    return network


def predict(network: Network, views: int, batches: ImageBatches) -> pd.DataFrame:
    """Predict from features averaged over views, as they were when the heads were fitted."""
    turns = [partial(rotate, quarters=q, mirrored=m) for q, m in SYMMETRIES[:views]]
    features = np.mean([predict_features(network, batches, change=turn) for turn in turns], axis=0)
    with torch.inference_mode():
        heads = network.cpu().from_features(torch.from_numpy(features))
    predicted = {
        "predicted": malignant_probability(heads[DIAGNOSIS].numpy()),
        "predicted_iaa": heads[AGREEMENT][:, 0].double().numpy(),
    }
    return pd.DataFrame(predicted, index=batches.ids)
