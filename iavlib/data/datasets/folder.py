"""Your own masks: a table ``masks.csv`` beside its files becomes a cohort.

Agreement is measured when the folder is first loaded, and kept in the cache until a mask changes.
The table has one row per mask and these columns, in any order, in upper or lower case:

- ``image``: the image file, or a name where there is no file; ``image_id`` (optional): its id,
  otherwise its name without suffix. A table with ``image_id`` alone has only image files of that
  name.
- ``mask``: the mask file; every pixel above 0 belongs to the lesion.
- ``annotator``: who drew it.
- Optional: ``tool``, ``skill`` (or ``skill_level``), ``malignancy`` (benign, malignant,
  indeterminate or unknown), ``patient`` (or ``patient_id``), ``lesion`` (or ``lesion_id``).

Other columns are not used. An empty cell is an unknown value. File names are relative to the
table's folder, or to the folders ``images`` and ``masks`` in it, with ``/`` between folders; a
relative name must not lead outside. An absolute path is used as it is.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.core.files import write_text
from iavlib.core.project import cache_home
from iavlib.data import schemas
from iavlib.data.catalogue import Dataset, Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_paths, image_size, read_mask
from iavlib.masks.metrics import image_pairs, metric_names, registry_version

TABLE = "masks.csv"
FIRST_LINE = 2
OPTIONAL = ("tool", "skill", "malignancy", "patient", "lesion")
COLUMNS = ("image", "image_id", "mask", "annotator", *OPTIONAL)
OTHER_NAMES = {"skill_level": "skill", "patient_id": "patient", "lesion_id": "lesion"}
_HINT = (
    "write a table with the columns image, mask and annotator, and if known "
    f"{', '.join(OPTIONAL)}, separated by commas, one row per mask"
)
_MALIGNANCY = pa.Check.isin(schemas.MALIGNANCY, error=f"one of {', '.join(schemas.MALIGNANCY)}")
_SCHEMA = pa.DataFrameSchema(
    {name: pa.Column(str) for name in ("image_id", "mask", "annotator")}
    | {"malignancy": pa.Column(str, _MALIGNANCY)}
)


@dataclass(frozen=True)
class Listing:
    """A user's table, checked, with the files it names.

    Attributes
    ----------
    path : pathlib.Path
        The table.
    rows : pandas.DataFrame
        One row per mask, indexed by its position in the file: ``image_id``, ``image``, ``mask`` (as
        named), ``annotator``, ``tool``, ``skill``, ``malignancy``, ``patient``, ``lesion``,
        ``mask_path`` (absolute; the file may be missing) and ``image_path`` (absolute, missing
        where there is no file).
    """

    path: Path
    rows: pd.DataFrame

    @property
    def lost_images(self) -> list[str]:
        """Image files that are named and missing; a bare name need not be a file."""
        lost = self.rows.loc[self.rows["image_path"].isna(), "image"].dropna().unique()
        return [name for name in lost if name.lower().endswith(schemas.IMAGE_SUFFIXES)]

    def error(self, rows, problem: str, hint: str) -> DataError:
        """Return an error that names the lines of the first two of some rows."""
        lines = [str(row + FIRST_LINE) for row in rows]
        where = f"line{'s' * (len(lines) > 1)} {' and '.join(lines[:2])}"
        return DataError(self.path, f"{where}: {problem}", hint)


def read_listing(path: str | Path, refuse_outside: bool = True) -> Listing:
    """Read a table of masks and find its files.

    Parameters
    ----------
    path : str or pathlib.Path
        The table, or the folder that holds it as ``masks.csv``.
    refuse_outside : bool
        Whether a name that leads outside the folder is an error. If not, the row has no
        ``mask_path`` and it is for the caller to report it.

    Raises
    ------
    DatasetUnavailable
        If no path is given, or there is no table.
    DataError
        If the table is not such a table, a name leads outside the folder, a mask is listed twice,
        or rows of one image contradict each other. Files are not opened.
    """
    table = _find(path)
    listing = Listing(table, _read(table))
    if refuse_outside:
        _check_inside(listing)
    names, place = listing.rows["mask"], table.parent
    paths = [None if _leads_out(n) else str(_first_file(place, n, "masks")) for n in names]
    rows = listing.rows.assign(mask_path=paths)
    listing = Listing(table, rows.assign(image_path=_image_paths(table.parent, rows)))
    _check_masks(listing)
    for column in ("image", "malignancy", "patient", "lesion"):
        _check_one_value(listing, column)
    return listing


def _find(path: str | Path) -> Path:
    hint = f"give path=, the table {TABLE} or the folder that holds it"
    if not str(path or "").strip():
        raise DatasetUnavailable("folder", "no path was given", hint)
    table = Path(os.path.abspath(Path(path).expanduser()))
    table = table / TABLE if table.is_dir() else table
    if not table.is_file():
        raise DatasetUnavailable("folder", f"there is no file {table}", hint)
    return table


def _read(table: Path) -> pd.DataFrame:
    """Read the table as text, under our names of columns, and check it row by row."""
    # Blank lines are read too, so that a row's position gives its line.
    options = {"dtype": str, "keep_default_na": False, "na_values": [""], "skip_blank_lines": False}
    raw = schemas.read_csv(table, _HINT, **options)
    if not isinstance(raw.index, pd.RangeIndex):
        raise DataError(table, "rows have more cells than the header has columns", _HINT)
    raw.columns = _our_names(table, list(raw.columns))
    rows = raw[[name for name in COLUMNS if name in raw]]
    rows = rows.apply(lambda column: column.str.strip()).replace("", None).dropna(how="all")
    for name in OPTIONAL:
        if name not in rows:
            rows[name] = pd.Series(None, index=rows.index, dtype="str")
    for name in {"image", "mask"} & set(rows):
        rows[name] = rows[name].map(os.path.normpath, na_action="ignore")
    if "image" not in rows:
        rows["image"] = rows["image_id"]
    if "image_id" not in rows:
        rows["image_id"] = schemas.bare_id(rows["image"].str.replace(r"^.*/", "", regex=True))
    rows["malignancy"] = rows["malignancy"].str.lower().fillna("unknown")
    schemas.check_table(_SCHEMA, rows, table, _HINT, FIRST_LINE)
    return rows


def _our_names(table: Path, columns: list[str]) -> list[str]:
    """Return our names of the columns; refuse missing and misspelt ones."""
    # A column that occurs twice is read with a number at its end.
    plain = [re.sub(r"\.\d+$", "", str(name).strip().lower()) for name in columns]
    names = [OTHER_NAMES.get(name, name) for name in plain]
    others = sorted(set(names) - set(COLUMNS))
    for name in COLUMNS:
        if names.count(name) > 1:
            raise DataError(table, f"two columns for {name!r}", "keep one of them")
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.85)
        if near and name not in names and name != "image_id":
            raise DataError(table, f"column {near[0]!r}: is {name!r} meant?", "rename the column")
    needed = ("mask", "annotator") if "image_id" in names else ("image", "mask", "annotator")
    if missing := [repr(name) for name in needed if name not in names]:
        there = ", ".join(map(repr, columns))
        raise DataError(table, f"no column {', '.join(missing)}; there are {there}", _HINT)
    return names


def _check_inside(listing: Listing) -> None:
    hint = "name files relative to the table and below it, or by their absolute path"
    for column in ("mask", "image"):
        names = listing.rows[column]
        for row, name in names[names.map(_leads_out, na_action="ignore").eq(True)].items():
            raise listing.error([row], f"{column} {name}: path outside the folder", hint)


def _leads_out(name: str) -> bool:
    return name == ".." or name.startswith("../")


def _same(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return all rows with the first value of a column that occurs in several; none without one."""
    several = rows.loc[rows.duplicated(column, keep=False), column]
    return rows[rows[column].isin(several.head(1))]


