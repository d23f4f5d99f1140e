"""Your own masks: what annotation tools export, or a table of files, becomes a cohort.

Agreement is measured when the folder is first loaded, and kept in the cache until a mask changes.
Formats are those of :mod:`iavlib.data.exports`. A table (``masks.csv``, ``.tsv`` or ``.xlsx``) has
one row per mask and these columns, in any order, in upper or lower case:

- ``image``: the image file, or a name where there is no file; ``image_id`` (optional): its id,
  otherwise its name without suffix, with its folder where two folders hold that name. A table with
  ``image_id`` alone has only image files of that name.
- ``mask``: the mask file, binarised at half its maximum.
- ``annotator``: who drew it. Several masks of one annotator on one image are objects and are
  united, unless they differ in ``session`` (drawn again) or in tool or skill.
- Optional: ``label`` (class), ``session``, ``tool``, ``skill`` (or ``skill_level``), ``malignancy``
  (benign, malignant, indeterminate or unknown), ``patient`` (or ``patient_id``), ``lesion`` (or
  ``lesion_id``).

Other columns are not used. An empty cell is an unknown value. File names are relative to the
table's folder, or to the folders ``images`` and ``masks`` in it; a relative name must not lead
outside. An absolute path is used as it is.
"""

import difflib
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from os.path import isfile
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.core.files import walk_files, write_text
from iavlib.core.processes import Progress
from iavlib.core.project import cache_home
from iavlib.data import own_masks, schemas
from iavlib.data.catalogue import Dataset, Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.exports import HINT
from iavlib.data.images import array_suffix, image_size, orientation
from iavlib.data.own_masks import COLUMNS, FACTS, FIRST_LINE, Source, name_key, overlap
from iavlib.masks.metrics import image_pairs, metric_names, registry_version
from iavlib.masks.surfaces import THRESHOLD

TABLE = "masks.csv"
OTHER_NAMES = {"skill_level": "skill", "patient_id": "patient", "lesion_id": "lesion"}
_HINT = (
    "write a table with the columns image, mask and annotator, and if known "
    f"session, label, {', '.join(FACTS)}, one row per mask"
)
_MALIGNANCY = pa.Check.isin(schemas.MALIGNANCY, error=f"one of {', '.join(schemas.MALIGNANCY)}")
_SCHEMA = pa.DataFrameSchema(
    {name: pa.Column(str) for name in ("image_id", "mask", "annotator")}
    | {"malignancy": pa.Column(str, _MALIGNANCY)}
)
_OUTSIDE = "path outside the folder"
OUTSIDE_HINT = "name files relative to the table and below it, or by their absolute path"
_SIZES_HINT = "give all files of an image one size; enlarge or remove one that is a smaller copy"
_OVERLAP = 0.5  # IoU from which two masks of one annotator look like two drawings of one object


