"""Learning from several annotators: every method has one interface.

>>> from iavlib import multiannotator
>>> "cm" in multiannotator.METHODS
True

>>> digits = iavlib.multiannotator.digits((400, 100, 200))           # doctest: +SKIP
>>> method = multiannotator.make_method("cm", trace=0.01)        # doctest: +SKIP
>>> model = method.fit(digits, get_recipe("annotators"))         # doctest: +SKIP
>>> model.predict(digits.part("test")).consensus.shape           # doctest: +SKIP
(200, 2, 28, 28)

Names that need PyTorch are imported when they are first used.

Labels of several annotators to learn from: sets as arrays, simulated annotators, metrics.

>>> digits = multiannotator.digits((40, 10, 20), level=0.5)
>>> multiannotator.true_confusion(digits).overall.shape
(5, 2, 2)

DiFF: masks fused, and lesions segmented, so that they serve the diagnosis (Wu et al. 2024).

- :mod:`~iavlib.models.assisted`: diagnosis nets that take a mask beside the image;
- :mod:`~iavlib.multiannotator.expertness` and :mod:`~iavlib.multiannotator.expertness`: maps of
  each rater's expertness, and the fused mask that they give (DF-GT);
- :mod:`~iavlib.models.take_give`: the Take and Give network;
- :mod:`~iavlib.multiannotator.fusion`: fusion by expectation-maximisation, to compare with.

A fused mask of this kind is made with the diagnosis of its own image: a diagnosis that is read
from it again says nothing of what a clinic could do.
"""

import lazy_loader

from iavlib.core.errors import DiagnosisFirstError, LabelError, MethodError

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["DiagnosisFirstError", "LabelError", "MethodError"]
