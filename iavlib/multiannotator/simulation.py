r"""Annotators simulated on images whose truth is known, and MNIST digits labelled by them.

Every simulated annotator takes the true label map and returns another. At full strength, for a
digit of 28 x 28 pixels (one *unit* per pixel; a larger image has larger units):

- ``good`` draws the truth;
- ``over`` grows it by 2 units, two dilations by a cross;
- ``under`` erodes its *core* (what is brighter than half; the truth itself where there is none) by
  one unit, one erosion by a cross;
- ``wrong`` breaks it in two places, each a gap of 5 units across the stroke, and grows what is
  left by 1.5 units;
- ``blank`` draws nothing;
- ``swap`` exchanges each foreground class for the next one, the last for the first.

These strengths, ``examples``, are those of the published examples by area ratio, Dice and recall;
``wrong`` breaks its digits into two pieces on average, where the published examples have 1.3. The
majority vote of such annotators is right nearly everywhere (Dice 94 %), but Table 1 of Zhang et al.
(2023) prints 58.5 % for the vote of the labels that were learnt from, and 62.9 % for a network that
learns the vote. The strengths ``published`` were chosen by these two numbers and nothing else (they
give 64 and 63 %): ``good`` draws the core, a close approximation (the table's best possible
network, with all matrices known, stays below 84 %), and ``wrong`` breaks the truth in 16 places,
each a gap of 7 units, so that little is left. A vote this poor is only had where most annotators
miss the digit: three of five hardly mark it. The operations use distance transforms instead of
repeated dilations: the same as a cross at one and two pixels, and round beyond.

An annotator's *level* is the share of its full-strength errors that it makes, those nearest to
the true border first, so that the error rates of its confusion matrix grow in proportion.

Digits are read from MNIST's own files or from a packed copy, or drawn with a font.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from iavlib.core.errors import DataError, DatasetUnavailable, LabelError, suggest
from iavlib.core.project import data_home
from iavlib.multiannotator.dataset import MultiAnnotatorSet


@dataclass(frozen=True)
class Strength:
    """What simulated annotators do at full strength.

    Attributes
    ----------
    over, under : float
        Units by which ``over`` grows the truth and ``under`` erodes its core.
    gaps, gap_width, growth : int, float, float
        Of ``wrong``: how many gaps, their width and the growth of what is left, in units.
    approximate : bool
        Whether ``good`` draws the core instead of the truth.
    """

    over: float
    under: float
    gaps: int
    gap_width: float
    growth: float
    approximate: bool = False


#: By name, see the module's description.
STRENGTHS = {
    "examples": Strength(over=2.0, under=1.0, gaps=2, gap_width=5.0, growth=1.5),
    "published": Strength(2.0, 1.0, 16, 7.0, 1.5, approximate=True),
}
EXAMPLES = STRENGTHS["examples"]
#: A step against rounding: pixels at exactly the radius count as within it.
ROUNDING = 1e-6


def between(
    truth: np.ndarray, full: np.ndarray, level: float, generator: np.random.Generator
) -> np.ndarray:
    """Make a share of the changes between two label maps, nearest to the true border first.

    Parameters
    ----------
    truth, full : numpy.ndarray of int, shape (height, width)
    level : float
        In [0, 1]; the number of changed pixels is the nearest whole number to this share.
    generator : numpy.random.Generator
        Pixels at one distance change in patches, by a smooth random field.

    Returns
    -------
    numpy.ndarray, shape (height, width)
    """
    rows, columns = np.nonzero(truth != full)
    n = round(level * len(rows))
    result = truth.copy()
    if n == len(rows):
        return full
    if n:
        field = ndimage.gaussian_filter(generator.standard_normal(truth.shape), 1.5)
        order = np.lexsort((field[rows, columns], border_distance(truth)[rows, columns]))[:n]
        result[rows[order], columns[order]] = full[rows[order], columns[order]]
    return result


def border_distance(labels: np.ndarray) -> np.ndarray:
    """Return each pixel's distance, in pixels, to the nearest one of another class.

    Rounded to 6 digits; 0 throughout where there is only one class. What lies beyond the image
    is of no class.
    """
    distance = np.zeros(labels.shape)
    classes = np.unique(labels)
    for number in classes if len(classes) > 1 else ():
        region = labels == number
        distance[region] = ndimage.distance_transform_edt(region)[region]
    return distance.round(6)


def grown(labels: np.ndarray, radius: float) -> np.ndarray:
    """Let the foreground grow into the background by a radius, each class where it is nearest."""
    background = labels == 0
    if background.all():
        return labels.copy()
    distance, nearest = ndimage.distance_transform_edt(background, return_indices=True)
    return np.where(distance <= radius + ROUNDING, labels[tuple(nearest)], 0).astype(labels.dtype)


def shrunk(labels: np.ndarray, radius: float) -> np.ndarray:
    """Take a radius off each class's border to the others; it becomes background."""
    if (labels == labels.flat[0]).all():
        return labels.copy()
    return np.where(border_distance(labels) > radius + ROUNDING, labels, 0).astype(labels.dtype)


