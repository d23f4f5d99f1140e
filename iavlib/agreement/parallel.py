"""One function over many tasks, in this process or in several."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

PER_PROCESS = 8  # tasks that are worth the start of a process


def run_tasks(
    function: Callable, tasks: Sequence, processes: int | None = None
) -> Iterator[tuple[int, object]]:
    """Call ``function`` on every task and yield what comes back as it comes.

    Parameters
    ----------
    function : callable
        Of a module, so that another process can import it; reports a bad file in what it returns.
    tasks : sequence
        Picklable.
    processes : int, optional
        One a core unless given, fewer where there is little to do. With 1 everything happens in
        this process. Others share neither memory nor threads with this one, so that a script must
        guard its call by ``if __name__ == "__main__":``.

    Yields
    ------
    tuple of int and object
        Position of the task and its result.

    Raises
    ------
    ValueError
        If `processes` is less than 1.
    RuntimeError
        If a process died, for instance for lack of memory.
    """
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        processes = max(1, min(cores or 1, len(tasks) // PER_PROCESS))
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    if processes == 1:
        yield from ((position, function(task)) for position, task in enumerate(tasks))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        positions = {pool.submit(function, task): n for n, task in enumerate(tasks)}
        try:
            for future in as_completed(positions):
                yield positions[future], future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process died, most likely for lack of memory: use fewer processes, or 1 to see "
                'where; a script must call this under `if __name__ == "__main__":`'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
