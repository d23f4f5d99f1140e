"""The cohorts by name: what there is, whether it is here, how to load it."""

import difflib
import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iavlib.data.cohort import Cohort
from iavlib.data.home import data_home

DEFAULT = "auto"


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
        Files without which the cohort cannot be loaded.
    options : tuple of str
        Keywords that its ``load`` takes.
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

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return data_home() / self.name


def _imapp() -> Entry:
    from iavlib.data import imapp, registry

    files = dict.fromkeys(registry.IMAPP_TABLES, 1) | {"images/*": 14967, "masks/*": 22472}
    return Entry(
        "imapp",
        "imapp",
        "IMA++ (2,394 images with 2 to 5 annotators, 14,967 in all)",
        imapp.LICENCE,
        imapp.CITATION,
        "iav data fetch imapp",
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


COHORTS: dict[str, Callable[[], Entry]] = {"imapp": _imapp, "phantom": _phantom}


def load(name: str = DEFAULT, **options) -> Cohort:
    """Load a cohort.

    Parameters
    ----------
    name : str
        A name of :data:`COHORTS`, or ``auto``: ``imapp`` where its tables are, otherwise the
        phantom (whose ``synthetic`` is True).
    **options
        What the cohort's own loader takes (the phantom: ``n_images``, ``size``, ``seed``). An
        option that only another cohort takes has no effect, so that one call serves them all.

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
    entry = _entry(name)
    known = {option for make in COHORTS.values() for option in make().options}
    if unknown := options.keys() - known:
        raise TypeError(f"no cohort takes {', '.join(sorted(unknown))}; there are {sorted(known)}")
    own = {key: value for key, value in options.items() if key in entry.options}
    return importlib.import_module(f"iavlib.data.{entry.module}").load(**own)


def available() -> list[str]:
    """Return the names of the cohorts that can be loaded on this machine."""
    return [name for name in COHORTS if not _missing(_entry(name))]


def fingerprint(name: str) -> str:
    """Return a short digest of a cohort's files by name, size and time, without reading them.

    It changes when a file is added, removed or rewritten: reason enough to run again what was
    computed from them. The content itself is what :attr:`Cohort.fingerprint` digests.
    """
    entry = _entry(name)
    digest = hashlib.sha256(entry.name.encode())
    if entry.files and entry.folder.is_dir():
        for path in sorted(p for p in entry.folder.rglob("*") if p.is_file()):
            facts = path.stat()
            key = f"{path.relative_to(entry.folder)}|{facts.st_size}|{facts.st_mtime_ns}\n"
            digest.update(key.encode())
    return digest.hexdigest()[:12]


def _entry(name: str) -> Entry:
    if name == DEFAULT:
        name = "imapp" if not _missing(COHORTS["imapp"]()) else "phantom"
    if name not in COHORTS:
        near = difflib.get_close_matches(name, [*COHORTS, DEFAULT], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no cohort {name!r}; there are {', '.join(COHORTS)} and {DEFAULT}.{hint}")
    return COHORTS[name]()


def _missing(entry: Entry) -> list[str]:
    return [file for file in entry.required if not (entry.folder / file).is_file()]
