"""Fetching the images and masks of IMA++.

Masks: an archive on Zenodo, and an MD5 for each mask in the published table. Which archives the
record holds, how large and with which hash, is read from the record each time; it could not be
reached when this was written. Images: collection 482 of the ISIC archive, by the archive's own
client, the program ``isic`` of the package isic-cli. It is run as a program and not imported: it
has its own dependencies and stops when a newer major version of itself exists. Its options were
tried in version 12.4.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import requests
from PIL import Image

from iavlib.core.errors import DataError, FetchError
from iavlib.core.files import (
    check_room,
    check_writable,
    existing,
    free_space,
    megabytes,
    only_one,
    writing,
)
from iavlib.core.home import data_home
from iavlib.data.datasets.imapp import (
    FETCH,
    MASKS,
    MASKS_SCHEMA,
    METADATA,
    METADATA_SCHEMA,
    STAGING,
    forget_resized,
    resized_images,
)
from iavlib.data.download import (
    ARCHIVE_SUFFIXES,
    Log,
    Member,
    RemoteFile,
    digest,
    download,
    failure,
    is_whole,
    open_archive,
    part_of,
    record_files,
)
from iavlib.data.images import image_size
from iavlib.data.tables import IMAGE_SUFFIXES, read_table

CLIENT = "isic"
INSTALL = "pip install isic-cli (or pip install -c constraints.txt -e '.[fetch]')"
LOOK_EVERY = 5
_ERROR = re.compile(r"[\w.]*(Error|Exception|Timeout)\b")


def find_client() -> str:
    """Find the client on the path, or beside the running Python.

    Raises
    ------
    FetchError
        If it is not installed.
    """
    # An environment that was not activated has its programs beside its Python.
    beside = str(Path(sys.executable).parent)
    client = shutil.which(CLIENT) or shutil.which(CLIENT, path=beside)
    if client is None:
        raise FetchError(
            "the images come by the ISIC archive's own client, which is not installed here; "
            f"install it with {INSTALL} and run the same command again."
        )
    return client


def download_collection(
    client: str, collection: str, folder: Path, log: Path, look: Callable[[], bool], patience: float
) -> str | None:
    """Let the client download a collection into a folder.

    Parameters
    ----------
    client : str
        Its path, from :func:`find_client`.
    collection : str
        Number of the collection.
    folder : pathlib.Path
        Where it writes. It skips an image that is there with the right length.
    log : pathlib.Path
        Receives all of its output.
    look : callable
        Called every few seconds; returns whether something new came.
    patience : float
        Seconds without anything new after which the client is stopped. Without a network it
        retries for hours without output.

    Returns
    -------
    str or None
        What went wrong, as a sentence; None when it succeeded, which does not mean that every
        image came: it skips single failures.
    """
    command = [client, "image", "download", "--collections", collection, str(folder)]
    news = time.monotonic()
    with _started(command, log) as process:
        while process.poll() is None:
            try:
                process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                news = now if look() else news
                if now - news > patience:
                    return f"the ISIC client brought nothing for {now - news:.0f} s."
    if process.returncode == 0:
        return None
    return (
        f"the ISIC client failed: {_last_error(log)} (its output is in {log}). If it asks for a "
        "newer version of itself: pip install --upgrade isic-cli."
    )


@contextmanager
def _started(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """Start the client, and stop it in any case."""
    with writing(log):
        output = open(log, "wb")  # noqa: SIM115
    with output:
        try:
            # Without input its questions (continue though the disk is full?) are answered by no.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise FetchError(f"{command[0]} could not be started ({error.strerror}).") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_error(log: Path) -> str:
    """Return the last error in the client's output, else its last line."""
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        text = stream.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["no output"])[-1][:200]