@dataclass(frozen=True)
class Listing:
    """A user's masks, one per image, annotator and session, and what became of every row.

    Attributes
    ----------
    path : pathlib.Path
        What was read.
    rows : pandas.DataFrame
        One row per mask, indexed by the position of its first object: ``image_id``, ``image``,
        ``mask`` (as named), ``annotator``, ``session``, ``tool``, ``skill``, ``malignancy``,
        ``patient``, ``lesion``, ``mask_path`` (absolute), ``image_path`` (absolute, missing where
        there is no file), ``size`` (width and height), ``members`` (positions of its objects), and
        ``problem`` and ``hint`` where the mask cannot be used.
    source : iavlib.data.own_masks.Source
    account : pandas.DataFrame
        One row per row or object that was read: ``where``, ``image_id``, ``annotator``, ``label``,
        ``status`` (used, merged or left out) and ``reason``.
    classes : dict
        Objects per class.
    notes : list of str
        What was decided, in sentences.
    objects : list of dict
        Where objects are matched, one per image and two of its annotators: ``image_id``,
        ``annotator1``, ``annotator2``, ``matched`` (objects that both drew), ``only_1`` and
        ``only_2`` (that one of them drew alone).
    looks : dict
        What was seen in each mask file, by its path.
    """

    path: Path
    rows: pd.DataFrame
    source: Source
    account: pd.DataFrame = field(default_factory=pd.DataFrame)
    classes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    objects: list[dict] = field(default_factory=list)
    looks: dict[str, own_masks.Look] = field(default_factory=dict)

    @property
    def lost_images(self) -> list[str]:
        """Image files that are named and missing; a bare name need not be a file."""
        lost = self.rows[self.rows["image_path"].isna()].drop_duplicates("image_id")["image"]
        return [name for name in lost.dropna() if name.lower().endswith(schemas.IMAGE_SUFFIXES)]

    def error(self, rows, problem: str, hint: str) -> DataError:
        """Return an error that names the first two of some rows."""
        named = [self.source.rows["where"][row] for row in rows][:2]
        where = " and ".join(named).replace("line ", "lines ", 1).replace("and line ", "and ")
        return DataError(self.path, f"{where if len(named) > 1 else named[0]}: {problem}", hint)

    def summary(self) -> list[str]:
        """Return what was understood, in lines to print before anything is measured."""
        usable = self.rows[self.rows["problem"].isna()]
        people = usable["annotator"].unique()
        classes = ", ".join(f"{name} ({n})" for name, n in list(self.classes.items())[:12])
        lines = [
            f"format: {self.source.format}",
            f"{usable['image_id'].nunique():,} images, {len(people):,} annotators "
            f"({_first(people, ', ')}){', classes: ' * bool(classes)}{classes}",
        ]
        return [*lines, *self.left_out(), *(f"note: {note}" for note in self.notes)]

    def left_out(self) -> list[str]:
        """Return how many rows or objects are left out for each reason, in lines."""
        out = self.account[self.account["status"] == "left out"].groupby("reason", sort=False)
        return [f"left out: {len(g):,}, {r} (first {g['where'].iloc[0]})" for r, g in out]

    def counts(self) -> str:
        """Count what became of the rows or objects."""
        n = self.account["status"].value_counts().reindex(["used", "merged", "left out"]).fillna(0)
        counted = ", ".join(f"{int(count):,} {status}" for status, count in n.items())
        return f"{len(self.account):,} rows or objects: {counted}"

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Leave out masks for reasons, in place; and what then is the only mask of its image."""
        rows, account = self.rows, self.account
        rows["problem"] = rows["problem"].fillna(rows["mask"].map(reasons).astype("str"))
        number = rows[rows["problem"].isna()].groupby("image_id").size()
        lost = ~(rows["problem"].isna() & rows["image_id"].map(number).gt(1))
        used = set(rows["members"][~lost].explode())
        for row in rows[lost].itertuples():
            why = "no other mask of its image" if pd.isna(row.problem) else row.problem
            account.loc[[m for m in row.members if m not in used], ["status", "reason"]] = [
                *("left out", why)
            ]


def read_listing(
    path: str | Path,
    strict: bool = True,
    label: str | None = None,
    threshold: float | None = None,
    per_object: bool = False,
    progress: Progress = False,
) -> Listing:
    """Read a user's masks: a table, a folder, an exported file or an archive.

    Parameters
    ----------
    path : str or pathlib.Path
    strict : bool
        Whether a mask that cannot be used is an error. If not, its row has a ``problem``.
    label : str, optional
        Class to read; several, separated by commas, or ``any`` are united. Needed where there
        are several.
    threshold : float, optional
        Share of a mask's maximum above which a pixel is inside, from 0 to below 1; see
        :func:`iavlib.masks.surfaces.binarise`.
    per_object : bool
        Whether the objects on an image are matched between annotators one to one, and each
        becomes an image of its own, instead of being united. A mask alone is parted into its
        connected regions.
    progress : bool or callable
        See :func:`iavlib.core.processes.run_in_order`.

    Raises
    ------
    DatasetUnavailable
        If no path is given, or nothing is there.
    DataError
        If it has no format that is read, a row is wrong or contradicts another, a name leads
        outside the folder, a mask is listed twice, or there are several classes and none is chosen.
    """
    if threshold is not None and not 0 <= threshold < 1:
        hint = "give a share of the maximum, such as 0.5; 0 counts every value above 0"
        raise DataError("threshold", f"{threshold} is not from 0 to below 1", hint)
    listing = _names(path, strict)
    source, rows, notes = listing.source, listing.rows, listing.notes
    files = rows[rows["path"].notna() & rows["reason"].isna()]
    looks = own_masks.look_at_files(files, threshold, progress)
    for row, file in files["path"].items():
        if (error := looks[file].error) is not None:
            if strict:
                problem = f"{error.where}: {error.problem}"
                raise listing.error([row], problem, error.hint) from None
            rows.loc[row, ["reason", "hint"]] = [error.problem, error.hint]
    rows = own_masks.by_class(rows, looks, source.names, label)
    rows, classes = own_masks.choose_label(rows, label, source.path)
    rows = _fit_photographs(rows, looks, listing, strict)
    rows = _sessions(rows, notes)
    if noted := [(file, look.note) for file, look in looks.items() if look.note]:
        how = f"{threshold or THRESHOLD:g} of the maximum"
        text = f"{len(noted)} masks have values between outside and inside; binarised at {how}"
        notes.append(f"{text} (first {Path(noted[0][0]).name}: {noted[0][1]})")
    account = listing.rows[["where", "image_id", "annotator", "label"]]
    account = account.assign(status="left out", reason="of a class that was not chosen")
    bad = rows["reason"].notna()
    account.loc[rows.index[bad], "reason"] = rows["reason"][bad]
    merge = partial(_match, objects=listing.objects) if per_object else _unite
    made = merge(rows[~bad], threshold, account, notes)
    for row, facts in rows[bad & rows["path"].notna()].iterrows():
        made.append({**facts, "row": row, "mask_path": facts["path"], "problem": facts["reason"]})
        made[-1]["members"] = [row]
    if not made:
        reasons = "; ".join(f"{n} {why}" for why, n in account["reason"].value_counts().items())
        raise DataError(source.path, f"no mask can be used: {reasons}", HINT)
    table = pd.DataFrame(made, index=[one["row"] for one in made]).sort_index(kind="stable")
    texts = [*COLUMNS, "mask_path", "image_path", "problem", "hint"]
    table = table.reindex(columns=[*texts, "size", "members"]).astype(dict.fromkeys(texts, "str"))
    again = table.groupby("mask").cumcount()  # image a_b by c, and image a by b_c
    table["mask"] += again.map(lambda n: f"~{n + 1}" if n else "")
    listing = replace(listing, rows=table, account=account, classes=classes, looks=looks)
    listing.leave_out({})
    return listing


def class_names(path: str | Path, progress: Progress = False) -> list[str]:
    """Return the names of the classes in a user's masks; ``any`` alone where they have none."""
    found = read_listing(path, False, own_masks.ANY, progress=progress).classes
    return list(found) or [own_masks.ANY]


