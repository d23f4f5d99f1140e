"""Doing an experiment once: reading it if it is done, going on where it was left."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from iavlib.data.cohort import Cohort
from iavlib.experiments.errors import ExperimentError, ExperimentFailed
from iavlib.experiments.resolve import load_data, resolve
from iavlib.experiments.result import Result, read_facts, write_failure, write_result
from iavlib.experiments.spec import Experiment
from iavlib.experiments.store import FINISHED, LOG, METRICS, MODEL, RunStore
from iavlib.experiments.tasks import find_task

#: The machine's troubles are no result of an experiment: it stays unfinished and can go on.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOLCK}


def quiet(_: str) -> None:
    """Say nothing."""


def run(
    experiment: Experiment,
    store: RunStore | None = None,
    cohort: Cohort | None = None,
    say: Callable[[str], None] = quiet,
) -> Result:
    """Do an experiment, or read it if it was done.

    A run that was interrupted goes on from its last epoch; one that failed is tried again. While
    another process does the same experiment, this one waits and then reads its result. The
    experiment that it starts from, if any, is done first.

    Parameters
    ----------
    experiment : Experiment
        Resolved or not.
    store : RunStore, optional
        The default one if not given.
    cohort : Cohort, optional
        The cohort that it names, if it is loaded already.
    say : callable, optional
        Gets lines of progress; they are in ``log.txt`` too.

    Returns
    -------
    Result
        Of the finished run.

    Raises
    ------
    ExperimentError
        If the specification is wrong, or its directory holds something else.
    ExperimentFailed
        If the run ended with an error, which ``failed.json`` keeps.
    OSError
        If the disk is full or cannot be written; nothing that was finished is lost.
    """
    store = store or RunStore()
    cohort = cohort or load_data(experiment)
    fixed = resolve(experiment, cohort, store)
    if (store.folder(fixed) / METRICS).is_file():
        return read_run(store, fixed)
    if fixed.begun_from is not None:
        _prepare_start(fixed.begun_from, store, say)
    with store.working(fixed) as folder:
        if (folder / METRICS).is_file():  # what we waited for
            return read_run(store, fixed)
        store.begin(fixed)
        _attempt(fixed, cohort, folder, say)
    return read_run(store, fixed)


def _prepare_start(begun: Experiment, store: RunStore, say: Callable[[str], None]) -> None:
    """See that the network that another experiment starts from is there."""
    if store.status(begun) != FINISHED:
        say(f"first {begun.name}, from which it starts")
        run(begun, store, say=say)
    model = store.folder(begun) / MODEL
    if not model.is_file():
        raise ExperimentError(
            model,
            "is gone, though its run is finished; another experiment starts from it",
            f"remove the run ('iav runs gc --finished {begun.id}'), and it is trained again",
        )


def read_run(store: RunStore, experiment: Experiment | Path) -> Result:
    """Read a finished run, given the experiment or the run directory.

    Raises
    ------
    ExperimentError
        If it is not finished, damaged, or not what its directory is named for.
    """
    folder = experiment if isinstance(experiment, Path) else store.folder(experiment)
    return Result(store.read_spec(folder), folder, read_facts(folder))


def _attempt(
    experiment: Experiment, cohort: Cohort, folder: Path, say: Callable[[str], None]
) -> None:
    """Run the task in its directory, which we hold, and write what came out."""
    started = time.time()
    log = _Log(folder / LOG, say)
    log.note("started" if not (folder / LOG).exists() else "started again")
    try:
        outcome = find_task(experiment.task).run(experiment, cohort, folder, log)
        write_result(folder, experiment, cohort, outcome, time.time() - started)
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        _fail(experiment, folder, error, started, log)
    except Exception as error:
        _fail(experiment, folder, error, started, log)
    else:
        log.note("finished")


def _fail(
    experiment: Experiment, folder: Path, error: Exception, started: float, log: _Log
) -> None:
    reason = write_failure(folder, experiment, error, started)
    log.note(f"failed: {reason}")
    raise ExperimentFailed(experiment.name, reason, folder) from error


class _Log:
    """Gives lines of progress on, and keeps them with the time."""

    def __init__(self, path: Path, say: Callable[[str], None]):
        self.path, self.say = path, say

    def __call__(self, line: str) -> None:
        self.say(line)
        self.note(line)

    def note(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
