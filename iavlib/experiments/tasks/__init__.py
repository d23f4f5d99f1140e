"""The tasks by name; the module of a task is imported when the task is used."""

from __future__ import annotations

from importlib.metadata import entry_points
from pkgutil import resolve_name

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.tasks.task import Outcome, Task, check_finite

_HERE = "iavlib.experiments.tasks"
#: A task, or where it is. A package adds its own by an entry point of the group ``iavlib.tasks``
#: that names a :class:`Task`.
TASKS: dict[str, Task | str] = {
    "iaa": f"{_HERE}.image:IAA_TASK",
    "diagnosis": f"{_HERE}.image:DIAGNOSIS_TASK",
    "multitask": f"{_HERE}.image:MULTITASK_TASK",
    "segmentation": f"{_HERE}.annotators:SEGMENTATION_TASK",
    "diagnosis-first": f"{_HERE}.diagnosis_first:TASK",
    "take-give": f"{_HERE}.annotators:TAKE_GIVE_TASK",
    "comparison": f"{_HERE}.annotators:COMPARISON_TASK",
    "explain": f"{_HERE}.explain:TASK",
}
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
        raise ExperimentError("task", f"no task {name!r}", suggest(str(name), TASKS))
    task = TASKS[name]
    if isinstance(task, str):
        task = TASKS[name] = resolve_name(task)
    return task


__all__ = ["TASKS", "Outcome", "Task", "check_finite", "find_task"]
