"""Downloading one large file so that a broken line costs only what is still missing.

pooch, which fetches the tables, starts a broken download again from nothing; for a file of
hundreds of megabytes the rest is asked for instead (HTTP Range), and what came is believed only
when its length and MD5 are the stated ones.

Looking into a downloaded archive without trusting it.

Nothing is ever written under a name that the archive chose: members are offered by their base
name, and the caller decides which of them it knows and where they go. An archive that tries
more than that is refused as a whole, before anything is written.

The files of a Zenodo record, with the sizes and hashes that Zenodo states.

The form of the record's JSON was read from public descriptions of Zenodo's interface and from
programs that use it, in the forms of before, during and after its change of software in October
2023; it could not be tried against Zenodo itself. What differs from it is told as such.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

import requests

from iavlib.core.disk import megabytes, writing
from iavlib.core.errors import FetchError

#: Small, because of a broken-off answer the chunk that was being read is lost.
CHUNK = 1 << 14
BUSY = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 60
REPORT_EVERY = 10
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name, address, length in bytes and MD5 (hexadecimal)."""

    name: str
    url: str
    size: int
    md5: str


class _Broken(Exception):
    """One try failed in a way that another try may mend; no OSError, which is the disk's."""

    def __init__(self, reason: str, pause: float | None = None):
        self.pause = pause
        super().__init__(reason)