def fractured(
    labels: np.ndarray, n: int, width: float, generator: np.random.Generator
) -> np.ndarray:
    """Break each piece of the foreground at random pixels, across the shortest way to its border.

    Parameters
    ----------
    labels : numpy.ndarray of int, shape (height, width)
    n : int
        Gaps in each connected piece (8 neighbours) that has as many pixels.
    width : float
        Of each gap, in pixels.
    generator : numpy.random.Generator
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return labels.copy()
    nearest = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    pieces, n_pieces = ndimage.label(inside, np.ones((3, 3)))
    gap = np.zeros(labels.shape, bool)
    for piece in range(1, n_pieces + 1):
        pixels = np.argwhere(pieces == piece)
        for middle in pixels[generator.choice(len(pixels), min(n, len(pixels)), replace=False)]:
            gap |= _gap(inside, middle, nearest[:, middle[0], middle[1]] - middle, width)
    return np.where(gap, 0, labels).astype(labels.dtype)


def _gap(inside: np.ndarray, middle: np.ndarray, across: np.ndarray, width: float) -> np.ndarray:
    """Return a bar through a pixel, along a direction and back, until either end leaves."""
    across = across / np.hypot(*across)
    rows, columns = np.indices(inside.shape) - middle[:, None, None]
    along = rows * across[0] + columns * across[1]
    aside = np.abs(columns * across[0] - rows * across[1])
    # Steps that can be taken before leaving the region; what lies beyond the image is outside.
    bordered, steps = np.pad(inside, 1), np.arange(sum(inside.shape))[:, None]
    paths = (np.rint(middle + sign * steps * across).astype(int) + 1 for sign in (-1, 1))
    limit = np.array(bordered.shape) - 1
    before, after = (bordered[tuple(path.clip(0, limit).T)].argmin() for path in paths)
    return (-before - 0.5 <= along) & (along <= after + 0.5) & (aside <= width / 2)


def _swap(labels, n_classes, *_):
    if n_classes < 3:
        problem = "there is one foreground class, and nothing to exchange it for"
        hint = "declare at least three classes, background included"
        raise LabelError("simulated annotator of kind 'swap'", problem, hint)
    return np.where(labels > 0, labels % (n_classes - 1) + 1, 0).astype(labels.dtype)


#: Kind to a function of true labels, number of classes, unit, generator, core and strength.
KINDS: dict[str, Callable] = {
    "good": lambda labels, n, unit, rng, core, s=EXAMPLES: core if s.approximate else labels,
    "over": lambda labels, n, unit, rng, core, s=EXAMPLES: grown(labels, s.over * unit),
    "under": lambda labels, n, unit, rng, core, s=EXAMPLES: shrunk(core, s.under * unit),
    "wrong": lambda labels, n, unit, rng, core, s=EXAMPLES: grown(
        fractured(labels, s.gaps, s.gap_width * unit, rng), s.growth * unit
    ),
    "blank": lambda labels, *_: np.zeros_like(labels),
    "swap": _swap,
}


#: Side of the images that strengths are given for; a unit is the shorter side over this.
BASE_SIZE = 28
#: The five of the confusion-matrix papers, and those of their multi-class data.
PAPER_ANNOTATORS = ("good", "over", "under", "wrong", "blank")
MULTI_CLASS_ANNOTATORS = ("good", "over", "under", "swap", "blank")


@dataclass(frozen=True)
class SimulatedAnnotator:
    """One simulated annotator.

    Attributes
    ----------
    name : str
    kind : str
        A name of :data:`KINDS`.
    level : float
        Share of its full-strength errors that it makes, from 0 (draws the truth) to 1.
    """

    name: str
    kind: str
    level: float = 1.0

    def __post_init__(self):
        where, problem = f"simulated annotator {self.name!r}", ""
        if self.kind not in KINDS:
            problem, hint = f"there is no kind {self.kind!r}", f"choose among {', '.join(KINDS)}"
        elif not 0 <= self.level <= 1:
            problem = f"level {self.level} is not within [0, 1]"
            hint = "give the share of the errors it makes"
        if problem:
            raise LabelError(where, problem, hint)


def named(annotators: Sequence[str | SimulatedAnnotator], level: float = 1.0):
    """Make simulated annotators of kinds, at one level; return those already made as they are.

    Raises
    ------
    LabelError
        If a kind is unknown, a level is not within [0, 1], or two have one name.
    """
    made = tuple(SimulatedAnnotator(a, a, level) if isinstance(a, str) else a for a in annotators)
    names = [annotator.name for annotator in made]
    if not made or len(set(names)) < len(names):
        hint = "give at least one, each a name of its own"
        raise LabelError("simulated annotators", f"names {names}", hint)
    return made


def random_annotators(n: int, seed: int = 0) -> tuple[SimulatedAnnotator, ...]:
    """Make any number of annotators: good, over, under and wrong in turn, of levels from .2 to 1.

    Parameters
    ----------
    n : int
        At least 1.
    seed : int

    Returns
    -------
    tuple of SimulatedAnnotator
        Named by their kind and number.
    """
    levels = np.random.default_rng(seed).uniform(0.2, 1.0, n)
    made = []
    for number, level in enumerate(levels.tolist()):
        kind = PAPER_ANNOTATORS[number % 4]
        made.append(SimulatedAnnotator(f"{kind}-{number + 1:02d}", kind, round(level, 3)))
    return named(made)


def simulate(
    truth: np.ndarray,
    annotators: Sequence[str | SimulatedAnnotator],
    n_classes: int,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    level: float = 1.0,
    unit: float | None = None,
    core: np.ndarray | None = None,
    strength: str = "examples",
) -> np.ndarray:
    """Let simulated annotators label images whose truth is known.

    What an annotator draws on an image depends on the seed, the annotator's name and the
    image's id alone, not on the others in the set.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (n, height, width)
        Labels from 0 (background) to ``n_classes - 1``.
    annotators : sequence of str or SimulatedAnnotator
    n_classes : int
    ids : sequence of str, optional
        Names of the images; their position by default.
    seed : int
    level : float
        Of those annotators that are given by name.
    unit : float, optional
        Pixels a unit of strength has; the shorter side over 28 by default.
    core : numpy.ndarray of bool, shape (n, height, width), optional
        The part of each image's foreground that ``under`` starts from.
    strength : str
        A name of :data:`STRENGTHS`.

    Returns
    -------
    numpy.ndarray of int8, shape (n, annotators, height, width)

    Raises
    ------
    LabelError
        If an annotator or strength is unknown, or a class is beyond those declared.
    """
    annotators = named(annotators, level)
    if strength not in STRENGTHS:
        problem = f"there is no strength {strength!r}"
        raise LabelError("simulated annotators", problem, suggest(strength, STRENGTHS))
    unit = min(truth.shape[1:]) / BASE_SIZE if unit is None else unit
    if truth.size and not 0 <= truth.min() <= truth.max() < n_classes:
        problem = f"classes from {truth.min()} to {truth.max()}, but {n_classes} are declared"
        hint = "declare as many classes as there are, background included"
        raise LabelError("truth", problem, hint)
    ids = [str(number) for number in range(len(truth))] if ids is None else [str(i) for i in ids]
    labels = np.empty((len(truth), len(annotators), *truth.shape[1:]), np.int8)
    for number, (image_id, true) in enumerate(zip(ids, truth, strict=True)):
        inner = true if core is None else np.where(core[number], true, 0)
        for column, annotator in enumerate(annotators):
            entropy = [seed, *(zlib.crc32(name.encode()) for name in (annotator.name, image_id))]
            generator = np.random.default_rng(entropy)
            given = (true, n_classes, unit, generator, inner, STRENGTHS[strength])
            full = KINDS[annotator.kind](*given)
            labels[number, column] = between(true, full, annotator.level, generator)
    return labels


SOURCES = ("idx", "npz", "drawn")
SIDE = 28
_HINTS = {
    "idx": "download MNIST again with torchvision.datasets.MNIST(root, download=True)",
    "npz": "put a file there with train_images, train_labels, test_images, test_labels, of uint8",
}


def find_source() -> str:
    """Return the best source of digits available: ``idx``, ``npz`` or, without files, ``drawn``."""
    if all(all(_files("idx", subset)) for subset in ("train", "test")):
        return "idx"
    return "npz" if all(_files("npz", "train")) else "drawn"


def read_digits(source: str, subset: str) -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST's digits.

    Parameters
    ----------
    source : {"idx", "npz"}
        ``idx``: the files that torchvision keeps, in ``mnist/raw`` of the data home, compressed by
        gzip or not; ``npz``: ``mnist/mnist_20k.npz``, 10,000 digits of each subset.
    subset : {"train", "test"}

    Returns
    -------
    images : numpy.ndarray of uint8, shape (n, 28, 28)
        0 is paper, 255 ink.
    digits : numpy.ndarray of uint8, shape (n,)

    Raises
    ------
    DatasetUnavailable
        If the files are absent.
    DataError
        If their content is not what it should be.
    """
    paths, hint = _files(source, subset), _HINTS[source]
    if not all(paths):
        problem = f"no MNIST files of source {source!r} in {data_home() / 'mnist'}"
        raise DatasetUnavailable("digits", problem, hint)
    if source == "idx":
        images, digits = read_idx(paths[0], 3), read_idx(paths[1], 1)
    else:
        try:
            with np.load(paths[0], allow_pickle=False) as packed:
                images, digits = packed[f"{subset}_images"], packed[f"{subset}_labels"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(paths[0], f"not the packed digits ({error})", hint) from None
    if images.dtype != np.uint8 or images.shape != (len(digits), SIDE, SIDE):
        problem = f"{subset}: images of {images.dtype}, shape {images.shape}, {len(digits)} labels"
        raise DataError(paths[0], problem, hint)
    return images, digits


def _files(source: str, subset: str) -> list[Path | None]:
    """Return the files that a source takes a subset from; None where one is absent."""
    folder, choices = data_home() / "mnist", [["mnist_20k.npz"]]
    if source == "idx":
        stem = {"train": "raw/train", "test": "raw/t10k"}[subset]
        names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        choices = [[name, f"{name}.gz"] for name in names]
    return [next((folder / n for n in names if (folder / n).is_file()), None) for names in choices]


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an array of bytes in the IDX format, in which MNIST is published.

    Two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a
    big-endian 32-bit number, then the values, last dimension fastest.

    Raises
    ------
    DataError
        If the file is no such array, or shorter or longer than its header declares.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"it cannot be read ({error})", _HINTS["idx"]) from None
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(path, f"no IDX file of bytes in {dimensions} dimensions", _HINTS["idx"])
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape):
        problem = f"{values.size:,} values, but the header declares {shape}"
        raise DataError(path, problem, _HINTS["idx"])
    return values.reshape(shape)


