"""ISIC 2017, part 3: melanoma or not, with official splits, without the overlap with IMA++.

Two layouts are read. *Official*, as the challenge's archives unpack: ``ISIC-2017_Training_Data``,
``ISIC-2017_Validation_Data`` and ``ISIC-2017_Test_v2_Data`` with JPEG files (the superpixel files
beside them are ignored), the tables ``ISIC-2017_Training_Part3_GroundTruth.csv`` and so on
(image_id, melanoma, seborrheic_keratosis), and where present the lesion masks
``ISIC-2017_Training_Part1_GroundTruth`` and the tables ``ISIC-2017_Training_Data_metadata.csv``
(age_approximate, sex), which are in the folder of the images or beside it. *Simple*: ``images``,
``masks`` and ``labels.csv`` (image_id, split, melanoma, age_approximate, sex, has_mask), where an
empty cell under melanoma means no label.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.catalogue import Dataset, Layout, register_dataset
from iavlib.data.cohort import Cohort
from iavlib.data.labels import (
    Label,
    build,
    image_files,
    known_number,
    known_text,
    masks_table,
    match,
    meaning,
    place,
    relative,
)
from iavlib.data.official_splits import treat_overlap
from iavlib.data.schemas import SUBSETS, empty_masks, read_table

SIMPLE = "labels.csv"
STEMS = {"train": "ISIC-2017_Training", "val": "ISIC-2017_Validation", "test": "ISIC-2017_Test_v2"}
SIZES = {"train": 2000, "val": 150, "test": 600}
LABELS = {
    "melanoma": Label(1, "malignant"),
    "seborrheic keratosis": Label(0, "benign"),
    "nevus": Label(0, "benign"),
    "not melanoma": Label(0, "benign"),
}
_flag = pa.Check.isin((0, 1), error="0 or 1")
TRUTH = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, unique=True),
        "melanoma": pa.Column(float, _flag),
        "seborrheic_keratosis": pa.Column(float, _flag),
    }
)
METADATA = pa.DataFrameSchema(
    {"image_id": pa.Column(str, unique=True)}
    | {c: pa.Column(nullable=True) for c in ("age_approximate", "sex")}
)
TABLE = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, unique=True),
        "split": pa.Column(str, pa.Check.isin(SUBSETS)),
        "melanoma": pa.Column(float, _flag, nullable=True),
        "age_approximate": pa.Column(nullable=True),
        "sex": pa.Column(nullable=True),
        "has_mask": pa.Column(int, _flag),
    }
)
HINT = "put the table there as it was published"


def layout(folder: Path) -> Layout:
    """Return the layout of the files; the official one if there are none."""
    if (folder / SIMPLE).is_file():
        return Layout({SIMPLE: 1, "images/*": 2750, "masks/*": 2750}, (SIMPLE,), "simple")
    truths = {
        subset: relative(folder, f"{stem}_Part3_GroundTruth.csv") for subset, stem in STEMS.items()
    }
    files = dict.fromkeys(truths.values(), 1)
    for subset, stem in STEMS.items():
        files[relative(folder, f"{stem}_Data") + "/*.jpg"] = SIZES[subset]
        files[relative(folder, f"{stem}_Part1_GroundTruth") + "/*.png"] = SIZES[subset]
    return Layout(files, (truths["train"],))


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
    cohort = build(DATASET, images, folder, masks)
    return treat_overlap(cohort, overlap)


def _simple(folder: Path, incomplete: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    path = folder / SIMPLE
    table = read_table(path, TABLE, HINT).set_index("image_id")
    names = table["melanoma"].map({1: "melanoma", 0: "not melanoma"}).astype(object)
    images = meaning(names, LABELS, path, "melanoma").assign(
        path=match(table.index, image_files(folder / "images"), path, folder, incomplete),
        subset=table["split"],
        diagnosis=names,
        age=known_number(table["age_approximate"], path),
        sex=known_text(table["sex"]),
        geometry="squashed",
    )
    files = image_files(folder / "masks")
    masks = masks_table(files, "_segmentation", images.index, "ISIC 2017")
    expected = table.index[table["has_mask"] == 1]
    missing = expected[~expected.isin(masks["image_id"])]
    if len(missing) and not incomplete:
        raise DataError(
            folder / "masks",
            f"{len(missing)} masks that {SIMPLE} lists are missing, first of {missing[0]}",
            "put them there, or load with incomplete=True",
        )
    return images, masks


def _official(folder: Path, incomplete: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    images, masks = [], []
    for subset, stem in STEMS.items():
        truth = place(folder, f"{stem}_Part3_GroundTruth.csv")
        files = image_files(place(folder, f"{stem}_Data"), ignore="_superpixels")
        if truth.is_file():
            images.append(_read_split(folder, subset, stem, truth, files, incomplete))
            outlines = image_files(place(folder, f"{stem}_Part1_GroundTruth"))
            masks.append(masks_table(outlines, "_segmentation", images[-1].index, "ISIC 2017"))
        elif files:
            what = f"{len(files)} images without label: {truth.name} is missing"
            raise DataError(place(folder, f"{stem}_Data"), what, DATASET.how)
    drawn = [table for table in masks if len(table)]
    return pd.concat(images), pd.concat(drawn) if drawn else empty_masks()


def _read_split(folder, subset, stem, truth, files, incomplete) -> pd.DataFrame:
    table = read_table(truth, TRUTH, HINT).set_index("image_id")
    both = table.index[table[["melanoma", "seborrheic_keratosis"]].sum(axis=1) > 1]
    if len(both):
        raise DataError(truth, f"{both[0]} is melanoma and seborrheic keratosis", HINT)
    names = pd.Series("nevus", index=table.index, dtype=object)
    names = names.mask(table["melanoma"] == 1, "melanoma")
    names = names.mask(table["seborrheic_keratosis"] == 1, "seborrheic keratosis")
    images = meaning(names, LABELS, truth, "melanoma").assign(
        path=match(names.index, files, truth, place(folder, f"{stem}_Data"), incomplete),
        subset=subset,
        diagnosis=names,
    )
    path = place(folder, f"{stem}_Data_metadata.csv", f"{stem}_Data", f"{stem}_Data/{stem}_Data")
    if path.is_file():
        facts = read_table(path, METADATA, HINT).set_index("image_id").reindex(images.index)
        images["age"] = known_number(facts["age_approximate"], path)
        images["sex"] = known_text(facts["sex"])
    return images


DATASET = register_dataset(
    Dataset(
        name="isic2017",
        load=load,
        title="ISIC 2017 part 3: 2,000 training, 150 validation and 600 test images",
        licence="CC-0",
        citation=(
            "N. Codella et al.: Skin Lesion Analysis Toward Melanoma Detection: A Challenge at "
            "ISBI 2017, ISBI 2018, doi:10.1109/ISBI.2018.8363547"
        ),
        how=(
            "from https://challenge.isic-archive.com/data/#2017 get data, part 3 ground truth and, "
            "for masks, part 1 ground truth of training, validation and test (v2); no login is "
            "needed. Unpack them into the folder isic2017 of the data home. IMA++'s tables list "
            "the common images: iav data fetch imapp"
        ),
        layout=layout,
        options=("incomplete", "overlap"),
        overlap="leave out",
        diagnosed=True,
    )
)
