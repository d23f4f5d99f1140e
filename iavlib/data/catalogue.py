"""The datasets: which there are, whether they are on this machine, and how to load them.

A dataset is one module of :mod:`iavlib.data.datasets`, and its entry in ``about.yml`` there. One
from outside this package is registered by :func:`register_dataset`, in a plugin
(:mod:`iavlib.core.plugins`) or an entry point of the group ``iavlib.datasets`` that names its
:class:`Dataset`.

>>> from iavlib import data
>>> data.load("phantom", n_images=8, size=(48, 36))
Cohort('phantom', synthetic, 8 images, 16 masks, 8 pairs)
"""

import hashlib
import importlib.resources
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

import yaml

from iavlib.core.errors import suggest
from iavlib.core.files import is_hidden, walk_files
from iavlib.core.plugins import load_plugins, outside
from iavlib.core.project import data_home
from iavlib.data import datasets
from iavlib.data.cohort import Cohort
from iavlib.data.images import is_image
from iavlib.data.schemas import IMAGE_SUFFIXES

DEFAULT = "auto"
#: As DEFAULT, but IMA++ only where images of it are present.
WITH_IMAGES = "auto-images"
_AUTOMATIC = (DEFAULT, WITH_IMAGES)
GROUP = "iavlib.datasets"


@dataclass(frozen=True)
class Layout:
    """How the files of a dataset lie in its folder.

    Attributes
    ----------
    files : mapping of str to int
        What a complete copy holds: file or ``folder/*`` to number of files.
    required : tuple of str
        Files, folders that hold something, or patterns, without which the dataset cannot be
        loaded, relative to its folder; ``.`` for any of `files`.
    name : {"official", "simple"}
    """

    files: Mapping[str, int] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    name: str = "official"


@dataclass(frozen=True)
class Dataset:
    """Description of a dataset.

    Attributes
    ----------
    name : str
        By which :func:`load` finds it.
    load : callable
        Returns its :class:`~iavlib.data.Cohort`; takes the options as keywords.
    title, licence, citation, how : str
        ``how`` states how to get the files.
    layout : callable
        From its folder to the :class:`Layout` of its files; without files where the dataset is
        generated.
    options : tuple of str
        Keywords of ``load`` that users may set.
    needs : tuple of str
        Options without which there is nothing to load.
    sources : callable, optional
        From the options to the files that a cohort is read from; unless given, all files in its
        folder.
    overlap : {"", "keep", "leave out"}
        What happens by default to images that IMA++ has, too; empty where it shares none.
    diagnosed : bool
        Whether it is a dataset of diagnosis: images with the target melanoma.
    passes : int, optional
        Passes over the training split per epoch in the published fine-tuning.
    class_weights : sequence of float, optional
        Weights of both classes in the published code.
    notes : callable, optional
        From its folder to what is unusual about its files.
    """

    name: str
    load: Callable[..., Cohort]
    title: str
    licence: str
    citation: str
    how: str
    layout: Callable[[Path], Layout] = lambda folder: Layout()
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    sources: Callable[..., list[Path]] | None = None
    overlap: str = ""
    diagnosed: bool = False
    passes: int | None = None
    class_weights: Sequence[float] | None = None
    notes: Callable[[Path], list[str]] = lambda folder: []

    @property
    def folder(self) -> Path:
        """Folder of its files in the data home."""
        return data_home() / self.name

    @property
    def files(self) -> Mapping[str, int]:
        """Files of a complete copy, as in :class:`Layout`."""
        return self.layout(self.folder).files

    @property
    def also(self) -> tuple[Path, ...]:
        """Tables of IMA++ from which the overlap is known."""
        if not self.overlap:
            return ()
        imapp = find_dataset("imapp")
        return tuple(imapp.folder / name for name in imapp.layout(imapp.folder).required)

    @property
    def missing(self) -> list[Path]:
        """Required files that are absent."""
        folder, layout = self.folder, self.layout(self.folder)
        lacking = [name for name in layout.required if not _is_there(folder, name, layout)]
        also = self.also if self.overlap == "leave out" else ()
        return [*(folder / name for name in lacking), *(p for p in also if not p.is_file())]


