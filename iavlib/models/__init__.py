"""Networks: backbones that compute features of images, and heads that predict from them.

>>> from iavlib import models
>>> models.find_backbone("swin_v2_t").size
256
>>> network = models.build_network(
...     "resnet18", {"iaa": models.HeadSpec("paper")}, weights="none", seed=3
... )
>>> network.weights.detail
'random, seed 3'

Names are imported when they are first used: the list of backbones is available without torch.
"""

import lazy_loader

from iavlib.core.errors import ModelError, UnknownBackboneError, WeightsUnavailable

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["ModelError", "UnknownBackboneError", "WeightsUnavailable"]
