"""RIGA: 750 fundus pictures, optic disc and cup outlined by six ophthalmologists.

Folders as published: ``BinRushed/BinRushed1-Corrected``, ``BinRushed/BinRushed2`` …,
``Magrabia/MagrabiaMale``, ``Magrabia/MagrabiFemale`` and ``MESSIDOR``, perhaps one deeper each
(archives hold a folder of their own name). In each ``image7prime.tif`` is a picture, and
``image7-1.tif`` to ``image7-6.tif`` are copies with the outlines of the annotators 1 to 6, in
capitals or not, ``.tif`` or ``.jpg``.

RIGA publishes no masks: each ophthalmologist's file is the fundus picture with two closed lines in
it. The lines are where the copy differs from the picture; they enclose cup and rim. The first load
reads the outlines and caches label maps: 240 in the rim, 255 in the cup, so that whoever reads one
as a mask, binarised at half its maximum, gets the disc. A file whose lines cannot be read, for
instance because they touch, is left out and listed in ``extras["problems"]``.
"""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.core.files import replacing, write_text
from iavlib.core.project import cache_home
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.datasets import folder
from iavlib.data.images import image_paths, read_image

RIM, CUP = 240, 255
#: A pixel belongs to a line where it differs by this share of the largest difference …
LINE_SHARE = 0.4
#: … which must be at least so many grey levels: compression alone differs by less.
LINE_CONTRAST = 40
#: Gaps in a line are closed, of up to about twice this many pixels, and no further than needed:
#: closing fills a narrow rim as well.
CLOSING = 3
#: An enclosed area below this share of the disc is a loop of the pen, not the cup.
SMALLEST_CUP = 0.02
_HINT = "draw two closed lines that do not touch, or leave the file away"


def labels_from_outlines(picture: np.ndarray, drawn: np.ndarray, where="outlines") -> np.ndarray:
    """Read the rim and the cup of an optic disc from the lines drawn around disc and cup.

    Half of each line's width belongs to either side. Of the areas that the lines enclose, the cup
    is the one that holds the point deepest in the disc.

    Parameters
    ----------
    picture, drawn : numpy.ndarray of uint8, shape (height, width, 3)
        Without and with the lines.
    where : str or path
        Named in errors.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        240 in the rim (disc without cup), 255 in the cup, otherwise 0.

    Raises
    ------
    DataError
        If sizes differ, no line is found, or the lines do not enclose a disc with a cup in it.
    """
    if picture.shape != drawn.shape:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (drawn, picture)]
        problem = f"{sizes[0]} pixels, the picture has {sizes[1]}"
        raise DataError(where, problem, "replace the one that was resized")
    line = _line(picture, drawn, where)
    rows, columns = ndimage.find_objects(line.astype(np.uint8))[0]
    margin = 2 * CLOSING + 1
    box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in (rows, columns))
    labels = np.zeros(line.shape, np.uint8)
    labels[box] = _areas(np.pad(line[box], margin), where)[margin:-margin, margin:-margin]
    return labels


def _line(picture: np.ndarray, drawn: np.ndarray, where) -> np.ndarray:
    difference = np.abs(picture.astype(np.int16) - drawn).max(axis=2)
    if difference.max() < LINE_CONTRAST:
        problem = f"nothing drawn: it differs from the picture by {difference.max()} grey levels"
        raise DataError(where, f"{problem} at most", _HINT)
    return difference >= LINE_SHARE * difference.max()


def _areas(line: np.ndarray, where) -> np.ndarray:
    """Distinguish rim and cup in a box around the lines, with a margin of background."""
    for closing in range(CLOSING + 1):
        disc, pieces, areas = _enclosed(line, closing)
        if np.count_nonzero(areas) >= 2:
            break
    else:
        problem = f"the lines enclose {np.count_nonzero(areas)} areas, not a rim and a cup"
        raise DataError(where, problem, _HINT)
    depth = ndimage.distance_transform_edt(disc)
    deepest = np.where(areas[pieces] > 0, depth, 0).argmax()
    cup = pieces == pieces.flat[deepest]
    # Half a line's width, from the mean distance of its pixels to its edge, a quarter of it.
    half = max(2 * (ndimage.distance_transform_edt(line)[line].mean() - 0.5), 0.5)
    inside = depth > half
    within_cup = inside & (ndimage.distance_transform_edt(~cup) <= half)
    return np.where(within_cup, CUP, np.where(inside, RIM, 0)).astype(np.uint8)