@dataclass(frozen=True)
class Need:
    """What fetching the masks or the images takes.

    Attributes
    ----------
    what : str
        For instance ``masks``.
    todo, total : int
        Files to get, and files there would be.
    download : int or None
        Bytes still to be downloaded; None where the server does not state it.
    disk : int or None
        Bytes on the disk, temporary files included.
    folder : pathlib.Path
        Folder of the files.
    """

    what: str
    todo: int
    total: int
    download: int | None
    disk: int | None
    folder: Path

    def __str__(self) -> str:
        if not self.todo:
            return f"{self.what}: all {self.total:,} are here and verified"
        size = "of unknown size" if self.download is None else megabytes(self.download)
        room = "" if self.disk is None else f", needs about {megabytes(self.disk)} of disk"
        free = megabytes(free_space(self.folder))
        return (
            f"{self.what}: {self.todo:,} of {self.total:,} to get, {size} to download{room}; "
            f"{free} are free in {self.folder}"
        )


def check_needs(needs: Iterable[Need]) -> None:
    """Raise :class:`iavlib.core.FetchError` when what is needed does not fit, disk by disk."""
    disks = defaultdict(list)
    for need in needs:
        if need.todo and need.disk is not None:
            disks[os.stat(existing(need.folder)).st_dev].append(need)
    for together in disks.values():
        what = " and ".join(need.what for need in together)
        check_room(together[0].folder, sum(need.disk for need in together), what)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    check_writable(folder)
    try:
        with only_one(folder / f"{STAGING}.lock", "iav data fetch", wait=False):
            yield
    except BlockingIOError:
        raise FetchError(
            f"another 'iav data fetch' is at work in {folder}; wait for it to end."
        ) from None


@dataclass(frozen=True)
class Fetched:
    """Result of a fetch.

    Attributes
    ----------
    what : str
        ``masks`` or ``images``.
    verified : int
        Files that are present as published.
    missing, different : list of str
        Files that are absent, and files that differ from the published ones.
    hint : str
        What to do about those.
    """

    what: str
    verified: int
    missing: list[str]
    different: list[str]
    hint: str

    @property
    def complete(self) -> bool:
        """Whether everything is here and verified."""
        return not self.missing and not self.different

    def __str__(self) -> str:
        lines = [
            f"{self.what}: {self.verified:,} verified, {len(self.missing):,} missing, "
            f"{len(self.different):,} different"
        ]
        for kind, names in (("missing", self.missing), ("different", self.different)):
            if names:
                more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
                lines.append(f"  {kind}: {', '.join(names[:3])}{more}")
        return "\n".join(lines if self.complete else [*lines, f"  to fix it: {self.hint}"])


COLLECTION = "482"
API = "https://api.isic-archive.com/api/v2"
LOG = "isic.log"
#: The client waits long between its own attempts; it is stopped after this many timeouts.
PATIENCE = 20
REPORT_EVERY = 30


@dataclass(frozen=True)
class ImagePlan:
    """Which images are missing.

    Attributes
    ----------
    sizes : pandas.DataFrame
        Published ``width`` and ``height``, indexed by image id.
    present : frozenset of str
        Images of which there is a file of the published size, or one listed as resized.
    bytes : int or None
        Size of the whole collection, where the archive states it.
    client : str
        Path of the archive's client.
    folder : pathlib.Path
    """

    sizes: pd.DataFrame
    present: frozenset[str]
    bytes: int | None
    client: str
    folder: Path

    @property
    def staging(self) -> Path:
        """Folder into which the client writes."""
        return self.folder / STAGING

    @cached_property
    def need(self) -> Need:
        """What the fetch takes, supposing that missing images are as large as the others."""
        total, todo = len(self.sizes), len(self.sizes) - len(self.present)
        size = None if self.bytes is None else int(self.bytes * todo / total)
        return Need("images", todo, total, size, size, self.folder)


