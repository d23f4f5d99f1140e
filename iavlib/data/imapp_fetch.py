"""Fetching the images and masks of IMA++.

Masks: an archive on Zenodo, and an MD5 for each mask in the published table. Which archives the
record holds, how large and with which hash, is read from the record each time; it could not be
reached when this was written. Images: collection 482 of the ISIC archive, by the archive's own
client, the program ``isic`` of the package isic-cli. It is run as a program and not imported: it
has its own dependencies and stops when a newer major version of itself exists. Its options were
tried in version 12.4.
"""

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
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import requests
from PIL import Image

from iavlib.core import files
from iavlib.core.errors import DataError, FetchError
from iavlib.core.project import data_home
from iavlib.data import download as remote
from iavlib.data.datasets import imapp
from iavlib.data.download import Log
from iavlib.data.images import image_paths, image_size
from iavlib.data.schemas import read_table


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What fetching the masks or the images takes.

    Attributes
    ----------
    what : str
        ``masks`` or ``images``.
    folder : pathlib.Path
        Folder of the files.
    published : pandas.Series or pandas.DataFrame
        What is published of each file, by name: the MD5 of a mask, the size of an image.
    present : frozenset of str
        Names of those that are present and correct.
    download, disk : int or None
        Bytes still to be downloaded, and bytes on the disk, temporary files included; None where
        the server does not state the size.
    client : str
        Path of the ISIC archive's client.
    archives : list of RemoteFile
        Archives of the masks.
    """

    what: str
    folder: Path
    published: pd.Series | pd.DataFrame
    present: frozenset[str]
    download: int | None = 0
    disk: int | None = 0
    client: str = ""
    archives: list[remote.RemoteFile] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of files of a complete copy."""
        return len(self.published)

    @property
    def staging(self) -> Path:
        """Folder of what is being downloaded."""
        return self.folder / imapp.STAGING

    @property
    def todo(self) -> int:
        """Number of files to get."""
        return self.total - len(self.present)

    def __str__(self) -> str:
        if not self.todo:
            return f"{self.what}: all {self.total:,} are here and verified"
        size = "of unknown size" if self.download is None else files.megabytes(self.download)
        room = "" if self.disk is None else f", needs about {files.megabytes(self.disk)} of disk"
        free = files.megabytes(files.free_space(self.folder))
        todo = f"{self.what}: {self.todo:,} of {self.total:,} to get, {size} to download{room}"
        return f"{todo}; {free} are free in {self.folder}"


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
        """Whether everything is present and verified."""
        return not self.missing and not self.different

    def __str__(self) -> str:
        counts = (f"{len(getattr(self, kind)):,} {kind}" for kind in ("missing", "different"))
        text = f"{self.what}: {self.verified:,} verified, {', '.join(counts)}"
        for kind in ("missing", "different"):
            if names := getattr(self, kind):
                more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
                text += f"\n  {kind}: {', '.join(names[:3])}{more}"
        return text if self.complete else f"{text}\n  to fix it: {self.hint}"


def check_plans(plans: Iterable[Plan]) -> None:
    """Raise :class:`FetchError` when what is needed does not fit, disk by disk."""
    disks = defaultdict(list)
    for plan in plans:
        if plan.todo and plan.disk is not None:
            disks[os.stat(files.existing(plan.folder)).st_dev].append(plan)
    for together in disks.values():
        what = " and ".join(plan.what for plan in together)
        files.check_room(together[0].folder, sum(plan.disk for plan in together), what)


@contextmanager
def _prepared(plan: Plan) -> Iterator[None]:
    """Check room and access, and hold the lock of the dataset's folder."""
    check_plans([plan])
    folder = plan.folder.parent
    files.check_writable(folder)
    try:
        with files.only_one(folder / f"{imapp.STAGING}.lock", "iav data fetch", wait=False):
            files.check_writable(plan.staging)
            yield
    except BlockingIOError:
        busy = f"another 'iav data fetch' is at work in {folder}; wait for it to end."
        raise FetchError(busy) from None


