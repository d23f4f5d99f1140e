"""Downloads: large files with resumption, the files of a Zenodo record, and archives.

pooch, which fetches tables, restarts an interrupted download from the beginning; for a file of
hundreds of megabytes only the missing bytes are requested (HTTP Range), and a download is accepted
only if its length and MD5 are those stated.

Nothing is ever written under a name that an archive chose: members are offered by their base name,
and the caller decides which of them to write, and where. An archive with an unsafe member is
refused as a whole, before anything is written.
"""

import gzip
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
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import requests
from pooch.downloaders import ZenodoRepository

from iavlib.core.errors import FetchError
from iavlib.core.files import digest, megabytes, writing

#: Small, because the chunk that is being read is lost when the connection breaks.
CHUNK = 1 << 14
BUSY = (408, 425, 429, 500, 502, 503, 504)
MAX_PAUSE = 60
REPORT_EVERY = 10
Log = Callable[[str], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name, address, length in bytes and MD5 (hexadecimal)."""

    name: str
    url: str
    size: int
    md5: str


class _Interrupted(Exception):
    """An attempt failed in a way that another may repair; not an OSError, which is the disk's."""

    def __init__(self, reason: str, pause: float | None = None):
        self.pause = pause
        super().__init__(reason)


def download(
    file: RemoteFile,
    folder: Path,
    attempts: int = 5,
    timeout: float = 30,
    log: Log = lambda text: None,
) -> Path:
    """Download a file, continuing from what an earlier run left in ``<name>.part``.

    Parameters
    ----------
    file : RemoteFile
    folder : pathlib.Path
        Exists and is writable.
    attempts : int
        Consecutive attempts that bring less than a hundredth of the file before giving up.
    timeout : float
        Seconds without data after which an attempt is given up.
    log : callable
        Receives a line on the progress now and then.

    Returns
    -------
    pathlib.Path
        The file, with the stated length and MD5.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, keeps breaking off or sends something else, or
        the disk fails. Bytes received stay in the ``.part`` file, unless they are known to be
        wrong.
    """
    target, part = folder / file.name, part_of(file, folder)
    if is_whole(file, target):
        return target
    best, failures = _size(part), 0
    while True:
        try:
            _continue(file, part, timeout, log)
            break
        except _Interrupted as error:
            reached = _size(part)
            # Measured against the furthest point ever reached: a server that restarts each time
            # makes no progress, however much it sends, and the number of attempts stays bounded.
            failures = 1 if reached - best >= max(1, file.size // 100) else failures + 1
            best = max(best, reached)
            if failures >= attempts:
                kept = f" The {megabytes(reached)} that came are kept." if reached else ""
                raise FetchError(
                    f"{file.name} could not be downloaded: {error}.{kept} Run the same command "
                    "again later."
                ) from error
            _pause(error.pause or min(2 ** (failures - 1), MAX_PAUSE))
    with writing(target):
        os.replace(part, target)
    return target


def part_of(file: RemoteFile, folder: Path) -> Path:
    """Return the file that holds what has been downloaded so far."""
    return folder / f"{file.name}.part"


def is_whole(file: RemoteFile, path: Path) -> bool:
    """Return whether a file on disk has the stated length and MD5."""
    return _size(path) == file.size and path.is_file() and digest(path, "md5") == file.md5


def downloaded(file: RemoteFile, folder: Path) -> int:
    """Return how many bytes of a file are here already."""
    whole = is_whole(file, folder / file.name)
    return file.size if whole else min(_size(part_of(file, folder)), file.size)


def throttled(log: Log, seconds: float) -> Log:
    """Return a log that passes on at most one line in so many seconds."""
    last = time.monotonic()

    def report(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            last = time.monotonic()
            log(text)

    return report


def record_files(record: str, timeout: float = 30) -> list[RemoteFile]:
    """List the files of a Zenodo record, with the sizes and MD5s that Zenodo states.

    Parameters
    ----------
    record : str
        Number of the record: the digits at the end of the DOI of one version.
    timeout : float
        Seconds.

    Raises
    ------
    FetchError
        If Zenodo cannot be reached, or its answer lacks what is needed.
    """
    doi = f"10.5281/zenodo.{record}"
    zenodo = ZenodoRepository(doi, f"https://zenodo.org/records/{record}", timeout=timeout)
    try:
        files = [_remote(entry, zenodo) for entry in zenodo.api_response["files"]]
    except (requests.ConnectionError, requests.Timeout) as error:
        raise FetchError(f"{doi}: {failure(error)}. Check the network and try again.") from None
    except (requests.RequestException, LookupError, TypeError, ValueError, AttributeError) as error:
        raise FetchError(
            f"{doi}: Zenodo's answer lists no files as expected ({error!r}); try again later, or "
            f"download them from https://doi.org/{doi} by hand."
        ) from None
    if not files:
        raise FetchError(f"{doi} lists no files: is the record public?")
    return files


def _remote(entry: dict, zenodo: ZenodoRepository) -> RemoteFile:
    name = entry["key"] if "key" in entry else entry["filename"]
    size = entry["size"] if "size" in entry else entry["filesize"]
    md5 = entry["checksum"].removeprefix("md5:").lower()
    if name != PurePosixPath(name).name or "\\" in name or name.startswith("."):
        raise ValueError(f"file name {name!r}")
    if not isinstance(size, int) or not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ValueError(f"{name}: size {size!r}, checksum {md5!r}")
    return RemoteFile(name, zenodo.download_url(name), size, md5)


def _continue(file: RemoteFile, part: Path, timeout: float, log: Log) -> None:
    """Append what is missing and verify it; raise :class:`_Interrupted` if it stays incomplete."""
    have = _size(part)
    if have > file.size:
        have = _discard(part)
    if have < file.size or not have:
        # Compressed in transit, neither the length nor the offset would be that of the file.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with _request(file.url, headers, timeout) as response:
            start = _first_byte(response, have, part)
            with writing(part), open(part, "ab") as stream:
                stream.truncate(start)
                for chunk in _chunks(response, file, start, part, log):
                    stream.write(chunk)
        if _size(part) < file.size:
            raise _Interrupted(f"the server ended after {_size(part):,} of {file.size:,} bytes")
    if digest(part, "md5") != file.md5:
        _discard(part)
        raise _Interrupted("what was sent does not have the stated MD5")


def _request(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    try:
        response = requests.get(url, headers=headers, timeout=timeout, stream=True)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Interrupted(failure(error)) from None
    except requests.RequestException as error:
        raise FetchError(f"{url}: {error}") from None
    status = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in BUSY:
        response.close()
        # Seconds that a busy server asks for; it may also give a date, which is ignored.
        seconds = response.headers.get("Retry-After", "")
        raise _Interrupted(status, min(int(seconds), MAX_PAUSE) if seconds.isdigit() else None)
    # 416: there is nothing after the bytes that we have; _first_byte handles it.
    if response.status_code not in (200, 206, 416):
        response.close()
        raise FetchError(f"{url}: {status}. Has it moved?")
    return response


def _first_byte(response: requests.Response, have: int, part: Path) -> int:
    """Return at which byte the answer begins; servers may ignore the requested range."""
    if response.status_code == 200:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if response.status_code == 416 or given is None or int(given[1]) > have:
        _discard(part)
        raise _Interrupted(f"the server cannot continue from byte {have:,}")
    return int(given[1])


def _chunks(response, file: RemoteFile, start: int, part: Path, log: Log) -> Iterator[bytes]:
    done, report = start, throttled(log, REPORT_EVERY)
    try:
        for chunk in response.iter_content(CHUNK):
            done += len(chunk)
            if done > file.size:
                _discard(part)
                raise _Interrupted(f"the server sends more than the {file.size:,} bytes stated")
            yield chunk
            report(f"{file.name}: {megabytes(done)} of {megabytes(file.size)}")
    except requests.RequestException as error:
        raise _Interrupted(failure(error)) from None


def _discard(part: Path) -> int:
    with writing(part):
        part.unlink(missing_ok=True)
    return 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def failure(error: Exception) -> str:
    """Describe in a few words why a request failed."""
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server stopped sending"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return f"the server cannot be reached ({type(error).__name__})"
    return str(error)


def _pause(seconds: float) -> None:
    time.sleep(seconds)


ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Masks are PNG files, which hardly shrink; an archive that unpacks to more than this many times
#: its size is refused.
MAX_EXPANSION = 50
_ARCHIVE_CHUNK = 1 << 18
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile),
    # unknown compression, a password, truncation, offsets that lie outside
    *(OSError, NotImplementedError, RuntimeError, EOFError, ValueError, IndexError, KeyError),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes
    ----------
    name : str
        Its base name, without folders.
    path : str
        Its name with folders, none of which leads outside.
    size : int
        Bytes that it states to unpack to.
    open : callable
        Returns a binary stream.
    """

    name: str
    path: str
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
                while done <= self.size and (chunk := stream.read(_ARCHIVE_CHUNK)):
                    done += len(chunk)
                    yield chunk
        except _DAMAGED as error:
            raise FetchError(f"{self.name}: damaged in the archive ({error}).") from error
        if done != self.size:
            raise FetchError(f"{self.name}: unpacks to another size than the archive states.")


@contextmanager
def open_archive(path: Path, max_expansion: int = MAX_EXPANSION) -> Iterator[list[Member]]:
    """Open a zip or tar archive and list its files.

    Parameters
    ----------
    path : pathlib.Path
    max_expansion : int
        An archive that unpacks to more than this many times its size is refused.

    Yields
    ------
    list of Member
        In the archive's order; readable until the context ends.

    Raises
    ------
    FetchError
        If it is not a readable archive, or a member has an absolute name, leads outside the
        folder, is a link, a device or encrypted, or if all together unpack to far more than an
        archive of images of this length can hold.
    """
    try:
        archive = (zipfile.ZipFile if zipfile.is_zipfile(path) else tarfile.TarFile.open)(path)
    except _DAMAGED as error:
        raise FetchError(f"{path}: no readable zip or tar archive ({error}).") from error
    with archive:
        try:
            entries = list(_members(archive))
        except _DAMAGED as error:
            raise FetchError(f"{path}: damaged ({error}).") from error
        refused = [f"its member {n!r} {why}" for n, kind, _ in entries if (why := _unsafe(n, kind))]
        members = [member for _, kind, member in entries if kind == "file"]
        unpacked, packed = sum(member.size for member in members), path.stat().st_size
        if unpacked > max_expansion * packed:
            refused.append(f"{packed:,} bytes would unpack to {unpacked:,}")
        if refused:
            raise FetchError(
                f"{path}: refused, because {refused[0]}. Nothing was extracted; get the archive "
                "again from its source."
            )
        yield members


def _members(archive: zipfile.ZipFile | tarfile.TarFile) -> Iterator[tuple[str, str, Member]]:
    """List the stored name of each member and its kind: file, folder, or what makes it unsafe."""
    if isinstance(archive, tarfile.TarFile):
        for info in archive:
            kind = "a link" if info.issym() or info.islnk() else "no ordinary file"
            kind = "folder" if info.isdir() else "file" if info.isreg() else kind
            name, read = PurePosixPath(info.name).name, partial(archive.extractfile, info)
            yield info.name, kind, Member(name, info.name, info.size, read)
        return
    # A zip made on Windows states no mode at all.
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "file", stat.S_IFLNK: "a link"}
    for info in archive.infolist():
        kind = kinds.get(stat.S_IFMT(info.external_attr >> 16), "no ordinary file")
        kind = "folder" if kind == "file" and info.is_dir() else kind
        name, read = PurePosixPath(info.filename).name, partial(archive.open, info)
        # orig_filename still has what zipfile has replaced in the name.
        kind = "encrypted" if info.flag_bits & 1 else kind
        path = info.filename.replace("\\", "/")  # some programs write Windows' paths
        yield info.orig_filename, kind, Member(name, path, info.file_size, read)


def _unsafe(name: str, kind: str) -> str:
    """Return what is wrong with a member; empty if nothing is."""
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in parts:
        return "leads outside the folder"
    if "\0" in name:
        return "has an invalid name"
    return "" if kind in ("file", "folder") else f"is {kind}"
