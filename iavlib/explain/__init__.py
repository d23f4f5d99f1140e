"""Attribution maps of networks, and checks whether they explain anything.

>>> from iavlib import explain, models
>>> network = models.load_network("runs/iaa/318e44f83673")  # doctest: +SKIP
>>> explainer = explain.Explainer(network, [explain.LOWERS], ["Grad-CAM"])  # doctest: +SKIP
>>> maps = explainer.explain(images).maps[explain.LOWERS, "Grad-CAM"]  # doctest: +SKIP

Attribution is computed for a *target*: what lowers or what raises predicted agreement, what speaks
for a malignant or a benign lesion. Maps are not scaled until they are shown.
"""

import lazy_loader

from iavlib.core.errors import ExplainError

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["ExplainError"]
