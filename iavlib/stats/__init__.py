"""Statistics of agreement, predictions and diagnoses, on arrays and tables.

Rows of one patient or image are dependent, so every bootstrap interval resamples clusters and every
permutation test moves labels between them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
