"""Learning from several annotators: every method has one interface.

>>> from iavlib import multiannotator
>>> sorted(multiannotator.METHODS)[:2]
['cm', 'cm-global']

>>> digits = iavlib.annotators.digits((400, 100, 200))           # doctest: +SKIP
>>> method = multiannotator.make_method("cm", trace=0.01)        # doctest: +SKIP
>>> model = method.fit(digits, get_recipe("annotators"))         # doctest: +SKIP
>>> model.predict(digits.part("test")).consensus.shape           # doctest: +SKIP
(200, 2, 28, 28)

Names that need PyTorch are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

from iavlib.multiannotator.errors import MethodError
from iavlib.multiannotator.registry import METHODS, make_method, register

if TYPE_CHECKING:
    from iavlib.multiannotator.fitting import FittedMethod, fit
    from iavlib.multiannotator.fusion import fuse
    from iavlib.multiannotator.method import Method, Outputs, Problem
    from iavlib.multiannotator.prediction import Prediction
    from iavlib.multiannotator.saving import load_method, save_method
    from iavlib.multiannotator.scores import fusion_scores, image_scores, overall_scores

_LATER = {
    "FittedMethod": "fitting",
    "Method": "method",
    "Outputs": "method",
    "Prediction": "prediction",
    "Problem": "method",
    "fit": "fitting",
    "fuse": "fusion",
    "fusion_scores": "scores",
    "image_scores": "scores",
    "load_method": "saving",
    "overall_scores": "scores",
    "save_method": "saving",
}

__all__ = [
    "METHODS",
    "FittedMethod",
    "Method",
    "MethodError",
    "Outputs",
    "Prediction",
    "Problem",
    "fit",
    "fuse",
    "fusion_scores",
    "image_scores",
    "load_method",
    "make_method",
    "overall_scores",
    "register",
    "save_method",
]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
