"""Does agreement tell anything, and can it be told? Statistics that know no dataset.

Rows of one patient or image resemble each other, so every interval here resamples clusters and
every permutation moves labels between them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
