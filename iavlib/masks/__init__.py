"""Masks as arrays: overlap, surface distances, consensus, and agreement of sets of masks.

>>> import numpy as np
>>> from iavlib import masks
>>> a, b = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
>>> a[2:6, 2:6] = b[2:6, 3:7] = True
>>> masks.dice(a, b), masks.hd(a, b)
(0.75, 1.0)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
