"""The methods by name; every file of this package adds its own with :func:`register`.

Names are known without importing the methods, and thereby PyTorch: they are read off the files'
``@register`` lines and off the entry points of other packages in the group ``iavlib.methods``,
whose names are those of methods; others come with a plugin (:mod:`iavlib.core.plugins`)::

    [project.entry-points."iavlib.methods"]
    mine = "my_package.my_module"
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iavlib.core.errors import MethodError, suggest
from iavlib.core.plugins import load_plugins, outside

if TYPE_CHECKING:
    from iavlib.multiannotator.method import Method

GROUP = "iavlib.methods"
_REGISTER = re.compile(r'^@register\(\s*"([^"]+)"', re.MULTILINE)


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
    method: type[Method]
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Methods(Mapping):
    """All methods; each is imported when it is first used, listing them imports none."""

    def __init__(self):
        self._entries: dict[str, Entry] = {}

    def add(self, entry: Entry) -> None:
        known = self._entries.get(entry.name)
        owner = known.method.__module__ if known else _modules().get(entry.name)
        if owner not in (None, entry.method.__module__):
            raise MethodError(f"two methods are called {entry.name!r}: rename one")
        self._entries[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            if name in _modules():
                importlib.import_module(_modules()[name])
            elif name in outside(GROUP):
                outside(GROUP)[name].load()
            else:
                load_plugins()
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in _modules() or name in set(self)

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(sorted({*_modules(), *outside(GROUP), *self._entries}))

    def __len__(self) -> int:
        return len(list(iter(self)))  # list(self) would ask for the length


@cache
def _modules() -> dict[str, str]:
    """Return the module of each method of this package, without importing it."""
    return {
        name: f"{__name__}.{path.stem}"
        for path in Path(__file__).parent.glob("*.py")
        for name in _REGISTER.findall(path.read_text(encoding="utf-8"))
    }


#: Name to :class:`Entry`.
METHODS: Mapping[str, Entry] = _Methods()


def register(name: str, title: str, **settings: Any) -> Callable[[type], type]:
    """Register a class as a method; several names may stand for one class's settings.

    Parameters
    ----------
    name, title : str
        The title is shown in tables and figures.
    **settings
        Those of the class's defaults that the name changes.
    """

    def decorate(method: type) -> type:
        METHODS.add(Entry(name, title, method, settings))
        return method

    return decorate


def make_method(name: str, **settings: Any) -> Method:
    """Make a method by its name.

    Parameters
    ----------
    name : str
        Of :data:`METHODS`.
    **settings
        Where they differ from what the name stands for.

    Raises
    ------
    MethodError
        If there is no such method or setting (near names are suggested), or a value is impossible.
    """
    if name not in METHODS:
        raise MethodError(f"there is no method {name!r}; {suggest(name, METHODS)}")
    entry = METHODS[name]
    return entry.method(name, entry.title, **{**entry.settings, **settings})
