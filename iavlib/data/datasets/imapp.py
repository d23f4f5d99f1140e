"""IMA++: 14,967 dermoscopic images, 2,394 of them outlined by two to five annotators.

Tables as published in the authors' repository (Abhishek, Kawahara and Hamarneh 2025), with their
addresses and SHA-256. Images and masks that lie beside them are used; absent ones are missing
values. :mod:`iavlib.data.imapp_fetch` downloads these.
"""

import warnings
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pooch
import requests

from iavlib.core.errors import DataError, DatasetUnavailable, FetchError
from iavlib.core.files import check_writable, digest, disk_error, write_text
from iavlib.core.project import data_home
from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_paths, image_size
from iavlib.data.schemas import bare_id, check_known, read_table

#: Files being fetched lie in a folder of this name until they are verified; it is in the folder
#: they are meant for, so that moving a file into place never crosses disks.
STAGING = ".fetching"
IMAPP_COMMIT = "9b20f49"
#: SHA-256 of each published table; the file is a registry of pooch.
_REGISTRY = Path(__file__).with_name("imapp_tables.txt").read_text(encoding="utf-8")
IMAPP_TABLES = dict(line.split() for line in _REGISTRY.splitlines())
# A table may be in either folder of the authors' repository; the hash decides which is right.
IMAPP_URLS = tuple(
    f"https://raw.githubusercontent.com/sfu-mial/IMAplusplus/{IMAPP_COMMIT}/output/{folder}/"
    for folder in ("metrics", "metadata")
)


def imapp_tables_to_fetch() -> list[str]:
    """Return the names of the published IMA++ tables that are absent or damaged here."""
    folder = data_home() / "imapp"
    return [name for name in IMAPP_TABLES if not _is_published(folder / name)]


def fetch_imapp_tables(attempts: int = 3, timeout: float = 30, base_urls=IMAPP_URLS) -> list[Path]:
    """Download the published IMA++ tables that are absent or damaged into the data home.

    Parameters
    ----------
    attempts : int
        Per file and address, with a pause of a second or more between them.
    timeout : float
        Seconds without an answer after which an attempt is given up.
    base_urls : sequence of str
        Addresses to try in turn; each ends with a slash.

    Returns
    -------
    list of pathlib.Path
        The files, all with the published hash.

    Raises
    ------
    FetchError
        If the data home cannot be written, the network is down, or what was sent does not have
        the published hash. Files that were there before are kept.
    """
    folder = data_home() / "imapp"
    for name in imapp_tables_to_fetch():
        check_writable(folder)
        _fetch(folder, name, base_urls, attempts, timeout)
    return [folder / name for name in IMAPP_TABLES]


def _fetch(folder: Path, name: str, base_urls, attempts: int, timeout: float) -> None:
    failures = []
    for base in base_urls:
        registry = {name: f"sha256:{IMAPP_TABLES[name]}"}
        store = pooch.create(folder, base, registry=registry, retry_if_failed=attempts - 1)
        try:
            store.fetch(name, downloader=pooch.HTTPDownloader(timeout=timeout))
            return
        except (requests.ConnectionError, requests.Timeout) as error:
            # The server cannot be reached: another folder of it would not answer either.
            failures.append(f"{base}: {error.__class__.__name__}")
            break
        except (requests.RequestException, ValueError) as error:
            altered = isinstance(error, ValueError) and "hash" in str(error)
            failures.append(f"{base}: {'other content than published' if altered else error}")
        except OSError as error:
            raise disk_error(folder / name, error) from error
    kept = " The file that is there was kept." if (folder / name).exists() else ""
    raise FetchError(
        f"{name} could not be downloaded ({'; '.join(failures)}).{kept} Check the network and run "
        f"'iav data fetch imapp' again, or put the file into {folder} by hand."
    )


def _is_published(path: Path) -> bool:
    return path.is_file() and digest(path) == IMAPP_TABLES[path.name]


