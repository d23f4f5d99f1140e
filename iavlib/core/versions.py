"""Versions of the packages that can change a number, and the machine they ran on.

:func:`install_torchvision_operators` makes torchvision importable beside a PyTorch without CUDA.
The package index offers torchvision only as built for CUDA. Beside a PyTorch for CPUs its compiled
part does not load, its operators ``nms`` and ``qnms`` stay undefined, and importing torchvision, as
timm does, fails with "operator torchvision::nms does not exist". Declaring the two operators by
their schemas is enough for that import; calling them, or ``torchvision.io``, still fails. With any
other pair of packages nothing is installed, and nothing is imported before torchvision is.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Any

#: Import name to distribution of the packages that results depend on.
#: Tools that only run or show notebooks are left out on purpose.
PACKAGES = {
    **{name: name for name in ("numpy", "scipy", "pandas", "pandera", "statsmodels", "pingouin")},
    **{name: name for name in ("torch", "torchvision", "timm", "matplotlib", "seaborn")},
    **{"upsetplot": "upsetplot", "SimpleITK": "simpleitk", "PIL": "pillow"},
    **{"sklearn": "scikit-learn", "skimage": "scikit-image", "cv2": "opencv-python-headless"},
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "pytorch_grad_cam": "grad-cam",
}


def package_versions(modules: Iterable[str]) -> dict[str, str]:
    """Look up which versions of the listed packages are installed.

    Parameters
    ----------
    modules : iterable of str
        Top-level import names; those not in `PACKAGES` are ignored.

    Returns
    -------
    dict of str to str
        Distribution name to version, ``"not installed"`` when it is not.
    """
    versions = {}
    for module in sorted(set(modules) & set(PACKAGES)):
        package = PACKAGES[module]
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def loaded_versions() -> dict[str, str]:
    """Return the versions of Python, this library and every listed package in use.

    Returns
    -------
    dict of str to str
        ``python`` and ``iavlib`` first, then what this process has imported.
    """
    from iavlib import __version__

    own = {"python": platform.python_version(), "iavlib": __version__}
    return own | package_versions(sys.modules)


def hardware() -> dict[str, Any]:
    """Describe the machine, without its name.

    Returns
    -------
    dict
        ``system``, ``machine`` (architecture), ``cpus`` (those this process may use) and, where
        PyTorch is in use and finds any, ``accelerators`` (their models).
    """
    from iavlib.core.processes import usable_cores

    machine = {"system": platform.platform(terse=True), "machine": platform.machine()}
    accelerators = _accelerators()
    about = {"accelerators": accelerators} if accelerators else {}
    return machine | {"cpus": usable_cores()} | about


def describe_hardware(machine: Mapping[str, Any]) -> str:
    """Write what :func:`hardware` gives in words: processors and accelerators.

    Examples
    --------
    >>> from iavlib.core.versions import describe_hardware
    >>> describe_hardware({"system": "Linux-6.1.0-glibc2.36", "machine": "x86_64", "cpus": 2})
    '2 CPUs'
    """
    if "cpus" not in machine:
        return "an unknown machine"
    cores = f"{machine['cpus']} CPU{'s' * (machine['cpus'] != 1)}"
    return ", ".join([cores, *machine.get("accelerators", [])])


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


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


def install_torchvision_operators() -> None:
    """Prepare the import of torchvision, if it is built for CUDA and PyTorch is not."""
    try:
        versions = [importlib.metadata.version(name) for name in ("torch", _NAME)]
    except importlib.metadata.PackageNotFoundError:
        return
    mismatch = "+cpu" in versions[0] and "+cpu" not in versions[1]
    if mismatch and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
