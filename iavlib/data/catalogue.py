"""The cohorts by name: what there is, whether it is here, how to load it.

What the data home holds of each cohort.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from iavlib.core.home import data_home
from iavlib.data.cohort import Cohort

DEFAULT = "auto"
#: The same for what looks at images: tables alone will not do.
WITH_IMAGES = "auto-images"
_CHOOSING = (DEFAULT, WITH_IMAGES)


@dataclass(frozen=True)
class Entry:
    """One cohort of the catalogue.

    Attributes
    ----------
    name : str
    module : str
        Module of :mod:`iavlib.data` whose ``load`` gives the cohort.
    title : str
    licence, citation : str
    how : str
        How to get it.
    files : mapping of str to int, optional
        What the data home holds when it is complete: file or ``folder/*`` to number of files.
        Empty for a cohort that is made, not fetched.
    required : tuple of str
        Files and folders without which the cohort cannot be loaded, in its folder or with their
        whole path.
    options : tuple of str
        Keywords that its ``load`` takes.
    needs : tuple of str
        Those of them without which there is nothing to load.
    given : dict of str to str
        What its ``load`` is told besides, where one module serves several cohorts.
    sources : callable, optional
        Given the options, the files that a cohort is read from; those below :attr:`folder` unless
        given.
    also : tuple of pathlib.Path
        Files of another cohort that it is read from too.
    """

    name: str
    module: str
    title: str
    licence: str
    citation: str
    how: str
    files: dict[str, int]
    required: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    given: dict[str, str] = field(default_factory=dict)
    sources: Callable[..., list[Path]] | None = None
    also: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return data_home() / self.name


def _imapp() -> Entry:
    from iavlib.data import imapp, imapp as registry

    files = dict.fromkeys(registry.IMAPP_TABLES, 1) | {"images/*": 14967, "masks/*": 22472}
    return Entry(
        "imapp",
        "imapp",
        "IMA++ (2,394 images with 2 to 5 annotators, 14,967 in all)",
        imapp.LICENCE,
        imapp.CITATION,
        "iav data fetch imapp --masks --images",
        files,
        imapp.REQUIRED,
    )


def _phantom() -> Entry:
    return Entry(
        "phantom",
        "phantom",
        "Invented lesions with known truth and known annotators",
        "MIT",
        "this project",
        "built in: made when first asked for",
        {},
        options=("n_images", "size", "seed"),
    )


def _folder() -> Entry:
    return Entry(
        "folder",
        "folder",
        "your own masks: a table masks.csv beside its files",
        "yours",
        "yours",
        "iavlib.data.load('folder', path=...), or -p cohort=folder -p path=... of a notebook",
        {},
        options=("path",),
        needs=("path",),
        sources=lambda path="": _module("folder").files(path),
    )


def _diagnosed(name: str) -> Entry:
    """Make the entry of a dataset of diagnosis, whose module says how its files lie."""
    module, imapp = _module(name), _module("imapp")
    here = module.layout(data_home() / name)
    overlap = getattr(module, "OVERLAP", None)
    told_by = tuple(data_home() / "imapp" / table for table in imapp.REQUIRED) if overlap else ()
    needed = told_by if overlap == "leave out" else ()
    return Entry(
        *(name, name, module.TITLE, module.LICENCE, module.CITATION, module.HOW),
        files=dict(here.files),
        required=(*here.required, *map(str, needed)),
        options=module.OPTIONS,
        also=told_by,
    )


DIAGNOSED = ("isic2017", "isic2018", "isic2019", "derm7pt", "ph2")


def _two_annotators(name: str) -> Callable[[], Entry]:
    def make() -> Entry:
        from iavlib.data import two_annotators

        return Entry(
            name,
            "two_annotators",
            two_annotators.TITLES[name],
            two_annotators.LICENCES[name],
            two_annotators.CITATIONS[name],
            f"put images, masks and masks.csv into {name} of the data home",
            {"masks.csv": 1},
            ("masks.csv",),
            given={"dataset": name},
        )

    return make


def _riga() -> Entry:
    from iavlib.data import riga

    return Entry(
        "riga",
        "riga",
        "Optic disc and cup outlined by six annotators (750 fundus images)",
        riga.LICENCE,
        riga.CITATION,
        "put BinRushed, Magrabia and MESSIDOR, as published, into riga of the data home",
        {f"{source}/**/*prime.*": n for source, n in riga.COUNTS.items()},
        tuple(riga.SOURCES),
    )


COHORTS: dict[str, Callable[[], Entry]] = {
    "imapp": _imapp,
    "phantom": _phantom,
    "folder": _folder,
    **{name: partial(_diagnosed, name) for name in DIAGNOSED},
    "isic_two_annotators": _two_annotators("isic_two_annotators"),
    "retina_two_observers": _two_annotators("retina_two_observers"),
    "riga": _riga,
}


