"""Versions of the packages that can change a number, and the machine they ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

#: Import name to distribution name of the packages that results depend on.
#: Tools that only run or show notebooks are left out on purpose.
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "pandera": "pandera",
    "statsmodels": "statsmodels",
    "pingouin": "pingouin",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "SimpleITK": "simpleitk",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "pytorch_grad_cam": "grad-cam",
    "matplotlib": "matplotlib",
    "seaborn": "seaborn",
    "upsetplot": "upsetplot",
}


def package_versions(modules: Iterable[str]) -> dict[str, str]:
    """Look up which versions of the listed packages are installed.

    Parameters
    ----------
    modules : iterable of str
        Top-level import names; those not in `PACKAGES` are passed over.

    Returns
    -------
    dict of str to str
        Distribution name to version, ``"not installed"`` when it is not.
    """
    versions = {}
    for module in sorted(set(modules) & set(PACKAGES)):
        try:
            versions[PACKAGES[module]] = importlib.metadata.version(PACKAGES[module])
        except importlib.metadata.PackageNotFoundError:
            versions[PACKAGES[module]] = "not installed"
    return versions


def loaded_versions() -> dict[str, str]:
    """Give the versions of Python, this library and every listed package in use.

    Returns
    -------
    dict of str to str
        ``python`` and ``iavlib`` first, then what this process has imported.
    """
    from iavlib import __version__

    return {
        "python": platform.python_version(),
        "iavlib": __version__,
        **package_versions(sys.modules),
    }


def hardware() -> dict[str, Any]:
    """Describe the machine, without its name.

    Returns
    -------
    dict
        ``system``, ``machine`` (architecture), ``cpus`` (those this process may use) and, where
        PyTorch is in use and finds any, ``accelerators`` (their models).
    """
    affinity = getattr(os, "sched_getaffinity", None)
    accelerators = _accelerators()
    return {
        "system": platform.platform(terse=True),
        "machine": platform.machine(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count() or 1,
        **({"accelerators": accelerators} if accelerators else {}),
    }


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
