"""Which images were asked for: files as named, and folders with all that is in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iavlib.data.tables import IMAGE_SUFFIXES

#: Endings of files of a folder that are taken for images; a file that is named is always tried.
SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".webp")


@dataclass(frozen=True)
class Asked:
    """An image that was asked for, or the reason why there is none.

    Parameters
    ----------
    name : str
        What to call it: its path as given, below a folder that which leads from it.
    path : Path or None
        None where `problem` is set.
    problem, mend : str
    """

    name: str
    path: Path | None
    problem: str = ""
    mend: str = ""

    @property
    def image_id(self) -> str:
        """Its name without folder and ending, by which tables of masks call it."""
        return readable(Path(self.name).stem)


def list_images(sources: Sequence[Path], without: Collection[Path] = ()) -> list[Asked]:
    """List the images of files and folders.

    Parameters
    ----------
    sources : sequence of Path
        Folders are searched with those in them, in the order of names; hidden files and folders
        are passed over.
    without : collection of Path
        Resolved files and folders to leave out, such as masks and the output.

    Returns
    -------
    list of Asked
        A folder without an image, and what is not there, is an entry with the reason.
    """
    found: list[Asked] = []
    for source in sources:
        if not source.is_dir():
            found.append(Asked(readable(source.name), source))
            continue
        images = [
            Asked(readable(str(path.relative_to(source))), path) for path in _below(source, without)
        ]
        known = ", ".join(SUFFIXES)
        empty = Asked(
            readable(str(source)), None, "the folder holds no image", f"put files {known} into it"
        )
        found += images or [empty]
    return found


def _below(folder: Path, without: Collection[Path]) -> Iterator[Path]:
    left_out = {os.path.realpath(path) for path in without}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in left_out
        )
        for name in sorted(files):
            path = Path(place, name)
            wanted = name[0] != "." and path.suffix.lower() in SUFFIXES
            if wanted and os.path.realpath(path) not in left_out:
                yield path


def readable(name: str) -> str:
    """Make of a file's name what every text file can hold."""
    return os.fsencode(name).decode("utf-8", "replace")
