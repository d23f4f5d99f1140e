"""Reading a dataset's own labels and facts, and refusing what is none of them.

What cohorts with a diagnosis and at most one mask an image have in common.

A dataset's own module says where its tables and images lie and what its labels mean; finding the
files, telling what is missing or too much, and putting a cohort together are done here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iavlib.core.errors import DataError
from iavlib.data.catalogue import Dataset
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_size
from iavlib.data.schemas import empty_masks, empty_pairs
from iavlib.data.tables import IMAGE_SUFFIXES

NOT_KNOWN = ("", "unknown", "n/a", "na", "nan", "none")


@dataclass(frozen=True)
class Label:
    """What a dataset's own label means.

    Attributes
    ----------
    melanoma : float
        1 for melanoma, 0 for everything else, NaN where the label does not tell.
    malignancy : str
        Of the lesion, whatever it is: a basal cell carcinoma is malignant and no melanoma.
    """

    melanoma: float
    malignancy: str


def one_hot(table: pd.DataFrame, labels: Mapping[str, Label], path: Path, others=()) -> pd.Series:
    """Read the label of each row from one column a class.

    Parameters
    ----------
    table : pandas.DataFrame
        As read from ``path``, indexed by place in the file.
    labels : mapping of str to Label
        The classes known; a class that the table lacks occurs in no row.
    path : pathlib.Path
    others : sequence of str
        Columns that are no class.

    Raises
    ------
    DataError
        If the table has a class outside the map, or a row has not exactly one class.
    """
    if strange := [name for name in table if name not in labels and name not in others]:
        raise DataError(
            path, f"label {strange[0]!r} is outside the map ({', '.join(labels)})", "correct it"
        )
    values = table[[name for name in labels if name in table]]
    wrong = ~(values.isin([0, 1]).all(axis=1) & (values.sum(axis=1) == 1))
    if wrong.any():
        raise DataError(
            path,
            f"{wrong.sum()} rows have not exactly one class marked 1 and the others 0, first line "
            f"{wrong.idxmax() + 2}",
            "put the published table there",
        )
    return values.idxmax(axis=1)


def meaning(labels: pd.Series, known: Mapping[object, Label], path: Path, column: str):
    """Look the labels of a column up.

    Returns
    -------
    pandas.DataFrame
        Columns ``melanoma`` and ``malignancy``, indexed as ``labels``; missing labels are NaN and
        unknown.

    Raises
    ------
    DataError
        If a label is outside the map.
    """
    strange = labels[labels.notna() & ~labels.isin(list(known))]
    if len(strange):
        raise DataError(
            path,
            f"column {column!r}: {len(strange)} labels outside the map, first "
            f"{strange.iloc[0]!r}; known are {', '.join(map(str, known))}",
            "correct the label, or put the published table there",
        )
    found = [known.get(label, Label(float("nan"), "unknown")) for label in labels]
    return pd.DataFrame(
        {"melanoma": [x.melanoma for x in found], "malignancy": [x.malignancy for x in found]},
        index=labels.index,
    ).astype({"melanoma": float})


def known_text(values: pd.Series) -> pd.Series:
    """Turn the ways to write that something is not known into missing values."""
    text = values.astype("str").str.strip()
    return text.where(values.notna() & ~text.str.lower().isin(NOT_KNOWN))


def known_number(values: pd.Series, path: Path) -> pd.Series:
    """Read numbers among which some may be said not to be known.

    Raises
    ------
    DataError
        If a cell is neither a number nor said not to be known.
    """
    text = known_text(values)
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = text[numbers.isna() & text.notna()]
    if len(wrong):
        raise DataError(
            path, f"column {values.name!r} has {wrong.iloc[0]!r}, which is no number", "correct it"
        )
    return numbers.astype(float)


COLUMNS = (
    *("path", "malignancy", "diagnosis", "patient_id", "lesion_id", "width", "height"),
    *("geometry", "licence", "sex", "age", "site", "melanoma", "subset"),
)


def place(folder: Path, name: str, *below: str) -> Path:
    """Find a file or folder by name, also where an archive was unpacked into a folder like it.

    Parameters
    ----------
    folder : pathlib.Path
    name : str
    *below : str
        Further folders in which it may lie.

    Returns
    -------
    pathlib.Path
        The first place where it is; ``folder / name`` where it is nowhere.
    """
    own = name.removesuffix(".csv")
    places = (folder / own / name, folder / name, *(folder / other / name for other in below))
    return next((path for path in places if path.exists()), folder / name)


def image_files(folder: Path, ignore: str | None = None) -> dict[str, Path]:
    """List the image files right in a folder by their name without ending.

    Parameters
    ----------
    folder : pathlib.Path
    ignore : str, optional
        Names without ending that end so are no images of the dataset (superpixels, say).

    Raises
    ------
    DataError
        If two files differ in their ending only.
    """
    found = {}
    for path in sorted(Path(e.path) for e in os.scandir(folder)) if folder.is_dir() else ():
        name = path.stem
        hidden = name.startswith(".") or (ignore and name.endswith(ignore))
        if hidden or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if name in found:
            raise DataError(
                folder, f"{found[name].name} and {path.name} are one image", "keep one of them"
            )
        found[name] = path
    return found


def match(ids: pd.Index, files: Mapping[str, Path], table: Path, folder: Path, incomplete: bool):
    """Give each listed image its file.

    Parameters
    ----------
    ids : pandas.Index
        Images that the table lists.
    files : mapping of str to pathlib.Path
    table, folder : pathlib.Path
        Named in errors.
    incomplete : bool
        Whether images without a file, and files that the table does not list, are put up with.

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
    missing = ids[paths.isna()]
    surplus = sorted(set(files) - set(ids))
    if len(missing) and not incomplete:
        raise DataError(
            folder,
            f"{len(missing)} labels without image: {table.name} lists {_some(missing)}, and there "
            "is no such file",
            "put the missing images there, or load with incomplete=True, which leaves their paths "
            "missing",
        )
    if surplus and not incomplete:
        raise DataError(
            table,
            f"{len(surplus)} images without label: {folder.name} holds {_some(surplus)}, which "
            "the table does not list",
            "put the table of the same release there, take the images away, or load with "
            "incomplete=True, which leaves them out",
        )
    return paths.map(str, na_action="ignore")