def draw_digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits with Pillow's own font, each of a size, weight, turn and slant of its own.

    Returns
    -------
    images : numpy.ndarray of uint8, shape (n, 28, 28)
    digits : numpy.ndarray of uint8, shape (n,)
    """
    generator = np.random.default_rng(seed)
    digits = generator.integers(0, 10, n).astype(np.uint8)
    return np.array([_draw(int(one), generator) for one in digits]).reshape(n, SIDE, SIDE), digits


def _draw(digit: int, generator: np.random.Generator) -> np.ndarray:
    """Draw one digit four times as large and scale it down, so that its border is grey."""
    scale = 4
    side = SIDE * scale
    font = ImageFont.load_default(size=float(generator.uniform(20, 25) * scale))
    canvas = Image.new("L", (side, side))
    middle = (side / 2 + generator.uniform(-4, 4), side / 2 + generator.uniform(-4, 4))
    pen = ImageDraw.Draw(canvas)
    weight = int(generator.integers(0, scale))
    pen.text(middle, str(digit), 255, font, anchor="mm", stroke_width=weight, stroke_fill=255)
    turn, slant = np.deg2rad(generator.normal(0, 8)), generator.normal(0.1, 0.15)
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, slant], [0, 1]])
    shift = side / 2 - matrix @ [side / 2, side / 2]
    numbers = np.column_stack([matrix, shift]).ravel().tolist()
    how = (Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)
    canvas = canvas.transform(canvas.size, *how)
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


#: Brighter than this is what an under-segmenting annotator starts from.
HALF = 127
ALL_DIGITS = (tuple(range(10)),)
SUBSETS = ("train", "val", "test")


def simulated_mnist(
    n: tuple[int, int, int] = (400, 100, 200),
    annotators: Sequence[str | SimulatedAnnotator] = PAPER_ANNOTATORS,
    level: float = 1.0,
    seed: int = 0,
    size: int = SIDE,
    groups: Sequence[Sequence[int]] = ALL_DIGITS,
    tiles: int = 1,
    background_noise: float = 0.0,
    source: str = "auto",
    strength: str = "examples",
) -> MultiAnnotatorSet:
    """Make a set of MNIST digits with simulated annotators.

    The truth of a digit is what is not black. Validation images come from MNIST's training
    digits, test images from its test digits.

    Parameters
    ----------
    n : tuple of int
        Images for training, validation and test.
    annotators : sequence of str or SimulatedAnnotator
        Kinds of :data:`iavlib.multiannotator.simulation.KINDS`, or made before.
    level : float
        Annotation noise in [0, 1]: share of their full-strength errors that those annotators make
        who are given by their kind.
    seed : int
        Of which digits, in which order, and of everything random in the annotators.
    size : int
        Side of the images, at least ``28 * tiles``: digits are enlarged by the largest whole
        number that fits, and surrounded by background.
    groups : sequence of sequence of int
        Digits of each foreground class. One group of all is the published data; two or more make
        labels of several classes, and digits in no group are left out.
    tiles : int
        ``tiles`` times ``tiles`` digits an image, so that one shows several classes.
    background_noise : float
        Standard deviation of grey noise added to the images, in grey levels; the truth is not
        touched.
    source : {"auto", "idx", "npz", "drawn"}
        Where digits come from, see :mod:`iavlib.multiannotator.simulation`; the best available
        by default. Drawn digits are synthetic images: the set is synthetic.
    strength : {"examples", "published"}
        How strongly annotators err, as the published examples or as Table 1 of the paper; see
        :mod:`iavlib.multiannotator.simulation`.

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
    chosen, classes, names = _choose(n, groups, tiles**2, source, generator, seed)
    canvas = np.stack([_canvas(ones, tiles, scale, size) for ones in chosen])
    ink = np.repeat(np.repeat(classes.reshape(-1, tiles, tiles), SIDE * scale, 1), SIDE * scale, 2)
    truth = np.where(canvas > 0, _centred(ink.astype(np.int8), size), 0).astype(np.int8)
    given = (truth, annotators, len(groups) + 1, names, seed, level, float(scale), canvas > HALF)
    labels, images = simulate(*given, strength), canvas
    if background_noise:
        noise = generator.normal(0, background_noise, canvas.shape)
        images = np.clip(np.round(canvas + noise), 0, 255).astype(np.uint8)
    who = tuple(getattr(annotator, "name", annotator) for annotator in annotators)
    arrays = (images[..., None], labels, who, len(groups) + 1, names, truth, "known")
    flags = {"simulated_annotators": True, "synthetic": source == "drawn"}
    return MultiAnnotatorSet(f"digits-{source}", *arrays, subsets=np.repeat(SUBSETS, n), **flags)