def _table_rows(table: Path, header: list[str], cells: list, strict: bool) -> pd.DataFrame:
    """Return the rows of a table under our names of columns, checked row by row."""
    names = _our_names(table, header)
    content = [(row + [""] * len(header))[: len(header)] for _, row in cells]
    raw = pd.DataFrame(content, columns=names, index=[n for n, _ in cells], dtype="str")
    rows = raw[[name for name in COLUMNS if name in raw]]
    rows = rows.apply(lambda column: column.str.strip()).replace("", None).dropna(how="all")
    for name in {"image", "mask"} & set(rows):
        rows[name] = rows[name].map(partial(_plain_name, table.parent), na_action="ignore")
    if "image" not in rows:
        rows["image"] = rows["image_id"]
    stated = rows.reindex(columns=["malignancy"]).astype("str")["malignancy"]
    rows["malignancy"] = stated.str.lower().fillna("unknown")
    checked = rows if "image_id" in rows else rows.assign(image_id=rows["image"])
    schemas.check_table(_SCHEMA, checked, table, _HINT, FIRST_LINE)
    rows["where"] = [f"line {n + FIRST_LINE}" for n in rows.index]
    for column in ("mask", "image"):
        names = rows[column].dropna()
        for row, name in names[names.map(_leads_out)].items():
            if strict:
                problem = f"{rows['where'][row]}: {column} {name}: {_OUTSIDE}"
                raise DataError(table, problem, OUTSIDE_HINT)
            if column == "mask":
                rows.loc[row, ["reason", "hint"]] = [_OUTSIDE, OUTSIDE_HINT]
    places = [(table.parent / name, table.parent / "masks" / name) for name in rows["mask"]]
    rows["path"] = [str(next((p for p in two if isfile(p)), two[0])) for two in places]
    return rows


