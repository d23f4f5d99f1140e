"""The files of a Zenodo record, with the sizes and hashes that Zenodo states.

The form of the record's JSON was read from public descriptions of Zenodo's interface and from
programs that use it, in the forms of before, during and after its change of software in October
2023; it could not be tried against Zenodo itself. What differs from it is told as such.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from iavlib.data.download import RemoteFile, fetch_json
from iavlib.data.errors import FetchError

API = "https://zenodo.org/api"


def record_files(
    record: str, attempts: int = 5, timeout: float = 30, api: str | None = None
) -> list[RemoteFile]:
    """List the files of a record.

    Parameters
    ----------
    record : str
        Number of the record: the digits at the end of the DOI of one version.
    attempts, timeout
        As :func:`iavlib.data.download.download`.
    api : str, optional
        Address of the interface, without a slash at its end; Zenodo's unless given.

    Returns
    -------
    list of RemoteFile

    Raises
    ------
    FetchError
        If Zenodo cannot be reached, or its answer lacks what is needed.
    """
    url = f"{api or API}/records/{record}"
    answer = fetch_json(url, attempts, timeout)
    entries = answer.get("files")
    if isinstance(entries, dict):
        entries = entries.get("entries")
    if isinstance(entries, dict):
        entries = list(entries.values())
    if not isinstance(entries, list) or not entries:
        raise FetchError(f"{url} lists no files: is the record public, and its number right?")
    return [_file(entry, url) for entry in entries]


def _file(entry: dict, url: str) -> RemoteFile:
    name = _first(entry, url, "key", "filename")
    size = _first(entry, url, "size", "filesize")
    checksum = _first(entry, url, "checksum")
    md5 = re.fullmatch(r"(?:md5:)?([0-9a-f]{32})", str(checksum).lower())
    if name != PurePosixPath(name).name or "\\" in name or name.startswith("."):
        raise FetchError(f"{url} lists a file with the name {name!r}, which is no plain name.")
    if not isinstance(size, int) or size < 0 or md5 is None:
        raise FetchError(f"{url}: {name} has size {size!r} and checksum {checksum!r}, not an MD5.")
    links = entry.get("links") or {}
    # "self" has meant the file's content, and for a while its description.
    link = links.get("content") or links.get("download") or links.get("self")
    return RemoteFile(name, link or f"{url}/files/{quote(name)}/content", size, md5[1])


def _first(entry: dict, url: str, *keys: str):
    for key in keys:
        if key in entry:
            return entry[key]
    raise FetchError(f"{url}: a file has no {' or '.join(keys)}; Zenodo's answer has changed.")
