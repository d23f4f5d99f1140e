"""Digits with simulated annotators: known truth, known confusion matrices, any noise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.annotators.annotator_set import MultiAnnotatorSet
from iavlib.annotators.digit_files import SIDE, SOURCES, draw_digits, find_source, read_digits
from iavlib.annotators.errors import LabelError
from iavlib.annotators.simulated import PAPER_ANNOTATORS, SimulatedAnnotator, simulate

#: Brighter than this is what an under-segmenting annotator starts from.
HALF = 127
ALL_DIGITS = (tuple(range(10)),)
PARTS = ("train", "val", "test")


def digits(
    n: tuple[int, int, int] = (400, 100, 200),
    annotators: Sequence[str | SimulatedAnnotator] = PAPER_ANNOTATORS,
    level: float = 1.0,
    seed: int = 0,
    size: int = SIDE,
    groups: Sequence[Sequence[int]] = ALL_DIGITS,
    tiles: int = 1,
    background_noise: float = 0.0,
    source: str = "auto",
) -> MultiAnnotatorSet:
    """Make a set of digits with simulated annotators.

    The truth of a digit is what is not black. Validation pictures come from MNIST's training
    part, test pictures from its test part.

    Parameters
    ----------
    n : tuple of int
        Pictures for training, validation and test.
    annotators : sequence of str or SimulatedAnnotator
        Kinds of :data:`iavlib.annotators.distortions.KINDS`, or made before.
    level : float
        Annotation noise in [0, 1]: share of their full-strength errors that those annotators make
        who are given by their kind.
    seed : int
        Of which digits, in which order, and of everything random in the annotators.
    size : int
        Side of the pictures, at least ``28 * tiles``: digits are enlarged by the largest whole
        number that fits, and surrounded by background.
    groups : sequence of sequence of int
        Digits of each foreground class. One group of all is the published data; two or more make
        labels of several classes, and digits in no group are left out.
    tiles : int
        ``tiles`` times ``tiles`` digits a picture, so that one shows several classes.
    background_noise : float
        Standard deviation of grey noise added to the pictures, in grey levels; the truth is not
        touched.
    source : {"auto", "idx", "npz", "drawn"}
        Where digits come from, see :mod:`iavlib.annotators.digit_files`; the best at hand unless
        told. Drawn digits are invented pictures: the set is synthetic.

    Returns
    -------
    MultiAnnotatorSet
        With the truth known, split into train, val and test.

    Raises
    ------
    LabelError
        If the source, the groups, the numbers or the size make no sense.
    DatasetUnavailable, DataError
        If the source's files are absent or wrong.
    """
    source = find_source() if source == "auto" else source
    scale = _check(n, size, groups, tiles, source)
    generator = np.random.default_rng(seed)
    pictures, classes, names = _choose(n, groups, tiles**2, source, generator, seed)
    canvas = np.stack([_canvas(ones, tiles, scale, size) for ones in pictures])
    ink = np.repeat(np.repeat(classes.reshape(-1, tiles, tiles), SIDE * scale, 1), SIDE * scale, 2)
    truth = np.where(canvas > 0, _centred(ink.astype(np.int8), size), 0).astype(np.int8)
    images = canvas
    if background_noise:
        noise = generator.normal(0, background_noise, canvas.shape)
        images = np.clip(np.round(canvas + noise), 0, 255).astype(np.uint8)
    labels = simulate(
        truth, annotators, len(groups) + 1, names, seed, level, float(scale), canvas > HALF
    )
    return MultiAnnotatorSet(
        name=f"digits-{source}",
        images=images[..., None],
        labels=labels,
        annotators=tuple(getattr(one, "name", one) for one in annotators),
        n_classes=len(groups) + 1,
        ids=pd.Index(names),
        truth=truth,
        truth_is="known",
        parts=np.repeat(PARTS, n),
        simulated_annotators=True,
        synthetic=source == "drawn",
    )


def _check(n, size: int, groups, tiles: int, source: str) -> int:
    """Check the arguments; return how many times digits are enlarged."""
    told = None
    if source not in SOURCES:
        told = f"source {source!r}", f"choose auto or one of {', '.join(SOURCES)}"
    elif len(n) != len(PARTS) or min(n) < 0 or not sum(n):
        told = f"n {n}", "give the numbers of train, val and test pictures"
    elif tiles < 1 or size < SIDE * tiles:
        told = f"size {size} for {tiles} x {tiles} digits", f"give at least {SIDE * max(tiles, 1)}"
    else:
        flat = [digit for group in groups for digit in group]
        if not flat or len(set(flat)) < len(flat) or not set(flat) <= set(range(10)):
            told = f"groups {groups}", "put each digit from 0 to 9 into one group at most"
    if told:
        raise LabelError("digits", *told)
    return size // (SIDE * tiles)


def _choose(n, groups, each: int, source: str, generator, seed: int):
    """Draw the digits of every picture: images (n, each, 28, 28), classes (n, each), names."""
    class_of = np.zeros(10, np.int8)
    for number, group in enumerate(groups, start=1):
        class_of[list(group)] = number
    pictures, classes, names = [], [], []
    for part, count in (("train", n[0] + n[1]), ("test", n[2])):
        if source == "drawn":
            entropy = [seed, 0 if part == "train" else 1]
            share = sum(map(len, groups)) / 10
            values, shown = draw_digits(int(1.5 * count * each / share) + 30, entropy)
        else:
            values, shown = read_digits(source, part)
        usable = np.flatnonzero((class_of[shown] > 0) & values.any(axis=(1, 2)))
        if count * each > len(usable):
            told = f"{count * each:,} digits of {part} asked, {len(usable):,} are there"
            raise LabelError("digits", told, "ask for fewer pictures or tiles")
        places = generator.permutation(usable)[: count * each].reshape(count, each)
        pictures.append(values[places])
        classes.append(class_of[shown[places]])
        names += [f"{part}-" + "-".join(f"{place:05d}" for place in row) for row in places]
    return np.concatenate(pictures), np.concatenate(classes), names


def _canvas(ones: np.ndarray, tiles: int, scale: int, size: int) -> np.ndarray:
    """Lay the digits of one picture side by side, enlarged, in the middle of the canvas."""
    side = SIDE * scale
    if scale > 1:
        large = [
            Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in ones
        ]
        ones = np.stack([np.asarray(one) for one in large])
    rows = ones.reshape(tiles, tiles, side, side).transpose(0, 2, 1, 3)
    return _centred(rows.reshape(1, tiles * side, tiles * side), size)[0]


def _centred(values: np.ndarray, size: int) -> np.ndarray:
    before = (size - values.shape[-1]) // 2
    after = size - values.shape[-1] - before
    return np.pad(values, ((0, 0), (before, after), (before, after)))
