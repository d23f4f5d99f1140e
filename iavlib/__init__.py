"""What inter-annotator variability in skin lesion segmentation can tell.

The way of the data is one direction only: :func:`iavlib.data.load` gives a
:class:`iavlib.data.Cohort`; :mod:`iavlib.agreement` measures how much its
annotators agree; :mod:`iavlib.stats` asks what that agreement tells;
:mod:`iavlib.book` sets the answer beside what a paper reports.
"""

from iavlib.core import torchvision_operators

torchvision_operators.install()

__version__ = "0.1.0"