METADATA, PAIR_METRICS, IMAGE_METRICS, MULTI_MASKS, MASKS, QA = IMAPP_TABLES
REQUIRED = (METADATA, MASKS, PAIR_METRICS)
RESIZED = "images.csv"
ANNOTATORS = tuple(f"A{number:02d}" for number in range(16))
CONSENSUS = ("MV", "ST")
FETCH = "run 'iav data fetch imapp', which replaces a table that is not as published"

MALIGNANCY = {
    "benign": "benign",
    "malignant": "malignant",
    "indeterminate": "indeterminate",
    "indeterminate/benign": "indeterminate",
    "indeterminate/malignant": "indeterminate",
}
_unit, _name = pa.Check.in_range(0, 1), pa.Column(str)
_factors = {
    "annotator": pa.Column(str, pa.Check.isin(ANNOTATORS + CONSENSUS)),
    "tool": pa.Column(str, pa.Check.isin(("T1", "T2", "T3", *CONSENSUS))),
    "skill_level": pa.Column(str, pa.Check.isin(("S1", "S2", *CONSENSUS))),
}
_OVERLAPS, _DISTANCES = ("dice", "jaccard"), ("hd", "hd95", "assd")
#: Our name of each metric to the published one; metrics that are not published are absent.
PUBLISHED_METRIC = {m: f"{m}_score" for m in (*_OVERLAPS, *_DISTANCES)}
PUBLISHED_METRIC |= {f"{m}_normalized": f"{m}_score_normalized" for m in _DISTANCES}


#: Our name of a column of the metadata to the published one.
_COLUMNS = {
    **{"patient_id": "patient_id", "lesion_id": "lesion_id"},
    **{"width": "pixels_x", "height": "pixels_y", "licence": "copyright_license"},
    **{"sex": "sex", "age": "age_approx", "site": "anatom_site_general"},
}
_unique = pa.Column(str, unique=True)
_DIAGNOSES = [f"diagnosis_{level}" for level in range(1, 6)]
METADATA_SCHEMA = pa.DataFrameSchema(
    {"isic_id": _unique}
    | {"benign_malignant": pa.Column(str, pa.Check.isin(MALIGNANCY), nullable=True)}
    | dict.fromkeys([*_DIAGNOSES, *_COLUMNS.values()], pa.Column(nullable=True))
    | dict.fromkeys(("pixels_x", "pixels_y"), pa.Column(int, pa.Check.ge(1)))
)
MASKS_SCHEMA = pa.DataFrameSchema(
    {"ISIC_id": _name, "seg_filename": _unique, **_factors, "mask_md5": _name}
)
_PAIRS = pa.DataFrameSchema(
    dict.fromkeys(("img_id", "mask1", "mask2"), _name)
    | {f"{factor}{side}": column for side in (1, 2) for factor, column in _factors.items()}
    | {f"{m}_score": pa.Column(float, _unit) for m in _OVERLAPS}
    | {f"{m}_score": pa.Column(float, pa.Check.ge(0), nullable=True) for m in _DISTANCES}
    | {f"{m}_score_normalized": pa.Column(float, _unit) for m in _DISTANCES},
    unique=["mask1", "mask2"],
)
_QA = pa.DataFrameSchema(dict.fromkeys(("image", "mask", "issue", "severity"), _name))
_IMAGE_METRICS = pa.DataFrameSchema({"img_id": _name, "dice_score_mean": pa.Column(float, _unit)})
_GEOMETRY = pa.DataFrameSchema({"isic_id": _unique, "geometry": _name})


