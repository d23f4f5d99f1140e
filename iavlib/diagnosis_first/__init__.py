"""DiFF: masks fused, and lesions segmented, so that they serve the diagnosis (Wu et al. 2024).

- :mod:`~iavlib.diagnosis_first.assisted`: diagnosis nets that take a mask beside the image;
- :mod:`~iavlib.diagnosis_first.generators` and :mod:`~iavlib.diagnosis_first.expertness`: maps of
  each rater's expertness, and the fused mask that they give (DF-GT);
- :mod:`~iavlib.diagnosis_first.take_give`: the Take and Give network;
- :mod:`~iavlib.diagnosis_first.em`: fusion by expectation-maximisation, to compare with.

A fused mask of this kind is made with the diagnosis of its own image: a diagnosis that is read
from it again says nothing of what a clinic could do.
"""

import importlib
from typing import TYPE_CHECKING

from iavlib.diagnosis_first.errors import DiagnosisFirstError

if TYPE_CHECKING:
    from iavlib.diagnosis_first.assisted import NETS, build_assisted
    from iavlib.diagnosis_first.em import expectation_maximisation
    from iavlib.diagnosis_first.encoders import build_encoder
    from iavlib.diagnosis_first.expertness import fuse_by_expertness, optimise_expertness
    from iavlib.diagnosis_first.generators import GENERATORS, high_frequency_energy
    from iavlib.diagnosis_first.take_give import TakeGive

_LATER = {
    "GENERATORS": "generators",
    "NETS": "assisted",
    "TakeGive": "take_give",
    "build_assisted": "assisted",
    "build_encoder": "encoders",
    "expectation_maximisation": "em",
    "fuse_by_expertness": "expertness",
    "high_frequency_energy": "generators",
    "optimise_expertness": "expertness",
}

__all__ = [
    "GENERATORS",
    "NETS",
    "DiagnosisFirstError",
    "TakeGive",
    "build_assisted",
    "build_encoder",
    "expectation_maximisation",
    "fuse_by_expertness",
    "high_frequency_energy",
    "optimise_expertness",
]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