def load(name: str = DEFAULT, **options) -> Cohort:
    """Load a cohort.

    Parameters
    ----------
    name : str
        A name of :data:`COHORTS`, or ``auto``: ``folder`` where a path is given, else ``imapp``
        where its tables are, otherwise the phantom (whose ``synthetic`` is True). ``auto-images``
        takes IMA++ only where images of it are, too.
    **options
        What the cohort's own loader takes (the phantom: ``n_images``, ``size``, ``seed``; a
        folder: ``path``, where an empty text is none; the datasets of diagnosis: ``incomplete``,
        and ``overlap``, ``unk``, ``subsets`` or ``modality`` as their modules say). An option that
        only another cohort takes has no effect, so that one call serves them all.

    Raises
    ------
    KeyError
        If there is no such cohort.
    TypeError
        If no cohort takes such an option.
    DatasetUnavailable
        If its files are not here.
    DataError
        If they are here but wrong.
    """
    entry, own = _chosen(name, options)
    return _module(entry.module).load(**entry.given, **own)


def choose(name: str = DEFAULT, **options) -> tuple[str, dict]:
    """Say which cohort :func:`load` would give, and which of the options it takes.

    Parameters
    ----------
    name, **options
        As for :func:`load`.

    Returns
    -------
    str
        A name of :data:`COHORTS`, never ``auto``.
    dict
        The options that have an effect.

    Raises
    ------
    KeyError, TypeError
        As :func:`load`.
    """
    entry, own = _chosen(name, options)
    return entry.name, own


def available() -> list[str]:
    """Return the names of the cohorts that can be loaded on this machine by name alone."""
    entries = [make() for make in COHORTS.values()]
    return [entry.name for entry in entries if not entry.needs and not _missing(entry)]


def fingerprint(name: str = DEFAULT, **options) -> str:
    """Return a short digest of a cohort's files by name, size and time, without reading them.

    It changes when a file is added, removed or rewritten, and with an option that the cohort's
    loader takes: reason enough to run again what was computed from them. The content itself is
    what :attr:`Cohort.fingerprint` digests.

    Parameters
    ----------
    name, **options
        As for :func:`load`; a path counts by the files that it leads to, however it is written.

    Raises
    ------
    KeyError, TypeError
        As :func:`load`.
    DatasetUnavailable, DataError
        For a folder, whose table is read for the files it names, as :func:`load`.
    """
    entry, own = _chosen(name, options)
    digest = hashlib.sha256(entry.name.encode())
    if not entry.sources:
        digest.update("".join(f"{key}={own[key]!r}\n" for key in sorted(own)).encode())
    # asking for them again for each of many files takes seconds
    folder, also = entry.folder, set(entry.also)
    for path in sorted(_files(entry, own)):
        facts = path.stat() if path.exists() else None
        size_and_time = f"{facts.st_size}|{facts.st_mtime_ns}" if facts else "missing"
        home = data_home() if path in also else folder
        place = path.relative_to(home) if entry.files else path
        digest.update(f"{place}|{size_and_time}\n".encode())
    return digest.hexdigest()[:12]


def _files(entry: Entry, own: dict) -> list[Path]:
    if entry.sources:
        return entry.sources(**own)
    if not entry.files:
        return []
    folder = entry.folder
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    # What is still being fetched, and what editors and systems hide, is not data.
    shown = (path for path in below if not any(subset.startswith(".") for subset in path.parts))
    return [*(folder / path for path in shown), *entry.also]


def _chosen(name: str, options: dict) -> tuple[Entry, dict]:
    """Find the entry of a name, and those of the options that it takes."""
    known = {option for make in COHORTS.values() for option in make().options}
    if unknown := options.keys() - known:
        raise TypeError(f"no cohort takes {', '.join(sorted(unknown))}; there are {sorted(known)}")
    if name in _CHOOSING and options.get("path"):
        name = "folder"
    entry = _entry(name)
    return entry, {key: value for key, value in options.items() if key in entry.options}


def _module(name: str):
    return importlib.import_module(f"iavlib.data.{name}")


def _entry(name: str) -> Entry:
    if name in _CHOOSING:
        imapp = COHORTS["imapp"]()
        images = name == DEFAULT or any((imapp.folder / "images").glob("*.jpg"))
        name = "imapp" if images and not _missing(imapp) else "phantom"
    if name not in COHORTS:
        near = difflib.get_close_matches(name, [*COHORTS, *_CHOOSING], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = f"{', '.join(COHORTS)} and {', '.join(_CHOOSING)}"
        raise KeyError(f"no cohort {name!r}; there are {known}.{hint}")
    return COHORTS[name]()


def _missing(entry: Entry) -> list[str]:
    return [file for file in entry.required if not (entry.folder / file).exists()]


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
    from iavlib.core.disk import STAGING
    from iavlib.data.imapp import altered_tables

    notes = [f"{table} differs from the published one" for table in altered_tables(folder)]
    broken = [kind for kind in ("masks", "images") if (folder / kind / STAGING).is_dir()]
    return notes + [f"fetching the {kind} broke off or is going on" for kind in broken]