def masks_table(files: Mapping[str, Path], ending: str, ids: pd.Index, annotator: str):
    """List the masks of images that are listed; ``ending`` follows the image in a mask's name."""
    named = {name.removesuffix(ending): path for name, path in files.items()}
    rows = [
        {"mask_id": path.name, "image_id": image, "path": str(path), "annotator": annotator}
        for image, path in named.items()
        if image in ids
    ]
    if not rows:
        return empty_masks()
    empty = pd.Series(None, index=range(len(rows)), dtype="str")
    return pd.DataFrame(rows).assign(tool=empty, skill=empty).set_index("mask_id")


def build(dataset: Dataset, images: pd.DataFrame, folder: Path, masks=None) -> Cohort:
    """Put a cohort together.

    Parameters
    ----------
    dataset : Dataset
    images : pandas.DataFrame
        Indexed by image; columns of :data:`COLUMNS`, of which those not given are missing. Width
        and height are read from the files, and stay missing where there is none.
    folder : pathlib.Path
    masks : pandas.DataFrame, optional

    Raises
    ------
    DataError
        If an image is listed twice, or a file is no readable image.
    """
    twice = images.index[images.index.duplicated()].unique()
    if len(twice):
        raise DataError(
            folder, f"{len(twice)} images are listed twice: {_some(twice)}", "list each image once"
        )
    masks = empty_masks() if masks is None else masks
    sizes = _sizes(images["path"], masks)
    given = {"geometry": "original", "licence": dataset.licence} | {c: images[c] for c in images}
    own = [c for c in images if c not in COLUMNS]
    table = pd.DataFrame(
        {c: given.get(c, sizes.get(c)) for c in (*COLUMNS, *own)},
        index=images.index.rename("image_id"),
    )
    number = table["age"].astype(float)
    return Cohort(
        name=dataset.name,
        images=table.assign(age=number),
        masks=masks,
        pairs=empty_pairs(),
        synthetic=False,
        citation=dataset.citation,
        licence=dataset.licence,
        source=str(folder),
    )


def _sizes(paths: pd.Series, masks: pd.DataFrame) -> pd.DataFrame:
    """Read width and height of each image, or of its mask where only that is there."""
    of_masks = masks.drop_duplicates("image_id").set_index("image_id")["path"]
    paths = paths.astype(object).fillna(of_masks.astype(object)).dropna()
    # Opening many small files waits for the disk more than it computes.
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(image_size, paths))
    return pd.DataFrame(sizes, index=paths.index, columns=["width", "height"], dtype=float)


def _some(names) -> str:
    return ", ".join(map(str, names[:3])) + (" …" if len(names) > 3 else "")
