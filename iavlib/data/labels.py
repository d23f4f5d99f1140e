"""Shared by the datasets of diagnosis: reading labels, finding files, and building the cohort.

The module of a dataset states where its tables and images are and what its labels mean. The ISIC
challenges share one format, which :func:`read_splits` reads: per official split one table of labels
and one folder of images.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable, refuse
from iavlib.data.catalogue import Dataset, Layout
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_paths, image_size
from iavlib.data.schemas import empty_masks, empty_pairs, read_table

UNKNOWN = ("", "unknown", "n/a", "na", "nan", "none")
COLUMNS = (
    *("path", "malignancy", "diagnosis", "patient_id", "lesion_id", "width", "height"),
    *("geometry", "licence", "sex", "age", "site", "melanoma", "subset"),
)
NO_CLASS = ["score_weight", "validation_weight"]
HINT = "put the published table there, each image once"


@dataclass(frozen=True)
class Label:
    """Meaning of a dataset's own label.

    Attributes
    ----------
    melanoma : float
        1 for melanoma, 0 for everything else, NaN if the label leaves it open.
    malignancy : str
        Of the lesion, whatever it is: a basal cell carcinoma is malignant but not a melanoma.
    """

    melanoma: float
    malignancy: str


#: Classes that the ISIC challenges of 2018 and 2019 share.
ISIC_CLASSES = {
    "MEL": Label(1, "malignant"),
    "BCC": Label(0, "malignant"),
    **dict.fromkeys(("NV", "BKL", "DF", "VASC"), Label(0, "benign")),
}


def one_hot(
    table: pd.DataFrame, labels: Mapping[str, Label], path: Path, default: str | None = None
) -> pd.Series:
    """Read the label of each row from one column per class.

    Parameters
    ----------
    table : pandas.DataFrame
        Indexed by image, columns of 0 and 1.
    labels : mapping of str to Label
        The known classes; a class that the table lacks occurs in no row.
    path : pathlib.Path
    default : str, optional
        Class of a row without a mark; unless given, every row must have one.

    Raises
    ------
    DataError
        If the table has an unknown class, or a row does not have exactly one class.
    """
    strange = [name for name in table if name not in labels]
    refuse(strange, path, f"labels outside the map ({', '.join(labels)})", HINT)
    marks = table.eq(1).sum(axis=1)
    wrong = ~(table.isin([0, 1]).all(axis=1) & (marks.eq(1) | (marks.eq(0) & bool(default))))
    problem = "images have not exactly one class marked 1 and the others 0"
    refuse(table.index[wrong], path, problem, HINT)
    return table.idxmax(axis=1).where(marks.eq(1), default)


def meaning(labels: pd.Series, known: Mapping[object, Label], path: Path, column: str):
    """Look up the labels of a column.

    Returns
    -------
    pandas.DataFrame
        Columns ``melanoma`` and ``malignancy``, indexed as ``labels``; missing labels are NaN and
        unknown.

    Raises
    ------
    DataError
        If a label is unknown.
    """
    strange = labels[labels.notna() & ~labels.isin(list(known))]
    problem = f"labels in column {column!r} are outside the map ({', '.join(map(str, known))})"
    refuse(strange.to_list(), path, problem, HINT)
    meanings = [known.get(label, Label(float("nan"), "unknown")) for label in labels]
    columns = {name: [getattr(m, name) for m in meanings] for name in ("melanoma", "malignancy")}
    return pd.DataFrame(columns, index=labels.index).astype({"melanoma": float})


def known_text(values: pd.Series) -> pd.Series:
    """Replace all spellings of "unknown" by missing values."""
    text = values.astype("str").str.strip()
    return text.where(values.notna() & ~text.str.lower().isin(UNKNOWN))


def known_number(values: pd.Series, path: Path) -> pd.Series:
    """Read numbers, some of which may be given as unknown.

    Raises
    ------
    DataError
        If a cell is neither a number nor "unknown" in some spelling.
    """
    text = known_text(values)
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = text[numbers.isna() & text.notna()]
    refuse(wrong.to_list(), path, f"cells of column {values.name!r} are no number", "correct it")
    return numbers.astype(float)


def place(folder: Path, name: str, *below: str) -> Path:
    """Find a file or folder by name, also if an archive was unpacked into a folder of its name.

    Parameters
    ----------
    folder : pathlib.Path
    name : str
    *below : str
        Further folders in which it may be.

    Returns
    -------
    pathlib.Path
        The first existing path; ``folder / name`` if none exists.
    """

    def spellings(text: str) -> tuple[str, str]:
        return text, text.replace("_v2_", "_")  # of the test split of ISIC 2017

    inner = [one for text in (name.removesuffix(".csv"), "", *below) for one in spellings(text)]
    places = [folder / one / file for one in inner for file in spellings(name)]
    return next((path for path in places if path.exists()), folder / name)


def relative(folder: Path, name: str) -> str:
    """Return the path of :func:`place` relative to the folder."""
    return place(folder, name).relative_to(folder).as_posix()


def image_files(folder: Path) -> dict[str, Path]:
    """List the image files of a folder by their name without suffix.

    Raises
    ------
    DataError
        If two files differ in their suffix only.
    """
    files = {}
    for path in image_paths(folder):
        name = path.stem
        if name in files:
            what = f"{files[name].name} and {path.name} are one image"
            raise DataError(folder, what, "keep one of them")
        files[name] = path
    return files


def match(ids: pd.Index, files: Mapping[str, Path], table: Path, folder: Path, incomplete: bool):
    """Find the file of each listed image.

    Parameters
    ----------
    ids : pandas.Index
        Images that the table lists.
    files : mapping of str to pathlib.Path
    table, folder : pathlib.Path
        Named in errors.
    incomplete : bool
        Whether images without a file, and files that the table does not list, are accepted.

    Returns
    -------
    pandas.Series
        Path as text, missing where there is no file; indexed as ``ids``.

    Raises
    ------
    DataError
        If labels have no image or images no label, unless ``incomplete``.
    """
    paths = pd.Series([files.get(i) for i in ids], index=ids, dtype=object)
    if not incomplete:
        hint = "complete the files, or load with incomplete=True, which leaves their paths missing"
        refuse(ids[paths.isna()], folder, "labels without image: no such file", hint)
        hint = "use the table of the same release, or load with incomplete=True to leave them out"
        surplus = sorted(set(files) - set(ids))
        refuse(surplus, table, f"images without label are in {folder.name}", hint)
    return paths.map(str, na_action="ignore")


def masks_table(files: Mapping[str, Path], suffix: str, ids: pd.Index, annotator: str):
    """List the masks of known images; ``suffix`` follows the image id in a mask's name."""
    rows = [
        {"mask_id": path.name, "image_id": image, "path": str(path), "annotator": annotator}
        for name, path in files.items()
        if (image := name.removesuffix(suffix)) in ids
    ]
    if not rows:
        return empty_masks()
    empty = pd.Series(None, index=range(len(rows)), dtype="str")
    return pd.DataFrame(rows).assign(tool=empty, skill=empty).set_index("mask_id")


