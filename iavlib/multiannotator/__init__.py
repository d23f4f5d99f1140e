"""Learning from several annotators: datasets, methods with one interface, and their scores.

>>> from iavlib import multiannotator
>>> sorted(multiannotator.METHODS)[:2]
['aggnet', 'avap']

A dataset holds images with one label map per annotator: of a cohort (:func:`from_cohort`), with
simulated annotators on a cohort's masks (:func:`simulated_on`), or of MNIST digits
(:func:`simulated_mnist`):

>>> dataset = multiannotator.simulated_mnist((40, 10, 20), level=0.5, source="drawn")
>>> multiannotator.true_confusion(dataset).overall.shape
(5, 2, 2)

Every method is trained, used and saved in the same way:

>>> from iavlib.training.recipe import get_recipe
>>> method = multiannotator.make_method("cm", widths=[4, 8], trace=0.01)
>>> model = multiannotator.fit(method, dataset, get_recipe("annotators", epochs=1))
>>> model.predict(dataset.subset("test")).consensus.shape
(20, 2, 28, 28)

How to add a method: :mod:`iavlib.multiannotator.method`. Names that need PyTorch are imported when
they are first used.
"""

import lazy_loader

from iavlib.core.errors import DiagnosisFirstError, LabelError, MethodError

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["DiagnosisFirstError", "LabelError", "MethodError"]
