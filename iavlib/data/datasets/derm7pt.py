"""derm7pt: 1,011 cases, each with a dermoscopic and a clinical image, of the seven-point checklist.

Expected in the folder (or in its ``release_v0``), as the archive unpacks: ``meta/meta.csv`` with
the columns case_num, diagnosis, derm, clinic, sex, location and more; ``meta/train_indexes.csv``,
``valid_indexes.csv`` and ``test_indexes.csv``, whose column ``indexes`` counts the rows of that
table from 0; and ``images`` with folders of JPEG files that ``derm`` and ``clinic`` name (capitals
may differ). The layout is that of the authors' published program; it was not tested on the archive.

Patients are not published. Cases that share an image file count as one lesion.
"""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from iavlib.core.errors import DatasetUnavailable, check_choice, refuse
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_paths
from iavlib.data.labels import HINT, Label, build, known_text, match, meaning
from iavlib.data.schemas import read_table
from iavlib.data.splits import linked_clusters

META = "meta/meta.csv"
INDEXES = {"train": "train_indexes.csv", "val": "valid_indexes.csv", "test": "test_indexes.csv"}
MODALITIES = ("derm", "clinic")
_NEVI = ("blue", "clark", "combined", "congenital", "dermal", "recurrent", "reed or spitz")
_THICKNESS = ("less than 0.76 mm", "0.76 to 1.5 mm", "more than 1.5 mm")
_MELANOMAS = ("melanoma (in situ)", *(f"melanoma ({t})" for t in _THICKNESS), "melanoma metastasis")
#: The five classes of the dataset's paper.
GROUPS = (
    {"basal cell carcinoma": "BCC", "nevus": "NEV", "seborrheic keratosis": "SK"}
    | {f"{name} nevus": "NEV" for name in _NEVI}
    | dict.fromkeys(("melanoma", *_MELANOMAS), "MEL")
    | dict.fromkeys(("dermatofibroma", "lentigo", "melanosis", "vascular lesion"), "MISC")
    | {"miscellaneous": "MISC"}
)
_MALIGNANCY = {"BCC": "malignant", "MEL": "malignant"}
LABELS = {
    name: Label(float(group == "MEL"), _MALIGNANCY.get(group, "benign"))
    for name, group in GROUPS.items()
} | {"miscellaneous": Label(0, "unknown")}
SCHEMA = pa.DataFrameSchema(
    {
        "case_num": pa.Column(int, unique=True),
        **{name: pa.Column(str) for name in ("diagnosis", *MODALITIES)},
        **{name: pa.Column(nullable=True) for name in ("sex", "location")},
    }
)


def layout(folder: Path) -> Layout:
    """Return the layout of the files."""
    below = "release_v0/" if (folder / "release_v0" / META).is_file() else ""
    files = {below + META: 1, f"{below}images/*/*": 2013}
    files |= {f"{below}meta/{name}": 1 for name in INDEXES.values()}
    return Layout(files, (below + META,))


def load(
    folder: Path | None = None,
    incomplete: bool = False,
    subsets: str = "paper",
    modality: str = "derm",
) -> Cohort:
    """Load derm7pt with melanoma as the target.

    Parameters
    ----------
    folder : pathlib.Path, optional
        ``derm7pt`` in the data home unless given.
    incomplete : bool
        Whether images without file and files without label are accepted.
    subsets : {"paper", "official"}
        Whether the cases are to be split 70:10:20 at random, as in the paper on annotator
        variability (its list of cases is not published), or by the dataset's index files (413,
        203, 395).
    modality : {"derm", "clinic"}
        Which image of each case.

    Returns
    -------
    Cohort
        ``diagnosis`` is the dataset's own, ``diagnosis_group`` one of the five classes BCC, NEV,
        MEL, MISC and SK. Images are named by their case, such as ``case_12``.

    Raises
    ------
    ValueError
        If an option has no such value.
    DatasetUnavailable
        If the labels, or the requested index files, are absent.
    DataError
        If a file is not what it should be; see :mod:`iavlib.data.labels`.
    """
    check_choice("subsets", subsets, ("paper", "official"))
    check_choice("modality", modality, MODALITIES)
    folder = folder or DATASET.folder
    meta = folder / layout(folder).required[0]
    if not meta.is_file():
        raise DatasetUnavailable("derm7pt", f"{folder} lacks {META}", DATASET.how)
    images = _images(meta, modality, incomplete)
    if subsets == "official":
        images["subset"] = _official_subsets(images.index, meta.parent)
    return build(DATASET, images, folder)


def _images(meta: Path, modality: str, incomplete: bool) -> pd.DataFrame:
    table = read_table(meta, SCHEMA, HINT)
    table = table.set_index("case_" + table["case_num"].astype(str))
    names = table["diagnosis"].str.strip().str.lower()
    return meaning(names, LABELS, meta, "diagnosis").assign(
        path=_paths(table, modality, meta, incomplete),
        diagnosis=names,
        diagnosis_group=names.map(GROUPS),
        lesion_id=linked_clusters(table[list(MODALITIES)].apply(lambda c: c.str.lower())),
        sex=known_text(table["sex"]),
        site=known_text(table["location"]),
    )


def _paths(table: pd.DataFrame, modality: str, meta: Path, incomplete: bool) -> pd.Series:
    """Find the file of each case, and check that every file belongs to one."""
    folder = meta.parent.parent / "images"
    paths = image_paths(folder, below=True)
    files = {path.relative_to(folder).as_posix().lower(): path for path in paths}
    named = {kind: table[kind].str.strip().str.lower() for kind in MODALITIES}
    wanted = pd.Index(named[modality])
    others = set(named["clinic" if modality == "derm" else "derm"]) - set(wanted)
    own = {name: path for name, path in files.items() if name not in others}
    return match(wanted, own, meta, folder, incomplete).set_axis(table.index)


def _official_subsets(cases: pd.Index, folder: Path) -> pd.Series:
    subset = pd.Series(None, index=cases, dtype=object)
    rows = pa.Column(int, pa.Check.in_range(0, len(cases) - 1), unique=True)
    for name, file in INDEXES.items():
        if not (folder / file).is_file():
            raise DatasetUnavailable("derm7pt", f"{folder} lacks {file}", DATASET.how)
        table = read_table(folder / file, pa.DataFrameSchema({"indexes": rows}), HINT)
        chosen = cases[table["indexes"]]
        twice = subset[chosen].dropna().index
        refuse(twice, folder / file, f"cases are in {name} and in another subset", HINT)
        subset[chosen] = name
    refuse(subset.index[subset.isna()], folder, "cases are in no subset", HINT)
    return subset


DATASET = register_own(
    "derm7pt", load, layout=layout, options=("incomplete", "subsets", "modality")
)
