"""What the data home holds of each cohort."""

from dataclasses import asdict, dataclass
from pathlib import Path

from iavlib.data.catalogue import COHORTS, Entry


@dataclass(frozen=True)
class Status:
    """What is here of one cohort.

    Attributes
    ----------
    name, title, licence, citation, how : str
        As in the catalogue; ``how`` says how to get what is missing.
    state : {"present", "partial", "absent", "built in"}
        ``partial`` cohorts are usable when ``usable`` is True.
    usable : bool
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
    return [_status(make()) for make in COHORTS.values()]


def _status(entry: Entry) -> Status:
    counts, size = {}, 0
    for pattern, expected in entry.files.items():
        present = [p for p in entry.folder.glob(pattern) if p.is_file()]
        counts[pattern] = (len(present), expected)
        size += sum(path.stat().st_size for path in present)
    return Status(
        name=entry.name,
        title=entry.title,
        state=_state(counts),
        usable=all((entry.folder / file).is_file() for file in entry.required),
        counts=counts,
        bytes=size,
        folder=str(entry.folder) if entry.files else "made on demand",
        licence=entry.licence,
        citation=entry.citation,
        how=entry.how,
        notes=_notes(entry.name, entry.folder),
    )


def _state(counts: dict[str, tuple[int, int]]) -> str:
    if not counts:
        return "built in"
    if all(have >= expected for have, expected in counts.values()):
        return "present"
    return "partial" if any(have for have, _ in counts.values()) else "absent"


def _notes(name: str, folder: Path) -> list[str]:
    if name != "imapp":
        return []
    from iavlib.data.imapp import altered_tables

    return [f"{table} differs from the published one" for table in altered_tables(folder)]
