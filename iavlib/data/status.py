"""What the data home holds of each cohort."""

from dataclasses import asdict, dataclass
from pathlib import Path

from iavlib.data.catalogue import COHORTS, Entry, available


@dataclass(frozen=True)
class Status:
    """What is here of one cohort.

    Attributes
    ----------
    name, title, licence, citation, how : str
        As in the catalogue; ``how`` says how to get what is missing.
    state : {"present", "partial", "absent", "built in", "by path"}
        ``partial`` cohorts are usable when ``usable`` is True; ``by path`` is what the user
        points at.
    usable : bool
        Whether its name alone is enough to load it.
    counts : dict of str to (int, int)
        Files present and files there would be, by file name or ``folder/*``.
    bytes : int
        Size of the files present.
    folder : str
    notes : list of str
        What is odd about the files (altered tables).
    """

    name: str
    title: str
    state: str
    usable: bool
    counts: dict[str, tuple[int, int]]
    bytes: int
    folder: str
    licence: str
    citation: str
    how: str
    notes: list[str]

    def to_dict(self) -> dict:
        """Return the status as plain types, for JSON."""
        return asdict(self)


def status() -> list[Status]:
    """Return the status of every cohort of the catalogue."""
    here = available()
    return [_status(make(), here) for make in COHORTS.values()]


def _status(entry: Entry, here: list[str]) -> Status:
    counts, size = {}, 0
    for pattern, expected in entry.files.items():
        present = [p for p in entry.folder.glob(pattern) if p.is_file()]
        counts[pattern] = (len(present), expected)
        size += sum(path.stat().st_size for path in present)
    return Status(
        name=entry.name,
        title=entry.title,
        state="by path" if entry.needs else _state(counts),
        usable=entry.name in here,
        counts=counts,
        bytes=size,
        folder=_place(entry),
        licence=entry.licence,
        citation=entry.citation,
        how=entry.how,
        notes=_notes(entry.name, entry.folder),
    )


def _place(entry: Entry) -> str:
    if entry.files:
        return str(entry.folder)
    return "where you say" if entry.needs else "made on demand"


def _state(counts: dict[str, tuple[int, int]]) -> str:
    if not counts:
        return "built in"
    if all(have >= expected for have, expected in counts.values()):
        return "present"
    return "partial" if any(have for have, _ in counts.values()) else "absent"


def _notes(name: str, folder: Path) -> list[str]:
    if name != "imapp":
        return []
    from iavlib.data.disk import STAGING
    from iavlib.data.imapp import altered_tables

    notes = [f"{table} differs from the published one" for table in altered_tables(folder)]
    broken = [kind for kind in ("masks", "images") if (folder / kind / STAGING).is_dir()]
    return notes + [f"fetching the {kind} broke off or is going on" for kind in broken]
