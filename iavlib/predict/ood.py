r"""Does a new image look like those that a network learnt from?

The distance of an image is that from its features, scaled to length 1, to those of the tenth
nearest training image. The validation part, which the network did not learn from, says how far
images of the same origin are: one is called *out of distribution* when it is farther than the
:math:`\lceil (n + 1) \cdot 0.95 \rceil`-th of the :math:`n` validation images. Of images like
those, at most one in twenty is called so by chance. An image that is not is merely not noticed: the
features see what the network was trained to see.

References
----------
Sun, Y., Ming, Y., Zhu, X. and Li, Y. (2022). Out-of-distribution detection with deep nearest
neighbors. ICML, PMLR 162, 20827-20840.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from iavlib.core.errors import DataError, ExplainError, PredictionError
from iavlib.core.files import write_bytes
from iavlib.experiments.runner import load_data
from iavlib.explain.cam import GRADCAM
from iavlib.explain.explainer import Explainer
from iavlib.models.model_files import read_sidecar
from iavlib.predict.model import Predictor
from iavlib.stats.conformal import conformal_quantile
from iavlib.training.image_cache import ImageCache, cache_images

FILE = "familiarity.safetensors"
NEIGHBOURS = 10
#: Share of images like the validation part's that are called out of distribution by chance.
ALPHA = 0.05
_BLOCK = 256
_CENTRED_AT_A_TIME = 32


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What new images are compared with.

    Parameters
    ----------
    features : numpy.ndarray of float16, shape (n, F)
        Of the training images, each of length 1.
    validation : numpy.ndarray of float, shape (m,)
        Distances of the validation images.
    centre : mapping of str to float
        The zero of centred heat maps, from the validation images; see
        :meth:`iavlib.explain.Explainer.centre_on`. Empty where the network has no map.
    """

    features: np.ndarray
    validation: np.ndarray
    centre: Mapping[str, float] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """An image at a greater distance is out of distribution; infinite below 19 images."""
        return conformal_quantile(self.validation, ALPHA)

    def judge(self, features: np.ndarray) -> pd.DataFrame:
        """Compare new images.

        Parameters
        ----------
        features : numpy.ndarray of shape (k, F)

        Returns
        -------
        pandas.DataFrame
            ``distance`` (from 0 to 2), ``distance_p`` (share of validation images that are as far
            or farther, the new one counted among them) and ``out_of_distribution``.
        """
        distance = nearest_distance(features, self.features)
        farther = (self.validation[None] >= distance[:, None]).sum(1)
        columns = {"distance": distance, "distance_p": (1 + farther) / (1 + len(self.validation))}
        return pd.DataFrame(columns | {"out_of_distribution": distance > self.threshold})


def nearest_distance(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Give the distance to the tenth nearest of `known`, after scaling rows to length 1: (k,)."""
    known = _unit(known)
    neighbour = min(NEIGHBOURS, len(known)) - 1
    found = []
    for start in range(0, len(features), _BLOCK):
        alike = _unit(features[start : start + _BLOCK]) @ known.T
        squared = np.partition(2 - 2 * alike, neighbour, axis=1)[:, neighbour]
        found.append(np.sqrt(np.maximum(squared, 0)))
    return np.concatenate(found).astype(float)


def make_familiarity(predictor: Predictor) -> Path:
    """Compute what new images are compared with, and keep it beside the network.

    Parameters
    ----------
    predictor : Predictor
        Its training and validation images must be on this machine; later predictions do without.

    Returns
    -------
    Path
        The file: features of the training part (two bytes a number) and distances.

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
        told = f"is not what the run learnt from ({cohort.fingerprint}, not {run.experiment.data})"
        raise PredictionError(f"cohort {cohort.name!r}", told, "restore the data")
    subsets = run.predictions.set_index("image_id")["subset"]
    subsets = subsets[subsets.isin(("train", "val"))]
    cache = cache_images(
        cohort.images["path"].reindex(subsets.index), predictor.size, progress=True
    )
    blocks = range(0, len(cache), _BLOCK)
    found = np.concatenate(
        [predictor.features(np.asarray(cache.pixels[i : i + _BLOCK])) for i in blocks]
    )
    train = _unit(found[(subsets == "train").to_numpy()]).astype(np.float16)
    validation = nearest_distance(found[(subsets == "val").to_numpy()], train)
    facts = {"model": _model(run.folder), "neighbours": str(NEIGHBOURS)}
    facts["centre"] = json.dumps(
        _centre(predictor, cache, cache.rows(subsets.index[subsets == "val"]))
    )
    write_bytes(run.folder / FILE, save({"train": train, "validation": validation}, facts))
    return run.folder / FILE


def load_familiarity(predictor: Predictor) -> Familiarity | None:
    """Read what :func:`make_familiarity` kept; None where nothing was.

    Raises
    ------
    DataError
        If the file is damaged, or was made for another network.
    """
    path = predictor.run.folder / FILE
    if not path.is_file():
        return None
    hint = f"'iav runs familiarity {predictor.name}' makes it anew"
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            train, validation = file.get_tensor("train"), file.get_tensor("validation")
    except (SafetensorError, OSError) as error:
        raise DataError(path, f"cannot be read ({error})", hint) from error
    known = {"model": _model(path.parent), "neighbours": str(NEIGHBOURS)}
    if known.items() - facts.items() or "centre" not in facts:
        raise DataError(path, "was made for another network", hint)
    return Familiarity(train, validation, json.loads(facts["centre"]))


def _centre(predictor: Predictor, cache: ImageCache, rows: np.ndarray) -> dict[str, float]:
    """Take the mean image as the zero of heat maps: a regression has none of its own."""
    blocks = np.array_split(rows, -(-len(rows) // _CENTRED_AT_A_TIME))
    batches = (
        predictor.batches(np.asarray(cache.pixels[one])).batch(np.arange(len(one)))["images"]
        for one in blocks
    )
    try:
        return Explainer(predictor.network, None, [GRADCAM]).centre_on(batches).reference
    except ExplainError:  # a map of a single place shows nothing
        return {}


def _model(folder: Path) -> str:
    """Name the network by the hash of its tensors."""
    return str(read_sidecar(folder)["sha256"])


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
