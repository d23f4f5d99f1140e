"""Your own masks: a table ``masks.csv`` beside its files becomes a cohort.

The table is described in :mod:`iavlib.data.folder_listing`. Agreement is measured when the folder
is first loaded, and kept in the cache until a mask changes.
"""

import warnings
from pathlib import Path

import pandas as pd

from iavlib.data.cohort import Cohort
from iavlib.data.errors import DataError
from iavlib.data.folder_listing import Listing, read_listing
from iavlib.data.folder_pairs import measured_pairs
from iavlib.data.images import image_size


def load(path: str | Path = "") -> Cohort:
    """Load a user's own masks.

    Parameters
    ----------
    path : str or pathlib.Path
        The table, or its folder when the table is called ``masks.csv``.

    Returns
    -------
    Cohort
        Missing values where there is no image file, and where the table tells no tool, skill,
        patient or lesion. Width and height are those of the image file, else of the masks.

    Raises
    ------
    DatasetUnavailable
        If no path is given, or there is no table.
    DataError
        If the table or a file is not what it should be: naming the line, the file and the mend.
    """
    listing = read_listing(path)
    if lost := listing.lost_images:
        warnings.warn(
            f"{listing.path}: {len(lost)} image files are missing, first {lost[0]}; their masks "
            "are used without them.",
            stacklevel=3,
        )
    sizes = _sizes(listing)
    masks = _masks(listing)
    return Cohort(
        name="folder",
        images=_images(listing, sizes),
        masks=masks,
        pairs=measured_pairs(listing, masks),
        synthetic=False,
        # Shown on pages that may be published: which table it was, and not where on whose disk.
        citation=f"Your own masks ({listing.path.parent.name}/{listing.path.name})",
        licence="not stated",
        source=str(listing.path),
    )


def files(path: str | Path = "") -> list[Path]:
    """Return the table and every file that it names, whether it exists or not.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`load`, for what the table alone tells.
    """
    listing = read_listing(path)
    named = [*listing.rows["mask_path"], *listing.rows["image_path"].dropna()]
    return [listing.path, *map(Path, dict.fromkeys(named))]


def _masks(listing: Listing) -> pd.DataFrame:
    columns = {"image_id": "image_id", "mask_path": "path"}
    columns |= {name: name for name in ("annotator", "tool", "skill")}
    rows = listing.rows.set_index("mask").rename_axis("mask_id")
    return rows[list(columns)].rename(columns=columns)


def _images(listing: Listing, sizes: pd.DataFrame) -> pd.DataFrame:
    """Sum up the rows of each image; they were checked not to contradict each other."""
    rows = listing.rows.assign(malignancy=listing.rows["malignancy"].replace("unknown", None))
    first = rows.groupby("image_id", sort=False).first()
    unknown = pd.Series(None, index=first.index, dtype="str")
    return pd.DataFrame(
        {
            "path": first["image_path"],
            "malignancy": first["malignancy"].fillna("unknown"),
            "diagnosis": unknown,
            "patient_id": first["patient"],
            "lesion_id": first["lesion"],
            "width": sizes["width"],
            "height": sizes["height"],
            "geometry": "original",
            "licence": unknown,
            "sex": unknown,
            "age": pd.Series(float("nan"), index=first.index),
            "site": unknown,
        }
    )


def _sizes(listing: Listing) -> pd.DataFrame:
    """Read width and height of each image from its file and its masks, which must agree.

    Every file is opened here, though not decoded, so that a missing one is told of before
    anything is measured.
    """
    sizes = {}
    for image_id, group in listing.rows.groupby("image_id", sort=False):
        found = {_size(listing, row, group["mask_path"][row]): row for row in group.index[::-1]}
        image = group["image_path"].dropna()
        if len(image):
            found.setdefault(_size(listing, image.index[0], image.iloc[0]), image.index[0])
        if len(found) > 1:
            told = " and ".join(f"{width}x{height}" for width, height in found)
            raise listing.error(
                sorted(found.values()),
                f"image {image_id} has masks, or a mask and an image, of sizes {told}",
                "give all files of an image one size; take away an image file that is a smaller "
                "copy, or enlarge it",
            )
        sizes[image_id] = next(iter(found))
    table = pd.DataFrame.from_dict(sizes, orient="index", columns=["width", "height"])
    return table.rename_axis("image_id")


def _size(listing: Listing, row: int, path: str) -> tuple[int, int]:
    try:
        return image_size(path)
    except DataError as error:
        problem, mend = f"{path}: {error.problem}", "put it there or correct its name in the table"
        raise listing.error([row], problem, mend) from None