def plan_images(attempts: int = 5, timeout: float = 30) -> ImagePlan:
    """Find out which images are missing and what getting them takes; writes nothing.

    Parameters
    ----------
    attempts, timeout
        As :func:`iavlib.data.download.download`.

    Raises
    ------
    DataError
        If the published table of images is missing or wrong.
    FetchError
        If images are missing and the client is not installed, or the archive cannot be reached.
    """
    home = data_home() / "imapp"
    table = read_table(home / METADATA, METADATA_SCHEMA, FETCH).set_index("isic_id")
    sizes = table[["pixels_x", "pixels_y"]].set_axis(["width", "height"], axis=1)
    present = _present(home, sizes)
    size, client = 0, ""
    if len(present) < len(sizes):
        client, size = find_client(), _collection_size(timeout)
    return ImagePlan(sizes, present, size, client, home / "images")


def _collection_size(timeout: float) -> int | None:
    """Ask the archive for the bytes of the collection; None where it does not state them."""
    url = f"{API}/images/search/size/?query=&collections={COLLECTION}"
    try:
        response = requests.get(url, timeout=timeout)
        response.raise_for_status()
        size = response.json().get("size")
    except (requests.RequestException, AttributeError) as error:
        raise FetchError(f"{url}: {failure(error)}. Check the network and try again.") from None
    return size if isinstance(size, int) else None


def fetch_images(
    plan: ImagePlan, attempts: int = 5, timeout: float = 30, log: Log = lambda text: None
) -> Fetched:
    """Get the missing images by the archive's client.

    Each image that the client has completed is checked (listed in the published table, readable
    to its end, of its published size) and moved into place; everything else that the client writes
    is discarded. Originals that are here are shown to the client as links, so that it skips them;
    a copy that ``images.csv`` lists as resized is left as it is.

    Parameters
    ----------
    plan : ImagePlan
    attempts : int
        Consecutive runs of the client without a new image before giving up.
    timeout : float
        The client is stopped after twenty times as many seconds without a new image.
    log : callable
        Receives a line on the progress now and then.

    Raises
    ------
    FetchError
        If the client fails for good, or the disk is full or read-only.
    """
    if not plan.need.todo:
        return _report(plan, set(plan.present), {})
    check_needs([plan.need])
    with _locked(plan.folder.parent):
        check_writable(plan.folder)
        with writing(plan.folder):
            forget_resized(plan.folder.parent, plan.sizes.index.difference(plan.present))
        placed, wrong = set(plan.present), {}
        # A killed run may have left complete images.
        _harvest(plan, placed, wrong)
        problem = _run_until_complete(plan, placed, wrong, attempts, timeout, log)
        if problem and len(placed) < len(plan.sizes):
            came = len(placed) - len(plan.present)
            raise FetchError(
                f"{problem} {came:,} images came and are kept, {len(plan.sizes) - len(placed):,} "
                "are missing; run the same command again to continue."
            )
    return _report(plan, placed, wrong)


def _present(home: Path, sizes: pd.DataFrame) -> frozenset[str]:
    paths, resized = _names(home / "images"), set(resized_images(home).index)
    published = {
        name: tuple(size) for name, size in zip(sizes.index, sizes.to_numpy(), strict=True)
    }
    return frozenset(
        name
        for name in published.keys() & paths.keys()
        if name in resized or _size(paths[name]) == published[name]
    )


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except DataError:
        # Not readable: to be fetched again.
        return None


def _run_until_complete(plan, placed, wrong, attempts, timeout, log) -> str | None:
    """Run the client as long as it brings new images; return the error of its last run."""
    problem, failures = None, 0
    look = _Look(plan, placed, wrong, log)
    while failures < attempts and len(placed) < len(plan.sizes):
        before = len(placed)
        _prepare(plan, placed, log)
        wrong.clear()
        problem = download_collection(
            plan.client, COLLECTION, plan.staging, plan.staging / LOG, look, PATIENCE * timeout
        )
        look()
        failures = 0 if len(placed) > before else failures + 1
        if failures and problem is None:
            # It succeeded without a new image: the archive has no more.
            break
    _clean(plan.staging, keep=LOG if problem else None)
    return problem


