"""From what a user points at to rows, one per drawn object, and from rows to arrays.

:func:`collect` lists the masks of a table, a folder or an export. The other functions find their
images and classes and unify spellings; :mod:`iavlib.data.datasets.folder` puts them together. A
mask that is not simply one file is written to the cache, so that everything else reads plain files.
"""

import csv
import hashlib
import math
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from iavlib.core.errors import DataError, DatasetUnavailable, suggest
from iavlib.core.files import replacing
from iavlib.core.processes import Progress, reporter
from iavlib.core.project import cache_home
from iavlib.data import exports
from iavlib.data.exports import DOCUMENTS, HINT, MASK_SUFFIXES, list_files, stem
from iavlib.data.images import Values, decode_mask, read_file, read_values, turn
from iavlib.data.schemas import IMAGE_SUFFIXES
from iavlib.masks.surfaces import MAX_CLASSES, binarise

TABLES = ("masks.csv", "masks.tsv", "masks.xlsx")
FIRST_LINE = 2
FACTS = ("tool", "skill", "malignancy", "patient", "lesion")
COLUMNS = ("image", "image_id", "mask", "annotator", "label", "session", *FACTS)
#: What else a row holds: the mask's file or how to draw it, and why it cannot be used.
_FOUND = ("path", "draw", "size", "where", "reason", "hint", "document")
PHOTOGRAPHS = ("images", "image", "photos", "photographs", "imgs", "originals", "jpegimages")
#: Formats that have a document for each image.
_OF_ONE_IMAGE = ("labelme", "GeoJSON")
#: Folders that say nothing about who drew the files in them.
_PLAIN = ("masks", "annotations", "labels", "json", "segmentations", "segmentationclass")
_NOBODY = (*_PLAIN, *PHOTOGRAPHS)
_BACKGROUND = ("background", "_background_", "void", "unlabeled", "unlabelled", "#e0e0c0")
VERSION = 1  # of the masks that are kept in the cache
ANY, ALL = "any", "all"
#: Share of the largest region from which on a region of a mask is an object.
_OBJECT = 0.05
#: So many files of a folder are all looked at to find photographs among them.
_FEW = 12
Files = list[tuple[Path, tuple[str, ...]]]


@dataclass(frozen=True)
class Source:
    """Masks as they are listed, before any is opened.

    Attributes
    ----------
    path : pathlib.Path
        Named in messages.
    format : str
    rows : pandas.DataFrame
        One row per object, indexed by its position (in a table, its line less two): the columns of
        a table; ``path`` (the mask's file) or ``draw`` (as in :mod:`iavlib.data.exports`);
        ``size``, ``where``, and ``reason`` and ``hint`` where it cannot be used.
    files : list
        What was read, as :func:`iavlib.data.exports.list_files` returns it; of a table, only it.
    names : dict
        Names of colours.
    notes : list of str
    is_table : bool
        Whether the rows are those of a table, which names its files.
    """

    path: Path
    format: str
    rows: pd.DataFrame
    files: Files
    names: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_table: bool = False


def collect(path: str | Path, table_rows: Callable[[Path, list, list], pd.DataFrame]) -> Source:
    """List the masks of a table, a folder, an exported file or an archive.

    Parameters
    ----------
    path : str or pathlib.Path
    table_rows : callable
        From the path of a table, its header and its cells to its rows.

    Raises
    ------
    DatasetUnavailable
        If no path is given or nothing is there.
    DataError
        If what is there cannot be read, naming what can.
    """
    if not str(path or "").strip():
        raise DatasetUnavailable("folder", "no path was given", f"give path=, {exports.FORMATS}")
    source = Path(os.path.abspath(Path(path).expanduser()))
    suffix, notes = source.suffix.lower(), []
    if source.is_dir() or (suffix == ".zip" and source.is_file()):
        files = list_files(source if source.is_dir() else exports.unpack(source))
        found = next((p for p, parts in files if "/".join(parts).lower() in TABLES), None)
        if found is None and files:
            return _from_documents(source, files) or _from_mask_files(source, files)
    else:
        found = source
    if found is None or not found.is_file():
        missing = source / TABLES[0] if source.is_dir() else source
        raise DatasetUnavailable("folder", f"there is no file {missing}", HINT)
    if suffix in DOCUMENTS:
        beside = [f for f in list_files(source.parent) if f[0].suffix.lower() in IMAGE_SUFFIXES]
        if (export := _from_documents(source, [(source, (source.name,)), *beside])) is not None:
            return export
        raise DataError(source, "no format that is read here", HINT)
    if source.name.lower().endswith(MASK_SUFFIXES):
        raise DataError(source, "one mask alone, nothing to compare it with", HINT)
    header, cells = _read_cells(found, notes)
    kind = f"{found.suffix[1:].upper()} table"
    rows = _complete(table_rows(found, header, cells))
    return Source(found, kind, rows, [(found, ())], {}, notes, is_table=True)