def _check(n, size: int, groups, tiles: int, source: str) -> int:
    """Check the arguments; return how many times digits are enlarged."""
    flat, minimum = list(chain(*groups)), SIDE * max(tiles, 1)
    disjoint = flat and len(set(flat)) == len(flat) and set(flat) <= set(range(10))
    sizes = len(n) == len(SUBSETS) and min(n) >= 0 and sum(n)
    for fits, problem, hint in (
        (source in SOURCES, f"source {source!r}", f"choose auto or one of {', '.join(SOURCES)}"),
        (sizes, f"n {n}", "give the numbers of train, val and test images"),
        (size >= minimum and tiles > 0, f"size {size}, tiles {tiles}", f"give at least {minimum}"),
        (disjoint, f"groups {groups}", "put each digit from 0 to 9 into one group at most"),
    ):
        if not fits:
            raise LabelError("digits", problem, hint)
    return size // minimum


def _choose(n, groups, each: int, source: str, generator, seed: int):
    """Draw the digits of every image: images (n, each, 28, 28), classes (n, each), names."""
    class_of = np.zeros(10, np.int8)
    for number, group in enumerate(groups, start=1):
        class_of[list(group)] = number
    chosen, classes, names = [], [], []
    for subset, count in (("train", n[0] + n[1]), ("test", n[2])):
        if source == "drawn":
            n_drawn = int(1.5 * count * each / (sum(map(len, groups)) / 10)) + 30
            values, shown = draw_digits(n_drawn, [seed, int(subset == "test")])
        else:
            values, shown = read_digits(source, subset)
        usable = np.flatnonzero((class_of[shown] > 0) & values.any(axis=(1, 2)))
        if count * each > len(usable):
            problem = f"{count * each:,} digits of {subset} asked, {len(usable):,} are there"
            raise LabelError("digits", problem, "ask for fewer images or tiles")
        rows = generator.permutation(usable)[: count * each].reshape(count, each)
        chosen.append(values[rows])
        classes.append(class_of[shown[rows]])
        names += ["-".join([subset, *(f"{number:05d}" for number in row)]) for row in rows]
    return np.concatenate(chosen), np.concatenate(classes), names


def _canvas(ones: np.ndarray, tiles: int, scale: int, size: int) -> np.ndarray:
    """Lay the digits of one image side by side, enlarged, in the middle of the canvas."""
    side = SIDE * scale
    if scale > 1:
        how = ((side, side), Image.Resampling.BICUBIC)
        ones = np.stack([np.asarray(Image.fromarray(digit).resize(*how)) for digit in ones])
    rows = ones.reshape(tiles, tiles, side, side).transpose(0, 2, 1, 3)
    return _centred(rows.reshape(1, tiles * side, tiles * side), size)[0]


def _centred(values: np.ndarray, size: int) -> np.ndarray:
    before = (size - values.shape[-1]) // 2
    after = size - values.shape[-1] - before
    return np.pad(values, ((0, 0), (before, after), (before, after)))