def _plain_name(folder: Path, name: str) -> str:
    """Return a file's name with ``/`` between folders; Windows writes the other slash."""
    return os.path.normpath(name if isfile(folder / name) else name.replace("\\", "/"))


def _our_names(table: Path, columns: list[str]) -> list[str]:
    """Return our names of the columns; refuse missing and misspelt ones."""
    names = [OTHER_NAMES.get(name.lower(), name.lower()) for name in columns]
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


def _leads_out(name: str) -> bool:
    return name == ".." or name.startswith("../")


def _names(path: str | Path, strict: bool) -> Listing:
    """Return the rows with one spelling of each image and annotator, and the image files."""
    source = own_masks.collect(path, partial(_table_rows, strict=strict))
    rows, notes, files = source.rows.copy(), list(source.notes), source.files
    rows["image"] = rows["image"].fillna(rows["image_id"]).astype(object)
    place = source.path.parent
    if source.is_table:
        masks = rows["path"][rows["reason"].isna() & ~rows["path"].map(isfile)]
        images = [place / n for n in rows["image"].unique() if not isfile(place / "images" / n)]
        shown = walk_files(place) if len(masks) or not all(map(isfile, images)) else ()
        files = [(p, p.relative_to(place).parts) for p in shown]
        index = own_masks.FileIndex([f for f in files if f[0] != source.path])
        for row, name in rows.loc[masks.index, "mask"].items():
            suffix = os.path.splitext(name)[1].lower()
            found = [p for p in index.find(name, "masks") if p.suffix.lower() == suffix]
            rows.loc[row, "path"] = str(found[0]) if len(found) == 1 else rows["path"][row]
    else:
        rows["image"] = rows["image"].str.replace("\\", "/")
    derived = rows["image_id"].isna()
    rows.loc[derived, "image_id"] = own_masks.image_ids(rows.loc[derived, "image"])
    masks = set(rows["path"].dropna())
    files = [f for f in files if str(f[0]) not in masks]
    files = [f for f in files if f[0].suffix.lower() in schemas.IMAGE_SUFFIXES]
    find = partial(own_masks.FileIndex(files).find, below="images" if source.is_table else None)
    found = _images(rows["image"].unique(), find, place, masks, notes)
    rows["image_path"] = rows["image"].map(found)
    keys = rows["image_id"].map(name_key)
    n = rows["image_path"].groupby(keys).nunique()
    own_masks.unify(rows, "image_id", "annotator", notes, set(n.index[n > 1]))
    own_masks.unify(rows, "annotator", "image_id", notes)
    listing = Listing(source.path, rows, source, notes=notes)
    _check_masks(listing)
    for column in ("image", "malignancy", "patient", "lesion"):
        _check_one_value(listing, column)
    return listing


def _images(
    names, find: Callable, place: Path, masks: set[str], notes: list[str]
) -> dict[str, str]:
    """Find each image's file: as named, else of that stem; of any suffix where none is named."""
    found = {}
    for name in names:
        exact = [str(p) for p in (place / name, place / "images" / name) if isfile(p)]
        if exact and exact[0] not in masks:
            found[name] = exact[0]
            continue
        suffix = os.path.splitext(name)[1].lower() if own_masks.stem(name) != name else ""
        suffix = suffix if suffix in schemas.IMAGE_SUFFIXES else ""
        near = [] if _leads_out(name) else find(name)
        for path in near[:1]:
            if not suffix or {suffix, path.suffix.lower()} <= {".jpg", ".jpeg", suffix}:
                found[name] = str(path)
            else:
                notes.append(f"{path.name} is not taken for the image {name}, which is missing")
    return found


