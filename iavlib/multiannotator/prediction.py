"""What a method says of pictures: the truth, each annotator, and what else may be drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from iavlib.core.errors import MethodError, suggest
from iavlib.multiannotator.confusion import normalised


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions of n pictures.

    Attributes
    ----------
    ids : pandas.Index
    annotators : tuple of str
        Those that the method learnt from, in the order of the maps.
    consensus : numpy.ndarray of float32, shape (n, classes, height, width)
        Probability of each class to be the true one.
    maps : numpy.ndarray of float32, shape (n, annotators, classes, height, width), or None
        Probability of each annotator's labels; None of a method that does not tell them apart.
    samples : numpy.ndarray of int8, shape (n, samples, height, width)
        Label maps that stand for the spread of labels: draws of a method that draws, the most
        probable labels of each annotator where they are told apart, else of the consensus alone.
    confusion : numpy.ndarray of float32, shape (n, annotators, classes, classes), or None
        ``[label, truth]``, columns summing to 1: of each annotator's matrices in the pixels of the
        picture, the mean of a column over those pixels whose most probable true class it is. NaN
        where a class is nowhere the most probable one. Elsewhere a column says nothing: a pixel
        that is certainly background has no labels to learn the other columns from.
    confusion_plain : numpy.ndarray or None
        The mean over all pixels, as the released code computes it: a column then speaks mostly of
        pixels of other classes.
    levels : numpy.ndarray of float32, shape (n, structures, annotators + 1, height, width), or None
        Probability of each number of annotators who mark a structure, where a method tells.
    """

    ids: pd.Index
    annotators: tuple[str, ...]
    consensus: np.ndarray = field(repr=False)
    maps: np.ndarray | None = field(repr=False)
    samples: np.ndarray = field(repr=False)
    confusion: np.ndarray | None = field(default=None, repr=False)
    confusion_plain: np.ndarray | None = field(default=None, repr=False)
    levels: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_classes(self) -> int:
        """Number of classes, with the background."""
        return self.consensus.shape[1]

    @property
    def labels(self) -> np.ndarray:
        """Most probable true class of each pixel: int8, shape (n, height, width)."""
        return self.consensus.argmax(axis=1).astype(np.int8)

    def annotator(self, name: str) -> np.ndarray:
        """Return one annotator's probabilities, shape (n, classes, height, width).

        Raises
        ------
        MethodError
            If the method does not tell annotators apart, or never saw this one.
        """
        if self.maps is None:
            raise MethodError("this method does not tell annotators apart: use its consensus")
        if name not in self.annotators:
            raise MethodError(
                f"annotator {name!r} was never seen in training; {suggest(name, self.annotators)}"
            )
        return self.maps[:, self.annotators.index(name)]

    def overall_confusion(self) -> np.ndarray | None:
        """Return each annotator's matrix over all pictures, shape (annotators, classes, classes).

        Each picture's columns are weighted by how much of the class it has.
        """
        if self.confusion is None:
            return None
        weighted = np.where(np.isfinite(self.confusion), self.confusion * self.class_pixels(), 0)
        return normalised(weighted.sum(axis=0))

    def class_pixels(self) -> np.ndarray:
        """Count the pixels of each most probable class: shape (n, 1, 1, classes)."""
        labels = self.labels
        counts = [(labels == one).sum(axis=(1, 2)) for one in range(self.n_classes)]
        return np.stack(counts, axis=1)[:, None, None, :]


def join_predictions(subsets: list[Prediction]) -> Prediction:
    """Put predictions of several lots of pictures together, in their order."""

    def joined(name: str):
        values = [getattr(subset, name) for subset in subsets]
        return None if values[0] is None else np.concatenate(values)

    names = ("consensus", "maps", "samples", "confusion", "confusion_plain", "levels")
    ids = pd.Index([one for subset in subsets for one in subset.ids], name="image_id")
    return Prediction(ids, subsets[0].annotators, **{name: joined(name) for name in names})
