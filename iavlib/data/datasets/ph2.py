"""PH2: 200 dermoscopic images of melanocytic lesions with masks, 40 of them melanoma.

Two layouts are read. *Official*, as the archive unpacks (in the folder itself or in its
``PH2Dataset``): ``PH2_dataset.txt`` and ``PH2 Dataset images/IMD003/`` with
``IMD003_Dermoscopic_Image/IMD003.bmp`` and ``IMD003_lesion/IMD003_lesion.bmp``. In the table, cells
are separated by ``||``: name, histological diagnosis (often empty), clinical diagnosis (0, 1 or 2),
then criteria that are not used; a legend follows, which is ignored. The archive's
``PH2_dataset.xlsx`` has the same content and is not read. This format is known from descriptions
and from programs that read it; it was not tested on the archive itself. *Simple*: ``images``,
``masks`` (the image's name and ``_lesion``) and ``labels.csv`` with image_id and
clinical_diagnosis.

There are neither patients nor official splits; every image counts as a patient of its own.
"""

import re
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.labels import HINT, Label, build, image_files, masks_table, match, meaning
from iavlib.data.schemas import read_table

SIMPLE, OFFICIAL, IMAGES = "labels.csv", "PH2_dataset.txt", "PH2 Dataset images"
NAMES = {0: "common nevus", 1: "atypical nevus", 2: "melanoma"}
LABELS = dict.fromkeys(("common nevus", "atypical nevus"), Label(0, "benign"))
LABELS |= {"melanoma": Label(1, "malignant")}
TABLE = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, unique=True),
        "clinical_diagnosis": pa.Column(int, pa.Check.isin(list(NAMES), error="0, 1 or 2")),
    }
)


def layout(folder: Path) -> Layout:
    """Return the layout of the files; the official one if there are none."""
    if (folder / SIMPLE).is_file():
        return Layout({SIMPLE: 1, "images/*": 200, "masks/*": 200}, (SIMPLE,), "simple")
    below = "PH2Dataset/" if (folder / "PH2Dataset" / OFFICIAL).is_file() else ""
    files = {below + OFFICIAL: 1}
    files |= {f"{below}{IMAGES}/IMD*/*_{kind}/*": 200 for kind in ("Dermoscopic_Image", "lesion")}
    return Layout(files, (below + OFFICIAL,))


def load(folder: Path | None = None, incomplete: bool = False) -> Cohort:
    """Load PH2 with melanoma as the target.

    Parameters
    ----------
    folder : pathlib.Path, optional
        ``ph2`` in the data home unless given.
    incomplete : bool
        Whether images without file and files without label are accepted.

    Returns
    -------
    Cohort
        In the simple layout images are squashed, and width and height are those of the file.

    Raises
    ------
    DatasetUnavailable
        If the labels are not found.
    DataError
        If a file is not what it should be; see :mod:`iavlib.data.labels`.
    """
    folder = folder or DATASET.folder
    found = layout(folder)
    table = folder / found.required[0]
    if not table.is_file():
        raise DatasetUnavailable("ph2", f"{folder} lacks {found.required[0]}", DATASET.how)
    if found.name == "simple":
        hint = "list each image once, with clinical_diagnosis 0, 1 or 2"
        codes = read_table(table, TABLE, hint).set_index("image_id")["clinical_diagnosis"]
        files, outlines = (image_files(folder / kind) for kind in ("images", "masks"))
    else:
        codes = _read_text(table)
        files = _nested(table.parent / IMAGES, "_Dermoscopic_Image")
        outlines = _nested(table.parent / IMAGES, "_lesion")
    names = codes.map(NAMES)
    images = meaning(names, LABELS, table, "clinical_diagnosis").assign(
        path=match(codes.index, files, table, table.parent, incomplete),
        diagnosis=names,
        geometry="squashed" if found.name == "simple" else "original",
    )
    masks = masks_table(outlines, "_lesion", images.index, "PH2")
    return build(DATASET, images, folder, masks)


def _read_text(path: Path) -> pd.Series:
    """Read the clinical diagnosis of each image from the table with bars."""
    codes = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("||")]
        if len(cells) < 4 or not re.fullmatch(r"IMD\d+", cells[1]):
            continue
        name, code = cells[1], cells[3]
        if code not in map(str, NAMES):
            what = f"line {number}: {name} has the clinical diagnosis {code!r}, outside the map"
            known = ", ".join(f"{code} {diagnosis}" for code, diagnosis in NAMES.items())
            raise DataError(path, f"{what} ({known})", HINT)
        if name in codes:
            raise DataError(path, f"line {number}: {name} is listed twice", "keep one line")
        codes[name] = int(code)
    if not codes:
        what = "no line of the form '|| IMD003 || … || 0 ||' was found"
        raise DataError(path, what, HINT)
    return pd.Series(codes)


def _nested(folder: Path, suffix: str) -> dict[str, Path]:
    """List the one file in each image's folder with that suffix."""
    found = {}
    for inner in sorted(folder.glob(f"IMD*/*{suffix}")):
        found |= image_files(inner)
    return found


DATASET = register_own("ph2", load, layout=layout, options=("incomplete",))
