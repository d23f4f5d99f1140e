"""The fingerprint of a run: the same when, and only when, nothing it depends on changed.

It covers the notebook's cells, the resolved parameters, the parts of this
library the notebook imports, the versions of the packages these import, and the
data the notebook asks for. It does not cover outputs, editors' metadata, other
modules, other packages or the text of the claims.

Which parts of this library a notebook uses, found without importing anything.

The import statements of the notebook, and of every module reached from it, are
read from their syntax trees: those inside functions too, as they run sooner or
later. Importing ``a.b.c`` runs ``a`` and ``a.b`` as well, so these count.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import iavlib
from iavlib.book.notebook_source import read_cells
from iavlib.core.errors import ParameterError
from iavlib.core.versions import package_versions

PACKAGE = iavlib.__name__
ROOT = Path(iavlib.__file__).parent.parent
_MAGIC = re.compile(r"^([ \t]*)[%!].*$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Closure:
    """What a piece of code needs.

    Parameters
    ----------
    parts : dict of str to str
        Module of this library (dotted name) to a hash of its code.
    external : frozenset of str
        Top-level names of the other modules imported on the way.
    """

    parts: dict[str, str]
    external: frozenset[str]


def import_closure(sources: Iterable[str], root: Path = ROOT, package: str = PACKAGE) -> Closure:
    """Follow imports from pieces of code through this library.

    Parameters
    ----------
    sources : iterable of str
        Python code, such as the code cells of a notebook. Lines that start with
        ``%`` or ``!`` are not Python and import nothing from here; a cell that
        is no Python even so fails when it is run, and counts for nothing here.
    root : Path, optional
        Folder that holds the package.
    package : str, optional
        Name of the package to follow.

    Returns
    -------
    Closure
        Modules reached, with a hash each that neither comments, layout nor
        docstrings change; a package's data files (a style, a schema) count
        with the package.
    """
    external: set[str] = set()
    waiting: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(_MAGIC.sub(r"\1pass", source))
        except SyntaxError:
            continue
        waiting |= _imported(tree, "", root, package, external)
    parts: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module in parts:
            continue
        digest, found, others = _read_module(module, root, package)
        parts[module] = digest
        external |= others
        waiting |= found - set(parts)
    return Closure(dict(sorted(parts.items())), frozenset(external))


def _read_module(module: str, root: Path, package: str) -> tuple[str, set[str], set[str]]:
    """Give a module's hash, the library's modules it imports, and other names it imports."""
    path = _module_file(module, root)
    assert path is not None, module
    digest, tree = _parse(path, path.stat().st_mtime_ns)
    if path.name == "__init__.py":
        digest = _with_data_files(digest, path.parent)
    external: set[str] = set()
    home = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return digest, _imported(tree, home, root, package, external), external


@cache
def _parse(path: Path, _mtime: int) -> tuple[str, ast.Module]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest(), tree


def _without_docstrings(tree: ast.Module) -> ast.Module:
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _with_data_files(digest: str, folder: Path) -> str:
    total = hashlib.sha256(digest.encode())
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix not in {".py", ".pyc"} and file.name[0] != ".":
            total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def _module_file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


def _imported(tree: ast.AST, home: str, root: Path, package: str, external: set[str]) -> set[str]:
    """List the library's modules that the statements below `tree` import.

    `home` is the package that relative imports start from; names of other
    top-level modules are added to `external`.
    """
    found: set[str] = set()
    for name in _candidates(tree, home):
        top = name.partition(".")[0]
        if top != package:
            external.add(top)
            continue
        while name:
            if _module_file(name, root) is not None:
                found.add(name)
            name = name.rpartition(".")[0]
    return found


def _candidates(tree: ast.AST, home: str) -> Iterable[str]:
    """Yield every dotted name that an import below `tree` may load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), home)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call) and _is_import_module(node.func) and node.args:
            yield from (_absolute(name, home) for name in _computed_names(node.args[0], tree))


def _computed_names(argument: ast.expr, tree: ast.AST) -> Iterable[str]:
    """Yield the names that ``import_module(argument)`` may load.

    In ``import_module(f"package.{name}")`` the name is taken to be any text that
    stands in the same code, as where a catalogue lists its modules.
    """
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
        prefix = argument.values[0].value
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        yield from (prefix + t for t in texts if isinstance(t, str) and t.isidentifier())


def _is_import_module(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "import_module"


def _absolute(name: str, home: str) -> str:
    """Resolve leading dots against the package `home`."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = home.split(".")
    base = parts[: len(parts) - (level - 1)]
    return ".".join([*base, *filter(None, [name[level:]])])


DataFingerprint = Callable[..., str]

#: A notebook with a parameter of this name works on the data it names.
COHORT_PARAMETER = "cohort"
#: A notebook with a parameter of this name takes a user's own files.
PATH_PARAMETER = "path"


def cohort_fingerprint(name: str, path: str = "") -> str:
    """Ask the data layer, which is slow to load, for the fingerprint of a cohort's files."""
    from iavlib.core.errors import DataError, DatasetUnavailable
    from iavlib.data.catalogue import fingerprint

    try:
        return fingerprint(name, path=path)
    except KeyError as error:
        raise ParameterError(f"parameter {COHORT_PARAMETER!r}: {error.args[0]}") from error
    except (DataError, DatasetUnavailable) as error:
        raise ParameterError(f"parameter {PATH_PARAMETER!r}: {error}") from error


def run_inputs(
    notebook: Path,
    parameters: Mapping[str, Any],
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> dict[str, Any]:
    """Gather everything a run of a notebook depends on.

    Parameters
    ----------
    notebook : Path
        Source notebook.
    parameters : mapping
        Its resolved parameters.
    data_fingerprint : callable, optional
        Cohort name, and the path of a user's own files where one is given, to a
        string that changes when the files change. Called only for a notebook
        with a text parameter ``cohort``.

    Returns
    -------
    dict
        ``cells``, ``parameters``, ``library``, ``packages`` and ``data``, ready
        for JSON; two of them can be compared to see what changed.
    """
    cells = read_cells(notebook)
    closure = import_closure(cell.source for cell in cells if cell.kind == "code")
    cohort, path = parameters.get(COHORT_PARAMETER), parameters.get(PATH_PARAMETER)
    own = {PATH_PARAMETER: path} if path else {}
    return {
        "cells": [[cell.kind, cell.source, list(cell.tags), cell.figure] for cell in cells],
        "parameters": dict(parameters),
        "library": closure.parts,
        "packages": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **package_versions(closure.external),
        },
        "data": data_fingerprint(cohort, **own) if isinstance(cohort, str) else None,
    }


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash what :func:`run_inputs` gathered.

    Parameters
    ----------
    inputs : mapping
        What the run depends on.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    canonical = json.dumps(inputs, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def condense(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten what :func:`run_inputs` gathered, for the manifest to keep.

    Parameters
    ----------
    inputs : mapping
        What the run depends on.

    Returns
    -------
    dict
        The same keys; cells and parts of the library as short hashes.
    """
    cells = [[cell[0], fingerprint({"cell": cell})[:8]] for cell in inputs["cells"]]
    library = {name: digest[:8] for name, digest in inputs["library"].items()}
    return {**inputs, "cells": cells, "library": library}
