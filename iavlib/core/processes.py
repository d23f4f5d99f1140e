"""One function over many tasks in several processes, of which any may die.

The result of a task whose process died is a :class:`ProcessDied`; the other tasks continue.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from iavlib.core.errors import DataError

PER_PROCESS = 32  # tasks that are worth the start of a process
EVERY = 10.0  # most seconds between two lines of progress; at first they are fewer

#: Whether to print lines of progress, or what to call with the numbers of tasks done and of all.
Progress = bool | Callable[[int, int], None]


class ProcessDied(RuntimeError):
    """The process that worked on a task died, for instance for lack of memory."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_processes(tasks: int) -> int:
    """Return how many processes to start: one per core, fewer where there is little to do."""
    return max(1, min(usable_cores(), tasks // PER_PROCESS))


def run_all(function: Callable, tasks: Sequence, processes: int) -> Iterator[tuple[int, object]]:
    """Call ``function`` on every task and yield results as they arrive.

    Parameters
    ----------
    function : callable
        Of a module, so that another process can import it.
    tasks : sequence
        Picklable.
    processes : int
        With 1 everything happens in this process. Others are spawned: they share no memory or
        threads with this one, and at most two tasks per process are in progress.

    Yields
    ------
    tuple of int and object
        Position of the task and its result; the result is a :class:`ProcessDied` for a task
        whose process died, twice, the second time with no other task beside it.

    Raises
    ------
    RuntimeError
        If no process can be started.
    """
    if processes == 1:
        for index, task in enumerate(tasks):
            yield index, function(task)
        return
    waiting, started = deque(enumerate(tasks)), False
    while waiting:
        under_way = yield from _run_pool(function, waiting, processes, started)
        started = True
        for index, task in under_way:
            yield index, _run_alone(function, task)


def _run_pool(function, waiting: deque, processes: int, started: bool):
    """Run tasks until none is left or a process dies; return those it may have died of."""
    pool, running = _pool(processes), {}
    try:
        if not started:
            _check_start(pool, (function, waiting[0][1]))
        while waiting or running:
            while waiting and len(running) < 2 * processes:
                running[pool.submit(function, waiting[0][1])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield running.pop(future)[0], result
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _run_alone(function, task):
    with _pool(1) as pool:
        try:
            return pool.submit(function, task).result()
        except BrokenProcessPool:
            return ProcessDied("the process that worked on it died, also when it worked alone")


def _check_start(pool: ProcessPoolExecutor, task) -> None:
    """Raise where a process cannot start or a task cannot reach it, before a task is blamed."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RuntimeError(
            f"what a task holds cannot be sent to another process ({error}); use functions of a "
            "module, or processes=1"
        ) from None
    try:
        pool.submit(type, task).result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a second process cannot be started or cannot import what a task holds; in a script "
            'call this under `if __name__ == "__main__":`, in a notebook import functions from a '
            "module, or use processes=1"
        ) from None


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_owner)


def _end_with_owner() -> None:
    """End this process of a pool when the one that started it ends, however that happens.

    The pool itself would leave it waiting for a task for ever.
    """

    def wait_for_end() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def end_orderly() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: temporary files are removed."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
                signal.signal(getattr(signal, name), end)


class OutOfTime(BaseException):
    """The time is over. No ``Exception``: work that it interrupts has not failed."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the main thread after some seconds; None sets no limit."""

    def end(number: int, _: object) -> None:
        raise OutOfTime

    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_in_order(
    function: Callable,
    tasks: Sequence,
    processes: int | None,
    failed: Callable,
    progress: Progress = False,
    what: str = "tasks",
    done: Callable = lambda result: None,
    before: int = 0,
) -> list:
    """Call ``function`` on every task and return the results in the order of the tasks.

    Parameters
    ----------
    function : callable
        Of a module, so that another process can import it; reports a bad file in what it returns.
    tasks : sequence
        Picklable.
    processes : int, optional
        One per core unless given, fewer where there is little to do; with 1 everything happens in
        this process.
    failed : callable
        From a task whose process died, and a DataError that explains it, to its result.
    progress : bool or callable
        True prints lines to the standard error; a callable is called with the number of finished
        tasks and the total.
    what : str
        What is counted.
    done : callable
        Called with each result when it arrives.
    before : int
        Tasks that an earlier run has finished; they count in the progress.

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
    report = reporter(progress, len(tasks) + before, what)
    report(before)
    results = [None] * len(tasks)
    pool = run_all(function, tasks, min(processes, max(len(tasks), 1)))
    for count, (position, result) in enumerate(pool, before + 1):
        if isinstance(result, ProcessDied):
            hint = "see how large the files are; try fewer processes"
            result = failed(tasks[position], DataError("process", str(result), hint))
        results[position] = result
        done(result)
        report(count)
    return results


def reporter(progress: Progress, total: int, what: str) -> Callable[[int], None]:
    """Return a function that reports the number of finished tasks.

    The first lines come after two seconds and more, then every ten; short work has one, at its end.
    """
    start = last = time.monotonic()

    def report(count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if callable(progress):
            progress(count, total)
        elif progress and count and (count == total or now - last >= min(EVERY, 2 + last - start)):
            last = now
            line = f"{count:,} of {total:,} {what}, {now - start:,.0f} s"
            print(line, file=sys.stderr, flush=True)

    return report


def end_with_parent(before: Callable[[], None] = lambda: None) -> None:
    """Interrupt this process when its standard input closes; call it in the main thread.

    The parent must hold the other end of it and never write.

    Parameters
    ----------
    before : callable, optional
        Called just before.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # unbuffered, or leaving would wait for it
            pass
        before()
        # wakes the main thread from waiting
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    # a shell lets what it starts in the background ignore interrupts, and we inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=wait, daemon=True).start()
