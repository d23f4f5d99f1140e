"""Running one notebook in a process of its own, and believing only a valid manifest.

Putting the result of a run in place, now or, if we were killed before, the next time.

A notebook's last cell writes the manifest. Should everything be killed between
that and our putting the result in place, hours of work would have to be
repeated, although nothing but bookkeeping is missing; so it is made up for.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iavlib.book.graph import Job, Traces, is_current
from iavlib.book.manifest import read_manifest
from iavlib.book.notebook_source import (
    Failure,
    cell_source,
    diagnose,
    first_unrun,
    has_error,
    load_notebook,
    own_code_cells,
)
from iavlib.core.errors import ExecutionError, ManifestError
from iavlib.core.files import only_one, write_json
from iavlib.core.project import RUN_VARIABLE, Project

OUTPUT = "output.ipynb"
MANIFEST = "manifest.json"
FACTS = "run.json"


def publish(work: Path, traces: Traces) -> None:
    """Move a good run's notebook and manifest to their places.

    Parameters
    ----------
    work : Path
        Folder the run worked in.
    traces : Traces
        Where they go.

    Notes
    -----
    Killed at any moment, this leaves no manifest beside the notebook of another
    run, and what is needed for :func:`adopt` to finish it.
    """
    if (work / OUTPUT).is_file():
        traces.manifest.unlink(missing_ok=True)
        os.replace(work / OUTPUT, traces.notebook)
    os.replace(work / MANIFEST, traces.manifest)
    traces.clear_failure()


def adopt(traces: Traces, job: Job) -> bool:
    """Publish what a killed run had finished, if that is what `job` would give.

    Parameters
    ----------
    traces : Traces
        The notebook's files; its lock must be held.
    job : Job
        What is to be run.

    Returns
    -------
    bool
        Whether there was such a run.
    """
    for facts in traces.work.glob(f"*/{FACTS}"):
        if _is_finished(facts.parent, traces, job):
            publish(facts.parent, traces)
            shutil.rmtree(traces.work)
            return True
    return False


def _is_finished(work: Path, traces: Traces, job: Job) -> bool:
    """Tell whether a run did everything: its manifest is whole and every cell before ran well."""
    try:
        run_id = json.loads((work / FACTS).read_text(encoding="utf-8"))["run_id"]
        manifest = read_manifest(work / MANIFEST, run_id)
        if manifest["fingerprint"] != job.fingerprint:
            return False
        if not (work / OUTPUT).exists():  # killed within publish()
            return traces.notebook.is_file() and not traces.manifest.exists()
        notebook = load_notebook(work / OUTPUT)
    except (ExecutionError, ValueError):
        return False
    if has_error(notebook):
        return False
    number = first_unrun(notebook)
    cells = own_code_cells(notebook)
    # the end of the last cell may not have been noted any more
    return number is None or (number == len(cells) and "manifest.write(" in cell_source(cells[-1]))


DONE = "done"
FAILED = "failed"
UP_TO_DATE = "up to date"
_NO_MANIFEST = "no manifest: the last cell must call manifest.write(cohorts=[...])"
_PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Parameters
    ----------
    stem : str
        Name of the notebook without ending.
    status : str
        ``"done"``, ``"failed"`` or ``"up to date"``.
    seconds : float
        Time spent now.
    manifest : dict or None
        The manifest, unless the run failed.
    failure : Failure or None
        Why it failed.
    """

    stem: str
    status: str
    seconds: float
    manifest: dict[str, Any] | None = None
    failure: Failure | None = None


def bring_up_to_date(project: Project, job: Job, force: bool = False) -> RunResult:
    """Run a notebook unless its last run still holds.

    Waits while another process runs it. A run that was killed after its last
    cell had written the manifest is finished, not repeated.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        The notebook with its parameters.
    force : bool, optional
        Run it in any case.

    Returns
    -------
    RunResult
        With status ``"up to date"`` when nothing was run.
    """
    traces = Traces(project.executed, job.stem)
    if not force and is_current(project, job):
        return _unchanged(traces)
    with only_one(traces.lock, f"a run of {job.stem}") as lock:
        # what we waited for may have been just this
        if not force and (adopt(traces, job) or is_current(project, job)):
            return _unchanged(traces)
        return _run(project, job, traces, lock.fileno())


