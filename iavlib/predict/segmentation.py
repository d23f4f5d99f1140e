"""A finished run of task ``segmentation`` as a model for new images: masks of every annotator."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.files import replacing, safe_name
from iavlib.core.plugins import code_digest, load_plugins
from iavlib.data.exports import stem
from iavlib.experiments.store import Result
from iavlib.masks import array_dice
from iavlib.multiannotator.fitting import FittedMethod, load_method
from iavlib.predict.model import (
    DEFAULT,
    DICE,
    SEGMENTATION,
    Ensemble,
    finished_run,
    load_predictor,
    make_ensemble,
)
from iavlib.training.hardware import choose_device

CONSENSUS, MASKS, LISTING = "consensus", "masks", "masks.csv"


class Segmenter:
    """A trained method that draws masks on photographs; used in place of an ensemble of networks.

    Parameters
    ----------
    run : Result
        The finished run.
    fitted : FittedMethod

    Attributes
    ----------
    changed : bool
        Whether the source of a method from outside has changed since it was trained.
    listing : list of dict
        The masks of annotators that were written, as rows of a table of one's own masks.
    """

    draws, predicts_agreement, calibrations, references = True, False, {}, {}

    def __init__(self, run: Result, fitted: FittedMethod):
        self.run, self.fitted, self.size = run, fitted, fitted.problem.width
        self.name = f"{run.experiment.task}/{run.facts['id']}"
        self.predictors, self.sizes = (self,), {self.size}
        self.changed = code_digest(type(fitted.method)) not in ("", run.experiment.code)
        self._last: Any = None  # what was predicted last
        self._written: set[Path] = set()
        self.listing: list[dict[str, str]] = []

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
        image = Path(row["image"]).with_name(stem(row["image"]))
        parts = [safe_name(part) for part in image.parts]
        for who, folder, maps in drawn:
            inside, n = out.joinpath(folder, *parts[:-1]), 1
            while (path := inside / f"{parts[-1]}{f'~{n}' if n > 1 else ''}.png") in self._written:
                n += 1  # one name in two folders that were given
            self._written.add(path)
            with replacing(path) as partial:
                Image.fromarray(_labels(maps, size)).save(partial, "PNG")
            written.append((who, str(path)))
            if folder.parts[0] == MASKS:
                names = {"image": image.as_posix(), "mask": path.relative_to(out).as_posix()}
                self.listing.append(names | {"annotator": who})
        return written


def _labels(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale probabilities (classes, h, w) to a photograph, and take the most probable class."""
    images = (Image.fromarray(one.astype(np.float32)) for one in maps)
    scaled = [np.asarray(one.resize(size, Image.Resampling.BILINEAR)) for one in images]
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
    several = len(names) > 1 or names[0] == DEFAULT
    if several or (run := finished_run(names[0])).experiment.task != SEGMENTATION:
        return make_ensemble([load_predictor(name) for name in names], *calibration)
    load_plugins(run.experiment.plugins)
    fitted = load_method(run.folder)
    fitted.network.to(choose_device())
    return Segmenter(run, fitted)
