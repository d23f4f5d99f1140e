"""Inter-annotator variability in skin lesion segmentation: data, statistics and models.

:func:`iavlib.data.load` returns a :class:`iavlib.data.Cohort`; :mod:`iavlib.agreement` measures
how well its annotators agree; :mod:`iavlib.stats` relates agreement to other variables;
:mod:`iavlib.experiments` trains models on it; :mod:`iavlib.book` compares results with what
papers report.
"""

from iavlib.core.versions import install_torchvision_operators

install_torchvision_operators()

__version__ = "0.2.0"
