"""Images decoded and scaled once, kept as a memory-mapped array that runs share.

Decoding a photograph of a few megapixels takes longer than a training step on its thumbnail;
therefore it is done once for each set of files and each size, by several processes.
"""

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.core.files import content_digests, only_one, write_json
from iavlib.core.processes import run_in_order
from iavlib.core.project import cache_home
from iavlib.data.images import read_image

#: Part of every key: raise it when the same files would give other pixels.
VERSION = 2
RESAMPLING = "bicubic"
_PER_TASK = 8  # images that a process is handed at a time
_SHOWN = 5  # images named in an error


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Square RGB images, one per row.

    Attributes
    ----------
    ids : pandas.Index
        Image ids, in the order of the rows.
    pixels : numpy.memmap of uint8, shape (n, size, size, 3)
        Changes made to it stay in memory and never reach the file.
    path : pathlib.Path
        The file of pixels; its index lies beside it with the ending ``.json``.
    """

    ids: pd.Index
    pixels: np.memmap
    path: Path

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Width and height in pixels."""
        return self.pixels.shape[1]

    @property
    def key(self) -> str:
        """Hexadecimal digits that change with the ids, the files or the size."""
        return self.path.stem

    def rows(self, ids) -> np.ndarray:
        """Return the row of each image id.

        Raises
        ------
        KeyError
            If an image is not in the cache.
        """
        rows = self.ids.get_indexer(pd.Index(ids))
        if (rows < 0).any():
            raise KeyError(f"no image {_named(pd.Index(ids)[rows < 0])} in {self.path}")
        return rows


def cache_images(
    paths: pd.Series,
    size: int,
    folder: Path | None = None,
    processes: int | None = None,
    progress: bool = False,
) -> ImageCache:
    """Decode and scale images once, or open what was made before.

    Each file is read as RGB (grey and CMYK are converted, transparency is dropped, the EXIF
    orientation is applied) and scaled to a square by Pillow's bicubic filter, without keeping
    its aspect ratio, as in the paper. JPEGs are decoded whole: Pillow's way of decoding them at
    half their size saves 9 of 15 ms for one of 1022 x 767, once, but moves single pixels by up to
    25 grey levels (half a level on average).

    Parameters
    ----------
    paths : pandas.Series
        File of each image, indexed by image id.
    size : int
        Width and height in pixels.
    folder : pathlib.Path, optional
        Where caches lie; ``images`` in :func:`iavlib.core.cache_home` unless given.
    processes : int, optional
        One per core unless given, fewer where there is little to do.
    progress : bool
        Report progress now and then.

    Returns
    -------
    ImageCache

    Raises
    ------
    DataError
        If a path or a file is missing, or a file is no readable image; nothing is kept then.
    OSError
        If the cache cannot be written.
    """
    index = _index(paths, size)
    folder = Path(folder) if folder is not None else cache_home() / "images"
    path = folder / f"{_digest(index)[:24]}.npy"
    if (cache := _open(path, index)) is not None:
        return cache
    with only_one(path.with_suffix(".lock"), f"{len(paths):,} images being read into {path}"):
        if _open(path, index) is None:  # another process may have made it while we waited
            _build(path, paths, size, processes, progress)
            write_json(path.with_suffix(".json"), {**index, "sha256": _digest(index)})
        cache = _open(path, index)
    if cache is None:
        raise DataError(path, "was removed while it was opened", "run it again")
    return cache


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Scale an RGB image to the input of networks: uint8 of shape (size, size, 3)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _index(paths: pd.Series, size: int) -> dict:
    """Return what the pixels depend on: ids, the content of the files, the scaling."""
    if not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size must be a whole number from 1, not {size!r}")
    if len(paths) == 0:
        raise ValueError("there is no image to read")
    twice, absent = paths.index[paths.index.duplicated()].unique(), paths.index[paths.isna()]
    if len(twice):
        raise DataError("image paths", f"{_named(twice)} twice", "keep one row each")
    if len(absent):
        problem = f"{len(absent):,} images have no file: {_named(absent)}"
        raise DataError("image paths", problem, "fetch them, or leave out these rows")
    try:
        digests = content_digests(paths)
    except OSError as error:
        [name, *_] = paths.index[[os.path.abspath(p) == error.filename for p in paths]]
        problem = f"image {name} cannot be read ({error.strerror})"
        hint = "put it there, or leave out its row"
        raise DataError(error.filename, problem, hint) from None
    files = [[str(name), digest] for name, digest in zip(paths.index, digests, strict=True)]
    return {"version": VERSION, "size": int(size), "resampling": RESAMPLING, "images": files}


def _named(names) -> str:
    return ", ".join(map(str, names[:_SHOWN]))


def _digest(index: dict) -> str:
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _open(path: Path, index: dict) -> ImageCache | None:
    """Open a cache; None where there is none, or where it is not complete."""
    pixels, checksum = read_array(path, index, mmap_mode="c")
    if pixels is None or checksum != _digest(index):
        return None
    shape = (len(index["images"]), index["size"], index["size"], 3)
    complete = pixels.shape == shape and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    if not complete or path.stat().st_size != pixels.offset + pixels.nbytes:
        return None
    return ImageCache(pd.Index([row[0] for row in index["images"]], name="image_id"), pixels, path)


def read_array(path: Path, index: dict, mmap_mode: str | None = None):
    """Read an array and the checksum in its index; None twice where the index is another.

    The index lies beside the array with the ending ``.json``.
    """
    try:
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        checksum, values = stored.pop("sha256"), np.load(path, mmap_mode=mmap_mode)
    except (FileNotFoundError, ValueError, KeyError, AttributeError, EOFError):
        return None, None
    return (values, checksum) if stored == index else (None, None)


def _build(path: Path, paths: pd.Series, size: int, processes: int | None, progress) -> None:
    """Read all files into an array beside `path`, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # of a killed process, perhaps: overwritten
    try:
        with temporary.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), size, size, 3)}
            np.lib.format.write_array_header_1_0(stream, header)
            start = stream.tell()
        files = [str(file) for file in paths]
        firsts, unit = range(0, len(files), _PER_TASK), f"times {_PER_TASK} images"
        tasks = [(str(temporary), start, size, n, files[n : n + _PER_TASK]) for n in firsts]
        results = run_in_order(_read, tasks, processes, _lost, progress, unit)
        if problems := [problem for each in results for problem in each]:
            where, problem, hint = problems[0]
            if others := [name for name, *_ in problems[1:]]:
                problem += f"; {len(problems):,} files are at fault, also {_named(others)}"
            raise DataError(where, problem, hint)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk is reported without it
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _read(task) -> list[tuple[str, str, str]]:
    """Read some files and write their pixels to their rows; return place, problem and hint."""
    target, start, size, first, files = task
    problems = []
    # Written, not mapped: a full disk is an error here, and would kill a process that maps it.
    with open(target, "r+b", buffering=0) as stream:
        for row, file in enumerate(files, first):
            try:
                pixels = to_square(Image.fromarray(read_image(file)), size).tobytes()
            except DataError as error:
                problems.append((error.where, error.problem, error.hint))
                continue
            stream.seek(start + row * len(pixels))
            if stream.write(pixels) != len(pixels):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
    return problems


def _lost(task, error: DataError) -> list[tuple[str, str, str]]:
    files = task[-1]
    return [(f"{files[0]} to {files[-1]}", error.problem, error.hint)]
