"""Experiments: a specification, the directory of its run, and tables of many.

>>> from iavlib import experiments
>>> experiment = experiments.Experiment(backbone="mobilenetv2_100", recipe="probe")
>>> result = experiments.run(experiment)  # doctest: +SKIP
>>> result.metrics["mae"], result.predictions  # doctest: +SKIP

Each experiment runs once: a finished run is read, an interrupted one continues. PyTorch is not
loaded before something is trained.
"""

import lazy_loader

from iavlib.core.errors import ExperimentError, ExperimentFailed

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["ExperimentError", "ExperimentFailed"]
