"""Reading image and mask files as arrays."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from iavlib.core.errors import DataError
from iavlib.core.files import is_hidden, walk_files
from iavlib.data.schemas import IMAGE_SUFFIXES
from iavlib.masks.overlap import mask_stack
from iavlib.masks.surfaces import MAX_CLASSES, binarise, label_values

MAX_PIXELS = 10_000 * 10_000
#: Longest side of an image, that of JPEG: a header of a few bytes can claim any other.
MAX_SIDE = 65_535
#: Smallest side of a photograph that can show a lesion.
MIN_SIDE = 32

_GREY = ("1", "L", "I", "I;16", "I;16B", "F")
_COLOUR = ("LA", "RGB", "RGBA")
_ONE_CHANNEL = "save the mask with one channel, 0 outside and 255 inside"


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as RGB, upright: the EXIF orientation is applied.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger image is refused by its header, before memory is allocated.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        If the file is missing, no readable image, larger than ``max_pixels``, or has more than
        8 bits per channel.
    """
    with _open(path, max_pixels) as image:
        _check_depth(path, image)
        _load(path, image)
        return np.asarray(_upright(image).convert("RGB"))


def read_mask(
    path: str | Path, max_pixels: int = MAX_PIXELS, threshold: float | None = None
) -> np.ndarray:
    """Read a mask, upright.

    Files of one bit, 0/1, 0/255, 16 bits, floating point, a palette, or several channels read
    alike. Values between outside and inside are binarised at half the maximum; see
    :func:`iavlib.masks.surfaces.binarise`. One colour on black is a mask too, and so is what is
    opaque in one colour on a transparent ground. NumPy files and those that SimpleITK reads (NIfTI,
    NRRD, MetaImage) must hold one slice.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger mask is refused by its header, before memory is allocated. Pillow has a limit of
        its own, ``PIL.Image.MAX_IMAGE_PIXELS``, about twice the one here.
    threshold : float, optional
        Share of the maximum above which a pixel is inside; 0 counts every pixel above 0, as
        IMA++ does. With it, label maps are read as one mask.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    DataError
        If the file is missing, not readable, larger than ``max_pixels``, or not one mask: a
        picture, several classes, several pages or slices, values that are NaN or negative.
    """
    return decode_mask(path, max_pixels, threshold)[0]


def decode_mask(
    path: str | Path, max_pixels: int = MAX_PIXELS, threshold: float | None = None
) -> tuple[np.ndarray, str]:
    """Read a mask as :func:`read_mask`, and the note of :func:`iavlib.masks.surfaces.binarise`."""
    values = read_values(path, max_pixels)
    if values.colours and threshold is None and len(values.classes) > 1:
        named = ", ".join(f"#{code:06x}" for code in values.classes[:10])
        problem = f"{len(values.classes)} colours besides the background: {named}"
        hint = "choose one as the label, or save the mask with one channel"
        raise DataError(path, problem, hint)
    pixels = values.pixels > 0 if values.colours else values.pixels
    return binarise(pixels, threshold, path)


@dataclass(frozen=True)
class Values:
    """Pixels of a mask file before it is decided what is inside.

    Attributes
    ----------
    pixels : numpy.ndarray of bool or number, shape (height, width)
    colours : bool
        Whether the pixels are colours (``0xRRGGBB``, the background 0) instead of numbers.
    """

    pixels: np.ndarray
    colours: bool = False

    @cached_property
    def classes(self) -> list[int]:
        """Classes of a label map, or the colours; none in a mask of numbers."""
        if self.colours:
            return np.unique(self.pixels[self.pixels != 0]).tolist()
        return label_values(self.pixels)


def read_values(path: str | Path, max_pixels: int = MAX_PIXELS) -> Values:
    """Read the pixels of a mask file, upright.

    Raises
    ------
    DataError
        As :func:`read_mask`, except for what binarisation refuses.
    """
    if array_suffix(path):
        return Values(_read_array(path, max_pixels))
    with _open(path, max_pixels) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(path, f"{image.n_frames} pages", "save one mask per file")
        _load(path, image)
        image = _upright(image)
        if image.mode in _GREY:
            return Values(np.asarray(image))
        if image.mode != "P" and image.mode not in _COLOUR:
            raise DataError(path, f"colour mode {image.mode} is no mask", _ONE_CHANNEL)
        return _from_colours(path, image)