def load(folder: Path | None = None) -> Cohort:
    """Load IMA++ from the data home.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Folder of the tables; ``imapp`` in the data home unless given.

    Returns
    -------
    Cohort
        All images and annotators' masks; pairs of the multi-annotator subset. ``extras`` holds
        ``metadata`` (every published column), ``consensus`` (majority-vote and STAPLE masks),
        ``consensus_pairs``, and where present ``qa`` and ``image_level`` as published.

    Raises
    ------
    DatasetUnavailable
        If a required table is absent.
    DataError
        If a table, or an image's size, is not what it should be.
    """
    folder = folder or data_home() / "imapp"
    _check_present(folder)
    metadata = read_table(folder / METADATA, METADATA_SCHEMA, FETCH)
    drawn = read_table(folder / MASKS, MASKS_SCHEMA, FETCH)
    metrics = read_table(folder / PAIR_METRICS, _PAIRS, FETCH)
    _check_references(folder, metadata, drawn, metrics)
    masks = _masks(drawn, folder / "masks")
    by_annotator = ~masks["annotator"].isin(CONSENSUS)
    pairs = _pairs(metrics)
    consensus = pairs["annotator_1"].isin(CONSENSUS) | pairs["annotator_2"].isin(CONSENSUS)
    extras = {
        "metadata": metadata.set_index("isic_id").rename_axis("image_id"),
        "consensus": masks[~by_annotator],
        "consensus_pairs": pairs[consensus].reset_index(drop=True),
        **_optional(folder),
    }
    return Cohort(
        "imapp",
        _images(metadata, folder),
        masks[by_annotator],
        pairs[~consensus].reset_index(drop=True),
        synthetic=False,
        citation=DATASET.citation,
        licence=DATASET.licence,
        source=str(folder),
        extras=extras,
    )


def resized_images(folder: Path) -> pd.DataFrame:
    """Read ``images.csv``: which image files are resized copies, and how they were resized.

    Returns
    -------
    pandas.DataFrame
        Indexed by image id, with the column ``geometry``; empty where there is no such table.
    """
    listing = folder / RESIZED
    if not listing.is_file():
        return pd.DataFrame({"isic_id": [], "geometry": []}, dtype="str").set_index("isic_id")
    hint = "list each image once, as 'squashed to WxH' or 'centre-cropped, WxH'"
    return read_table(listing, _GEOMETRY, hint).set_index("isic_id")


def forget_resized(folder: Path, image_ids: pd.Index) -> None:
    """Remove images from ``images.csv``, because their originals will be downloaded."""
    listing, described = folder / RESIZED, resized_images(folder)
    kept = described[~described.index.isin(image_ids)]
    if kept.empty:
        listing.unlink(missing_ok=True)
    elif len(kept) < len(described):
        write_text(listing, kept.to_csv())


def altered_tables(folder: Path) -> list[str]:
    """Return the names of tables whose content is not the published one."""
    present = [folder / name for name in IMAPP_TABLES if (folder / name).exists()]
    return [path.name for path in present if not _is_published(path)]


def _check_present(folder: Path) -> None:
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        what = f"{folder} lacks {', '.join(missing)}"
        raise DatasetUnavailable("imapp", what, "run 'iav data fetch imapp'")
    altered = altered_tables(folder)
    if altered:
        warnings.warn(
            f"{folder}: {', '.join(altered)} differ from the published tables; results are those "
            f"of your copy. To get the published ones, {FETCH}.",
            stacklevel=3,
        )


def _check_references(folder, metadata, drawn, metrics) -> None:
    known = pd.Index(metadata["isic_id"])
    check_known(bare_id(drawn["ISIC_id"]), known, folder / MASKS, "ISIC_id", FETCH)
    check_known(bare_id(metrics["img_id"]), known, folder / PAIR_METRICS, "img_id", FETCH)
    masks = pd.Index(drawn["seg_filename"])
    for column in ("mask1", "mask2"):
        check_known(metrics[column], masks, folder / PAIR_METRICS, column, FETCH)


def _images(metadata: pd.DataFrame, folder: Path) -> pd.DataFrame:
    diagnosis = metadata[_DIAGNOSES].astype(object)
    columns = {
        "image_id": metadata["isic_id"],
        "malignancy": metadata["benign_malignant"].map(MALIGNANCY).fillna("unknown"),
        "diagnosis": diagnosis.ffill(axis=1).iloc[:, -1],
    }
    columns |= {ours: metadata[theirs] for ours, theirs in _COLUMNS.items()}
    images = pd.DataFrame(columns).set_index("image_id")
    images.insert(0, "path", _paths(folder / "images", images.index, strip=True))
    images.insert(6, "geometry", _geometry(folder, images))
    return images


