"""Locations: a project's root folder and notebooks, and this machine's data and caches.

The *data home* holds what others published (only ``iav data fetch`` writes there), the *cache home*
what this library can generate again.
"""

import functools
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from iavlib.core.errors import ProjectError, suggest

ENVIRONMENT_VARIABLE = "IAV_PROJECT"
#: Names the file in which a run of a notebook and its kernel exchange facts.
RUN_VARIABLE = "IAV_RUN"
#: When set, experiments that are not finished are not trained (``iav run --no-train``).
NO_TRAIN_VARIABLE = "IAV_NO_TRAIN"
#: Names of experiments that are jobs of their own, by commas: a notebook only reads these.
APART_VARIABLE = "IAV_TRAINED_APART"
#: Experiments that one of the two kept from being trained in this process, for the manifest.
not_trained: set[str] = set()
#: The clone that this library lies in, unless it is installed without one.
_CLONE = Path(__file__).resolve().parents[2]


_PATHS = {
    "notebooks": "notebooks",
    "profiles": "notebooks/profiles",
    "book": "book",
    "claims": "book/claims.yml",
    "references": "book/references.bib",
    "executed": "book/executed",
    "toc": "_toc.yml",
    "config": "_config.yml",
    "build": "_build",
    "source": "_build/source",
    "html": "_build/html",
    "lock": "_build/work.lock",
    "workflow": "workflow",
}


@dataclass(frozen=True)
class Project:
    """Paths of one project folder.

    Parameters
    ----------
    root : Path
        Folder that holds ``_toc.yml`` and ``book/claims.yml``.
    results : Path, optional
        Takes the place of ``executed``: runs that are not to appear in the book.

    Attributes
    ----------
    notebooks, profiles : Path
        Source notebooks, without outputs, and parameter files, one per scale.
    book, claims, references : Path
        Pages of the book in MyST, the list of claims, the BibTeX file.
    executed : Path
        Results of the last run of each notebook: notebook, manifest and log.
    toc, config : Path
        Table of contents and configuration of the book.
    build, source, html : Path
        Everything that can be generated again; in it the pages as they are handed to Sphinx, and
        the built book.
    workflow : Path
        The graph for Snakemake and its profiles.
    lock : Path
        Held by the one ``iav book`` or ``iav run --jobs`` of this project at a time.
    """

    root: Path
    results: Path | None = None

    def __getattr__(self, name: str) -> Path:
        if name not in _PATHS:
            raise AttributeError(f"a project has no {name!r}")
        if name == "executed" and self.results is not None:
            return self.results
        return self.root / _PATHS[name]

    def notebook_files(self) -> dict[str, Path]:
        """Find the source notebooks.

        Returns
        -------
        dict of str to Path
            Stem to file, in the order of the number each name starts with.
        """
        found = sorted(self.notebooks.glob("*.ipynb"), key=_numeric_order)
        return {path.stem: path for path in found}


def _numeric_order(path: Path) -> tuple[float, str]:
    """Order "2_b" before "10_a", and names without a number last."""
    number = re.match(r"\d+", path.stem)
    return (float(number.group()) if number else float("inf"), path.stem)


def _is_root(folder: Path) -> bool:
    return (folder / "_toc.yml").is_file() and (folder / "book" / "claims.yml").is_file()


def find_project(start: Path | None = None) -> Project:
    """Find the project that a folder belongs to.

    Parameters
    ----------
    start : Path, optional
        Where to start; the working folder by default. The environment variable
        ``IAV_PROJECT``, when set, names the root and nothing is searched.

    Returns
    -------
    Project
        The first folder upwards that holds ``_toc.yml`` and ``book/claims.yml``; where there is
        none and no `start` is given, the clone from which this library was installed.

    Raises
    ------
    ProjectError
        If there is none.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named and start is None:
        root = Path(named).expanduser().resolve()
        if not _is_root(root):
            raise ProjectError(
                f"{ENVIRONMENT_VARIABLE}={named} is not a project: a project's folder holds "
                "_toc.yml and book/claims.yml; correct the variable or unset it"
            )
        return Project(root)
    first = (start or Path.cwd()).resolve()
    for folder in (first, *first.parents, *(() if start else (_CLONE,))):
        if _is_root(folder):
            return Project(folder)
    raise ProjectError(
        f"{first} is in no project (no folder upwards holds _toc.yml and book/claims.yml); "
        f"go into your clone, or set {ENVIRONMENT_VARIABLE} to it"
    )


def working_project() -> Project:
    """Find the project, else take the working folder: without notebooks and stored results.

    Raises
    ------
    ProjectError
        If ``IAV_PROJECT`` is set and names none.
    """
    try:
        return find_project()
    except ProjectError:
        if os.environ.get(ENVIRONMENT_VARIABLE):
            raise
        return Project(Path.cwd())


def select_notebooks(project: Project, names: Sequence[str] = ()) -> list[Path]:
    """Find the notebook files that a user names.

    Parameters
    ----------
    project : Project
        The project.
    names : sequence of str
        Stems (``01_data_analysis``), numbers (``01`` or ``1``) or paths; all
        notebooks when empty.

    Returns
    -------
    list of Path
        In the order of the notebooks' numbers, each once.

    Raises
    ------
    ProjectError
        If a name fits no notebook, or there is no notebook at all.
    """
    files = project.notebook_files()
    if not files:
        raise ProjectError(f"{project.notebooks} holds no notebook (*.ipynb)")
    chosen = {_match(name, files) for name in names} if names else set(files)
    return [path for stem, path in files.items() if stem in chosen]


def _match(name: str, files: dict[str, Path]) -> str:
    if name in files:
        return name
    if name.isdigit():
        fitting = [stem for stem in files if stem.split("_")[0].isdigit()]
        for stem in fitting:
            if int(stem.split("_")[0]) == int(name):
                return stem
    if name.endswith(".ipynb"):
        path = Path(name).resolve()
        for stem, file in files.items():
            if file.resolve() == path:
                return stem
        if path.is_file():
            raise ProjectError(f"{name} is not in {files[next(iter(files))].parent}; move it there")
    raise ProjectError(f"no notebook {name!r}; {suggest(Path(name).stem, files)}")


def data_home() -> Path:
    """Return the folder of the data sets: ``IAV_DATA_HOME``, else ``data`` in the user's cache.

    The folder need not exist.
    """
    return _from_environment("IAV_DATA_HOME") or Path(user_cache_dir("iavlib")) / "data"


def cache_home() -> Path:
    """Return the folder of what can be generated again: ``IAV_CACHE_HOME``, else the user's cache.

    The folder need not exist. Where the user's cache cannot be written, as under a home directory
    that is missing or read-only, it is a folder for temporary files, with a warning.
    """
    return _from_environment("IAV_CACHE_HOME") or _default_cache(Path(user_cache_dir("iavlib")))


@functools.cache
def _default_cache(usual: Path) -> Path:
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
    except OSError:
        pass
    user = getattr(os, "getuid", lambda: "cache")()
    instead = Path(tempfile.gettempdir()) / f"iavlib-{user}"
    instead.mkdir(mode=0o700, exist_ok=True)
    if instead.stat().st_uid != user and user != "cache":  # somebody else made it
        instead = Path(tempfile.mkdtemp(prefix="iavlib-"))
    warnings.warn(
        f"{usual} cannot be written; what is cached goes to {instead} and may be lost. "
        "Set IAV_CACHE_HOME to a folder that can be written to keep it",
        stacklevel=3,
    )
    return instead


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    return Path(value).expanduser().resolve() if value else None