_registered: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> Dataset:
    """Add a dataset to the catalogue; one of the same name is replaced."""
    _registered[dataset.name] = dataset
    return dataset


@cache
def _about() -> dict[str, dict[str, str]]:
    text = importlib.resources.files(datasets).joinpath("about.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def register_own(name: str, load: Callable[..., Cohort], **facts) -> Dataset:
    """Add a dataset that ``datasets/about.yml`` describes."""
    return register_dataset(Dataset(name, load, **_about()[name], **facts))


def dataset_names() -> list[str]:
    """Return the names of all datasets: those of this package, entry points, registered ones."""
    load_plugins()
    return list(dict.fromkeys([*_own(), *outside(GROUP), *_registered]))


def find_dataset(name: str) -> Dataset:
    """Return the description of a dataset.

    Raises
    ------
    KeyError
        If there is no such dataset.
    """
    if name not in _registered:
        if name in _own():
            register_dataset(importlib.import_module(f"{datasets.__name__}.{name}").DATASET)
        elif name in outside(GROUP):
            register_dataset(outside(GROUP)[name].load())
        elif name not in (known := dataset_names()):
            raise KeyError(f"no cohort {name!r}; {suggest(name, [*known, *_AUTOMATIC])}")
    return _registered[name]


def diagnosed() -> list[str]:
    """Return the names of the datasets of diagnosis."""
    return [name for name in dataset_names() if find_dataset(name).diagnosed]


def load(name: str = DEFAULT, **options) -> Cohort:
    """Load a cohort.

    Parameters
    ----------
    name : str
        A name of :func:`dataset_names`, or ``auto``: ``folder`` where a path is given, else
        ``imapp`` where its tables are present, otherwise the phantom (whose ``synthetic`` is
        True). ``auto-images`` takes IMA++ only where images of it are present, too.
    **options
        What the dataset's own loader takes (the phantom: ``n_images``, ``size``, ``seed``; a
        folder: ``path``, where an empty text counts as none; the datasets of diagnosis:
        ``incomplete``, and ``overlap``, ``unk``, ``subsets`` or ``modality`` as their modules
        describe). An option that only another dataset takes has no effect, so that one call
        serves all of them.

    Raises
    ------
    KeyError
        If there is no such dataset.
    TypeError
        If no dataset takes such an option.
    DatasetUnavailable
        If its files are absent.
    DataError
        If they are present but wrong.
    """
    name, own = choose(name, **options)
    return find_dataset(name).load(**own)


def load_shared(name: str = DEFAULT, **options) -> Cohort:
    """Load a cohort as :func:`load`, once while its files do not change; do not modify it."""
    name, own = choose(name, **options)
    return _load_shared(name, json.dumps(own, default=str), fingerprint(name, **own))


@lru_cache(maxsize=6)
def _load_shared(name: str, options: str, _state: str) -> Cohort:
    return load(name, **json.loads(options))


def choose(name: str = DEFAULT, **options) -> tuple[str, dict]:
    """Return which dataset :func:`load` would load, and which of the options it takes.

    Parameters
    ----------
    name, **options
        As for :func:`load`.

    Returns
    -------
    str
        A name of :func:`dataset_names`, never ``auto``.
    dict
        The options that have an effect.

    Raises
    ------
    KeyError, TypeError
        As :func:`load`.
    """
    if name in _AUTOMATIC and options.get("path"):
        name = "folder"
    elif name in _AUTOMATIC:
        imapp = find_dataset("imapp")
        images = name == DEFAULT or any((imapp.folder / "images").glob("*.jpg"))
        name = "imapp" if images and not imapp.missing else "phantom"
    dataset = find_dataset(name)
    if options.keys() - set(dataset.options):
        known = {option for other in dataset_names() for option in find_dataset(other).options}
        if unknown := options.keys() - known:
            raise TypeError(
                f"no cohort takes {', '.join(sorted(unknown))}; there are {sorted(known)}"
            )
    return name, {key: value for key, value in options.items() if key in dataset.options}


def available() -> list[str]:
    """Return the names of the datasets that can be loaded on this machine by name alone."""
    entries = map(find_dataset, dataset_names())
    return [entry.name for entry in entries if not entry.needs and not entry.missing]


def fingerprint(name: str = DEFAULT, **options) -> str:
    """Return a short digest of a dataset's files by name, size and time, without reading them.

    It changes when a file is added, removed or rewritten, and with an option that the dataset's
    loader takes: results computed from them are then out of date. The content itself is digested
    by :attr:`Cohort.fingerprint`.

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
    name, own = choose(name, **options)
    dataset = find_dataset(name)
    digest = hashlib.sha256(dataset.name.encode())
    plain = own.keys() - (set(dataset.needs) if dataset.sources else set())
    digest.update("".join(f"{key}={own[key]!r}\n" for key in sorted(plain)).encode())
    folder, also, published = dataset.folder, set(dataset.also), bool(dataset.files)
    if dataset.sources:
        files = dataset.sources(**own)
    else:
        # Hidden files are those of editors and systems, or still being fetched.
        files = [*walk_files(folder), *also] if published else []
    for path in sorted(files):
        facts = path.stat() if path.exists() else None
        size_and_time = f"{facts.st_size}|{facts.st_mtime_ns}" if facts else "missing"
        place = path.relative_to(data_home() if path in also else folder) if published else path
        digest.update(f"{place}|{size_and_time}\n".encode())
    return digest.hexdigest()[:12]


def _own() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(datasets.__path__)]


@dataclass(frozen=True)
class Status:
    """Which files of one dataset are present.

    Attributes
    ----------
    name, title, licence, citation, how : str
        As in :class:`Dataset`.
    state : {"present", "partial", "absent", "built in", "by path"}
        ``partial`` datasets are usable when ``usable`` is True; ``by path`` is what the user
        points at.
    usable : bool
        Whether its name alone is enough to load it.
    counts : dict of str to (int, int)
        Files present and files of a complete copy (0: unknown), by file name or ``folder/*``.
    bytes : int
        Size of the files present.
    folder : str
    notes : list of str
        What is unusual about the files (altered tables).
    """

    name: str
    state: str
    usable: bool
    counts: dict[str, tuple[int, int]]
    bytes: int
    folder: str
    notes: list[str]
    title: str
    licence: str
    citation: str
    how: str


def status() -> list[Status]:
    """Return the status of every dataset of the catalogue."""
    usable = available()
    return [_status(find_dataset(name), name in usable) for name in dataset_names()]


def _is_there(folder: Path, name: str, layout: Layout) -> bool:
    """Return whether something required is there: an empty folder is not, nor one for a file."""
    patterns = layout.files if name == "." else [name]
    found = any(True for pattern in patterns for _ in _present(folder, pattern))
    return found or (name != "." and any(not is_hidden(p.name) for p in (folder / name).glob("*")))


def _present(folder: Path, pattern: str) -> Iterator[Path]:
    """Go through the files of a pattern; ``*.jpg`` stands for every image that would be read."""
    place, _, suffix = pattern.rpartition("*")
    images = suffix in IMAGE_SUFFIXES
    found = folder.glob(f"{place}*" if images else pattern)
    shown = is_image if images else (lambda path: not is_hidden(path.name))
    return (path for path in found if shown(path) and path.is_file())


def _status(dataset: Dataset, usable: bool) -> Status:
    folder, counts, size = dataset.folder, {}, 0
    for pattern, expected in dataset.files.items():
        present = list(_present(folder, pattern))
        counts[pattern] = (len(present), expected)
        size += sum(path.stat().st_size for path in present)
    if dataset.needs:
        state, place = "by path", "where you say"
    elif not counts:
        state, place = "built in", "made on demand"
    else:
        complete = all(have >= max(expected, 1) for have, expected in counts.values())
        some = any(have for have, _ in counts.values())
        state, place = "present" if complete else "partial" if some else "absent", str(folder)
    about = {name: getattr(dataset, name) for name in ("title", "licence", "citation", "how")}
    notes = dataset.notes(folder)
    return Status(dataset.name, state, usable, counts, size, place, notes, **about)