def _check_masks(listing: Listing) -> None:
    twice = _same(listing.rows.dropna(subset="mask_path"), "mask_path")
    if len(twice):
        problem = f"mask {twice['mask'].iloc[0]} is listed twice"
        hint = "keep one row per mask; two annotators who agree in every pixel need a file each"
        raise listing.error(twice.index, problem, hint)
    files = listing.rows.dropna(subset="image_path").drop_duplicates(["image_path", "image_id"])
    several = _same(files, "image_path")
    if len(several):
        ids = " and ".join(several["image_id"].iloc[:2])
        raise listing.error(several.index, f"{ids} have the same image file", "correct one of them")


def _check_one_value(listing: Listing, column: str) -> None:
    """Refuse an image whose rows contradict each other; an empty cell is an unknown value."""
    stated = listing.rows[["image_id", column]].dropna()
    several = _same(stated[stated[column] != "unknown"].drop_duplicates(), "image_id")
    if len(several):
        values = " and ".join(several[column].iloc[:2])
        problem = f"image {several['image_id'].iloc[0]} has {column} {values}"
        hint = f"give all rows of an image one {column}, or name images apart in a column image_id"
        raise listing.error(several.index, problem, hint)


def _first_file(folder: Path, name: str, kind: str) -> Path:
    """Find a named file in the folder or its subfolder of that kind, else where it should be."""
    places = (folder / name, folder / kind / name)
    return next((place for place in places if place.is_file()), places[0])


