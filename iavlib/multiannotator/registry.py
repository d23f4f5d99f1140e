"""The methods by name; each file of :mod:`iavlib.multiannotator.methods` adds its own.

A method is a class decorated with :func:`register`. A file that is put into that folder is found:
nothing else has to be changed.
"""

import ast
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iavlib.errors import suggest
from iavlib.multiannotator.errors import MethodError

if TYPE_CHECKING:
    from iavlib.multiannotator.method import Method


@dataclass(frozen=True)
class Entry:
    """A method under one name, with the settings that the name stands for.

    Attributes
    ----------
    name, title : str
    method : type
        Derived from :class:`iavlib.multiannotator.Method`.
    settings : mapping
        Those that differ from the class's own defaults.
    """

    name: str
    title: str
    method: "type[Method]"
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Methods(Mapping):
    """All methods, imported when they are first asked for."""

    def __init__(self):
        self._entries: dict[str, Entry] = {}
        self._found = False

    def add(self, entry: Entry) -> None:
        before = self._entries.get(entry.name)
        if before is not None and before.method.__module__ != entry.method.__module__:
            raise MethodError(f"two methods are called {entry.name!r}: rename one")
        self._entries[entry.name] = entry

    def _all(self) -> dict[str, Entry]:
        if not self._found:
            from iavlib.multiannotator import methods

            for module in pkgutil.iter_modules(methods.__path__):
                importlib.import_module(f"{methods.__name__}.{module.name}")
            self._found = True
        return self._entries

    def __getitem__(self, name: str) -> Entry:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())


#: Name to :class:`Entry`.
METHODS: Mapping[str, Entry] = _Methods()


def register(name: str, title: str, **settings: Any) -> Callable[[type], type]:
    """Make a class known as a method; several names may stand for one class's settings.

    Parameters
    ----------
    name, title : str
        The title stands in tables and figures.
    **settings
        Those of the class's defaults that the name changes.
    """

    def known(method: type) -> type:
        METHODS.add(Entry(name, title, method, settings))
        return method

    return known


def method_names() -> tuple[str, ...]:
    """Read the names of all methods from their files, without importing PyTorch.

    Returns
    -------
    tuple of str
        Those of :data:`METHODS`, sorted.
    """
    found = set()
    for path in (Path(__file__).parent / "methods").glob("*.py"):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            marks = part.decorator_list if isinstance(part, ast.ClassDef) else ()
            calls = (one for one in marks if isinstance(one, ast.Call))
            named = (one for one in calls if getattr(one.func, "id", "") == register.__name__)
            found |= {one.args[0].value for one in named}
    return tuple(sorted(found))


def make_method(name: str, **settings: Any) -> "Method":
    """Make a method by its name.

    Parameters
    ----------
    name : str
        Of :data:`METHODS`.
    **settings
        What differs from what the name stands for.

    Raises
    ------
    MethodError
        If there is no such method or setting (near names are suggested), or a value is impossible.
    """
    if name not in METHODS:
        raise MethodError(f"there is no method {name!r}; {suggest(name, METHODS)}")
    entry = METHODS[name]
    return entry.method(name, entry.title, **{**entry.settings, **settings})
