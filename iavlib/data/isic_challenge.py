"""Format of the ISIC challenges: per split one table of labels and one folder of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.catalogue import Dataset, Layout
from iavlib.data.labels import (
    Label,
    image_files,
    known_number,
    known_text,
    match,
    meaning,
    one_hot,
    place,
)
from iavlib.data.tables import read_table

NO_CLASS = ("image", "score_weight", "validation_weight")
HINT = "put the table there as the challenge publishes it, each image once"
IMAGE = pa.DataFrameSchema({"image": pa.Column(str, unique=True)})


@dataclass(frozen=True)
class Part:
    """A published part: its name here, its table, its folder and its number of images."""

    subset: str
    truth: str
    folder: str
    n: int


def part_layout(folder: Path, subsets: tuple[Part, ...], more: tuple[str, ...] = ()) -> Layout:
    """Tell where tables and images are, or would be; the labels of the first part are required."""
    files = {}
    for subset in subsets:
        files[_relative(folder, place(folder, subset.truth))] = 1
        files[_relative(folder, place(folder, subset.folder)) + "/*.jpg"] = subset.n
    files |= {_relative(folder, place(folder, name)): 1 for name in more}
    return Layout(files, (next(iter(files)),))


def read_parts(
    dataset: Dataset,
    folder: Path | None,
    subsets: tuple[Part, ...],
    labels: Mapping[str, Label],
    incomplete: bool,
) -> tuple[Path, pd.DataFrame]:
    """Read labels and find images of all parts; a part with neither is not there.

    Returns
    -------
    folder : pathlib.Path
    images : pandas.DataFrame
        Indexed by image: path, part, diagnosis, melanoma and malignancy.

    Raises
    ------
    DatasetUnavailable
        If the labels of the first part are not there.
    DataError
        If a table is wrong, labels have no images or images no labels.
    """
    folder = folder or dataset.folder
    if not place(folder, subsets[0].truth).is_file():
        raise DatasetUnavailable(dataset.name, f"{folder} lacks {subsets[0].truth}", dataset.how)
    tables = []
    for subset in subsets:
        truth, images = place(folder, subset.truth), place(folder, subset.folder)
        if truth.is_file():
            tables.append(_read_part(subset, truth, images, labels, incomplete))
        elif files := image_files(images):
            raise DataError(
                images, f"{len(files)} images without label: {truth} is missing", dataset.how
            )
    return folder, pd.concat(tables)


def join(images: pd.DataFrame, folder: Path, name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Add what another table tells of some of the images, where that table is there.

    Parameters
    ----------
    images : pandas.DataFrame
        Indexed by image.
    folder : pathlib.Path
    name : str
        A table with the column ``image``.
    columns : mapping of str to str
        Its columns to the names they get.

    Raises
    ------
    DataError
        If the table lacks a column, lists an image twice, or has an age that is no number.
    """
    path = place(folder, name)
    if not path.is_file():
        return images
    schema = IMAGE.add_columns({column: pa.Column(nullable=True) for column in columns})
    table = read_table(path, schema, HINT).set_index("image")
    added = images.copy()
    for column, ours in columns.items():
        known = known_number(table[column], path) if ours == "age" else known_text(table[column])
        known = known.reindex(images.index)
        added[ours] = added[ours].where(added[ours].notna(), known) if ours in added else known
    return added


def _read_part(subset: Part, truth: Path, folder: Path, labels, incomplete: bool) -> pd.DataFrame:
    table = read_table(truth, IMAGE, HINT)
    diagnosis = one_hot(table, labels, truth, NO_CLASS).set_axis(table["image"])
    files = image_files(folder, ignore="_superpixels")
    return meaning(diagnosis, labels, truth, "class").assign(
        path=match(diagnosis.index, files, truth, folder, incomplete),
        subset=subset.subset,
        diagnosis=diagnosis,
    )


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
