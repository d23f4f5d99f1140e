"""What a fetch takes, said before it begins, and what came of it, said at its end."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iavlib.data.disk import check_room, existing, free_space, megabytes


@dataclass(frozen=True)
class Need:
    """What one part of a fetch takes.

    Attributes
    ----------
    what : str
        For instance ``masks``.
    todo, total : int
        Files to get, and files there would be.
    download : int or None
        Bytes still to be downloaded; None where the server does not say.
    disk : int or None
        Bytes of room it takes, what is temporary included.
    folder : pathlib.Path
        Where it goes.
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
    """Raise :class:`iavlib.data.FetchError` when what is needed does not fit, disk by disk."""
    disks = defaultdict(list)
    for need in needs:
        if need.todo and need.disk is not None:
            disks[os.stat(existing(need.folder)).st_dev].append(need)
    for together in disks.values():
        what = " and ".join(need.what for need in together)
        check_room(together[0].folder, sum(need.disk for need in together), what)


@dataclass(frozen=True)
class Fetched:
    """What came of a fetch.

    Attributes
    ----------
    what : str
        ``masks`` or ``images``.
    verified : int
        Files that are here as published.
    missing, different : list of str
        Files that are not here, and files that came (or are here) otherwise than published.
    mend : str
        What to do about the last two.
    """

    what: str
    verified: int
    missing: list[str]
    different: list[str]
    mend: str

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
        return "\n".join(lines if self.complete else [*lines, f"  to mend it: {self.mend}"])
