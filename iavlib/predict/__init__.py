"""Trained models on new images: agreement, malignancy, heat maps, and a report.

Research software, no medical device.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
