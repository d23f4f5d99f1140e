"""The masks of IMA++: an archive on Zenodo, and an MD5 for each mask in the published table.

Zenodo's record could not be reached while this was written. That it holds the masks as archives
whose members have the names of the table is known from programs that use it; which archives, how
large and with which hash is taken from the record itself each time.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from iavlib.data.archive import ENDINGS, Member, open_archive
from iavlib.data.disk import STAGING, check_room, check_writable, only_one, writing
from iavlib.data.download import RemoteFile, Tell, download, is_whole, md5_of, part_of
from iavlib.data.errors import DataError, FetchError
from iavlib.data.fetching import Fetched, Need, check_needs
from iavlib.data.home import data_home
from iavlib.data.imapp import FETCH, MASKS, MASKS_SCHEMA
from iavlib.data.tables import read_table
from iavlib.data.zenodo import record_files

RECORD = "14201693"  # version DOI 10.5281/zenodo.14201693
#: Room a file takes beyond its length, at most: it fills whole blocks of the disk.
BLOCK = 4096


@dataclass(frozen=True)
class MaskPlan:
    """Which masks are missing, and the archives that hold them."""

    hashes: pd.Series
    verified: frozenset[str]
    archives: list[RemoteFile]
    folder: Path

    @property
    def staging(self) -> Path:
        """Folder of what is being downloaded and unpacked."""
        return self.folder / STAGING

    @cached_property
    def need(self) -> Need:
        """What the fetch takes; unpacked masks are taken to be as large as packed ones."""
        todo = len(self.hashes) - len(self.verified)
        missing = sum(file.size - _have(file, self.staging) for file in self.archives)
        packed = sum(file.size for file in self.archives)
        unpacked = int(packed * todo / len(self.hashes)) + BLOCK * todo
        return Need("masks", todo, len(self.hashes), missing, missing + unpacked, self.folder)


def plan_masks(attempts: int = 5, timeout: float = 30, api: str | None = None) -> MaskPlan:
    """Find out which masks are missing and what getting them takes; writes nothing.

    Parameters
    ----------
    attempts, timeout
        As :func:`iavlib.data.download.download`.
    api : str, optional
        Address of Zenodo's interface, for tests.

    Raises
    ------
    DataError
        If the published table of masks is missing or wrong.
    FetchError
        If masks are missing and Zenodo cannot be asked, or has no archive.
    """
    home = data_home() / "imapp"
    hashes = mask_hashes(home / MASKS)
    verified = _verified(home / "masks", hashes)
    archives = []
    if len(verified) < len(hashes):
        files = record_files(RECORD, attempts, timeout, api)
        archives = [file for file in files if file.name.lower().endswith(ENDINGS)]
        if not archives:
            raise FetchError(
                f"Zenodo's record {RECORD} holds no archive of masks, only "
                f"{', '.join(file.name for file in files)}."
            )
    return MaskPlan(hashes, verified, archives, home / "masks")


def fetch_masks(
    plan: MaskPlan, attempts: int = 5, timeout: float = 30, tell: Tell = lambda text: None
) -> Fetched:
    """Download and unpack the masks that are missing, each verified by its published MD5.

    A mask is unpacked beside its place and moved there only when its MD5 is right; a good one is
    never replaced and never unpacked twice. The archive is removed when all masks are right, and
    kept otherwise.

    Parameters
    ----------
    plan : MaskPlan
    attempts, timeout, tell
        As :func:`iavlib.data.download.download`.

    Raises
    ------
    FetchError
        If the download fails, the archive is damaged or unsafe, or the disk is full or read-only.
    """
    if not plan.archives:
        return _report(plan, set(plan.verified), set())
    check_needs([plan.need])
    with only_one(plan.folder.parent):
        check_writable(plan.staging)
        verified, different = set(plan.verified), set()
        for file in plan.archives:
            path = download(file, plan.staging, attempts, timeout, tell)
            _extract(path, plan, verified, different, tell)
        report = _report(plan, verified, different)
        if report.complete:
            _clear(plan.staging)
    return report


def mask_hashes(table: Path) -> pd.Series:
    """Read the published MD5 of each mask, indexed by file name.

    Raises
    ------
    DataError
        If the table is missing or wrong, or a name in it is no plain file name.
    """
    drawn = read_table(table, MASKS_SCHEMA, FETCH)
    names = drawn["seg_filename"]
    odd = names[names.str.contains(r"[/\\]") | names.str.startswith(".")]
    if len(odd):
        raise DataError(table, f"{odd.iloc[0]!r} is no plain file name", FETCH)
    return drawn.set_index("seg_filename")["mask_md5"].str.lower()


def _verified(folder: Path, hashes: pd.Series) -> frozenset[str]:
    if not folder.is_dir():
        return frozenset()
    present = [e.name for e in os.scandir(folder) if e.is_file() and e.name in hashes.index]
    return frozenset(name for name in present if md5_of(folder / name) == hashes[name])


def _have(file: RemoteFile, staging: Path) -> int:
    if is_whole(file, staging / file.name):
        return file.size
    part = part_of(file, staging)
    return min(part.stat().st_size, file.size) if part.exists() else 0


def _extract(path: Path, plan: MaskPlan, verified: set, different: set, tell: Tell) -> None:
    with open_archive(path) as members:
        wanted = [m for m in members if m.name in plan.hashes.index and m.name not in verified]
        check_room(plan.folder, sum(m.size + BLOCK for m in wanted), "unpacked masks")
        for count, member in enumerate(wanted, 1):
            if member.name not in verified:
                good = _place(member, plan)
                (verified if good else different).add(member.name)
            if count % 5000 == 0:
                tell(f"masks: {count:,} of {len(wanted):,} unpacked")


def _place(member: Member, plan: MaskPlan) -> bool:
    """Unpack one mask beside its place and move it there if it is the published one."""
    unpacked = plan.staging / member.name
    digest = hashlib.md5(usedforsecurity=False)
    with writing(unpacked):
        with open(unpacked, "wb") as stream:
            for chunk in member.chunks():
                digest.update(chunk)
                stream.write(chunk)
        if digest.hexdigest() != plan.hashes[member.name]:
            unpacked.unlink()
            return False
        os.replace(unpacked, plan.folder / member.name)
    return True


def _report(plan: MaskPlan, verified: set[str], different: set[str]) -> Fetched:
    left = [name for name in plan.hashes.index if name not in verified]
    altered = [n for n in left if n in different or (plan.folder / n).exists()]
    missing = [n for n in left if n not in different and not (plan.folder / n).exists()]
    mend = (
        f"the archive (kept in {plan.staging}) and the published table disagree; a mask whose MD5 "
        f"is not the published one was not put into {plan.folder}, and one that is there was left "
        "alone. Put right copies there, or ask the authors of the data set"
    )
    return Fetched("masks", len(verified), missing, altered, mend)


def _clear(staging: Path) -> None:
    with writing(staging):
        for left in staging.iterdir():
            left.unlink()
        staging.rmdir()