def _clear(staging: Path, keep: str | None = None) -> None:
    """Empty the staging folder, and remove it unless a file of it is kept."""
    with files.writing(staging):
        for path in list(staging.iterdir()) if staging.is_dir() else []:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != keep:
                path.unlink()
        if staging.is_dir() and keep is None:
            staging.rmdir()


COLLECTION = "482"
API = "https://api.isic-archive.com/api/v2"
CLIENT = "isic"
INSTALL = "pip install isic-cli (or pip install -c constraints.txt -e '.[fetch]')"
LOG = "isic.log"
LOOK_EVERY = 5
#: The client waits long between its own attempts; it is stopped after this many timeouts.
PATIENCE = 20
REPORT_EVERY = 30
_ERROR = re.compile(r"[\w.]*(Error|Exception|Timeout)\b")


def find_client() -> str:
    """Find the archive's client on the path, or beside the running Python.

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


def plan_images(attempts: int = 5, timeout: float = 30) -> Plan:
    """Find out which images are missing and what getting them takes; writes nothing.

    Missing images are supposed to be as large as the others. An image is present if there is a
    file of the published size, or one that ``images.csv`` lists as resized.

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
    table = read_table(home / imapp.METADATA, imapp.METADATA_SCHEMA, imapp.FETCH)
    table = table.set_index("isic_id")
    sizes = table[["pixels_x", "pixels_y"]].set_axis(["width", "height"], axis=1)
    paths, resized = _image_files(home / "images"), set(imapp.resized_images(home).index)
    present = frozenset(
        name
        for name, size in zip(sizes.index, map(tuple, sizes.to_numpy()), strict=True)
        if name in paths and (name in resized or _size(paths[name]) == size)
    )
    plan = Plan(what="images", folder=home / "images", published=sizes, present=present)
    if not plan.todo:
        return plan
    client, size = find_client(), _collection_size(timeout)
    needed = None if size is None else int(size * plan.todo / plan.total)
    return replace(plan, client=client, download=needed, disk=needed)


