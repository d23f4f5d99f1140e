"""Where digits come from: MNIST's own files, a packed copy, or drawn here with a font."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from iavlib.data.errors import DataError, DatasetUnavailable
from iavlib.data.home import data_home

SOURCES = ("idx", "npz", "drawn")
SIDE = 28
_FILES = {"train": "train", "test": "t10k"}
_KINDS = {"images": ("images-idx3-ubyte", 3), "labels": ("labels-idx1-ubyte", 1)}
_MEND = "download MNIST again with torchvision.datasets.MNIST(root, download=True)"


def find_source() -> str:
    """Return the best source of digits at hand: ``idx``, ``npz`` or, without files, ``drawn``."""
    if all(_idx_path(part, kind) for part in _FILES for kind in _KINDS):
        return "idx"
    return "npz" if _packed().is_file() else "drawn"


def read_digits(source: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST's digits.

    Parameters
    ----------
    source : {"idx", "npz"}
        ``idx``: the files that torchvision keeps, in ``mnist/raw`` of the data home, packed by
        gzip or not; ``npz``: ``mnist/mnist_20k.npz``, 10,000 digits of each part.
    part : {"train", "test"}

    Returns
    -------
    images : numpy.ndarray of uint8, shape (n, 28, 28)
        0 is paper, 255 ink.
    digits : numpy.ndarray of uint8, shape (n,)

    Raises
    ------
    DatasetUnavailable
        If the files are not there.
    DataError
        If they are not what they should be.
    """
    if source == "npz":
        return _read_packed(part)
    found = {kind: _idx_path(part, kind) for kind in _KINDS}
    if not all(found.values()):
        where = data_home() / "mnist" / "raw"
        raise DatasetUnavailable("digits", f"no MNIST files in {where}", _MEND)
    images, digits = (read_idx(path, _KINDS[kind][1]) for kind, path in found.items())
    if images.shape[1:] != (SIDE, SIDE) or len(images) != len(digits):
        told = f"{images.shape} images and {len(digits)} labels"
        raise DataError(found["images"], told, _MEND)
    return images, digits


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an array of bytes in the IDX format, in which MNIST is published.

    Two zero bytes, the type (8: unsigned bytes), the number of dimensions, each dimension as a
    big-endian 32-bit number, then the values, last dimension fastest.

    Raises
    ------
    DataError
        If the file is no such array, or shorter or longer than it says.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"it cannot be read ({error})", _MEND) from None
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(path, f"no IDX file of bytes in {dimensions} dimensions", _MEND)
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape):
        told = f"{values.size:,} values, but the header tells of {shape}"
        raise DataError(path, told, _MEND)
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
    picture = Image.new("L", (side, side))
    middle = (side / 2 + generator.uniform(-4, 4), side / 2 + generator.uniform(-4, 4))
    pen = ImageDraw.Draw(picture)
    weight = int(generator.integers(0, scale))
    pen.text(middle, str(digit), 255, font, anchor="mm", stroke_width=weight, stroke_fill=255)
    turn, slant = np.deg2rad(generator.normal(0, 8)), generator.normal(0.1, 0.15)
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, slant], [0, 1]])
    centre = np.array([side / 2, side / 2])
    shift = centre - matrix @ centre
    numbers = (*matrix[0], shift[0], *matrix[1], shift[1])
    bent = picture.transform(
        picture.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR
    )
    return np.asarray(bent.resize((SIDE, SIDE), Image.Resampling.BOX))


def _packed() -> Path:
    return data_home() / "mnist" / "mnist_20k.npz"


def _idx_path(part: str, kind: str) -> Path | None:
    plain = data_home() / "mnist" / "raw" / f"{_FILES[part]}-{_KINDS[kind][0]}"
    packed = plain.with_name(plain.name + ".gz")
    return next((path for path in (plain, packed) if path.is_file()), None)


def _read_packed(part: str) -> tuple[np.ndarray, np.ndarray]:
    path = _packed()
    if not path.is_file():
        raise DatasetUnavailable("digits", f"there is no {path}", "put it there, or use MNIST's")
    mend = "replace it: train_images, train_labels, test_images and test_labels, of uint8"
    try:
        with np.load(path, allow_pickle=False) as packed:
            images, digits = packed[f"{part}_images"], packed[f"{part}_labels"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(path, f"not the packed digits ({error})", mend) from None
    if images.dtype != np.uint8 or images.shape != (len(digits), SIDE, SIDE):
        raise DataError(path, f"{part}_images of {images.dtype}, shape {images.shape}", mend)
    return images, digits
