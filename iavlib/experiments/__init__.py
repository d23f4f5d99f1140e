"""Experiments: a specification, the directory of its run, and tables of many.

>>> from iavlib import experiments
>>> experiment = experiments.Experiment(backbone="mobilenetv2_100", recipe="probe")
>>> result = experiments.run(experiment)
>>> result.metrics["mae"], result.predictions

A run is done once: asked for again it is read, interrupted it goes on. Nothing here loads PyTorch
before something is trained.
"""

from iavlib.experiments.errors import ExperimentError, ExperimentFailed
from iavlib.experiments.notebook import current_profile, for_notebook, read_results, without_data
from iavlib.experiments.resolve import resolve
from iavlib.experiments.result import Result
from iavlib.experiments.run import read_run, run
from iavlib.experiments.spec import Experiment
from iavlib.experiments.store import RunStore
from iavlib.experiments.sweep import read_predictions, sweep
from iavlib.experiments.table import run_table
from iavlib.experiments.tasks import TASKS, Outcome, Task

__all__ = [
    "TASKS",
    "Experiment",
    "ExperimentError",
    "ExperimentFailed",
    "Outcome",
    "Result",
    "RunStore",
    "Task",
    "current_profile",
    "for_notebook",
    "read_predictions",
    "read_results",
    "read_run",
    "resolve",
    "run",
    "run_table",
    "sweep",
    "without_data",
]
