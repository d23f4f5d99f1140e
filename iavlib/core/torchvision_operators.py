"""Lets torchvision be imported beside a PyTorch without CUDA.

The package index offers torchvision only as built for CUDA. Its compiled half does not load beside
a PyTorch for CPUs, so the operators ``nms`` and ``qnms`` never become known, and importing
torchvision, as timm does, stops at "operator torchvision::nms does not exist". Declaring the two
by their schemas is enough for that import; calling them, or ``torchvision.io``, still fails.

Nothing is imported before somebody imports torchvision, and nothing is declared where it loads.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_MISSING = "operator torchvision::nms does not exist"
_NAME = "torchvision"
_declared = []  # torch forgets operators with the object that declared them


class _Loader(importlib.abc.Loader):
    """Loads torchvision, a second time with the operators declared if the first stops for them."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if _MISSING not in str(error):
                raise
            _forget_parts()
            _declare()
            self._loader.exec_module(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds torchvision where it is, and has it loaded by :class:`_Loader`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def _forget_parts() -> None:
    """Drop what the import that stopped left of torchvision's own modules."""
    for name in [name for name in sys.modules if name.startswith(f"{_NAME}.")]:
        del sys.modules[name]


def _declare() -> None:
    import torch

    library = torch.library.Library(_NAME, "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)


def install() -> None:
    """Watch for the import of torchvision; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