def build(dataset: Dataset, images: pd.DataFrame, folder: Path, masks=None) -> Cohort:
    """Build a cohort of diagnosis.

    Parameters
    ----------
    dataset : Dataset
    images : pandas.DataFrame
        Indexed by image; columns of :data:`COLUMNS`, of which absent ones are missing values. Width
        and height are read from the files (those of the mask, if only that is there).
    folder : pathlib.Path
    masks : pandas.DataFrame, optional

    Raises
    ------
    DataError
        If an image is listed twice, or a file is no readable image.
    """
    twice = images.index[images.index.duplicated()].unique()
    refuse(twice, folder, "images are listed twice", "list each image once")
    masks = empty_masks() if masks is None else masks
    of_masks = masks.drop_duplicates("image_id").set_index("image_id")["path"]
    paths = images["path"].astype(object).fillna(of_masks.astype(object)).dropna()
    # Opening many small files waits for the disk more than it computes.
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(image_size, paths))
    sizes = pd.DataFrame(sizes, index=paths.index, columns=["width", "height"], dtype=float)
    columns = dict.fromkeys(COLUMNS) | {"geometry": "original", "licence": dataset.licence}
    columns |= dict(sizes.items()) | dict(images.items())
    table = pd.DataFrame(columns, index=images.index.rename("image_id"))
    about = {"citation": dataset.citation, "licence": dataset.licence, "source": str(folder)}
    table = table.astype({"age": float})
    return Cohort(dataset.name, table, masks, empty_pairs(), synthetic=False, **about)