#: Suffixes of files of numbers instead of pictures.
ARRAY_SUFFIXES = (".npy", ".npz", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def array_suffix(path: str | Path) -> str:
    """Return the suffix of a file of numbers (NumPy, NIfTI …); empty for other files."""
    name = str(path).lower()
    return next((suffix for suffix in ARRAY_SUFFIXES if name.endswith(suffix)), "")


def _read_array(path: str | Path, max_pixels: int, header_only: bool = False) -> np.ndarray:
    if not os.path.isfile(path):
        raise DataError(path, "the file is missing", "put it there or correct the path")
    hint = "write one array of shape (height, width)"
    try:
        if array_suffix(path) in (".npy", ".npz"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if isinstance(array, np.lib.npyio.NpzFile):
                if len(array.files) != 1:
                    raise DataError(path, f"arrays {', '.join(array.files)}, not one mask", hint)
                array = array[array.files[0]]
        else:
            import SimpleITK

            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            if header_only or math.prod(reader.GetSize()) > max_pixels:
                array = np.broadcast_to(np.uint8(0), reader.GetSize()[::-1])
            else:
                array = SimpleITK.GetArrayFromImage(reader.Execute())
    except DataError:
        raise
    except Exception as error:  # SimpleITK raises RuntimeError, NumPy several kinds
        reason = str(error).strip().splitlines()[-1][:200]
        raise DataError(path, f"no readable array ({reason})", "replace or remove it") from None
    shape = array.shape
    array = array.reshape([n for n in shape if n > 1]) if array.ndim > 2 else array
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        what = f"an array of shape {shape} and type {array.dtype}, not one mask"
        raise DataError(path, what, hint)
    if array.size > max_pixels:
        raise DataError(path, f"{array.size:,} pixels are more than {max_pixels:,}", "crop it")
    return np.asarray(array)


def read_photograph(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a photograph from any source, upright, as RGB of 8 bits.

    Stricter than :func:`read_image`, which reads the files of a known dataset: several frames, a
    side below :data:`MIN_SIDE` and printing colours (CMYK) are refused. Grey images are accepted,
    transparency is dropped, and the EXIF orientation is applied.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger image is refused by its header, before memory is allocated.

    Returns
    -------
    PIL.Image.Image
        In memory, of mode RGB.

    Raises
    ------
    DataError
        If the file is missing, no regular file, no readable image, or one of those refused.
    """
    with _open(path, max_pixels) as image:
        _check_photograph(path, image)
        _load(path, image)
        image = _upright(image)
        return image if image.mode == "RGB" else image.convert("RGB")


def _check_photograph(path, image: Image.Image) -> None:
    frames, mode, (width, height) = getattr(image, "n_frames", 1), image.mode, image.size
    if frames > 1 and image.format != "MPO":  # cameras put previews behind the photograph
        raise DataError(path, f"{frames} frames or pages", "save the intended one alone")
    if min(width, height) < MIN_SIDE:
        problem = f"{width} x {height} pixels are too few to show a lesion"
        raise DataError(path, problem, f"give a photograph of at least {MIN_SIDE} pixels per side")
    _check_depth(path, image)
    if mode not in ("1", "L", "P", "PA", *_COLOUR):
        hint = "convert it to RGB by its colour profile and save it again"
        raise DataError(path, f"colours of mode {mode}, not red, green and blue", hint)


def _check_depth(path, image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):  # Pillow would cut its values off at 255
        problem = f"a grey image of more than 8 bits (mode {image.mode})"
        raise DataError(path, problem, "save it with 8 bits per channel")


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read the width and height of an image or mask file, upright, without decoding it.

    Raises
    ------
    DataError
        If the file is missing, no readable image, or larger than ``max_pixels``.
    """
    if array_suffix(path):
        return _read_array(path, max_pixels, header_only=True).shape[::-1]
    with _open(path, max_pixels) as image:
        lies = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns TIFF itself
        return image.size[::-1] if lies else image.size


def orientation(path: str | Path) -> int:
    """Read the EXIF orientation of an image file: 1 is upright, 5 to 8 lie on their side."""
    with _open(path, MAX_PIXELS) as image:
        return _orientation(image)


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array of shape (height, width) as the EXIF orientation asks for."""
    pixels = pixels.T if orientation >= 5 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return pixels[rows, columns]


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # looking for one behind the pixels would decode them
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data say nothing
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)  # in place, to save the memory of a copy
    return image


def _from_colours(path, image: Image.Image) -> Values:
    """Read a picture of a palette or several channels: greys, colours, or what is opaque.

    If a palette gives several of its indices one colour, the indices are read: they are classes.
    """
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "P" and len(image.getcolors()) > len(image.convert("RGB").getcolors()):
        return Values(np.asarray(image))
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"))
        shown = np.asarray(image.convert("RGB"))
        if alpha.min() < 255:
            if alpha.any() and (shown[alpha > 0] == shown[alpha > 0][0]).all():
                return Values(alpha)
            shown = np.where(alpha[..., None] > 127, shown, 0).astype(np.uint8)
    else:
        shown = np.asarray(image.convert("RGB"))
    first, planes = shown[..., 0], np.moveaxis(shown, -1, 0)
    noise = 8 if image.format in ("JPEG", "WEBP") else 0  # of a grey picture, where it lost colour
    differ = planes.max(axis=0) - planes.min(axis=0) > noise
    if not differ.any():
        return Values(first)
    red, green, blue = np.moveaxis(shown.astype(np.int32), -1, 0)
    codes = red << 16 | green << 8 | blue
    present = np.unique(codes)
    if len(present) > MAX_CLASSES + 1:
        top = shown.max(axis=-1)
        hue = shown[np.unravel_index(top.argmax(), top.shape)] / top.max()
        if (np.abs(shown - top[..., None] * hue) <= 2).all():
            return Values(top)  # one colour with smooth borders
        row, column = (int(place[0]) for place in np.nonzero(differ))
        problem = f"a picture, not a mask: its channels differ in {differ.sum():,} pixels"
        raise DataError(path, f"{problem}, first in row {row}, column {column}", _ONE_CHANNEL)
    if present[0] != 0:  # without black, the background is what most of the border shows
        edges = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
        found, counts = np.unique(edges, return_counts=True)
        codes = np.where(codes == found[counts.argmax()], 0, codes)
    return Values(codes, colours=True)


@contextmanager
def _open(path: str | Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image of acceptable size; failures become a :class:`DataError`."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        # reading from a pipe would never end
        raise DataError(path, "no regular file", "put an image there or leave it out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as image:
            _check_header(path, image, max_pixels)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "the file is missing", "put it there or correct the path") from None
    except Image.DecompressionBombError:  # raised before the size is known
        problem = f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels, too many for any image"
        raise DataError(path, problem, "replace it, or scale it down") from None
    except MemoryError:
        raise DataError(path, "not enough memory to decode it", "scale it down") from None
    except UnidentifiedImageError:
        hint = "save it as JPEG, PNG or TIFF (HEIC, raw and PDF files too)"
        raise DataError(path, "no readable image (of no format that is read here)", hint) from None
    except Exception as error:  # decoders raise errors of many kinds for damaged files
        reason = f"{error}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise DataError(path, f"no readable image ({reason})", "replace or remove it") from error


def _load(path, image: Image.Image) -> None:
    """Decode the pixels, and refuse a PNG whose stream ends before its last row.

    Pillow leaves missing rows as they were, black. Here they are white before, and where one of the
    last two rows (in turns the last of an interlaced file) still is, the file is decoded on black.
    """
    if image.format != "PNG" or getattr(image, "is_animated", False):
        image.load()
        return
    rows, white = _last_rows(image, 1), _last_rows(image, 1, decode=False)
    if any(row == other for row, other in zip(rows, white, strict=True)):
        with Image.open(path) as again:
            if rows != _last_rows(again, 0):
                hint = "replace it by a whole file, or remove it"
                raise DataError(path, "its last rows are missing: the file was cut off", hint)


def _last_rows(image: Image.Image, white: int, decode: bool = True) -> list[bytes]:
    """Decode onto white or black (or not at all) and return the last two rows."""
    full = white * (65535 if image.mode.startswith("I") else 255)
    ground = Image.new(image.mode, image.size, (full,) * len(image.getbands()))
    if decode:
        image.im = ground.im
        image.load()
        ground = image
    width, height = image.size
    rows = range(max(height - 2, 0), height)
    return [ground.crop((0, row, width, row + 1)).tobytes() for row in rows]


def _check_header(path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        limit = f"{max_pixels:,}" if width * height > max_pixels else f"{MAX_SIDE:,} per side"
        problem = f"{width:,} x {height:,} pixels are more than the limit of {limit}"
        hint = "scale it down, or raise max_pixels if it is meant to be that large"
        raise DataError(path, problem, hint)
    stored = str(image.tile[0][3]) if image.tile else ""
    if image.mode in _COLOUR and ";16" in stored:
        raise DataError(path, "several channels of 16 bits", "save it with 8 bits per channel")


def jpeg(picture: Image.Image) -> bytes:
    """Encode a picture without the camera's metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def outline_path(mask: np.ndarray, size: tuple[int, int]) -> str:
    """Trace the outlines of a mask.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (h, w)
        Of any size; it covers the whole picture.
    size : pair of int
        Width and height of the picture in pixels.

    Returns
    -------
    str
        SVG path in pixels of the picture; empty for an empty mask.
    """
    from contourpy import contour_generator

    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    inside = np.pad(np.asarray(scaled, float) / 255, 1)  # closes outlines at the picture's border
    return "".join(
        "M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for x, y in line) + "Z"
        for line in contour_generator(z=inside).lines(0.5)
    )


def is_image(path: Path) -> bool:
    """Return whether a file is an image of a dataset by its name.

    Hidden files are not, nor are the superpixels that the ISIC archive puts beside photographs.
    """
    known = path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.endswith("_superpixels")
    return known and not is_hidden(path.name)


def image_paths(folder: Path, below: bool = False) -> list[Path]:
    """List the images of a folder by name, also `below` it; none where there is no such folder."""
    if below:
        return list(filter(is_image, walk_files(folder)))
    names = sorted(e.path for e in os.scandir(folder) if e.is_file()) if folder.is_dir() else []
    return list(filter(is_image, map(Path, names)))


def mask_paths(masks: pd.DataFrame) -> dict[str, dict[str, str | None]]:
    """Return the mask files of each image with at least two masks.

    Parameters
    ----------
    masks : pandas.DataFrame
        As ``Cohort.masks``.

    Returns
    -------
    dict
        Image id to (mask id to path, None where there is no file), in order of first appearance.
    """
    images: dict[str, dict[str, str | None]] = {}
    for image_id, mask_id, path in zip(masks["image_id"], masks.index, masks["path"], strict=True):
        there = pd.notna(path) and path != ""
        images.setdefault(str(image_id), {})[str(mask_id)] = str(path) if there else None
    return {image_id: paths for image_id, paths in images.items() if len(paths) > 1}


def read_stack(
    paths: dict[str, str | None], min_masks: int = 1, read: Callable = read_mask
) -> np.ndarray:
    """Read the mask files of one image and stack them.

    Parameters
    ----------
    paths : dict
        Mask id to path; None where there is no file.
    min_masks : int
        Smallest number of masks.
    read : callable
        From a path to a mask.

    Returns
    -------
    numpy.ndarray of bool, shape (n, height, width)

    Raises
    ------
    DataError
        Naming the mask and the file.
    """
    masks = [read_file(*item, read) for item in paths.items()]
    return mask_stack(masks, list(paths), min_masks)


def read_file(mask_id: str, path: str | None, read: Callable = read_mask):
    """Read one mask file by a function; any failure becomes a :class:`DataError`."""
    if path is None:
        raise DataError(mask_id, "there is no file", "put the file beside the others")
    try:
        return read(path)
    except DataError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        problem = f"no readable mask ({type(error).__name__}: {error})"
        raise DataError(path, problem, "replace or remove it") from error
