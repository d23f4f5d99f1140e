"""What a method predicts: the truth, each annotator, and other maps that may be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from iavlib.multiannotator.dataset import MultiAnnotatorSet


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions of n images.

    Attributes
    ----------
    ids : pandas.Index
    annotators : tuple of str
        Those that the method learnt from, in the order of the maps.
    consensus : numpy.ndarray of float32, shape (n, classes, height, width)
        Probability that each class is the true one.
    maps : numpy.ndarray of float32, shape (n, annotators, classes, height, width), or None
        Probability of each annotator's labels; None of a method that does not model annotators.
    samples : numpy.ndarray of int8, shape (n, samples, height, width)
        Label maps that stand for the spread of labels: draws of a method that draws, the most
        probable labels of each annotator where they are modelled, else of the consensus alone.
    confusion : numpy.ndarray of float32, shape (n, annotators, classes, classes), or None
        ``[label, truth]``, columns summing to 1: of each annotator's matrices in the pixels of the
        image, the mean of a column over those pixels whose most probable true class it is. NaN
        where a class is nowhere the most probable one. Elsewhere a column is not determined: a
        pixel that is certainly background has no labels to learn the other columns from.
    confusion_plain : numpy.ndarray or None
        The mean over all pixels, as the released code computes it: a column then depends mostly on
        pixels of other classes.
    levels : numpy.ndarray of float32, shape (n, structures, annotators + 1, height, width), or None
        Probability of each number of annotators who mark a structure, where a method predicts it.
    diagnosis : numpy.ndarray of float32, shape (n,), or None
        Probability of malignancy, where a method predicts it.
    """

    ids: pd.Index
    annotators: tuple[str, ...]
    consensus: np.ndarray = field(repr=False)
    maps: np.ndarray | None = field(repr=False)
    samples: np.ndarray = field(repr=False)
    confusion: np.ndarray | None = field(default=None, repr=False)
    confusion_plain: np.ndarray | None = field(default=None, repr=False)
    levels: np.ndarray | None = field(default=None, repr=False)
    diagnosis: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """Most probable true class of each pixel: int8, shape (n, height, width)."""
        return self.consensus.argmax(axis=1).astype(np.int8)

    def images_of(self, dataset: MultiAnnotatorSet) -> MultiAnnotatorSet:
        """Return the images of a set that these predictions are of, in their order."""
        return dataset.take(dataset.ids.get_indexer(self.ids))


def join_predictions(batches: Sequence[Prediction]) -> Prediction:
    """Concatenate predictions of several batches of images, in their order."""
    ids = pd.Index([image_id for batch in batches for image_id in batch.ids], name="image_id")
    columns = {}
    for item in fields(Prediction)[2:]:
        values = [getattr(batch, item.name) for batch in batches]
        columns[item.name] = None if values[0] is None else np.concatenate(values)
    return Prediction(ids, batches[0].annotators, **columns)
