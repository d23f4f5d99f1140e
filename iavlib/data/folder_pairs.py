"""Agreement of a user's masks: measured once, kept until a mask changes."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.data.errors import DataError
from iavlib.data.folder_listing import Listing
from iavlib.data.home import cache_home
from iavlib.data.images import read_mask
from iavlib.data.schemas import FACTORS, METRICS, PAIR_COLUMNS
from iavlib.files import write_text

#: Raise when a metric changes: what an older version measured is measured again.
VERSION = 2


def measured_pairs(listing: Listing, masks: pd.DataFrame) -> pd.DataFrame:
    """Measure every pair of masks of one image, or take what was measured before.

    Parameters
    ----------
    listing : Listing
    masks : pandas.DataFrame
        The cohort's masks, for who drew them and with what.

    Returns
    -------
    pandas.DataFrame
        Pairs table of a cohort.

    Raises
    ------
    DataError
        If a mask cannot be read.
    """
    kept = cache_home() / "folder" / f"{_key(listing)}.csv"
    measured = _read(kept) if kept.is_file() else _measure(listing)
    if not kept.is_file():
        _keep(measured, kept)
    sides = {}
    for side in (1, 2):
        drawn = masks.loc[measured[f"mask_{side}"]]
        sides |= {f"{factor}_{side}": drawn[factor].to_numpy() for factor in FACTORS}
        sides["image_id"] = drawn["image_id"].to_numpy()
    pairs = measured.assign(**sides)
    text = [column for column in PAIR_COLUMNS if column not in METRICS]
    return pairs.astype(dict.fromkeys(text, "str"))[list(PAIR_COLUMNS)]


def _measure(listing: Listing) -> pd.DataFrame:
    # Here and not above: agreement is measured on cohorts, and knows this package.
    from iavlib.agreement.pairwise import image_pairs

    rows = []
    for _, group in listing.rows.groupby("image_id", sort=False):
        masks = {row.mask: _mask(listing, row) for row in group.itertuples()}
        rows += image_pairs(masks)
    return _typed(pd.DataFrame(rows, columns=["mask_1", "mask_2", *METRICS]))


def _mask(listing: Listing, row) -> np.ndarray:
    try:
        return read_mask(row.mask_path)
    except DataError as error:
        raise listing.error([row.Index], f"{error.where}: {error.problem}", error.mend) from None


def _key(listing: Listing) -> str:
    """Digest which masks belong to which image, and the size and time of each file."""
    digest = hashlib.sha256(f"{VERSION}\n".encode())
    for row in listing.rows.itertuples():
        facts = os.stat(row.mask_path)
        line = (row.image_id, row.mask, row.mask_path, facts.st_size, facts.st_mtime_ns)
        digest.update(f"{line!r}\n".encode())
    return digest.hexdigest()[:16]


def _read(kept: Path) -> pd.DataFrame:
    # Read as text: numbers are then the very ones that were written, and names stay names.
    return _typed(pd.read_csv(kept, dtype="str", keep_default_na=False, na_values=[""]))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"mask_1": "str", "mask_2": "str"} | dict.fromkeys(METRICS, float))


def _keep(measured: pd.DataFrame, kept: Path) -> None:
    try:
        write_text(kept, measured.to_csv(index=False))
    except OSError as error:
        warnings.warn(
            f"{kept}: agreement could not be kept ({error.strerror}) and is measured anew each "
            "time. Set IAV_CACHE_HOME to a writable folder.",
            stacklevel=3,
        )
