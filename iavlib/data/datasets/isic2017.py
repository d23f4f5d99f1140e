"""ISIC 2017, part 3: melanoma or not, with official splits, without the overlap with IMA++.

Two layouts are read. *Official*, as the challenge's archives unpack: ``ISIC-2017_Training_Data``,
``ISIC-2017_Validation_Data`` and ``ISIC-2017_Test_v2_Data`` (or without ``_v2``) with JPEG files
(the superpixel files beside them are ignored), the tables
``ISIC-2017_Training_Part3_GroundTruth.csv`` and so on (image_id, melanoma, seborrheic_keratosis),
and where present the lesion masks ``ISIC-2017_Training_Part1_GroundTruth`` and the tables
``ISIC-2017_Training_Data_metadata.csv`` (age_approximate, sex), which are in the folder of the
images or beside it. *Simple*: ``images``, ``masks`` and ``labels.csv`` (image_id, split, melanoma,
age_approximate, sex, has_mask), where an empty cell under melanoma means no label.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DatasetUnavailable, refuse
from iavlib.data import labels
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.labels import Label
from iavlib.data.official_splits import treat_overlap
from iavlib.data.schemas import SUBSETS, empty_masks, read_table

SIMPLE = "labels.csv"
_SIZES = {"Training": 2000, "Validation": 150, "Test_v2": 600}
SPLITS = labels.challenge_splits("ISIC-2017_{}_Part3_GroundTruth.csv", "ISIC-2017_{}_Data", _SIZES)
LABELS = {"melanoma": Label(1, "malignant")}
LABELS |= dict.fromkeys(("seborrheic keratosis", "nevus", "not melanoma"), Label(0, "benign"))
_flag = pa.Check.isin((0, 1), error="0 or 1")
TABLE = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, unique=True),
        "split": pa.Column(str, pa.Check.isin(SUBSETS)),
        "melanoma": pa.Column(float, _flag, nullable=True),
        "has_mask": pa.Column(int, _flag),
    }
    | dict.fromkeys(("age_approximate", "sex"), pa.Column(nullable=True))
)


def layout(folder: Path) -> Layout:
    """Return the layout of the files; the official one if there are none."""
    if (folder / SIMPLE).is_file():
        return Layout({SIMPLE: 1, "images/*": 2750, "masks/*": 2750}, (SIMPLE,), "simple")
    official = labels.splits_layout(folder, SPLITS)
    outlines = {labels.relative(folder, _outlines(split)) + "/*.png": split.n for split in SPLITS}
    return replace(official, files=official.files | outlines)


def load(
    folder: Path | None = None, incomplete: bool = False, overlap: str = "leave out"
) -> Cohort:
    """Load ISIC 2017 with melanoma as the target.

    Parameters
    ----------
    folder : pathlib.Path, optional
        ``isic2017`` in the data home unless given.
    incomplete : bool
        Whether images without file and files without label are accepted.
    overlap : {"leave out", "keep"}
        What to do with images that share image, patient or lesion with the multi-annotator
        images of IMA++: nearly half of the melanomas do, and all of them share one with some image
        of IMA++. See :mod:`iavlib.data.official_splits`.

    Returns
    -------
    Cohort
        Patients and lesions are those that IMA++'s metadata name. ``extras["overlap"]`` counts
        the overlap, ``extras["left_out"]`` lists the images left out. In the simple
        layout images are squashed, and width and height are those of the file.

    Raises
    ------
    DatasetUnavailable
        If the labels, or the tables of IMA++ where needed, are absent.
    DataError
        If a file is not what it should be; see :mod:`iavlib.data.labels`.
    """
    folder = folder or DATASET.folder
    found = layout(folder)
    if not (folder / found.required[0]).is_file():
        raise DatasetUnavailable("isic2017", f"{folder} lacks {found.required[0]}", DATASET.how)
    read = _simple if found.name == "simple" else _official
    images, masks = read(folder, incomplete)
    cohort = labels.build(DATASET, images, folder, masks)
    return treat_overlap(cohort, overlap)


def _simple(folder: Path, incomplete: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    path = folder / SIMPLE
    table = read_table(path, TABLE, labels.HINT).set_index("image_id")
    names = table["melanoma"].map({1: "melanoma", 0: "not melanoma"}).astype(object)
    images = labels.meaning(names, LABELS, path, "melanoma").assign(
        path=labels.match(
            table.index, labels.image_files(folder / "images"), path, folder, incomplete
        ),
        subset=table["split"],
        diagnosis=names,
        age=labels.known_number(table["age_approximate"], path),
        sex=labels.known_text(table["sex"]),
        geometry="squashed",
    )
    files = labels.image_files(folder / "masks")
    masks = labels.masks_table(files, "_segmentation", images.index, "ISIC 2017")
    expected = table.index[table["has_mask"] == 1]
    missing = expected[~expected.isin(masks["image_id"])]
    if not incomplete:
        hint = "put them there, or load with incomplete=True"
        refuse(missing, folder / "masks", f"masks that {SIMPLE} lists are missing", hint)
    return images, masks


def _official(folder: Path, incomplete: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    images = labels.read_splits(
        DATASET, folder, SPLITS, LABELS, incomplete, "image_id", default="nevus"
    )
    columns, masks = {"age_approximate": "age", "sex": "sex"}, [empty_masks()]
    for split in SPLITS:
        below = (split.folder, f"{split.folder}/{split.folder}")
        images = labels.join(
            images, folder, f"{split.folder}_metadata.csv", columns, "image_id", below
        )
        files = labels.image_files(labels.place(folder, _outlines(split)))
        ids = images.index[images["subset"] == split.subset]
        masks.append(labels.masks_table(files, "_segmentation", ids, "ISIC 2017"))
    return images, pd.concat(masks)


def _outlines(split: labels.OfficialSplit) -> str:
    return split.folder.replace("_Data", "_Part1_GroundTruth")


DATASET = register_own("isic2017", load, layout=layout, options=("incomplete", "overlap"))