@dataclass(frozen=True)
class OfficialSplit:
    """A published split: its name here, its table of labels, its folder and number of images."""

    subset: str
    truth: str
    folder: str
    n: int


def challenge_splits(truth: str, folder: str, sizes: Mapping[str, int]) -> list[OfficialSplit]:
    """List the splits of a challenge.

    Parameters
    ----------
    truth, folder : str
        Names of the table and of the folder, with ``{}`` for the name of the split.
    sizes : mapping of str to int
        Number of images by name: Training, Validation, Test or the like.
    """
    subsets = {"Training": "train", "Validation": "val"}
    return [
        OfficialSplit(subsets.get(name, "test"), truth.format(name), folder.format(name), n)
        for name, n in sizes.items()
    ]


def splits_layout(
    folder: Path, splits: Sequence[OfficialSplit], more: Sequence[str] = ()
) -> Layout:
    """Return the layout of a challenge; the labels of the first split are required."""
    files = {}
    for split in splits:
        files[relative(folder, split.truth)] = 1
        files[relative(folder, split.folder) + "/*.jpg"] = split.n
    files |= {relative(folder, name): 1 for name in more}
    return Layout(files, (next(iter(files)),))


def read_splits(
    dataset: Dataset,
    folder: Path,
    splits: Sequence[OfficialSplit],
    labels: Mapping[str, Label],
    incomplete: bool,
    key: str = "image",
    default: str | None = None,
) -> pd.DataFrame:
    """Read labels and find images of all splits; a split with neither is skipped.

    Tables have the column `key` and one column per class; `default` is the class of an image
    without a mark, if that is allowed.

    Returns
    -------
    pandas.DataFrame
        Indexed by image: path, subset, diagnosis, melanoma and malignancy.

    Raises
    ------
    DatasetUnavailable
        If the labels of the first split are absent.
    DataError
        If a table is wrong, labels have no images or images no labels.
    """
    if not place(folder, splits[0].truth).is_file():
        raise DatasetUnavailable(dataset.name, f"{folder} lacks {splits[0].truth}", dataset.how)
    tables = []
    for split in splits:
        truth, images = place(folder, split.truth), place(folder, split.folder)
        files = image_files(images)
        if truth.is_file():
            table = read_table(truth, _listing(key), HINT).set_index(key)
            table = table.drop(columns=NO_CLASS, errors="ignore")
            table.columns = table.columns.str.replace("_", " ")
            names = one_hot(table, labels, truth, default)
            paths = match(names.index, files, truth, images, incomplete)
            facts = {"path": paths, "subset": split.subset, "diagnosis": names}
            tables.append(meaning(names, labels, truth, "class").assign(**facts))
        elif files and not incomplete:
            problem = f"{len(files)} images without label: {truth} is missing"
            hint = f"load with incomplete=True to leave them out, or {dataset.how}"
            raise DataError(images, problem, hint)
    return pd.concat(tables)


def _listing(key: str, columns=()) -> pa.DataFrameSchema:
    columns = {column: pa.Column(nullable=True) for column in columns}
    return pa.DataFrameSchema({key: pa.Column(str, unique=True)} | columns)


def join(
    images: pd.DataFrame,
    folder: Path,
    name: str,
    columns: Mapping[str, str],
    key: str = "image",
    below: Sequence[str] = (),
) -> pd.DataFrame:
    """Add facts about some of the images from another table, if that table is there.

    Parameters
    ----------
    images : pandas.DataFrame
        Indexed by image.
    folder : pathlib.Path
    name : str
        A table with the column `key`.
    columns : mapping of str to str
        Its columns to their names here.
    below : sequence of str
        Further folders in which it may be.

    Raises
    ------
    DataError
        If the table lacks a column, lists an image twice, or has an age that is no number.
    """
    path = place(folder, name, *below)
    if not path.is_file():
        return images
    table = read_table(path, _listing(key, columns), HINT).set_index(key)
    added = images.copy()
    for column, ours in columns.items():
        values = known_number(table[column], path) if ours == "age" else known_text(table[column])
        values = values.reindex(images.index)
        added[ours] = added[ours].where(added[ours].notna(), values) if ours in added else values
    return added