def run_notebook(project: Project, job: Job) -> RunResult:
    """Execute a notebook and keep the outcome.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        The notebook with its parameters.

    Returns
    -------
    RunResult
        ``"done"`` only if the process ended with status 0, every code cell was
        run and the manifest is valid and of this run. Otherwise ``"failed"``:
        the partial notebook is kept and an earlier good result stays.
    """
    return bring_up_to_date(project, job, force=True)


def _unchanged(traces: Traces) -> RunResult:
    traces.clear_failure()  # of a source that has been put back since
    return RunResult(traces.stem, UP_TO_DATE, 0.0, manifest=traces.good_manifest())


def _run(project: Project, job: Job, traces: Traces, lock: int) -> RunResult:
    """Run a notebook whose lock we hold."""
    started = time.time()
    run_id = secrets.token_hex(8)
    # one folder a run: the kernel of a killed run may live a little longer and write into its own
    work = _fresh_folder(traces.work) / run_id
    work.mkdir()
    _describe_run(project, job, work, run_id, started)
    exit_code = _execute(work, traces.log, lock)
    manifest, failure = _judge(work, traces.log, exit_code, run_id)
    if failure is None:
        publish(work, traces)
    else:
        _keep_failure(work, traces, job, failure)
    shutil.rmtree(traces.work)
    status = DONE if failure is None else FAILED
    return RunResult(job.stem, status, time.time() - started, manifest, failure)


def _fresh_folder(work: Path) -> Path:
    """Empty the working folder: runs that were killed may have left theirs there."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def _describe_run(project: Project, job: Job, work: Path, run_id: str, started: float) -> None:
    """Write what the worker and what the notebook's kernel must know."""
    write_json(
        work / "job.json",
        {
            "input": str(job.notebook),
            "output": str(work / OUTPUT),
            "folder": str(project.notebooks),
            "parameters": job.changed,
        },
    )
    write_json(
        work / FACTS,
        {
            "run_id": run_id,
            "notebook": job.stem,
            "profile": job.profile,
            "overrides": dict(job.overrides),
            "parameters": job.parameters,
            "fingerprint": job.fingerprint,
            "inputs": job.inputs,
            "manifest": str(work / MANIFEST),
            "started": started,
        },
    )


def _execute(work: Path, log: Path, lock: int) -> int:
    """Run the worker to its end and give its exit status; end it if we are interrupted.

    It inherits the notebook's lock: should we be killed, nobody runs the notebook
    before the worker has ended too.
    """
    environment = {
        **os.environ,
        RUN_VARIABLE: str(work / FACTS),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "iavlib.book.worker", str(work / "job.json")]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=(lock,),
        )
        try:
            return process.wait()
        except BaseException:
            _stop(process)
            raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the worker end its kernel; it does when its standard input closes."""
    process.stdin.close()
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _judge(
    work: Path, log: Path, exit_code: int, run_id: str
) -> tuple[dict[str, Any] | None, Failure | None]:
    """Decide whether a run is done: its manifest, or why it is not."""
    output, manifest = work / OUTPUT, work / MANIFEST
    if exit_code != 0:
        return None, diagnose(output, log, exit_code)
    if first_unrun(load_notebook(output)) is not None:
        return None, diagnose(output, log, exit_code, "the run stopped here without an error")
    if not manifest.is_file():
        return None, diagnose(output, log, exit_code, _NO_MANIFEST)
    try:
        return read_manifest(manifest, run_id), None
    except ManifestError as error:
        return None, diagnose(output, log, exit_code, str(error))


def _keep_failure(work: Path, traces: Traces, job: Job, failure: Failure) -> None:
    """Keep the partial notebook and the reason; what is moved is the file's last whole state."""
    if (work / OUTPUT).is_file():
        os.replace(work / OUTPUT, traces.failed_notebook)
    else:
        traces.failed_notebook.unlink(missing_ok=True)
    write_json(
        traces.failed_json,
        {
            "notebook": job.stem,
            "profile": job.profile,
            "parameters": job.parameters,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **failure.to_json(),
        },
    )