def fetch_images(
    plan: Plan, attempts: int = 5, timeout: float = 30, log: Log = lambda text: None
) -> Fetched:
    """Get the missing images by the archive's client.

    Each image that the client has completed is checked (listed in the published table, readable
    to its end, of its published size) and moved into place; everything else that the client writes
    is discarded. Originals that are here are shown to the client as links, so that it skips them;
    a copy that ``images.csv`` lists as resized is left as it is.

    Parameters
    ----------
    plan : Plan
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
    placed, wrong = set(plan.present), {}
    if plan.todo:
        with _prepared(plan):
            missing = plan.published.index.difference(plan.present)
            with files.writing(plan.folder):
                imapp.forget_resized(plan.folder.parent, missing)
            # A killed run may have left complete images.
            _harvest(plan, placed, wrong)
            problem = _run_until_complete(plan, placed, wrong, attempts, timeout, log)
        if problem and len(placed) < plan.total:
            raise FetchError(
                f"{problem} {len(placed) - len(plan.present):,} images came and are kept, "
                f"{plan.total - len(placed):,} are missing; run the same command again to continue."
            )
    missing = [name for name in plan.published.index if name not in placed and name not in wrong]
    different = [f"{name} ({fault})" for name, fault in wrong.items()]
    hint = (
        "run the same command again; images that the archive lacks stay missing values, and "
        "nothing downstream needs every image"
    )
    return Fetched("images", len(placed), missing, different, hint)


def _collection_size(timeout: float) -> int | None:
    """Ask the archive for the bytes of the collection; None where it does not state them."""
    url = f"{API}/images/search/size/?query=&collections={COLLECTION}"
    try:
        response = requests.get(url, timeout=timeout)
        response.raise_for_status()
        size = response.json().get("size")
    except (requests.RequestException, AttributeError) as error:
        raise FetchError(
            f"{url}: {remote.failure(error)}. Check the network and try again."
        ) from None
    return size if isinstance(size, int) else None


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except DataError:
        return None  # not readable: to be fetched again


def _run_until_complete(plan, placed, wrong, attempts, timeout, log) -> str | None:
    """Run the client as long as it brings new images; return the error of its last run."""
    problem, failures, report = None, 0, remote.throttled(log, REPORT_EVERY)

    def look() -> bool:
        came = _harvest(plan, placed, wrong)
        report(f"images: {len(placed):,} of {plan.total:,}")
        return came > 0

    while failures < attempts and len(placed) < plan.total:
        before = len(placed)
        _link_originals(plan, placed, log)
        wrong.clear()
        problem = _run_client(plan, look, PATIENCE * timeout)
        look()
        failures = 0 if len(placed) > before else failures + 1
        if failures and problem is None:
            # It succeeded without a new image: the archive has no more.
            break
    _clear(plan.staging, keep=LOG if problem else None)
    return problem


def _run_client(plan: Plan, look: Callable[[], bool], patience: float) -> str | None:
    """Let the client download the collection into the staging folder.

    Returns
    -------
    str or None
        What went wrong; None when the client succeeded, which does not mean that every image
        came: it skips single failures. Without a network it retries for hours without output and
        is stopped after `patience` seconds without a new image.
    """
    log = plan.staging / LOG
    command = [plan.client, "image", "download", "--collections", COLLECTION, str(plan.staging)]
    with files.writing(log):
        output = open(log, "wb")  # noqa: SIM115
    with output:
        try:
            # Without input its questions (continue though the disk is full?) are answered by no.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise FetchError(f"{plan.client} could not be started ({error.strerror}).") from error
    last = time.monotonic()
    try:
        while process.poll() is None:
            try:
                process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                last = time.monotonic() if look() else last
                if (silent := time.monotonic() - last) > patience:
                    return f"the ISIC client brought nothing for {silent:.0f} s."
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return None
    return (
        f"the ISIC client failed: {_last_error(log)} (its output is in {log}). If it asks for a "
        "newer version of itself: pip install --upgrade isic-cli."
    )


def _last_error(log: Path) -> str:
    """Return the last error in the client's output, else its last line."""
    text = log.read_bytes()[-20_000:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["no output"])[-1][:200]


def _link_originals(plan: Plan, placed: set[str], log: Log) -> None:
    """Empty the staging folder, and link the originals there: the client skips them."""
    _clear(plan.staging)
    files.check_writable(plan.staging)
    resized = set(imapp.resized_images(plan.folder.parent).index)
    for name, path in _image_files(plan.folder).items():
        if name in placed and name not in resized:
            try:
                os.link(path, plan.staging / path.name)
            except OSError as error:
                reason = f"no links on this disk ({error.strerror})"
                log(f"{reason}: images that are here are downloaded again")
                return


def _harvest(plan: Plan, placed: set[str], wrong: dict[str, str]) -> int:
    """Move the images that the client has completed; return how many there were.

    The client writes under another name and renames, so that an image under its name is complete.
    """
    came = 0
    for name, path in _image_files(plan.staging).items():
        if name in placed or name in wrong or name not in plan.published.index:
            continue
        came += 1
        if fault := _fault(path, *plan.published.loc[name]):
            wrong[name] = fault
            continue
        with files.writing(plan.folder):
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


def _image_files(folder: Path) -> dict[str, Path]:
    """List the image files of a folder by their name without suffix."""
    return {path.stem: path for path in image_paths(folder)}


RECORD = "14201693"  # version DOI 10.5281/zenodo.14201693
#: Bytes that a file takes on the disk beyond its length, at most.
BLOCK = 4096


