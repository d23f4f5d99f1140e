"""What can be downloaded, from where, and with which SHA-256."""

import hashlib
from pathlib import Path

import pooch
import requests

from iavlib.data.disk import check_writable, disk_error
from iavlib.data.errors import FetchError
from iavlib.data.home import data_home

IMAPP_COMMIT = "9b20f49"
IMAPP_TABLES = {
    "IMAplusplus_img_metadata.csv": (
        "5ebc23efdd91de68cc6df6e04365023f2318de574cc23b585ea64b5a800c6942"
    ),
    "IMAplusplus_multiannotator_subset_IAA_metrics.csv": (
        "997dd325888023e8a9aa258bd662a4ad794b37857a624f41b8f097c794be504c"
    ),
    "IMAplusplus_multiannotator_subset_image_level_metrics.csv": (
        "aff210c8802bd51c4cc6bcebb69ba0279556f4dfab6b1d8bb8b2909717e00809"
    ),
    "IMAplusplus_multiannotator_subset_seg_metadata.csv": (
        "033a3dae5b4c09014b2b4b795b88f202d0e0d56c9fc9fc5560401c9c969903ce"
    ),
    "IMAplusplus_seg_metadata.csv": (
        "e8cfb2f6d9366ab5b06a61883a97798af2a61ef2a714d228674bf40b0ff5c9d0"
    ),
    "IMAplusplus_seg_metadata_qa_results.csv": (
        "c12460ce7745d3b273176d4da200291dc0ae8cfefb8be6438fedd7f787821878"
    ),
}
# A table may stand in either folder of the authors' repository; the hash decides what is right.
IMAPP_URLS = tuple(
    f"https://raw.githubusercontent.com/sfu-mial/IMAplusplus/{IMAPP_COMMIT}/output/{folder}/"
    for folder in ("metrics", "metadata")
)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def imapp_tables_to_fetch() -> list[str]:
    """Return the names of the published IMA++ tables that are absent or damaged here."""
    folder = data_home() / "imapp"
    return [n for n, known in IMAPP_TABLES.items() if not _is_published(folder / n, known)]


def fetch_imapp_tables(attempts: int = 3, timeout: float = 30, base_urls=IMAPP_URLS) -> list[Path]:
    """Download the published IMA++ tables that are absent or damaged into the data home.

    Parameters
    ----------
    attempts : int
        Tries per file and address, with a pause of a second or more between them.
    timeout : float
        Seconds without an answer after which a try is given up.
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
    return [
        _fetch(folder, name, f"sha256:{digest}", base_urls, attempts, timeout)
        for name, digest in IMAPP_TABLES.items()
    ]


def _fetch(folder: Path, name, known_hash, base_urls, attempts, timeout) -> Path:
    target = folder / name
    if _is_published(target, known_hash.removeprefix("sha256:")):
        return target
    check_writable(folder)
    failures = []
    for base in base_urls:
        store = pooch.create(
            folder, base, registry={name: known_hash}, retry_if_failed=attempts - 1
        )
        try:
            downloader = pooch.HTTPDownloader(timeout=timeout)
            return Path(store.fetch(name, downloader=downloader))
        except (requests.ConnectionError, requests.Timeout) as error:
            # The server cannot be reached: another folder of it would not answer either.
            failures.append(f"{base}: {error.__class__.__name__}")
            break
        except (requests.RequestException, ValueError) as error:
            reason = "other content than published" if _is_hash(error) else str(error)
            failures.append(f"{base}: {reason}")
        except OSError as error:
            raise disk_error(target, error) from error
    kept = " The file that is there was kept." if target.exists() else ""
    raise FetchError(
        f"{name} could not be downloaded ({'; '.join(failures)}).{kept} Check the network and run "
        f"'iav data fetch imapp' again, or put the file into {folder} by hand."
    )


def _is_published(path: Path, digest: str) -> bool:
    return path.exists() and sha256(path) == digest


def _is_hash(error: Exception) -> bool:
    return isinstance(error, ValueError) and "hash" in str(error)