class _Look:
    """Move complete images, and report the progress now and then."""

    def __init__(self, plan: ImagePlan, placed: set[str], wrong: dict[str, str], log: Log):
        self.plan, self.placed, self.wrong, self.log = plan, placed, wrong, log
        self.reported = time.monotonic()

    def __call__(self) -> bool:
        came = _harvest(self.plan, self.placed, self.wrong)
        if time.monotonic() - self.reported > REPORT_EVERY:
            self.reported = time.monotonic()
            self.log(f"images: {len(self.placed):,} of {len(self.plan.sizes):,}")
        return came > 0


def _prepare(plan: ImagePlan, placed: set[str], log: Log) -> None:
    """Empty the staging folder, and link the originals there: the client skips them."""
    _clean(plan.staging)
    check_writable(plan.staging)
    resized = set(resized_images(plan.folder.parent).index)
    for name, path in _names(plan.folder).items():
        if name in placed and name not in resized:
            try:
                os.link(path, plan.staging / path.name)
            except OSError as error:
                log(
                    f"no links on this disk ({error.strerror}): images that are here are downloaded again"
                )
                return


def _harvest(plan: ImagePlan, placed: set[str], wrong: dict[str, str]) -> int:
    """Move the images that the client has completed; return how many there were.

    The client writes under another name and renames, so that an image under its name is complete.
    """
    came = 0
    for name, path in _names(plan.staging).items():
        if name in placed or name in wrong or name not in plan.sizes.index:
            continue
        came += 1
        if fault := _fault(path, *plan.sizes.loc[name]):
            wrong[name] = fault
            continue
        with writing(plan.folder):
            os.replace(path, plan.folder / path.name)
        placed.add(name)
    return came


