"""The tasks by name."""

from iavlib.execution.errors import suggest
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.tasks.task import Outcome, Task

TASKS: dict[str, Task] = {}


def find_task(name: str) -> Task:
    """Find a task by its name.

    Raises
    ------
    ExperimentError
        If there is none.
    """
    if name not in TASKS:
        raise ExperimentError("task", f"no task {name!r}", suggest(name, TASKS))
    return TASKS[name]


__all__ = ["TASKS", "Outcome", "Task", "find_task"]