def _image_paths(folder: Path, rows: pd.DataFrame) -> pd.Series:
    """Find each image's file by its name, or by its name and any image suffix."""
    masks, by_stem, found = set(rows["mask_path"]), {}, {}
    for name in rows["image"].dropna().unique():
        exact = _first_file(folder, name, "images")
        if exact.is_file():
            found[name] = str(exact)
            continue
        for place in (folder / name, folder / "images" / name):
            if place.parent not in by_stem:
                by_stem[place.parent] = _stems(place.parent, masks)
            if place.name in by_stem[place.parent]:
                found.setdefault(name, by_stem[place.parent][place.name])
    return rows["image"].map(found).astype("str")


def _stems(folder: Path, masks: set[str]) -> dict[str, str]:
    """List the image files of a folder by name without suffix, without the masks."""
    return {path.stem: str(path) for path in image_paths(folder) if str(path) not in masks}


#: Raise when the cached file changes; the version of every metric is added to it.
VERSION = 3


def measured_pairs(listing: Listing, masks: pd.DataFrame) -> pd.DataFrame:
    """Measure every pair of masks of one image, or read what was measured before.

    Parameters
    ----------
    listing : Listing
    masks : pandas.DataFrame
        The cohort's masks, with who drew them and with what.

    Returns
    -------
    pandas.DataFrame
        Pairs table of a cohort.

    Raises
    ------
    DataError
        If a mask cannot be read.
    """
    digest = hashlib.sha256(f"{VERSION} {registry_version()}\n".encode())
    for row in listing.rows.itertuples():
        facts = os.stat(row.mask_path)
        line = (row.image_id, row.mask, row.mask_path, facts.st_size, facts.st_mtime_ns)
        digest.update(f"{line!r}\n".encode())
    cached = cache_home() / "folder" / f"{digest.hexdigest()[:16]}.csv"
    types = dict.fromkeys(("mask_1", "mask_2"), "str") | dict.fromkeys(metric_names(), float)
    if cached.is_file():
        # Read as text: numbers are then exactly those written, and names stay names.
        pairs = pd.read_csv(cached, dtype="str", keep_default_na=False, na_values=[""])
    else:
        pairs = pd.DataFrame(_measure(listing), columns=list(types))
        try:
            write_text(cached, pairs.to_csv(index=False))
        except OSError as error:
            warnings.warn(
                f"{cached}: agreement could not be kept ({error.strerror}) and is measured again "
                "each time. Set IAV_CACHE_HOME to a writable folder.",
                stacklevel=3,
            )
    pairs = pairs.astype(types)
    for side in (1, 2):
        drawn = masks.loc[pairs[f"mask_{side}"]].reset_index(drop=True)
        pairs[[f"{factor}_{side}" for factor in schemas.FACTORS]] = drawn[list(schemas.FACTORS)]
    pairs["image_id"] = drawn["image_id"]
    return pairs.astype(dict.fromkeys(schemas.PAIR_TEXT, "str"))[list(schemas.pair_columns())]


def _measure(listing: Listing) -> list[dict]:
    pairs = []
    for _, group in listing.rows.groupby("image_id", sort=False):
        masks = {}
        for row in group.itertuples():
            try:
                masks[row.mask] = read_mask(row.mask_path)
            except DataError as error:
                problem = f"{error.where}: {error.problem}"
                raise listing.error([row.Index], problem, error.hint) from None
        pairs += image_pairs(masks)
    return pairs


