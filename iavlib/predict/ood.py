r"""Out-of-distribution scores: is a new image like those that a network was trained on?

The distance of an image is that of its features, scaled to length 1, to those of the tenth
nearest training image. An image is *out of distribution* when its distance exceeds the
:math:`\lceil (n + 1) \cdot 0.95 \rceil`-th of the distances of the :math:`n` validation images,
which the network was not trained on. At most 5 % of images like those are flagged by chance. An
image that is not flagged may still be unusual in ways that the features do not represent.

References
----------
Sun, Y., Ming, Y., Zhu, X. and Li, Y. (2022). Out-of-distribution detection with deep nearest
neighbors. ICML, PMLR 162, 20827-20840.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from iavlib.core.errors import DataError, ExplainError, PredictionError
from iavlib.core.files import write_bytes
from iavlib.experiments.runner import load_data
from iavlib.explain.attribution import GRADCAM, Explainer
from iavlib.models.model_files import read_sidecar
from iavlib.stats.conformal import conformal_quantile
from iavlib.training.image_cache import cache_images

if TYPE_CHECKING:
    from iavlib.predict.model import Predictor

FILE = "ood.safetensors"
_OLD_FILE = "familiarity.safetensors"  # its name in 0.1, read until 0.3
NEIGHBOURS = 10
#: Share of images like the validation images that are flagged by chance.
ALPHA = 0.05
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class OodReference:
    """Features and distances that new images are compared with.

    Parameters
    ----------
    features : numpy.ndarray of float16, shape (n, F)
        Of the training images, each of length 1.
    validation : numpy.ndarray of float, shape (m,)
        Distances of the validation images.
    centre : mapping of str to float
        The zero of centred heat maps, from the validation images; see
        :meth:`iavlib.explain.Explainer.centre_on`. Empty where the network has no map.
    project : callable, optional
        Makes of features (k, F) those that are compared, which otherwise are the features.
    """

    features: np.ndarray
    validation: np.ndarray
    centre: Mapping[str, float] = field(default_factory=dict)
    project: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def threshold(self) -> float:
        """Distance above which an image is flagged; infinite for fewer than 19 images."""
        return conformal_quantile(self.validation, ALPHA)

    def score(self, features: np.ndarray) -> pd.DataFrame:
        """Compare new images with the training images.

        Parameters
        ----------
        features : numpy.ndarray of shape (k, F)

        Returns
        -------
        pandas.DataFrame
            One row per image: ``ood_distance`` (0 to 2), ``ood_p`` (share of validation images
            that are at least as far away, with the new image counted among them) and
            ``out_of_distribution`` (1 or 0; missing where the threshold is infinite, as no image
            could be flagged).
        """
        compared = self.project(features) if self.project else features
        distance = nearest_distance(compared, self.features)
        farther = (self.validation[None] >= distance[:, None]).sum(1)
        p = (1 + farther) / (1 + len(self.validation))
        flagged = np.where(np.isfinite(self.threshold), distance > self.threshold, np.nan)
        columns = {"ood_distance": distance, "ood_p": p, "out_of_distribution": flagged}
        return pd.DataFrame(columns)


def nearest_distance(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Compute the distance to the tenth nearest training image.

    Parameters
    ----------
    features : numpy.ndarray of shape (k, F)
    training : numpy.ndarray of shape (n, F)

    Returns
    -------
    numpy.ndarray of float, shape (k,)
        Euclidean distance after all rows are scaled to length 1; to the farthest image where
        there are fewer than ten.
    """
    training = _unit(training)
    neighbour = min(NEIGHBOURS, len(training)) - 1
    distances = []
    for start in range(0, len(features), _BLOCK):
        cosine = _unit(features[start : start + _BLOCK]) @ training.T
        squared = np.partition(2 - 2 * cosine, neighbour, axis=1)[:, neighbour]
        distances.append(np.sqrt(np.maximum(squared, 0)))
    return np.concatenate(distances).astype(float)


def make_ood_reference(predictor: Predictor) -> Path:
    """Compute what new images are compared with, and save it beside the network.

    Parameters
    ----------
    predictor : Predictor
        Its training and validation images must be on this machine; later predictions do not
        need them.

    Returns
    -------
    pathlib.Path
        The file: features of the training images (two bytes per number) and distances.

    Raises
    ------
    PredictionError
        If the data are not those of the run.
    DataError, DatasetUnavailable
        If they cannot be loaded.
    """
    run = predictor.run
    cohort = load_data(run.experiment)
    if cohort.fingerprint != run.experiment.data:
        problem = f"is not what the run used ({cohort.fingerprint}, not {run.experiment.data})"
        raise PredictionError(f"cohort {cohort.name!r}", problem, "restore the data")
    subsets = run.predictions.set_index("image_id")["subset"]
    subsets = subsets[subsets.isin(("train", "val"))]
    paths = cohort.images["path"].reindex(subsets.index)
    pixels = cache_images(paths, predictor.size, progress=True).pixels
    blocks = (pixels[i : i + _BLOCK] for i in range(0, len(subsets), _BLOCK))
    features = np.concatenate([predictor.features(np.asarray(block)) for block in blocks])
    validation = (subsets == "val").to_numpy()
    training = _unit(features[~validation]).astype(np.float16)
    tensors = {"train": training, "validation": nearest_distance(features[validation], training)}
    rows = np.flatnonzero(validation)
    blocks = (pixels[block] for block in np.array_split(rows, -(-len(rows) // 32)))
    images = (predictor.to_input(np.asarray(block)) for block in blocks)
    try:  # the zero of heat maps: a regression has none of its own
        centre = Explainer(predictor.network, None, [GRADCAM]).centre_on(images).reference
    except ExplainError:  # a feature map of one pixel has no heat map
        centre = {}
    facts = _identity(run.folder) | {"centre": json.dumps(centre)}
    write_bytes(run.folder / FILE, save(tensors, facts))
    return run.folder / FILE


def load_ood_reference(predictor: Predictor) -> OodReference | None:
    """Read what :func:`make_ood_reference` saved; None where nothing was saved.

    Raises
    ------
    DataError
        If the file is damaged, or was made for another network.
    """
    path = predictor.run.folder / FILE
    if not path.is_file():
        path = path.with_name(_OLD_FILE)
        if not path.is_file():
            return None
        problem = f"{path}: version 0.3 will not read this name; rename the file to {FILE}"
        warnings.warn(problem, DeprecationWarning, stacklevel=2)
    hint = f"'iav runs ood {predictor.name}' makes it again"
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            training, validation = file.get_tensor("train"), file.get_tensor("validation")
    except (SafetensorError, OSError) as error:
        raise DataError(path, f"cannot be read ({error})", hint) from error
    if _identity(path.parent).items() - facts.items() or "centre" not in facts:
        raise DataError(path, "was made for another network", hint)
    return OodReference(training, validation, json.loads(facts["centre"]))


def _identity(folder: Path) -> dict[str, str]:
    """Identify the network by the hash of its tensors."""
    return {"model": str(read_sidecar(folder)["sha256"]), "neighbours": str(NEIGHBOURS)}


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