def _fault(path: Path, width: int, height: int) -> str | None:
    """Return what is wrong with an image file, reading it to its end at an eighth of its size."""
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft(None, (width // 8, height // 8))
            image.load()
    except (OSError, SyntaxError) as error:
        return f"no readable image: {error}"
    return None if size == (width, height) else f"is {size[0]}x{size[1]}, not {width}x{height}"


def _names(folder: Path) -> dict[str, Path]:
    """List the image files of a folder by their name without ending."""
    if not folder.is_dir():
        return {}
    paths = [Path(entry.path) for entry in os.scandir(folder) if entry.is_file()]
    return {path.stem: path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES}


def _clean(staging: Path, keep: str | None = None) -> None:
    """Empty the staging folder, and remove it unless a file of it is kept."""
    with writing(staging):
        for left in list(staging.iterdir()) if staging.is_dir() else []:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            elif left.name != keep:
                left.unlink()
        if staging.is_dir() and keep is None:
            staging.rmdir()


def _report(plan: ImagePlan, placed: set[str], wrong: dict[str, str]) -> Fetched:
    missing = [n for n in plan.sizes.index if n not in placed and n not in wrong]
    different = [f"{name} ({fault})" for name, fault in wrong.items()]
    hint = (
        "run the same command again; images that the archive lacks stay missing values, and "
        "nothing downstream needs every image"
    )
    return Fetched("images", len(placed), missing, different, hint)


RECORD = "14201693"  # version DOI 10.5281/zenodo.14201693
#: Bytes that a file takes on the disk beyond its length, at most.
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
        """What the fetch takes, supposing that unpacked masks are as large as packed ones."""
        todo = len(self.hashes) - len(self.verified)
        missing = sum(file.size - _have(file, self.staging) for file in self.archives)
        packed = sum(file.size for file in self.archives)
        unpacked = int(packed * todo / len(self.hashes)) + BLOCK * todo
        return Need("masks", todo, len(self.hashes), missing, missing + unpacked, self.folder)


def plan_masks(attempts: int = 5, timeout: float = 30) -> MaskPlan:
    """Find out which masks are missing and what getting them takes; writes nothing.

    Parameters
    ----------
    attempts, timeout
        As :func:`iavlib.data.download.download`.

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
        files = record_files(RECORD, timeout)
        archives = [file for file in files if file.name.lower().endswith(ARCHIVE_SUFFIXES)]
        if not archives:
            raise FetchError(
                f"Zenodo's record {RECORD} holds no archive of masks, only "
                f"{', '.join(file.name for file in files)}."
            )
    return MaskPlan(hashes, verified, archives, home / "masks")


def fetch_masks(
    plan: MaskPlan, attempts: int = 5, timeout: float = 30, log: Log = lambda text: None
) -> Fetched:
    """Download and unpack the masks that are missing, each verified by its published MD5.

    A mask is unpacked beside its place and moved there only if its MD5 is right; a correct one is
    never replaced and never unpacked twice. The archive is removed when all masks are correct, and
    kept otherwise.

    Parameters
    ----------
    plan : MaskPlan
    attempts, timeout, log
        As :func:`iavlib.data.download.download`.

    Raises
    ------
    FetchError
        If the download fails, the archive is damaged or unsafe, or the disk is full or read-only.
    """
    if not plan.archives:
        return _report_masks(plan, set(plan.verified), set())
    check_needs([plan.need])
    with _locked(plan.folder.parent):
        check_writable(plan.staging)
        verified, different = set(plan.verified), set()
        for file in plan.archives:
            path = download(file, plan.staging, attempts, timeout, log)
            _extract(path, plan, verified, different, log)
        report = _report_masks(plan, verified, different)
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
    return frozenset(name for name in present if digest(folder / name, "md5") == hashes[name])


def _have(file: RemoteFile, staging: Path) -> int:
    if is_whole(file, staging / file.name):
        return file.size
    subset = part_of(file, staging)
    return min(subset.stat().st_size, file.size) if subset.exists() else 0


def _extract(path: Path, plan: MaskPlan, verified: set, different: set, log: Log) -> None:
    with open_archive(path) as members:
        wanted = [m for m in members if m.name in plan.hashes.index and m.name not in verified]
        check_room(plan.folder, sum(m.size + BLOCK for m in wanted), "unpacked masks")
        for count, member in enumerate(wanted, 1):
            if member.name not in verified:
                good = _place(member, plan)
                (verified if good else different).add(member.name)
            if count % 5000 == 0:
                log(f"masks: {count:,} of {len(wanted):,} unpacked")


def _place(member: Member, plan: MaskPlan) -> bool:
    """Unpack one mask beside its place and move it there if it is the published one."""
    unpacked = plan.staging / member.name
    md5 = hashlib.md5(usedforsecurity=False)
    with writing(unpacked):
        with open(unpacked, "wb") as stream:
            for chunk in member.chunks():
                md5.update(chunk)
                stream.write(chunk)
        if md5.hexdigest() != plan.hashes[member.name]:
            unpacked.unlink()
            return False
        os.replace(unpacked, plan.folder / member.name)
    return True


def _report_masks(plan: MaskPlan, verified: set[str], different: set[str]) -> Fetched:
    left = [name for name in plan.hashes.index if name not in verified]
    altered = [n for n in left if n in different or (plan.folder / n).exists()]
    missing = [n for n in left if n not in different and not (plan.folder / n).exists()]
    hint = (
        f"the archive (kept in {plan.staging}) and the published table disagree; a mask whose MD5 "
        f"is not the published one was not put into {plan.folder}, and one that is there was left "
        "alone. Put right copies there, or ask the authors of the data set"
    )
    return Fetched("masks", len(verified), missing, altered, hint)


def _clear(staging: Path) -> None:
    with writing(staging):
        for left in staging.iterdir():
            left.unlink()
        staging.rmdir()
