"""A finished run of task ``segmentation`` as a model for new images: masks of every annotator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.files import replacing, safe_name
from iavlib.core.plugins import code_digest, load_plugins
from iavlib.experiments.store import Result
from iavlib.masks import array_dice
from iavlib.multiannotator.fitting import FittedMethod, load_method
from iavlib.multiannotator.prediction import Prediction
from iavlib.predict.model import (
    DICE,
    SEGMENTATION,
    Ensemble,
    finished_run,
    load_predictor,
    make_ensemble,
)
from iavlib.training.hardware import choose_device

CONSENSUS, MASKS = "consensus", "masks"


@dataclass(eq=False)
class Segmenter:
    """A trained method that draws masks on photographs; used in place of an ensemble of networks.

    Parameters
    ----------
    run : Result
        The finished run.
    fitted : FittedMethod
    """

    run: Result
    fitted: FittedMethod
    draws, predicts_agreement, calibrations, references = True, False, {}, {}
    _last: Prediction | None = field(default=None, init=False, repr=False)
    _written: set[Path] = field(default_factory=set, init=False, repr=False)

    @property
    def name(self) -> str:
        """Task and id of the run."""
        return f"{self.run.experiment.task}/{self.run.facts['id']}"

    @property
    def changed(self) -> bool:
        """Whether the source of a method from outside has changed since it was trained."""
        digest = code_digest(type(self.fitted.method))
        return bool(digest) and digest != self.run.experiment.code

    @property
    def predictors(self) -> tuple[Segmenter]:
        """The one model."""
        return (self,)

    @property
    def size(self) -> int:
        """Side of the network's input images in pixels."""
        return self.fitted.problem.width

    @property
    def sizes(self) -> set[int]:
        """The one size."""
        return {self.size}

    def trained_on(self, image_id: str) -> str:
        """Return nothing: which images it was trained on is not recorded."""
        return ""

    def predict(self, pixels: Mapping[int, np.ndarray]) -> pd.DataFrame:
        """Segment some images, and keep the result for :meth:`write_masks`.

        Returns
        -------
        pandas.DataFrame
            One row per image: ``area_share`` of the consensus and, of a method that models
            annotators or draws samples, ``predicted_dice``: the mean Dice of pairs of these.
        """
        self._last = result = self.fitted.predict(pixels[self.size])
        table = pd.DataFrame({"area_share": (result.labels > 0).mean(axis=(1, 2))})
        drawn = result.samples if result.maps is None else result.maps.argmax(axis=2)
        pairs = combinations(range(drawn.shape[1]), 2)
        dice = [array_dice(drawn[:, a] > 0, drawn[:, b] > 0) for a, b in pairs]
        table[DICE] = np.mean(dice, axis=0) if dice else np.nan
        return table

    def write_masks(self, place: int, row: Mapping[str, Any], out: Path) -> list[tuple[str, str]]:
        """Write the masks of one of the last images at the size of its photograph.

        Parameters
        ----------
        place : int
            Position of the image among those last predicted.
        row : mapping
            Of the table of results: ``image``, ``width`` and ``height``.
        out : Path
            ``consensus`` and ``masks/<annotator>`` in it hold files named like the images, with 255
            inside; of several classes the number of the class.

        Returns
        -------
        list of (str, str)
            Annotator (or consensus) and file.
        """
        result, size = self._last, (row["width"], row["height"])
        drawn, written = [(CONSENSUS, Path(CONSENSUS), result.consensus[place])], []
        if result.maps is not None:
            folders = [Path(MASKS, safe_name(who)) for who in result.annotators]
            drawn += zip(result.annotators, folders, result.maps[place], strict=True)
        parts = [safe_name(part) for part in Path(row["image"]).with_suffix("").parts]
        for who, folder, maps in drawn:
            path, n = out.joinpath(folder, *parts[:-1], f"{parts[-1]}.png"), 1
            while path in self._written:  # one name in two folders that were given
                n += 1
                path = path.with_name(f"{parts[-1]}~{n}.png")
            self._written.add(path)
            with replacing(path) as partial:
                Image.fromarray(_labels(maps, size)).save(partial, "PNG")
            written.append((who, str(path)))
        return written


def _labels(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale probabilities (classes, h, w) to a photograph, and take the most probable class."""
    scaled = [
        np.asarray(Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        for one in maps
    ]
    if len(scaled) == 2:
        return np.where(scaled[1] > scaled[0], 255, 0).astype(np.uint8)
    return np.argmax(scaled, axis=0).astype(np.uint8)


def load_models(names: Sequence[str], *calibration: Any) -> Ensemble | Segmenter:
    """Load finished runs, with plugins that they name: one segmentation, or networks of images.

    Parameters
    ----------
    names : sequence of str
        As for :func:`iavlib.predict.load_predictor`.
    *calibration
        As for :func:`iavlib.predict.make_ensemble`.

    Raises
    ------
    PluginError, MethodError
        If a method cannot be imported.
    PredictionError, ExperimentError, DataError
        As these functions.
    """
    run = finished_run(names[0])
    if len(names) > 1 or run.experiment.task != SEGMENTATION:
        return make_ensemble([load_predictor(name) for name in names], *calibration)
    load_plugins(run.experiment.plugins)
    fitted = load_method(run.folder)
    fitted.network.to(choose_device())
    return Segmenter(run, fitted)