def _same(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return all rows with the first value of a column that occurs in several; none without one."""
    several = rows.loc[rows.duplicated(column, keep=False), column]
    return rows[rows[column].isin(several.head(1))]


def _check_masks(listing: Listing) -> None:
    twice = _same(listing.rows.dropna(subset="path"), "path")
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
    stated = stated[stated[column] != "unknown"]
    key = stated[column]
    key = key.map(lambda n: own_masks.path_key(n.split("/"))) if column == "image" else key
    several = _same(stated.assign(key=key).drop_duplicates(["image_id", "key"]), "image_id")
    if len(several):
        values = " and ".join(several[column].iloc[:2])
        problem = f"image {several['image_id'].iloc[0]} has {column} {values}"
        hint = f"give all rows of an image one {column}, or name images apart in a column image_id"
        raise listing.error(several.index, problem, hint)


def _fit_photographs(rows: pd.DataFrame, looks: dict, listing: Listing, strict) -> pd.DataFrame:
    """Find the size of each mask, and turn those that fit only the photograph as it is stored."""
    notes, found = listing.notes, {}
    photos, cases = {}, {"turned": [], "smaller": [], "other": []}
    for path in rows["image_path"].dropna().unique():
        try:
            photos[path] = image_size(path), orientation(path)
        except DataError as error:
            notes.append(f"{error.where}: {error.problem}")
    sizes, turns = [], []
    for row in rows.itertuples():
        photo, stored = photos.get(row.image_path, (None, 1))
        size = looks[row.path].size if row.path in looks else row.size
        size, how = tuple(size or photo or ()), 0
        if size and photo and size != photo:
            if size[::-1] == photo and (stored >= 5 or array_suffix(row.path or "")):
                how = stored if stored >= 5 else 5
            alike = abs(size[0] * photo[1] - size[1] * photo[0]) <= max(*size, *photo)
            described = f"{row.image_id}: {size}, photograph {photo} pixels"
            cases["turned" if how else "smaller" if alike else "other"].append(described)
        size = photo if how else size
        sizes.append(size)
        turns.append(how)
        of_image = found.setdefault(row.image_id, {})
        of_image.setdefault(size, row.Index)
        of_image.setdefault(photo or size, row.Index)
        if strict and len(of_image) > 1 and row.reason is None:
            several = " and ".join(f"{one[0]}x{one[1]}" for one in of_image)
            problem = f"image {row.image_id} has masks, or a mask and an image, of sizes {several}"
            raise listing.error(sorted(set(of_image.values())), problem, _SIZES_HINT)
    rows = rows.assign(size=pd.Series(sizes, index=rows.index, dtype=object), turn=turns)
    unknown = rows["draw"].notna() & rows["size"].map(len).eq(0)
    text = "neither the file nor a photograph named {} gives the size: put the photograph beside"
    rows.loc[unknown, "reason"] = text.format(", ".join(rows.loc[unknown, "image"].unique()[:1]))
    if n := sum(turn != 1 for _, turn in photos.values()):
        notes.append(f"{n} photographs have an EXIF orientation and are read upright")
    texts = {
        "turned": "masks fit the photograph only as it is stored and were turned",
        "smaller": "masks are smaller or larger than the photograph; distances are in their pixels",
        "other": "masks do not fit their photograph",
    }
    notes += [f"{len(c)} {texts[kind]} (first {c[0]})" for kind, c in cases.items() if c]
    return rows


def _sessions(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Tell drawings of one annotator on one image apart: by session, else by tool and skill."""
    kinds = rows[["tool", "skill"]].fillna("").agg("/".join, axis="columns")
    of_one = kinds.groupby([rows["image_id"], rows["annotator"]])
    several = of_one.transform("nunique").gt(1) & rows["session"].isna()
    if several.any():
        text = "masks of one annotator on one image differ in tool or skill and count as repeated"
        notes.append(f"{several.sum()} {text} drawings, not as objects")
    return rows.assign(session=rows["session"].where(~several, kinds).fillna(""))


_DRAWING = ["image_id", "annotator", "session"]


def _facts(group: pd.DataFrame, threshold) -> list:
    """Return everything that masks made of some rows depend on."""
    files = [row["path"] or row["document"] for _, row in group.iterrows()]
    states = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    what = group[["image_id", "annotator", "where", "code", "turn", "size"]].to_numpy().tolist()
    return [threshold, *states, *group.index, what]


def _arrays(group: pd.DataFrame, threshold) -> list[np.ndarray]:
    return [own_masks.object_mask(row, threshold) for row in group.to_dict("records")]


def _union(group: pd.DataFrame, threshold) -> np.ndarray:
    return np.any(_arrays(group, threshold), axis=0)


def _unite(rows: pd.DataFrame, threshold, account: pd.DataFrame, notes: list[str]) -> list[dict]:
    """Return one row per image, annotator and session; objects are united."""
    made, united, again, status = [], [], [], {}
    for key, group in rows.groupby(_DRAWING, sort=False):
        first, n = group.iloc[0], max(1, len(group) - int(group["absent"].sum()))
        name = first["mask"] or "_".join(filter(None, key))
        row = {**first, "row": group.index[0], "mask": name, "mask_path": first["path"]}
        row["members"] = list(group.index)
        if len(set(group["size"])) > 1:
            row["problem"] = "objects of one annotator differ in the size of their image"
            status |= dict.fromkeys(group.index, ("left out", row["problem"]))
        else:
            plain = n == 1 and first["path"] and first["code"] is None and not first["turn"]
            if not plain or threshold is not None:
                facts = _facts(group, threshold)
                try:
                    row["mask_path"] = own_masks.keep(partial(_union, group, threshold), facts)
                except DataError as error:  # of an object that cannot be decoded
                    status |= dict.fromkeys(group.index, ("left out", error.problem))
                    notes.append(f"{error.where}: {error.problem}")
                    continue
            status |= dict.fromkeys(group.index, ("merged" if n > 1 else "used", ""))
        if n > 1 and "problem" not in row:
            row["mask"] += f" and {n - 1} more" if first["mask"] else ""
            united.append(f"{key[0]}, {key[1]}: {n} objects")
            two = combinations(_arrays(group, threshold), 2)
            again += [f"{key[0]}, {key[1]}"] * any(overlap(a, b) > _OVERLAP for a, b in two)
        made.append(row)
    account.update(pd.DataFrame(status, ["status", "reason"], dtype=object).T)
    if united:
        notes.append(f"{len(united)} masks unite objects of one annotator: {_first(united)}")
    if again:
        text = f"{len(again)} of them unite objects that overlap ({_first(again)}); where an"
        notes.append(f"{text} annotator drew an object again, add a column session")
    return made


def _first(names, mark: str = "; ", n: int = 6) -> str:
    return mark.join(map(str, names[:n])) + (" …" if len(names) > n else "")


def _match(rows, threshold, account: pd.DataFrame, notes, objects: list[dict]) -> list[dict]:
    """Return one row per image, object and annotator; objects are matched between annotators."""
    made, alone, n = [], 0, 0
    for image, of_image in rows.groupby("image_id", sort=False):
        if len(set(of_image["size"])) > 1:
            account.loc[of_image.index, "reason"] = "masks of one image differ in size"
            continue
        account.loc[of_image.index, ["status", "reason"]] = ["used", ""]
        groups = {key[1:]: group for key, group in of_image.groupby(_DRAWING, sort=False)}
        arrays = {key: _arrays(group, threshold) for key, group in groups.items()}
        parted = {k: own_masks.regions(a[0]) if len(a) == 1 else a for k, a in arrays.items()}
        matched = own_masks.match_objects(parted)
        for one, two in combinations(parted, 2):
            a, b = (sum(who in found for found in matched) for who in (one, two))
            both = sum(one in found and two in found for found in matched)
            names = {"image_id": image, "annotator1": one[0], "annotator2": two[0]}
            counts = {"matched": both, "only_1": a - both, "only_2": b - both}
            objects += [names | counts] if one[0] != two[0] else []
        for number, found in enumerate(matched, 1):
            n, alone = n + 1, alone + (len(found) == 1)
            for key, mask in found.items():
                first = groups[key].iloc[0]
                facts = [*_facts(of_image, threshold), number, key]
                name = "_".join(filter(None, (image, f"object{number}", *key)))
                made.append(
                    {
                        **{**first, "image_id": f"{image}_object{number}", "mask": name},
                        **{"mask_path": own_masks.keep(lambda mask=mask: mask, facts)},
                        **{"row": groups[key].index[0], "patient": first["patient"] or image},
                        **{"members": list(groups[key].index)},
                    }
                )
    notes.append(f"objects were matched one to one: {n}, of which one annotator alone drew {alone}")
    return made


#: Raise when the cached file changes; the version of every metric is added to it.
VERSION = 4


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
                masks[row.mask] = own_masks.decode(row.mask_path, listing.looks)[0]
            except DataError as error:
                problem = f"{error.where}: {error.problem}"
                raise listing.error([row.Index], problem, error.hint) from None
        pairs += image_pairs(masks)
    return pairs


def load(
    path: str | Path = "",
    label: str | None = None,
    threshold: float | None = None,
    per_object: bool = False,
) -> Cohort:
    """Load a user's own masks.

    Parameters
    ----------
    path, label, threshold, per_object
        As for :func:`read_listing`.

    Returns
    -------
    Cohort
        Missing values where there is no image file, and where the table has no tool, skill,
        patient or lesion. Width and height are those of the image file, else of the masks. Pairs
        of drawings by one annotator are not among its pairs, but in ``extras["repeated"]``;
        ``extras["account"]`` has a row for every row that was read.

    Raises
    ------
    DatasetUnavailable
        If no path is given, or there is no table.
    DataError
        If the table or a file is not what it should be, with the line, the file and the remedy.
    """
    listing = read_listing(path, True, label, threshold, per_object)
    if lost := listing.lost_images:
        problem = f"{len(lost)} image files are missing, first {lost[0]}"
        text = f"{listing.path}: {problem}; their masks are used without them."
        warnings.warn(text, stacklevel=3)
    if listing.notes:
        warnings.warn(f"{listing.path}: {'; '.join(listing.notes)}", stacklevel=3)
    rows = listing.rows.set_index("mask").rename_axis("mask_id")
    masks = rows[["image_id", "mask_path", *schemas.FACTORS]].rename(columns={"mask_path": "path"})
    pairs = measured_pairs(listing, masks)
    repeated = pairs["annotator_1"] == pairs["annotator_2"]
    return Cohort(
        "folder",
        images_table(listing.rows),
        masks,
        pairs[~repeated].reset_index(drop=True),
        synthetic=False,
        extras={"account": listing.account, "repeated": pairs[repeated]},
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
    cohort = load(table)  # its rows are as published, so that nothing is left out or united
    facts = {name: getattr(dataset, name) for name in ("name", "citation", "licence")}
    return replace(cohort, images=describe(cohort.images), source=str(dataset.folder), **facts)


def files(
    path: str | Path = "",
    label: str | None = None,
    threshold: float | None = None,
    per_object: bool = False,
) -> list[Path]:
    """Return what is read: the table and every file that it names, or the exported files.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`load`, for the names alone.
    """
    listing = _names(path, strict=True)
    named = [*listing.rows["path"].dropna(), *listing.rows["image_path"].dropna()]
    return list(dict.fromkeys([*(path for path, _ in listing.source.files), *map(Path, named)]))


def images_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the images table of a cohort from the rows of a listing.

    Parameters
    ----------
    rows : pandas.DataFrame
        As :attr:`Listing.rows`; rows of one image do not contradict each other. Its width and
        height are those of most masks.
    """
    rows = rows.assign(malignancy=rows["malignancy"].replace("unknown", None))
    groups = rows.groupby("image_id", sort=False)
    first = groups.first()
    sizes = pd.Series({i: max(of_one, key=list(of_one).count) for i, of_one in groups["size"]})
    unknown = pd.Series(None, index=first.index, dtype="str")
    columns = {"path": first["image_path"], "malignancy": first["malignancy"].fillna("unknown")}
    columns |= {"diagnosis": unknown, "patient_id": first["patient"], "lesion_id": first["lesion"]}
    columns |= {"width": sizes.str[0].fillna(1), "height": sizes.str[1].fillna(1)}
    columns |= {"geometry": "original", "licence": unknown, "sex": unknown}
    return pd.DataFrame(columns | {"age": float("nan"), "site": unknown}, index=first.index)


OPTIONS = ("path", "label", "threshold", "per_object")
DATASET = register_own("folder", load, options=OPTIONS, needs=("path",), sources=files)