def load(path: str | Path = "") -> Cohort:
    """Load a user's own masks.

    Parameters
    ----------
    path : str or pathlib.Path
        The table, or its folder when the table is called ``masks.csv``.

    Returns
    -------
    Cohort
        Missing values where there is no image file, and where the table has no tool, skill,
        patient or lesion. Width and height are those of the image file, else of the masks.

    Raises
    ------
    DatasetUnavailable
        If no path is given, or there is no table.
    DataError
        If the table or a file is not what it should be, with the line, the file and the remedy.
    """
    listing = read_listing(path)
    if lost := listing.lost_images:
        problem = f"{len(lost)} image files are missing, first {lost[0]}"
        text = f"{listing.path}: {problem}; their masks are used without them."
        warnings.warn(text, stacklevel=3)
    rows = listing.rows.set_index("mask").rename_axis("mask_id")
    masks = rows[["image_id", "mask_path", *schemas.FACTORS]].rename(columns={"mask_path": "path"})
    return Cohort(
        "folder",
        images_table(listing.rows, _sizes(listing)),
        masks,
        measured_pairs(listing, masks),
        synthetic=False,
        # Shown on pages that may be published: names the table, but not where it is.
        citation=f"Your own masks ({listing.path.parent.name}/{listing.path.name})",
        licence="not stated",
        source=str(listing.path),
    )


def layout(folder: Path) -> Layout:
    """Return the layout of a published dataset's folder: a table ``masks.csv``."""
    return Layout({TABLE: 1}, (TABLE,))


def load_published(dataset: Dataset, describe: Callable[[pd.DataFrame], pd.DataFrame]) -> Cohort:
    """Load a published dataset whose folder in the data home has a table ``masks.csv``.

    Parameters
    ----------
    dataset : Dataset
    describe : callable
        From the images table to one with what is known about the images.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`load`.
    """
    table = dataset.folder / TABLE
    if not table.is_file():
        raise DatasetUnavailable(dataset.name, f"there is no {table}", dataset.how)
    cohort = load(table)
    facts = {name: getattr(dataset, name) for name in ("name", "citation", "licence")}
    return replace(cohort, images=describe(cohort.images), source=str(dataset.folder), **facts)


def files(path: str | Path = "") -> list[Path]:
    """Return the table and every file that it names, whether it exists or not.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`load`, for the table alone.
    """
    listing = read_listing(path)
    named = [*listing.rows["mask_path"], *listing.rows["image_path"].dropna()]
    return [listing.path, *map(Path, dict.fromkeys(named))]


def images_table(rows: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Return the images table of a cohort from the rows of a listing.

    Parameters
    ----------
    rows : pandas.DataFrame
        As :attr:`Listing.rows`; rows of one image do not contradict each other.
    sizes : pandas.DataFrame
        ``width`` and ``height``, indexed by image.
    """
    rows = rows.assign(malignancy=rows["malignancy"].replace("unknown", None))
    first = rows.groupby("image_id", sort=False).first()
    unknown = pd.Series(None, index=first.index, dtype="str")
    columns = {"path": first["image_path"], "malignancy": first["malignancy"].fillna("unknown")}
    columns |= {"diagnosis": unknown, "patient_id": first["patient"], "lesion_id": first["lesion"]}
    columns |= {name: sizes[name].reindex(first.index) for name in ("width", "height")}
    columns |= {"geometry": "original", "licence": unknown, "sex": unknown}
    return pd.DataFrame(columns | {"age": float("nan"), "site": unknown}, index=first.index)


def _sizes(listing: Listing) -> pd.DataFrame:
    """Read width and height of each image from its file and its masks, which must agree.

    Every file is opened here, though not decoded, so that a missing one is reported before
    anything is measured.
    """
    sizes = {}
    for image_id, group in listing.rows.groupby("image_id", sort=False):
        found = {_size(listing, row, group["mask_path"][row]): row for row in group.index[::-1]}
        image = group["image_path"].dropna()
        if len(image):
            found.setdefault(_size(listing, image.index[0], image.iloc[0]), image.index[0])
        if len(found) > 1:
            several = " and ".join(f"{width}x{height}" for width, height in found)
            problem = f"image {image_id} has masks, or a mask and an image, of sizes {several}"
            hint = (
                "give all files of an image one size; remove an image file that is a smaller copy, "
                "or enlarge it"
            )
            raise listing.error(sorted(found.values()), problem, hint)
        sizes[image_id] = next(iter(found))
    table = pd.DataFrame.from_dict(sizes, orient="index", columns=["width", "height"])
    return table.rename_axis("image_id")


def _size(listing: Listing, row: int, path: str) -> tuple[int, int]:
    try:
        return image_size(path)
    except DataError as error:
        problem, hint = f"{path}: {error.problem}", "put it there or correct its name in the table"
        raise listing.error([row], problem, hint) from None


DATASET = register_own("folder", load, options=("path",), needs=("path",), sources=files)