def _geometry(folder: Path, images: pd.DataFrame) -> pd.Series:
    """Return how each image file relates to its published pixels, and check its size."""
    text = resized_images(folder)["geometry"].reindex(images.index).fillna("original")
    geometry = pd.Series("original", index=images.index)
    geometry = geometry.mask(text.str.contains("squash"), "squashed")
    geometry = geometry.mask(text.str.contains("crop"), "cropped")
    present = images["path"].notna()
    stated = text.str.extract(r"(\d+)x(\d+)").astype(float)
    width = stated[0].where(geometry != "original", images["width"])
    height = stated[1].where(geometry != "original", images["height"])
    _check_sizes(images["path"][present], width, height, folder / RESIZED)
    return geometry


def _check_sizes(paths: pd.Series, width: pd.Series, height: pd.Series, listing: Path) -> None:
    wrong = []
    for image_id, path in paths.items():
        size = image_size(path)
        if size != (width[image_id], height[image_id]):
            expected = f"{width[image_id]:.0f}x{height[image_id]:.0f}"
            wrong.append(f"{path} is {size[0]}x{size[1]}, not {expected}")
    if wrong:
        where = paths.index.name or "images"
        problem = f"{len(wrong)} images have another size than stated: {'; '.join(wrong[:3])}"
        hint = f"put the published files there, or list how they were resized in {listing}"
        raise DataError(where, problem, hint)


def _masks(drawn: pd.DataFrame, folder: Path) -> pd.DataFrame:
    columns = {
        **{"seg_filename": "mask_id", "ISIC_id": "image_id", "annotator": "annotator"},
        **{"tool": "tool", "skill_level": "skill", "mask_md5": "md5"},
    }
    masks = drawn[list(columns)].rename(columns=columns).set_index("mask_id")
    masks["image_id"] = bare_id(masks["image_id"])
    masks.insert(1, "path", _paths(folder, masks.index, strip=False))
    return masks


def _pairs(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rename the published columns and put the two masks of each pair in a fixed order."""
    swap = (metrics["mask1"] > metrics["mask2"]).to_numpy()
    columns = {"image_id": bare_id(metrics["img_id"])}
    sides = {"mask": "mask", "annotator": "annotator", "tool": "tool", "skill": "skill_level"}
    for side, other in ((1, 2), (2, 1)):
        for ours, theirs in sides.items():
            own = metrics[f"{theirs}{side}"]
            columns[f"{ours}_{side}"] = own.mask(swap, metrics[f"{theirs}{other}"])
    return pd.DataFrame(columns | {ours: metrics[name] for ours, name in PUBLISHED_METRIC.items()})


def _optional(folder: Path) -> dict[str, pd.DataFrame]:
    tables = {}
    if (folder / QA).is_file():
        qa = read_table(folder / QA, _QA, FETCH)
        tables["qa"] = qa.assign(image_id=bare_id(qa["image"])).rename(columns={"mask": "mask_id"})
    if (folder / IMAGE_METRICS).is_file():
        level = read_table(folder / IMAGE_METRICS, _IMAGE_METRICS, FETCH)
        level["img_id"] = bare_id(level["img_id"])
        tables["image_level"] = level.set_index("img_id").rename_axis("image_id")
    return tables


def _paths(folder: Path, names: pd.Index, strip: bool) -> pd.Series:
    """Find the file of each name (``strip``: names without suffix); missing where there is none."""
    paths = {path.stem if strip else path.name: str(path) for path in image_paths(folder)}
    return pd.Series(names, index=names).map(paths)


def _notes(folder: Path) -> list[str]:
    notes = [f"{table} differs from the published one" for table in altered_tables(folder)]
    broken = [kind for kind in ("masks", "images") if (folder / kind / STAGING).is_dir()]
    return notes + [f"fetching the {kind} was interrupted or is in progress" for kind in broken]


def _layout(folder: Path) -> Layout:
    files = dict.fromkeys(IMAPP_TABLES, 1) | {"images/*": 14967, "masks/*": 22472}
    return Layout(files, REQUIRED)


DATASET = register_own("imapp", load, layout=_layout, notes=_notes)
