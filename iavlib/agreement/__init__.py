"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
