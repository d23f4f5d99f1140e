"""The images of IMA++: collection 482 of the ISIC archive, by the archive's own client."""

import os
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from PIL import Image

from iavlib.data.disk import STAGING, check_writable, only_one, writing
from iavlib.data.download import Tell, fetch_json
from iavlib.data.errors import DataError, FetchError
from iavlib.data.fetching import Fetched, Need, check_needs
from iavlib.data.home import data_home
from iavlib.data.images import image_size
from iavlib.data.imapp import FETCH, METADATA, METADATA_SCHEMA, forget_resized, resized_images
from iavlib.data.isic_client import download_collection, find_client
from iavlib.data.tables import IMAGE_SUFFIXES, read_table

COLLECTION = "482"
API = "https://api.isic-archive.com/api/v2"
LOG = "isic.log"
#: The client waits long between its own tries; it is given up after so many times our timeout.
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


def plan_images(attempts: int = 5, timeout: float = 30, api: str | None = None) -> ImagePlan:
    """Find out which images are missing and what getting them takes; writes nothing.

    Parameters
    ----------
    attempts, timeout
        As :func:`iavlib.data.download.download`.
    api : str, optional
        Address of the archive's interface, for tests.

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
        client = find_client()
        url = f"{api or API}/images/search/size/?query=&collections={COLLECTION}"
        size = fetch_json(url, attempts, timeout).get("size")
    known = size if isinstance(size, int) else None
    return ImagePlan(sizes, present, known, client, home / "images")


def fetch_images(
    plan: ImagePlan, attempts: int = 5, timeout: float = 30, tell: Tell = lambda text: None
) -> Fetched:
    """Get the missing images by the archive's client.

    Each image that the client has completed is checked (listed in the published table, readable
    to its end, of its published size) and moved into place; all else the client writes is left
    out. Originals that are here are shown to the client as links, so that it does not get them
    again; a copy that ``images.csv`` lists as resized is left as it is.

    Parameters
    ----------
    plan : ImagePlan
    attempts : int
        Runs of the client that bring no image before giving up.
    timeout : float
        The client is stopped after twenty times as many seconds without a new image.
    tell : callable
        Takes a line now and then on how far it is.

    Raises
    ------
    FetchError
        If the client fails for good, or the disk is full or read-only.
    """
    if not plan.need.todo:
        return _report(plan, set(plan.present), {})
    check_needs([plan.need])
    with only_one(plan.folder.parent):
        check_writable(plan.folder)
        with writing(plan.folder):
            forget_resized(plan.folder.parent, plan.sizes.index.difference(plan.present))
        placed, wrong = set(plan.present), {}
        # Left by a run that was killed: whole images are welcome.
        _harvest(plan, placed, wrong)
        problem = _run_until_complete(plan, placed, wrong, attempts, timeout, tell)
        if problem and len(placed) < len(plan.sizes):
            came = len(placed) - len(plan.present)
            raise FetchError(
                f"{problem} {came:,} images came and are kept, {len(plan.sizes) - len(placed):,} "
                "are missing; run the same command again to go on."
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


def _run_until_complete(plan, placed, wrong, attempts, timeout, tell) -> str | None:
    """Run the client as long as it brings something; return what its last run failed of."""
    problem, failures = None, 0
    look = _Look(plan, placed, wrong, tell)
    while failures < attempts and len(placed) < len(plan.sizes):
        before = len(placed)
        _prepare(plan, placed, tell)
        wrong.clear()
        problem = download_collection(
            plan.client, COLLECTION, plan.staging, plan.staging / LOG, look, PATIENCE * timeout
        )
        look()
        failures = 0 if len(placed) > before else failures + 1
        if failures and problem is None:
            # It ended well and brought nothing: the archive has no more.
            break
    _clean(plan.staging, keep=LOG if problem else None)
    return problem


class _Look:
    """Move what has come, and say how far it is now and then."""

    def __init__(self, plan: ImagePlan, placed: set[str], wrong: dict[str, str], tell: Tell):
        self.plan, self.placed, self.wrong, self.tell = plan, placed, wrong, tell
        self.told = time.monotonic()

    def __call__(self) -> bool:
        came = _harvest(self.plan, self.placed, self.wrong)
        if time.monotonic() - self.told > REPORT_EVERY:
            self.told = time.monotonic()
            self.tell(f"images: {len(self.placed):,} of {len(self.plan.sizes):,}")
        return came > 0


def _prepare(plan: ImagePlan, placed: set[str], tell: Tell) -> None:
    """Empty the staging folder, and link there the originals: the client passes over them."""
    _clean(plan.staging)
    check_writable(plan.staging)
    resized = set(resized_images(plan.folder.parent).index)
    for name, path in _names(plan.folder).items():
        if name in placed and name not in resized:
            try:
                os.link(path, plan.staging / path.name)
            except OSError as error:
                tell(f"no links on this disk ({error.strerror}): what is here comes once more")
                return


def _harvest(plan: ImagePlan, placed: set[str], wrong: dict[str, str]) -> int:
    """Move the images that the client has completed; return how many there were.

    The client writes under another name and renames, so that an image under its own is whole.
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
    """Say what is wrong with an image file, reading it to its end at an eighth of its size."""
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
    """Remove what is left in the staging folder, and the folder unless a file of it is kept."""
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
    mend = (
        "run the same command again; what the archive does not give stays a missing value, and "
        "nothing downstream needs every image"
    )
    return Fetched("images", len(placed), missing, different, mend)
