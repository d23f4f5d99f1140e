"""RIGA: 750 fundus pictures, optic disc and cup outlined by six ophthalmologists.

Folders as published: ``BinRushed/BinRushed1-Corrected``, ``BinRushed/BinRushed2`` …,
``Magrabia/MagrabiaMale``, ``Magrabia/MagrabiFemale`` and ``MESSIDOR``, perhaps one deeper each
(archives hold a folder of their own name). In each ``image7prime.tif`` is a picture, and
``image7-1.tif`` to ``image7-6.tif`` are copies with the outlines of the annotators 1 to 6, in
capitals or not, ``.tif`` or ``.jpg``.

The first load reads the outlines (:mod:`iavlib.data.outlines`) and keeps label maps in the cache:
128 in the rim, 255 in the cup, so that what is above 0 is the disc. A file whose lines cannot be
read, because they touch for instance, is left out and listed in ``extras["problems"]``.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.data import folder
from iavlib.data.cohort import Cohort
from iavlib.data.errors import DataError, DatasetUnavailable
from iavlib.data.home import cache_home, data_home
from iavlib.data.images import read_image
from iavlib.data.outlines import CUP, RIM, labels_from_outlines
from iavlib.data.tables import IMAGE_SUFFIXES
from iavlib.files import replacing, write_text

SOURCES = {"BinRushed": "train", "MESSIDOR": "train", "Magrabia": "test"}
COUNTS = {"BinRushed": 195, "MESSIDOR": 460, "Magrabia": 95}
LICENCE = "as the source states (University of Michigan, Deep Blue Data)"
CITATION = (
    "A. Almazroa et al.: Retinal fundus images for glaucoma analysis: the RIGA dataset. SPIE "
    "Medical Imaging 2018, doi:10.1117/12.2293584"
)
#: Raise when what is read off the outlines changes.
VERSION = 1
_PICTURE = re.compile(r"^(?P<name>.+?)prime$", re.IGNORECASE)
_DRAWN = re.compile(r"^(?P<name>.+?)-(?P<annotator>[1-6])$")


def load() -> Cohort:
    """Load RIGA from the folder ``riga`` of the data home.

    Returns
    -------
    Cohort
        Masks are label maps; ``extras["classes"]`` tells their values and structures (disc and
        cup), ``extras["published_split"]`` the part of each picture (BinRushed and MESSIDOR
        train, Magrabia test: 655 and 95 in all) and its source, and ``extras["problems"]`` the
        files that are left out and why. Pairs and their metrics are of the disc.

    Raises
    ------
    DatasetUnavailable
        If one of the three folders is not there.
    DataError
        If there are no pictures with outlines in them.
    """
    home = data_home() / "riga"
    absent = [source for source in SOURCES if not (home / source).is_dir()]
    if absent:
        told = f"no folder {', '.join(absent)} in {home}"
        raise DatasetUnavailable("riga", told, "unpack the published archives there")
    files = find_files(home)
    if files.empty:
        mend = "unpack the published archives there, names unchanged"
        raise DataError(home, "no picture …prime with outlines …-1 to …-6 beside it", mend)
    kept = _kept(files)
    read = folder.load(kept / "masks.csv")
    ids = read.images.index
    source = files.drop_duplicates("image_id").set_index("image_id")["source"].reindex(ids)
    return replace(
        read,
        name="riga",
        images=read.images.assign(licence=LICENCE),
        citation=CITATION,
        licence=LICENCE,
        source=str(home),
        extras={
            "classes": pd.DataFrame(
                {"grey": [RIM, CUP], "structures": ["disc", "disc cup"]},
                index=pd.Index(["rim", "cup"], name="class"),
            ),
            "published_split": pd.DataFrame({"part": source.map(SOURCES), "source": source}),
            "problems": pd.read_csv(kept / "problems.csv", dtype=str),
        },
    )


def find_files(home: Path) -> pd.DataFrame:
    """List the outlined copies with their pictures.

    A folder beside one of the same name and ``-Corrected`` is passed over, and so are copies
    without a picture.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` (folder and name), ``source``, ``annotator`` (R1 to R6), ``picture`` and
        ``drawn`` (paths), in natural order.
    """
    rows = []
    for source in SOURCES:
        paths = [p for p in (home / source).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
        shown = [p for p in paths if not p.name.startswith(".") and p.is_file()]
        corrected = {p.parent.name for p in shown if p.parent.name.endswith("-Corrected")}
        used = [p for p in shown if f"{p.parent.name}-Corrected" not in corrected]
        rows += _matched(source, used)
    columns = ["image_id", "source", "annotator", "picture", "drawn"]
    table = pd.DataFrame(rows, columns=columns)
    order = table["image_id"].map(_natural)
    return table.iloc[sorted(range(len(table)), key=lambda n: (order[n], table["annotator"][n]))]


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
    """Read the outlines that were not read before; return the folder of the label maps."""
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
                    _keep(
                        labels_from_outlines(picture, read_image(row.drawn), row.drawn), kept, name
                    )
            except DataError as error:
                problems.append((row.image_id, row.annotator, error.where, error.problem))
                continue
            rows.append((row.image_id, str(picture_path), name, row.annotator))
    if not rows:
        raise DataError(problems[0][2], problems[0][3], "replace the outlined copies")
    columns = ["image_id", "annotator", "file", "problem"]
    pd.DataFrame(problems, columns=columns).to_csv(kept / "problems.csv", index=False)
    table = pd.DataFrame(rows, columns=["image_id", "image", "mask", "annotator"])
    # The table is moved into place last: where it is, everything is.
    write_text(kept / "masks.csv", table.to_csv(index=False))
    return kept


def _keep(labels: np.ndarray, kept: Path, name: str) -> None:
    with replacing(kept / "masks" / name) as partial:
        Image.fromarray(labels).save(partial, "PNG")
