"""Code from outside this package: methods, tasks, datasets, metrics and backbones of a user.

A *plugin* is a Python file or an importable module that registers any of them when it is
imported. It is named by the ``plugins`` of an experiment, by the environment variable
``IAV_PLUGINS`` (several as in ``PATH``), or by an entry point of an installed package. A file may
import others next to it.

A result depends on this code, so that the id of an experiment holds a digest of it: of the file
that defines what is used and of those that it imports next to it, directly or not. A file that has
changed is imported again.
"""

import ast
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from iavlib.core.errors import PluginError

VARIABLE = "IAV_PLUGINS"
_LIBRARIES = ("iavlib", "timm", "torch", "torchvision")
#: Imported plugin files to the digest of what was imported, and modules to their digest.
_loaded: dict[Path, str] = {}
_digests: dict[str, str] = {}


@cache  # reading what is installed takes long
def outside(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return {point.name: point for point in entry_points(group=group)}


def load_plugins(names: Iterable[str] = ()) -> None:
    """Import plugins, those of ``IAV_PLUGINS`` too; files again where they have changed.

    Parameters
    ----------
    names : iterable of str
        Files (``*.py``) and modules.

    Raises
    ------
    PluginError
        If there is no such file or module, its name is taken, or it cannot be imported.
    """
    for name in filter(None, (*names, *os.environ.get(VARIABLE, "").split(os.pathsep))):
        try:
            if name.endswith(".py"):
                _load_file(Path(name).expanduser().resolve())
            else:
                importlib.import_module(name)
        except PluginError:
            raise
        except Exception as error:  # the file is somebody's program
            problem = f"cannot be imported ({type(error).__name__}: {error})"
            raise PluginError(name, problem, "run it with python to see where it fails") from error


def _load_file(path: Path) -> None:
    if not path.is_file():
        problem = "there is no such file"
        raise PluginError(path, problem, f"correct 'plugins' of the experiment, or {VARIABLE}")
    files = source_files(path)
    digest = _digest(files)
    if _loaded.get(path) == digest:
        return
    for key, module in list(sys.modules.items()) if path in _loaded else ():
        if getattr(module, "__file__", None) in files:  # import it again, with what lies next to it
            del sys.modules[key]
            _digests.pop(key, None)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that it hides nothing
    importlib.invalidate_caches()
    # compiled files are stale where a file changes twice in a second
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        module = importlib.import_module(path.stem)
    finally:
        sys.dont_write_bytecode = before
    if getattr(module, "__file__", None) != str(path):
        raise PluginError(path, f"another module is called {path.stem!r}", "rename the file")
    _loaded[path] = _digests[path.stem] = digest


def code_digest(*objects: Any) -> str:
    """Digest the source of classes and functions from outside this package.

    Parameters
    ----------
    *objects
        Those of this package, timm and PyTorch count for nothing.

    Returns
    -------
    str
        Twelve hexadecimal digits; empty where all are of this package. What is defined in a
        notebook or script counts by its own source alone.
    """
    own = [item for item in objects if item.__module__.partition(".")[0] not in _LIBRARIES]
    found = {_code_of(item) for item in own}
    text = "".join(sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def source_digest(item: Any) -> str:
    """Digest the file that defines a class or function, of this package too."""
    path = getattr(sys.modules.get(item.__module__), "__file__", None)
    return _digest({path: Path(path).name}) if path else ""


def _code_of(item: Any) -> str:
    name = item.__module__
    if name not in _digests:  # once: a module that changes later is not imported again
        path = getattr(sys.modules.get(name), "__file__", None)
        if name == "__main__" or path is None:
            return "".join(_texts(item))
        _digests[name] = _digest(source_files(Path(path)))
    return _digests[name]


def _texts(item: Any) -> Iterator[str]:
    """Yield the source of a function, or of the functions and settings of a class."""
    for name, value in sorted(vars(item).items()) if inspect.isclass(item) else [("", item)]:
        try:
            yield inspect.getsource(value)
        except (OSError, TypeError):  # a setting; or made from a text that nobody kept
            yield "" if name.startswith("_") else f"{name}={value!r}\n"


def _digest(files: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for path, name in sorted(files.items(), key=lambda item: item[1]):
        digest.update(f"{name}\n".encode() + Path(path).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]


def source_files(path: Path) -> dict[str, str]:
    """List a file and those that it imports next to it, directly or not.

    Next to it are its folder or, of a file in a package, the package.

    Returns
    -------
    dict of str to str
        Path to the name relative to that folder, with ``/``.
    """
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    first = path.relative_to(root).parts[0]  # of what is installed, nothing but its own package
    within = root / first if root.name in ("site-packages", "dist-packages") else root
    found: dict[str, str] = {}
    todo = [path]
    while todo:
        file = todo.pop()
        if str(file) not in found:
            found[str(file)] = file.relative_to(root).as_posix()
            todo += [near for near in _imported(file, root) if near.is_relative_to(within)]
    return found


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files that a file imports from a folder."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except SyntaxError:
        return  # importing it states where
    places = [(root, a.name) for node in nodes if isinstance(node, ast.Import) for a in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            base = file.parents[node.level - 1] if node.level else root
            places += [(base, f"{node.module or ''}.{alias.name}") for alias in node.names]
    for base, name in places:
        parts = [part for part in name.split(".") if part]
        if base != root or parts[0] != "iavlib":
            for n in range(1, len(parts) + 1):
                place = base.joinpath(*parts[:n])
                both = (place.with_name(place.name + ".py"), place / "__init__.py")
                yield from filter(Path.is_file, both)
