"""One function over many files' tasks, in order, with what a dead process left undone."""

from collections.abc import Callable, Sequence

from iavlib.agreement.workers import ProcessDied, Progress, default_processes, run_all
from iavlib.data.errors import DataError


def run_in_order(
    function: Callable,
    tasks: Sequence,
    processes: int | None,
    failed: Callable,
    progress: bool | Callable[[int, int], None] = False,
    what: str = "tasks",
) -> list:
    """Call ``function`` on every task and return the results in the order of the tasks.

    Parameters
    ----------
    function : callable
        Of a module, so that another process can import it; tells a bad file in what it returns.
    tasks : sequence
        Picklable.
    processes : int, optional
        One a core unless given, fewer where there is little to do; with 1 everything happens in
        this process.
    failed : callable
        From a task whose process died, and a DataError that says so, to its result.
    progress : bool or callable
        True prints a line every ten seconds; a callable is called with tasks done and total.
    what : str
        What is counted.

    Raises
    ------
    ValueError
        If `processes` is less than 1.
    RuntimeError
        If other processes cannot be started or cannot import what a task holds.
    """
    if processes is None:
        processes = default_processes(len(tasks))
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    bar, results = Progress(progress, len(tasks), what), [None] * len(tasks)
    for position, result in run_all(function, tasks, min(processes, max(len(tasks), 1))):
        if isinstance(result, ProcessDied):
            mend = "see how large the masks are; try fewer processes"
            result = failed(tasks[position], DataError("process", str(result), mend))
        results[position] = result
        bar.step()
    return results