def plan_masks(attempts: int = 5, timeout: float = 30) -> Plan:
    """Find out which masks are missing and what getting them takes; writes nothing.

    Unpacked masks are supposed to be as large as packed ones.

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
    folder = data_home() / "imapp" / "masks"
    hashes = mask_hashes(folder.parent / imapp.MASKS)
    plan = Plan(what="masks", folder=folder, published=hashes, present=_verified(folder, hashes))
    if not plan.todo:
        return plan
    listed = remote.record_files(RECORD, timeout)
    archives = [file for file in listed if file.name.lower().endswith(remote.ARCHIVE_SUFFIXES)]
    if not archives:
        names = ", ".join(file.name for file in listed)
        raise FetchError(f"Zenodo's record {RECORD} holds no archive of masks, only {names}.")
    missing = sum(file.size - remote.downloaded(file, plan.staging) for file in archives)
    unpacked = int(sum(file.size for file in archives) * plan.todo / plan.total)
    disk = missing + unpacked + BLOCK * plan.todo
    return replace(plan, download=missing, disk=disk, archives=archives)


def fetch_masks(
    plan: Plan, attempts: int = 5, timeout: float = 30, log: Log = lambda text: None
) -> Fetched:
    """Download and unpack the masks that are missing, each verified by its published MD5.

    A mask is unpacked beside its place and moved there only if its MD5 is right; a correct one is
    never replaced and never unpacked twice. The archive is removed when all masks are correct, and
    kept otherwise.

    Parameters
    ----------
    plan : Plan
    attempts, timeout, log
        As :func:`iavlib.data.download.download`.

    Raises
    ------
    FetchError
        If the download fails, the archive is damaged or unsafe, or the disk is full or read-only.
    """
    verified, different = set(plan.present), set()
    if plan.todo:
        with _prepared(plan):
            for file in plan.archives:
                path = remote.download(file, plan.staging, attempts, timeout, log)
                _extract(path, plan, verified, different, log)
            if len(verified) == plan.total:
                _clear(plan.staging)
    left = [name for name in plan.published.index if name not in verified]
    altered = [n for n in left if n in different or (plan.folder / n).exists()]
    missing = [name for name in left if name not in altered]
    hint = (
        f"the archive (kept in {plan.staging}) and the published table disagree; a mask whose MD5 "
        f"is not the published one was not put into {plan.folder}, and one that is there was left "
        "alone. Put correct copies there, or ask the authors of the data set"
    )
    return Fetched("masks", len(verified), missing, altered, hint)


def mask_hashes(table: Path) -> pd.Series:
    """Read the published MD5 of each mask, indexed by file name.

    Raises
    ------
    DataError
        If the table is missing or wrong, or a name in it is not a plain file name.
    """
    drawn = read_table(table, imapp.MASKS_SCHEMA, imapp.FETCH)
    names = drawn["seg_filename"]
    odd = names[names.str.contains(r"[/\\]") | names.str.startswith(".")]
    if len(odd):
        raise DataError(table, f"{odd.iloc[0]!r} is no plain file name", imapp.FETCH)
    return drawn.set_index("seg_filename")["mask_md5"].str.lower()


def _verified(folder: Path, hashes: pd.Series) -> frozenset[str]:
    entries = os.scandir(folder) if folder.is_dir() else ()
    present = [e.name for e in entries if e.is_file() and e.name in hashes.index]
    return frozenset(name for name in present if files.digest(folder / name, "md5") == hashes[name])


def _extract(path: Path, plan: Plan, verified: set, different: set, log: Log) -> None:
    with remote.open_archive(path) as members:
        wanted = [m for m in members if m.name in plan.published.index and m.name not in verified]
        files.check_room(plan.folder, sum(m.size + BLOCK for m in wanted), "unpacked masks")
        for count, member in enumerate(wanted, 1):
            if member.name not in verified:
                (verified if _place(member, plan) else different).add(member.name)
            if count % 5000 == 0:
                log(f"masks: {count:,} of {len(wanted):,} unpacked")


def _place(member: remote.Member, plan: Plan) -> bool:
    """Unpack one mask beside its place and move it there if it is the published one."""
    unpacked = plan.staging / member.name
    md5 = hashlib.md5(usedforsecurity=False)
    with files.writing(unpacked):
        with open(unpacked, "wb") as stream:
            for chunk in member.chunks():
                md5.update(chunk)
                stream.write(chunk)
        if md5.hexdigest() != plan.published[member.name]:
            unpacked.unlink()
            return False
        os.replace(unpacked, plan.folder / member.name)
    return True
