"""Looking into a downloaded archive without trusting it.

Nothing is ever written under a name that the archive chose: members are offered by their base
name, and the caller decides which of them it knows and where they go. An archive that tries
more than that is refused as a whole, before anything is written.
"""

import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from iavlib.data.errors import FetchError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
#: Masks are PNG files, which hardly shrink any more. What unpacks to more than this many times
#: the archive is a bomb.
MOST_UNPACKED = 50
CHUNK = 1 << 18
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
                while chunk := stream.read(CHUNK):
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
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or re.match(r"[A-Za-z]:", name):
        _refuse(path, name, "has an absolute name")
    if ".." in parts:
        _refuse(path, name, "leads outside the folder")
    if "\0" in name:
        _refuse(path, name, "has a name that is none")
    return name


def _refuse(path: Path, name: str, why: str) -> None:
    raise FetchError(
        f"{path}: refused, because its member {name!r} {why}. Nothing was extracted; an archive "
        "like this is not what was published."
    )
