"""One image for a figure: its raters' expertness, written in several ways."""

import numpy as np

from iavlib.diagnosis_first.assisted import build_assisted
from iavlib.diagnosis_first.expertness import optimise_expertness
from iavlib.diagnosis_first.training import train
from iavlib.multiannotator import fuse
from iavlib.training.recipe import get_recipe

#: Titles of ways to write maps.
WAYS = {"pixel": "pixel", "fourier": "waves", "expg": "ExpG"}
_RECIPE = {"epochs": 6, "lr": 3e-3, "warmup_epochs": 0}
_STEPS = 30


def example_masks(source, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Choose the image whose raters differ most, and fuse its masks for its diagnosis.

    A small net is trained for it, with the majority's masks of all images: this is an
    illustration, and measures nothing.

    Parameters
    ----------
    source : iavlib.experiments.tasks.diagnosed_sets.DiagnosedData
    seed : int

    Returns
    -------
    image : numpy.ndarray of uint8, shape (height, width, 3)
    masks : dict of str to numpy.ndarray, shape (height, width)
        The mean vote, the first rater's weight by each of :data:`WAYS`, and ExpG's fused mask.
    """
    labelled, diagnosis = source.labelled, source.diagnosis.to_numpy()
    voted, mean = fuse(labelled, "mode")[:, 1], fuse(labelled, "mean")[:, 1]
    net = build_assisted("cat", "small", seed=seed, size=labelled.images.shape[1])
    train(net, labelled, voted, diagnosis, get_recipe("annotators", **_RECIPE), seed)
    place = int((mean * (1 - mean)).sum((1, 2)).argmax())
    given = ~labelled.missing[place]
    some = (labelled.images[place : place + 1], labelled.labels[place : place + 1][:, given])
    masks = {"mean vote": mean[place]}
    for way, title in WAYS.items():
        known = diagnosis[place : place + 1]
        found = optimise_expertness(net, *some, known, way, _STEPS, seed)
        masks[title] = found.weights[0, 0]
    return labelled.images[place], {**masks, "fused (ExpG)": found.fused[0]}