def _enclosed(line: np.ndarray, closing: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Close gaps; return what the lines enclose, its pieces by number, and their areas.

    Loops of the pen have area 0.
    """
    if closing:
        line = ndimage.binary_closing(line, np.ones((3, 3)), iterations=closing)
    disc = ndimage.binary_fill_holes(line)
    pieces, n = ndimage.label(disc & ~line)
    areas = np.bincount(pieces.ravel(), minlength=n + 1)
    areas[0] = 0
    areas[areas < SMALLEST_CUP * disc.sum()] = 0
    return disc, pieces, areas


SOURCES = {"BinRushed": "train", "MESSIDOR": "train", "Magrabia": "test"}
COUNTS = {"BinRushed": 195, "MESSIDOR": 460, "Magrabia": 95}
#: Raise when the label maps change.
VERSION = 2
_PICTURE = re.compile(r"^(?P<name>.+?)prime$", re.IGNORECASE)
_DRAWN = re.compile(r"^(?P<name>.+?)-(?P<annotator>[1-6])$")


def load() -> Cohort:
    """Load RIGA from the folder ``riga`` of the data home.

    Returns
    -------
    Cohort
        Masks are label maps; ``extras["classes"]`` gives their values and structures (disc and
        cup), ``extras["published_split"]`` the split of each picture (BinRushed and MESSIDOR
        train, Magrabia test: 655 and 95 in all) and its source, and ``extras["problems"]`` the
        files that are left out, with the reason. Pairs and their metrics are of the disc.

    Raises
    ------
    DatasetUnavailable
        If one of the three folders is absent.
    DataError
        If there are no pictures with outlines in them.
    """
    home = DATASET.folder
    absent = [source for source in SOURCES if not (home / source).is_dir()]
    if absent:
        problem = f"no folder {', '.join(absent)} in {home}"
        raise DatasetUnavailable("riga", problem, "unpack the published archives there")
    files = find_files(home)
    if files.empty:
        hint = "unpack the published archives there, names unchanged"
        raise DataError(home, "no picture …prime with outlines …-1 to …-6 beside it", hint)
    kept = _kept(files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the grey of the rim is as intended
        read = folder.load(kept / "masks.csv")
    source = files.groupby("image_id")["source"].first().reindex(read.images.index)
    values = {"grey": [RIM, CUP], "structures": ["disc", "disc cup"]}
    return replace(
        read,
        name="riga",
        images=read.images.assign(licence=DATASET.licence),
        citation=DATASET.citation,
        licence=DATASET.licence,
        source=str(home),
        extras={
            "classes": pd.DataFrame(values, index=pd.Index(["rim", "cup"], name="class")),
            "published_split": pd.DataFrame({"subset": source.map(SOURCES), "source": source}),
            "problems": pd.read_csv(kept / "problems.csv", dtype=str),
        },
    )


def find_files(home: Path) -> pd.DataFrame:
    """List the outlined copies with their pictures.

    A folder beside one of the same name and ``-Corrected`` is ignored, and so are copies without a
    picture.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` (folder and name), ``source``, ``annotator`` (R1 to R6), ``picture`` and
        ``drawn`` (paths), in natural order.
    """
    rows = []
    for source in SOURCES:
        shown = image_paths(home / source, below=True)
        corrected = {p.parent.name for p in shown if p.parent.name.endswith("-Corrected")}
        used = [p for p in shown if f"{p.parent.name}-Corrected" not in corrected]
        rows += _matched(source, used)
    rows.sort(key=lambda row: (_natural(row[0]), row[2]))
    return pd.DataFrame(rows, columns=["image_id", "source", "annotator", "picture", "drawn"])


def _matched(source: str, paths: list[Path]) -> list[tuple]:
    pictures, rows = {}, []
    for path in sorted(paths):
        if found := _PICTURE.match(path.stem):
            pictures.setdefault((path.parent, found["name"].lower()), path)
    for path in sorted(paths):
        found = _DRAWN.match(path.stem)
        picture = pictures.get((path.parent, found["name"].lower())) if found else None
        if picture:
            image_id = f"{path.parent.name}_{found['name'].lower()}"
            rows.append((image_id, source, f"R{found['annotator']}", picture, path))
    # The same outline as .tif and as .jpg counts once.
    return list({row[:3]: row for row in reversed(rows)}.values())


def _natural(text: str) -> tuple:
    return tuple(int(p) if p.isdigit() else p for p in re.split(r"(\d+)", text))


def _kept(files: pd.DataFrame) -> Path:
    """Read the outlines that are not cached yet; return the folder of the label maps."""
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files["drawn"]]
    key = hashlib.sha256(repr((VERSION, facts)).encode()).hexdigest()[:16]
    kept = cache_home() / "riga" / key
    if (kept / "masks.csv").is_file():
        return kept
    (kept / "masks").mkdir(parents=True, exist_ok=True)
    rows, problems = [], []
    for picture_path, group in files.groupby("picture", sort=False):
        picture = None
        for row in group.itertuples():
            name = f"{row.image_id}_{row.annotator}.png"
            try:
                if not (kept / "masks" / name).is_file():
                    picture = read_image(picture_path) if picture is None else picture
                    labels = labels_from_outlines(picture, read_image(row.drawn), row.drawn)
                    with replacing(kept / "masks" / name) as partial:
                        Image.fromarray(labels).save(partial, "PNG")
            except DataError as error:
                problems.append((row.image_id, row.annotator, error.where, error.problem))
                continue
            rows.append((row.image_id, str(picture_path), name, row.annotator))
    if not rows:
        raise DataError(problems[0][2], problems[0][3], "replace the outlined copies")
    columns = ["image_id", "annotator", "file", "problem"]
    pd.DataFrame(problems, columns=columns).to_csv(kept / "problems.csv", index=False)
    table = pd.DataFrame(rows, columns=["image_id", "image", "mask", "annotator"])
    # The table is moved into place last: where it exists, everything does.
    write_text(kept / "masks.csv", table.to_csv(index=False))
    return kept


def _layout(folder: Path) -> Layout:
    files = {f"{source}/**/*prime.*": n for source, n in COUNTS.items()}
    return Layout(files, tuple(files))


DATASET = register_own("riga", load, layout=_layout)
