"""Which parts of this library a notebook uses, found without importing anything.

The import statements of the notebook, and of every module reached from it, are
read from their syntax trees: those inside functions too, as they run sooner or
later. Importing ``a.b.c`` runs ``a`` and ``a.b`` as well, so these count.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import iavlib

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
