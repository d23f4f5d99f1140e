"""The tasks by name."""

from importlib.metadata import entry_points

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.tasks import (
    annotators,
    diagnosis,
    diagnosis_first,
    explain,
    iaa,
)
from iavlib.experiments.tasks.task import Outcome, Task, check_finite

#: A package adds its own by an entry point of the group ``iavlib.tasks`` that names a Task.
_ALL = (iaa.TASK, *diagnosis.TASKS, *annotators.TASKS, diagnosis_first.TASK, explain.TASK)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
GROUP = "iavlib.tasks"


def find_task(name: str) -> Task:
    """Find a task by its name.

    Raises
    ------
    ExperimentError
        If there is none.
    """
    if name not in TASKS:
        TASKS.update((point.name, point.load()) for point in entry_points(group=GROUP, name=name))
    if name not in TASKS:
        raise ExperimentError("task", f"no task {name!r}", suggest(name, TASKS))
    return TASKS[name]


__all__ = ["TASKS", "Outcome", "Task", "check_finite", "find_task"]