def download(
    file: RemoteFile,
    folder: Path,
    attempts: int = 5,
    timeout: float = 30,
    tell: Tell = lambda text: None,
) -> Path:
    """Download a file, going on from what an earlier run left in ``<name>.part``.

    Parameters
    ----------
    file : RemoteFile
    folder : pathlib.Path
        Exists and can be written.
    attempts : int
        Tries in a row that bring less than a hundredth of the file before giving up.
    timeout : float
        Seconds of silence after which a try is given up.
    tell : callable
        Takes a line now and then on how far it is.

    Returns
    -------
    pathlib.Path
        The file, with the stated length and MD5.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, keeps breaking off or sends something else, or
        the disk fails. What came stays in the ``.part`` file, unless it is known to be wrong.
    """
    target, subset = folder / file.name, part_of(file, folder)
    if is_whole(file, target):
        return target
    best, failures = _size(subset), 0
    while True:
        try:
            _continue(file, subset, timeout, tell)
            _verify(file, subset)
            break
        except _Broken as broken:
            reached = _size(subset)
            # Measured against the furthest point ever reached: a server that starts anew each
            # time brings nothing, however much it sends, and the number of tries stays bounded.
            failures = 1 if reached - best >= max(1, file.size // 100) else failures + 1
            best = max(best, reached)
            if failures >= attempts:
                raise FetchError(_gave_up(file, broken, reached)) from broken
            _pause(broken.pause or min(2 ** (failures - 1), LONGEST_PAUSE))
    with writing(target):
        os.replace(subset, target)
    return target


def part_of(file: RemoteFile, folder: Path) -> Path:
    """Name the file that holds what has come so far."""
    return folder / f"{file.name}.part"


def is_whole(file: RemoteFile, path: Path) -> bool:
    """Say whether a file on disk has the stated length and MD5."""
    return _size(path) == file.size and path.is_file() and md5_of(path) == file.md5


def md5_of(path: Path) -> str:
    """Return the MD5 of a file as 32 hexadecimal digits (published hashes are MD5)."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch_json(url: str, attempts: int = 5, timeout: float = 30) -> dict:
    """Get a JSON object, asking again when the server is busy or silent.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, or answers with something else.
    """
    failures = 0
    while True:
        try:
            with _ask(url, {"Accept": "application/json"}, timeout) as response:
                answer = response.json()
            break
        except requests.JSONDecodeError:
            raise FetchError(f"{url} answered with something that is no JSON.") from None
        except (_Broken, requests.RequestException) as error:
            failures += 1
            broken = error if isinstance(error, _Broken) else _Broken(_reason(error))
            if failures >= attempts:
                raise FetchError(f"{url}: {broken}. Check the network and try again.") from None
            _pause(broken.pause or min(2 ** (failures - 1), LONGEST_PAUSE))
    if not isinstance(answer, dict):
        raise FetchError(f"{url} answered with JSON that is no object.")
    return answer


def _continue(file: RemoteFile, subset: Path, timeout: float, tell: Tell) -> None:
    """Append what is missing; raise :class:`_Broken` when the part is still not full."""
    have = _size(subset)
    if have > file.size:
        _discard(subset)
        have = 0
    if have == file.size and have:
        return
    # Compressed in transit, neither the length nor the offset would be that of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _ask(file.url, headers, timeout) as response:
        start = _start(response, have, subset)
        with writing(subset), open(subset, "ab") as stream:
            stream.truncate(start)
            for chunk in _chunks(response, file, start, subset, tell):
                stream.write(chunk)
    if _size(subset) < file.size:
        raise _Broken(f"the server ended after {_size(subset):,} of {file.size:,} bytes")


def _ask(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    try:
        response = requests.get(url, headers=headers, timeout=timeout, stream=True)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Broken(_reason(error)) from None
    except requests.RequestException as error:
        raise FetchError(f"{url}: {error}") from None
    if response.status_code in BUSY:
        response.close()
        raise _Broken(_status(response), _retry_after(response))
    # 416: there is nothing after the bytes that we have; said by _start.
    if response.status_code not in (200, 206, 416):
        response.close()
        raise FetchError(f"{url}: {_status(response)}. Has it moved?")
    return response


def _start(response: requests.Response, have: int, subset: Path) -> int:
    """Tell at which byte the answer begins; servers may ignore the range that was asked for."""
    if response.status_code == 200:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if response.status_code == 416 or given is None or int(given[1]) > have:
        _discard(subset)
        raise _Broken(f"the server cannot go on from byte {have:,}")
    return int(given[1])


def _chunks(response, file: RemoteFile, start: int, subset: Path, tell: Tell) -> Iterator[bytes]:
    done, told = start, time.monotonic()
    try:
        for chunk in response.iter_content(CHUNK):
            done += len(chunk)
            if done > file.size:
                _discard(subset)
                raise _Broken(f"the server sends more than the {file.size:,} bytes stated")
            yield chunk
            if time.monotonic() - told > REPORT_EVERY:
                told = time.monotonic()
                tell(f"{file.name}: {megabytes(done)} of {megabytes(file.size)}")
    except requests.RequestException as error:
        raise _Broken(_reason(error)) from None


def _verify(file: RemoteFile, subset: Path) -> None:
    if md5_of(subset) != file.md5:
        _discard(subset)
        raise _Broken("what was sent does not have the stated MD5")


def _discard(subset: Path) -> None:
    with writing(subset):
        subset.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server fell silent"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return f"the server cannot be reached ({type(error).__name__})"


def _status(response: requests.Response) -> str:
    return f"the server answers {response.status_code} {response.reason}"


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a busy server asks for, within reason; None where it gives none, or a date."""
    text = response.headers.get("Retry-After", "")
    return float(min(int(text), LONGEST_PAUSE)) if text.isdigit() else None


def _gave_up(file: RemoteFile, broken: _Broken, reached: int) -> str:
    kept = f" The {megabytes(reached)} that came are kept." if reached else ""
    return f"{file.name} could not be downloaded: {broken}.{kept} Run the same command again later."


def _pause(seconds: float) -> None:
    time.sleep(seconds)


ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Masks are PNG files, which hardly shrink any more. What unpacks to more than this many times
#: the archive is a bomb.
MOST_UNPACKED = 50
_ARCHIVE_CHUNK = 1 << 18
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    # unknown compression, a password, the end in the middle
    *(NotImplementedError, RuntimeError, EOFError, ValueError),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes
    ----------
    name : str
        Its base name, without folders.
    size : int
        Bytes it says it unpacks to.
    open : callable
        Gives a binary stream.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def chunks(self) -> Iterator[bytes]:
        """Read the member in pieces, never more than its stated size.

        Raises
        ------
        FetchError
            If it is damaged or does not have the stated size.
        """
        done = 0
        try:
            with self.open() as stream:
                while chunk := stream.read(_ARCHIVE_CHUNK):
                    done += len(chunk)
                    if done > self.size:
                        break
                    yield chunk
        except _DAMAGED as error:
            raise FetchError(f"{self.name}: damaged in the archive ({error}).") from error
        if done != self.size:
            raise FetchError(f"{self.name}: unpacks to another size than the archive states.")


@contextmanager
def open_archive(path: Path) -> Iterator[list[Member]]:
    """Open a zip or tar archive and list its files.

    Parameters
    ----------
    path : pathlib.Path

    Yields
    ------
    list of Member
        In the archive's order; readable until the context ends.

    Raises
    ------
    FetchError
        If it is no readable archive, or a member has an absolute name, leads outside the folder,
        is a link, a device or encrypted, or if all together unpack to far more than an archive
        of this length can hold of images.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        archive = zipfile.ZipFile(path) if zipped else tarfile.TarFile.open(path)
    except _DAMAGED as error:
        raise FetchError(f"{path}: no readable zip or tar archive ({error}).") from error
    with archive:
        entries = _zipped(archive) if isinstance(archive, zipfile.ZipFile) else _tarred(archive)
        try:
            found = [(_checked(name, path), kind, member) for name, kind, member in entries]
        except _DAMAGED as error:
            raise FetchError(f"{path}: damaged ({error}).") from error
        for name, kind, _ in found:
            if kind not in ("file", "folder"):
                _refuse(path, name, f"is {kind}")
        members = [member for _, kind, member in found if kind == "file"]
        unpacked, packed = sum(member.size for member in members), path.stat().st_size
        if unpacked > MOST_UNPACKED * packed:
            raise FetchError(
                f"{path}: refused, because {packed:,} bytes would unpack to {unpacked:,}. "
                "Nothing was extracted."
            )
        yield members


def _zipped(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, Member]]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        member = Member(
            PurePosixPath(info.filename).name,
            info.file_size,
            lambda info=info: archive.open(info),
        )
        # A zip made on Windows states no mode at all.
        special = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
        if info.flag_bits & 1:
            kind = "encrypted"
        elif special:
            kind = "a link" if stat.S_ISLNK(mode) else "no ordinary file"
        else:
            kind = "folder" if info.is_dir() else "file"
        # orig_filename still has what zipfile has mended in the name.
        yield info.orig_filename, kind, member


def _tarred(archive: tarfile.TarFile) -> Iterator[tuple[str, str, Member]]:
    for info in archive:
        member = Member(
            PurePosixPath(info.name).name, info.size, lambda info=info: archive.extractfile(info)
        )
        if info.issym() or info.islnk():
            kind = "a link"
        elif info.isdir():
            kind = "folder"
        else:
            kind = "file" if info.isreg() else "no ordinary file"
        yield info.name, kind, member


def _checked(name: str, path: Path) -> str:
    subsets = re.split(r"[/\\]", name)
    if subsets[0] == "" or re.match(r"[A-Za-z]:", name):
        _refuse(path, name, "has an absolute name")
    if ".." in subsets:
        _refuse(path, name, "leads outside the folder")
    if "\0" in name:
        _refuse(path, name, "has a name that is none")
    return name


def _refuse(path: Path, name: str, why: str) -> None:
    raise FetchError(
        f"{path}: refused, because its member {name!r} {why}. Nothing was extracted; an archive "
        "like this is not what was published."
    )


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