def _complete(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *COLUMNS, *_FOUND])))
    return rows.astype(object).where(rows.notna(), None)


def _read_cells(path: Path, notes: list[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header of a table, and its rows of cells with their positions."""
    declared = None
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        try:
            sheet = pd.read_excel(path, header=None, dtype=str, engine="openpyxl").fillna("")
        except Exception as error:  # openpyxl, if it is there, raises many kinds
            hint = "save it as CSV, or install openpyxl: pip install 'iavlib[formats]'"
            raise DataError(path, f"no readable Excel file ({error})", hint) from None
        lines = list(enumerate(sheet.to_numpy().tolist(), 1))
    else:
        texts = re.split(r"\r\n|\r|\n", _decode(path, notes))
        header = next((text.lower() for text in texts if text.strip(' ,;\t|"')), "")
        declared = re.fullmatch("sep=(.)", header.strip())
        known = {m: sum(c.strip(' "') in COLUMNS for c in header.split(m)) for m in ",;\t|"}
        mark = declared[1] if declared else max(known, key=known.get)
        opens, odd = re.compile(rf'(^|{re.escape(mark)})\s*"'), [t.count('"') % 2 for t in texts]
        for n, text in enumerate(texts):  # a quoted cell may hold line breaks
            end = odd.index(1, n + 1) if odd[n] and any(odd[n + 1 :]) else n
            rest = texts[n + 1 : end + 1] if opens.search(text) else ()
            if rest and max(one.count(mark) for one in rest) < header.count(mark):
                texts[n : end + 1] = " ".join([text, *rest]), *[""] * len(rest)
                odd[n : end + 1] = [0] * (len(rest) + 1)
        lines = [(n, _split(t, mark, n, notes)) for n, t in enumerate(texts, 1)]
    lines = [line for line in lines if "".join(line[1]).strip()][bool(declared) :]
    if not lines:
        raise DataError(path, "the file is empty", HINT)
    header = [cell.strip() for cell in lines[0][1]]
    rows = [(n - FIRST_LINE, cells) for n, cells in lines[1:]]
    if not rows:
        raise DataError(path, "the table has a header but no rows", HINT)
    for position, cells in rows:
        if any(map(str.strip, cells[len(header) :])):
            problem = f"line {position + FIRST_LINE} has more cells than the header has columns"
            raise DataError(path, problem, "put names with the separator in them in quotes")
    return header, rows


def _decode(path: Path, notes: list[str]) -> str:
    raw = path.read_bytes()
    wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}.get(raw[:2])
    wide = wide or {0: "utf-16-be", 1: "utf-16-le"}.get(raw[:2].find(b"\0"))
    try:
        text = raw.decode(wide or "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(path, f"no readable CSV table ({error})", HINT) from None
        notes.append("the table is not UTF-8; it was read as Windows-1252 (Latin-1)")
        text = raw.decode("cp1252", errors="replace")
    if "\0" in text:
        raise DataError(path, "no readable CSV table, but a binary file", HINT)
    return text


def _split(line: str, mark: str, number: int, notes: list[str]) -> list[str]:
    if line.count('"') % 2 == 0:
        return next(csv.reader([line], delimiter=mark), [])
    notes.append(f"line {number}: a stray quote was ignored")
    return [cell.strip(' "') for cell in line.split(mark)]


def _from_documents(source: Path, files: Files) -> Source | None:
    documents = [f for f in files if f[0].suffix.lower() in DOCUMENTS]
    found = [(*f, *read) for f in documents if (read := exports.read_document(f[0]))]
    people, doubted, shared = _people_of_documents(source, found, files)
    rows, notes = [], ["files state one annotator; their names or folders are used"] * doubted
    notes += ["masks by one account in several files are taken as one person's"] * (shared > 0)
    for (path, parts, _, records), (who, image) in zip(found, people, strict=True):
        for record in records:
            facts = {"annotator": (not doubted and record["annotator"]) or who}
            facts |= {"image": image} if record["image"] == stem(path.name) else {}
            where = ", ".join(filter(None, ("/".join(parts), record["where"])))
            rows.append(record | facts | {"where": where, "document": str(path)})
    if not rows:
        return None
    same = pd.DataFrame(rows).groupby(["annotator", "image"])["document"].unique()
    one_image = {str(path) for path, _, kind, _ in found if kind in _OF_ONE_IMAGE}
    for (who, image), paths in same.items():
        if len(paths := sorted(one_image & set(paths))) > 1:
            problem = f"{paths[0]} and {paths[1]} are both of image {image} by {who}"
            raise DataError(
                source, problem, "give each image a name of its own, or read one folder"
            )
    kinds = Counter(name for _, _, name, _ in found).items()
    named = ", ".join(f"{name} ({n} files)" if n > 1 else name for name, n in kinds)
    read = {path for path, *_ in found}
    if unknown := ["/".join(parts) for path, parts in documents if path not in read]:
        notes.append(f"{len(unknown)} documents have no format that is read (first {unknown[0]})")
    kept = _without_masks(files, {parts[0] for _, parts, *_ in found}, notes)
    kept = [f for f in kept if f[0] in read or f[0].suffix.lower() in IMAGE_SUFFIXES]
    return Source(source, named, _complete(pd.DataFrame(rows)), kept, {}, notes)


def _without_masks(files: Files, used: set[str], notes: list[str]) -> Files:
    """Leave out folders of masks beside those of documents, and note that they are not used."""
    drawn = [f for f in files if len(f[1]) > 1 and f[0].name.lower().endswith(MASK_SUFFIXES)]
    first = {parts[0]: str(path) for path, parts in reversed(drawn)}
    first = {k: v for k, v in first.items() if k not in used and k.lower() not in PHOTOGRAPHS}
    looks = look_at_files(pd.DataFrame({"path": list(first.values())}), None)
    masks = [k for k, v in first.items() if not (looks[v].error or looks[v].note or looks[v].blank)]
    if masks:
        text = "folders hold masks beside documents and are not used"
        notes.append(f"{len(masks)} {text} (first {sorted(masks)[0]}); give masks of one form")
    return [file for file in files if file[1][0] not in masks]


def _people_of_documents(source: Path, found: list, files: Files) -> tuple[list[tuple], bool, int]:
    """Tell who drew each document, and of which image, by its folder and its name.

    Also whether annotators that documents state are not told apart by that: several state one
    and hold the same image, as accounts of several installations have equal numbers; and how often
    that is so where a document states several, which are believed.
    """
    folders = [[p for p in parts[:-1] if p.lower() not in _NOBODY] for _, parts, *_ in found]
    table = pd.DataFrame({"annotator": [(one or [""])[0] for one in folders]}, dtype=object)
    table["image"] = [stem(path.name) for path, *_ in found]
    stated = [{record["image"] for record in records} for *_, records in found]
    names = {name for one in stated for name in one} - set(table["image"])
    names |= {parts[-1] for path, parts in files if path.suffix.lower() in IMAGE_SUFFIXES}
    shown = {path_key([name])[-1] for name in names}
    if all(len(one) < 2 for one in stated) and not shown & set(map(name_key, table["image"])):
        _who_drew(table, shown)  # documents of one image each, that are not named like images
    alone = [source.stem if kind in _OF_ONE_IMAGE else "" for _, _, kind, _ in found]
    named = zip(table["annotator"], alone, table["image"], strict=True)
    people = [who or place or name for who, place, name in named]
    drawn = [(who, r) for who, (*_, rs) in zip(people, found, strict=True) for r in rs]
    drawn = {(who, r["annotator"], r["image"]) for who, r in drawn if r["annotator"]}
    single = all(len({r["annotator"] for r in records}) < 2 for *_, records in found)
    shared = len(drawn) - len({one[1:] for one in drawn})
    return [*zip(people, table["image"], strict=True)], single and shared > 0, shared * (not single)


def _from_mask_files(source: Path, files: Files) -> Source:
    """List mask files in folders of annotators or images, flat, or in the layout of CVAT."""
    of_cvat = any("SegmentationClass" in parts for _, parts in files)
    rows, kinds = [], Counter(path.suffix.lower() or "no suffix" for path, _ in files)
    for path, parts in files:
        folders = [p for p in parts[:-1] if p.lower() not in _PLAIN]
        photograph = any(p.lower() in PHOTOGRAPHS for p in folders)
        wanted = "SegmentationClass" in parts if of_cvat else not photograph
        if wanted and path.name.lower().endswith(MASK_SUFFIXES):
            who, name = (folders or [source.stem if of_cvat else ""])[0], stem(path.name)
            end = r"(?i)[_-](mask|segmentation|seg)$"
            row = {"annotator": who, "image": re.sub(end, "", name), "path": str(path)}
            row |= dict.fromkeys(("mask", "where"), "/".join(parts))
            row |= {"alike": (who, path.suffix.lower(), row["image"] == name)}
            rows.append(row | {"below": "/".join(folders[1:])})
    if any(row["annotator"] for row in rows):  # what lies beside the folders are photographs
        rows = [row for row in rows if row["annotator"]]
    rows = rows if of_cvat else _without_pictures(rows)
    used = {row["path"] for row in rows}
    shown = [f for f in files if str(f[0]) not in used and f[0].suffix.lower() in IMAGE_SUFFIXES]
    table = pd.DataFrame(rows, columns=[*("annotator", "image", "path", "below", "mask", "where")])
    kind, below = "CVAT segmentation masks", table["below"]
    _drop_names_of_people(table, {stem(parts[-1]) for _, parts in shown})
    if not of_cvat:
        kind = _who_drew(table, {path_key(parts)[-1] for _, parts in shown})
    if table.empty or table["annotator"].eq("").any():
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4))
        problem = f"no export that is read here, and no folders of annotators, but files {listed}"
        raise DataError(source, problem, HINT)
    photographs = {"/".join(parts[-2:-1]) for _, parts in shown}
    several = table.groupby(["annotator", "image"])["below"].nunique().max() > 1
    if several and not set(below.str.split("/").str[-1]) & photographs:
        table["label"] = below.where(below.ne("")).str.split("/").str[0]  # a folder per class
    else:
        table["image"] = (below + "/" + table["image"]).str.lstrip("/")
    names = [exports.labelmap(path) for path, parts in files if parts[-1] == "labelmap.txt"]
    names = {code: name for one in names for code, name in one.items()}
    return Source(source, kind, _complete(table), files, names)


def _drop_names_of_people(table: pd.DataFrame, shown: set[str]) -> None:
    """Take a folder's name from the end of its files' names, in place, where all of them end so.

    Not where a name as it is occurs elsewhere: folder 1 with img_1 holds an image of that name.
    """
    for who, images in table.groupby("annotator")["image"]:
        short = images.str.replace(rf"(?i)[_-]{re.escape(who)}$", "", regex=True)
        elsewhere = shown | set(table["image"].drop(images.index))
        if who and short.ne(images).all() and not elsewhere & set(images):
            table.loc[images.index, "image"] = short


def _without_pictures(rows: list[dict]) -> list[dict]:
    """Leave out photographs; of many files that are named alike, the first stands for all."""
    key = "path" if len(rows) <= _FEW else "alike"
    first = {row[key]: row["path"] for row in reversed(rows)}
    looks = look_at_files(pd.DataFrame({"path": list(first.values())}), None)
    kept = [row for row in rows if "a picture" not in str(looks[first[row[key]]].error)]
    return kept or rows


def _who_drew(table: pd.DataFrame, shown: set[str]) -> str:
    """Tell annotators from images, in place, by folders and names; return what was understood.

    `shown` are the keys of the photographs' names.
    """

    def numbered(names: pd.Series) -> bool:  # as images are
        return len(set(names.str.replace(r"\d+", "", regex=True))) == 1

    def doubts(people: pd.Series, images: pd.Series) -> tuple:
        n_shown = len(set(images.map(name_key)) & shown)
        return -n_shown, numbered(people) and not numbered(images)

    people, names = table["annotator"], table["image"]
    if people.ne("").all():
        if people.nunique() > 1 < names.nunique() and doubts(names, people) < doubts(people, names):
            table["annotator"], table["image"] = names, people
            return "folder of masks per image"
        return "folder of masks per annotator"
    task = names.str.extract(r"^(task-\d+)-annotation-\d+-by-([^-]+)-(?:[^-]+-)?(.+?)-\d+$")
    if task.notna().all(axis=None):
        table[["image", "annotator", "label"]] = task
        return "masks exported by Label Studio"
    found = []
    for mark, first in product(("_-", "."), (False, True)):
        image, who = r"(?P<image>.+)", rf"(?P<who>[^{mark}]+)"
        pattern = f"[{mark}]".join((who, image) if first else (image, who))
        two = names.str.extract(f"^{pattern}$")
        n, m = two["image"].nunique(), two["who"].nunique()
        whole = two.notna().all(axis=None) and m > 1 and n * m <= 1.5 * len(two)
        if whole and (n > 1 or not two["who"].str.isdigit().any()):
            found.append((*doubts(two["who"], two["image"]), m > n, m, mark == ".", two))
    if found:
        table[["image", "annotator"]] = min(found, key=lambda one: one[:-1])[-1][["image", "who"]]
    elif (len(shown) == 1 or len(names) <= _FEW // 3) and not numbered(names):
        table["annotator"], table["image"] = names, next(iter(shown), "image")
        return "masks of one image"
    return "masks named after image and annotator"


def name_key(text: str) -> str:
    """Return what spellings of one name share: not case, blanks, accents' form, or ``.0``."""
    plain = " ".join(unicodedata.normalize("NFC", str(text)).casefold().split())
    return re.sub(r"^(\d+)\.0+$", r"\1", plain)


def path_key(parts: Iterable[str]) -> tuple[str, ...]:
    """Return the key of a file's path, without the suffix of an image."""
    *folders, name = parts
    return *map(name_key, folders), name_key(stem(name))


class FileIndex:
    """Files by their path without suffix, so that other spellings of it are found.

    Parameters
    ----------
    files : list of tuple
        As :func:`iavlib.data.exports.list_files` returns them.
    """

    def __init__(self, files: Files):
        self._files: dict[str, Files] = {}
        for path, parts in files:
            self._files.setdefault(path_key(parts)[-1], []).append((path, parts))

    def find(self, name: str, below: str | None = None) -> list[Path]:
        """Return the files whose path ends so: in one folder, the nearest; JPEG first.

        With `below`, only those whose path is the name, or the name below that folder.
        """
        wanted, found = path_key(name.split("/")), []
        for path, parts in self._files.get(wanted[-1], ()):
            key = path_key(parts)
            fits = key[-len(wanted) :] if below is None else key[1:] if key[0] == below else key
            if wanted in (fits, key):
                found.append((len(key), path.suffix.lower() not in (".jpg", ".jpeg"), path))
        nearest = [path for depth, _, path in sorted(found) if depth == min(found)[0]]
        return nearest if len({path.parent for path in nearest}) == 1 else []


def image_ids(names: pd.Series) -> pd.Series:
    """Return ids of images: the name without folder and suffix, with folders where ambiguous."""
    bare, folders = names.map(stem), names.map(os.path.dirname)
    of_stem = folders.map(name_key).groupby(bare.map(name_key))
    several = of_stem.transform(lambda f: len(set(f)) > 1 and f.ne("").all()).astype(bool)
    return bare.where(~several, folders + "/" + bare)


def unify(rows: pd.DataFrame, column: str, other: str, notes: list[str], apart=()) -> None:
    """Give spellings of one name one of them, in place, unless they must be different ones.

    They are kept where both occur with one value of the column `other` (an annotator drew on both
    images, or both annotators on one image), or where their key is in `apart`.
    """
    rows[column] = rows[column].map(lambda v: " ".join(unicodedata.normalize("NFC", v).split()))
    spellings: dict[str, list[str]] = {}
    for value in rows[column].value_counts().index:
        spellings.setdefault(name_key(value), []).append(value)
    for key, values in spellings.items():
        if len(values) < 2:
            continue
        named = f"{column} {' and '.join(map(repr, values))}"
        met = [set(rows.loc[rows[column] == value, other]) for value in values]
        if key in apart or any(a & b for a, b in combinations(met, 2)):
            notes.append(f"{named} differ only in spelling, but are kept as different ones")
        else:
            notes.append(f"{named} are taken as one, {values[0]}")
            rows[column] = rows[column].replace(dict.fromkeys(values[1:], values[0]))


@dataclass(frozen=True)
class Look:
    """What one look at a mask file found: its size, classes and what binarisation did.

    The mask is kept in some thousand bytes, so that no file is decoded twice; not where it depends
    on a class or a threshold.
    """

    size: tuple[int, int] | None = None
    codes: tuple[int, ...] = ()
    colours: bool = False
    blank: bool = False
    note: str = ""
    error: DataError | None = None
    packed: bytes | None = None


def decode(path: str, looks: dict[str, Look]) -> tuple[np.ndarray, str]:
    """Return a mask and its note as :func:`iavlib.data.images.decode_mask` does.

    A file that was looked at is not decoded again.
    """
    seen = looks.get(path, Look())
    if seen.packed is None:
        return decode_mask(path)
    bits = np.unpackbits(np.frombuffer(zlib.decompress(seen.packed), np.uint8))
    return bits[: math.prod(seen.size)].view(bool).reshape(seen.size[::-1]), seen.note


def look_at_files(
    rows: pd.DataFrame, threshold: float | None, progress: Progress = False
) -> dict[str, Look]:
    """Look at every mask file once, several at a time; an error becomes part of the result."""

    def look(path: str) -> Look:
        try:
            values: Values = read_file(path, path, read_values)
            codes, pixels, note, packed = values.classes, values.pixels, "", None
            if len(codes) < 2 or (threshold is not None and not values.colours):
                inside = pixels > 0 if values.colours else pixels
                mask, note = binarise(inside, threshold, path)
                packed = zlib.compress(np.packbits(mask), 1) if threshold is None else None
                small = pixels.dtype.kind in "iu" and 0 < pixels.max() <= MAX_CLASSES
                if not values.colours:
                    codes = [int(pixels.max())] if small and threshold is None else []
            blank = not codes and not pixels.any()
            return Look(pixels.shape[::-1], tuple(codes), values.colours, blank, note, None, packed)
        except DataError as error:
            return Look(error=error)

    paths = list(dict.fromkeys(rows["path"]))
    report = reporter(progress, len(paths), "files read")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = [(one, report(n))[0] for n, one in enumerate(pool.map(look, paths), 1)]
    return dict(zip(paths, found, strict=True))


#: Values that programs write for the inside of a binary mask, besides 1.
_FULL = {255, 65535}


def by_class(
    rows: pd.DataFrame, looks: dict[str, Look], names: dict[int, str], label: str | None
) -> pd.DataFrame:
    """Return one row per class of a label map; ``code`` is its value in the file.

    Files are label maps if those of one annotator have several values besides the background, or
    if the chosen label is a value. The largest value of an integer (255, 65535) alone in a file is
    no class: programs write 1 or that for inside. A map without a class that others have is a row
    that is ``absent``: its mask is empty.
    """
    maps = {code: one.colours for one in looks.values() for code in one.codes}
    codes = rows["path"].map(lambda path: set(looks[path].codes) if path in looks else set())
    own = codes[rows["label"].isna()].groupby(rows["annotator"])
    several = [*own.agg(lambda c: set().union(*c) - _FULL), *codes]
    if not (names or any(len(one) > 1 for one in several) or _choices(label) & set(map(str, maps))):
        return rows.assign(code=None, absent=False)
    made, positions = [], []
    for position, row in zip(rows.index, rows.to_dict("records"), strict=True):
        seen = looks.get(row["path"], Look())
        whole = len(seen.codes) > 1 or (row["label"] is None and (seen.codes or seen.blank))
        for code in sorted(maps) if whole else [None]:
            name = names.get(code, f"#{code:06x}" if maps[code] else str(code)) if whole else None
            absent = bool(whole) and code not in seen.codes
            made.append(row | {"code": code, "label": name or row["label"], "absent": absent})
            positions.append(position)
    return pd.DataFrame(made, index=positions)


def _choices(label: str | None) -> set[str]:
    """Return the keys of the classes that a user chose, separated by commas."""
    return {name_key(one) for one in str(label).split(",")}


def choose_label(rows: pd.DataFrame, label: str | None, where: Path) -> tuple[pd.DataFrame, dict]:
    """Keep the rows of the chosen class or classes; return them and the objects per class.

    Raises
    ------
    DataError
        If there are several classes and none is chosen, or the chosen one does not exist.
    """
    key = rows["label"].map(name_key, na_action="ignore")
    rows, key = rows[~key.isin(_BACKGROUND)], key[~key.isin(_BACKGROUND)]
    shown = rows["reason"].isna() & ~rows["absent"]
    if rows.loc[shown, "label"].isna().all():
        if label not in (None, ANY) and shown.any():
            problem = f"no class {label!r}: the masks are binary, they have no classes"
            raise DataError(where, problem, "leave out --label (label=)")
        return rows, {}
    key = key.fillna("unnamed")
    spelling = dict(zip(key[::-1], rows["label"].fillna("unnamed")[::-1], strict=True))
    counts = {spelling[k]: n for k, n in key[shown].value_counts().items()}
    listed = ", ".join(f"{name} ({n})" for name, n in list(counts.items())[:12])
    wanted = [name_key(label)] if name_key(label) in spelling else _choices(label)
    if label is None and len(counts) > 1:
        hint = (
            f"choose one by --label (label=), unite some by commas between them or all by {ANY}; "
            f"--label {ALL} measures class by class on the command line"
        )
        raise DataError(where, f"{len(counts)} classes (with objects): {listed}", hint)
    if label in (None, ANY):
        return rows, counts
    if unknown := sorted(set(wanted) - set(spelling)):
        problem = f"no class {unknown[0]!r}; {suggest(unknown[0], counts)}"
        raise DataError(where, problem, "choose one that is there")
    return rows[key.isin(wanted) | rows["reason"].notna()], counts


def object_mask(row: dict, threshold: float | None) -> np.ndarray:
    """Return the mask of one row, of shape (height, width)."""
    if row["draw"] is not None:
        try:
            mask = row["draw"](row["size"])
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise DataError(row["where"], f"damaged ({error})", "export it again") from None
        if mask.shape != tuple(row["size"])[::-1]:
            problem = f"{mask.shape[1]} x {mask.shape[0]} pixels, the image {row['size']}"
            raise DataError(row["where"], problem, "export it again")
        return mask
    values = read_values(row["path"])
    if row["code"] is not None:
        mask = values.pixels == row["code"]
    else:
        pixels = values.pixels > 0 if values.colours else values.pixels
        mask = binarise(pixels, threshold, row["path"])[0]
    return turn(mask, row["turn"]) if row["turn"] else mask


def keep(mask: Callable[[], np.ndarray], facts: Iterable) -> str:
    """Write a mask to the cache under a name made of what it depends on; return the path."""
    digest = hashlib.sha256(repr((VERSION, *facts)).encode()).hexdigest()[:24]
    path = cache_home() / "own_masks" / f"{digest}.png"
    if not path.is_file():
        with replacing(path) as temporary:
            Image.fromarray(mask().astype(np.uint8) * 255).save(temporary, "PNG", compress_level=1)
    return str(path)


def match_objects(drawn: dict[str, list[np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Match the objects of several annotators one to one, by the largest sum of IoU.

    Parameters
    ----------
    drawn : dict
        Annotator to arrays of bool of one shape.

    Returns
    -------
    list of dict
        Each an object: annotator to mask, for those who drew it. Objects match if they overlap.
    """
    from scipy import optimize  # which is large

    found: list[dict[str, np.ndarray]] = []
    for name in sorted(drawn, key=lambda name: -len(drawn[name])):
        wholes = [np.any(list(one.values()), axis=0) for one in found]
        iou = np.array([[overlap(whole, mask) for mask in drawn[name]] for whole in wholes])
        rows, columns = optimize.linear_sum_assignment(-iou.reshape(len(found), len(drawn[name])))
        pairs = {j: i for i, j in zip(rows, columns, strict=True) if iou[i, j] > 0}
        for j, mask in enumerate(drawn[name]):
            if j in pairs:
                found[pairs[j]][name] = mask
            else:
                found.append({name: mask})
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two masks."""
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


def regions(mask: np.ndarray) -> list[np.ndarray]:
    """Return the 8-connected regions of a mask, without those far smaller than the largest."""
    numbered, n = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(numbered.ravel(), minlength=2)[1:]
    return [numbered == k + 1 for k in range(n) if areas[k] >= _OBJECT * areas.max()]
