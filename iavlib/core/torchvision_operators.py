"""Import of torchvision beside a PyTorch without CUDA.

The package index offers torchvision only as built for CUDA. Beside a PyTorch for CPUs its compiled
part does not load, its operators ``nms`` and ``qnms`` stay undefined, and importing torchvision, as
timm does, fails with "operator torchvision::nms does not exist". Declaring the two operators by
their schemas is enough for that import; calling them, or ``torchvision.io``, still fails.

With any other pair of packages nothing is installed, and nothing is imported before torchvision is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from importlib.metadata import PackageNotFoundError, version

_NAME = "torchvision"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared = []  # torch forgets operators with the object that declared them


class _Loader(importlib.abc.Loader):
    """Declare the operators, then load torchvision."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        import torch

        if not _declared:
            library = torch.library.Library(_NAME, "DEF")
            for schema in _SCHEMAS:
                library.define(schema)
            _declared.append(library)
        self._loader.exec_module(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != _NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def install() -> None:
    """Prepare the import of torchvision, if it is built for CUDA and PyTorch is not."""
    try:
        mismatch = "+cpu" in version("torch") and "+cpu" not in version(_NAME)
    except PackageNotFoundError:
        return
    if mismatch and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
