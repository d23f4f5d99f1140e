"""Running one notebook in a process of its own; only a valid manifest makes the run a success.

Papermill's report is not enough: it calls a cell completed whose kernel was killed. A run is done
when its process ended with status 0, every code cell was run and the last one wrote a valid
manifest of this very run. If everything is killed between that and moving the result into place,
the next start moves it (:func:`recover`) instead of repeating the run.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iavlib.book import notebook_source as source
from iavlib.book.jobs import Job, NotebookFiles, prepare_jobs, reason_to_run
from iavlib.book.manifest import read_manifest
from iavlib.core.errors import IavError, ManifestError, NotebookError
from iavlib.core.files import digest, only_one, write_json, write_text
from iavlib.core.project import RUN_VARIABLE, Project, find_project, select_notebooks

if TYPE_CHECKING:
    from iavlib.data.cohort import Cohort

OUTPUT = "output.ipynb"
MANIFEST = "manifest.json"
FACTS = "run.json"


DONE, FAILED, UP_TO_DATE = "done", "failed", "up to date"
_NO_MANIFEST = "no manifest: the last cell must call book.finish(cohorts=[...])"
_GRACE_SECONDS = 15
#: Settings that would change figures, or leave none.
_PERSONAL = ("MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONWARNINGS")


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Parameters
    ----------
    stem : str
        Name of the notebook without its ending.
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
    failure: source.Failure | None = None


def run_if_needed(project: Project, job: Job, force: bool = False, train: bool = True) -> RunResult:
    """Run a notebook unless its last result holds.

    Waits while another process runs it.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        The notebook with its parameters.
    force : bool, optional
        Run it in any case.
    train : bool, optional
        Whether a result that was made without training must be replaced.

    Returns
    -------
    RunResult
        ``"up to date"`` when nothing was run. ``"failed"`` keeps the partly executed notebook,
        and an earlier good result stays.
    """
    files = NotebookFiles(project.executed, job.stem)
    if not force and reason_to_run(project, job, train) is None:
        return _unchanged(files)
    with only_one(files.lock, f"a run of {job.stem}") as lock:
        if not force:  # another process may have made it while we waited, or was killed
            recover(files, job)
            if reason_to_run(project, job, train) is None:
                return _unchanged(files)
        return _run(project, job, files, lock.fileno())


def run_on_own_masks(
    cohort: Cohort, folder: Path, log: Callable[[str], None] = print
) -> list[Path]:
    """Run notebooks 01 and 02 on somebody's masks, apart from the book, and make pages of them.

    Parameters
    ----------
    cohort : Cohort
        Masks that can be used; ``masks.csv`` in the folder lists them for the notebooks.
    folder : Path
        For the executed notebooks and pages. Those that are up to date are not run again.
    log : callable
        Receives a line per notebook that is started.

    Returns
    -------
    list of Path
        One HTML page per notebook, without code; the notebooks lie beside them.

    Raises
    ------
    NotebookError
        If a notebook failed.
    """
    columns = {"path": "image", "patient_id": "patient", "lesion_id": "lesion"}
    facts = cohort.images[[*columns, "malignancy"]].rename(columns=columns)
    table = cohort.masks.rename(columns={"path": "mask"}).join(facts, on="image_id")
    table["image"] = table["image"].fillna(table["image_id"])
    table["session"] = table.groupby(["image_id", "annotator"]).cumcount() + 1
    path = folder.resolve() / "masks.csv"
    write_text(path, table.to_csv(index=False))
    project, pages = replace(find_project(), results=path.parent), []
    overrides = {"cohort": "folder", "path": str(path)}
    for job in prepare_jobs(project, select_notebooks(project, ("01", "02")), "quick", overrides):
        log(f"running notebook {job.stem}")
        result = run_if_needed(project, job)
        if result.failure is not None:
            log_file = NotebookFiles(path.parent, job.stem).log
            raise NotebookError(f"{job.stem}: {result.failure.error}; see {log_file}")
        from nbconvert import HTMLExporter  # slow, and of an extra

        pages.append(path.parent / f"{job.stem}.html")
        exporter = HTMLExporter(exclude_input=True)
        write_text(pages[-1], exporter.from_filename(str(pages[-1].with_suffix(".ipynb")))[0])
    return pages


def _unchanged(files: NotebookFiles) -> RunResult:
    files.clear_failure()  # of a source that has been restored since
    return RunResult(files.stem, UP_TO_DATE, 0.0, manifest=files.good_manifest())


def _run(project: Project, job: Job, files: NotebookFiles, lock: int) -> RunResult:
    """Run a notebook whose lock we hold."""
    started, run_id = time.time(), secrets.token_hex(8)
    # one folder per run: the kernel of a killed run may live a little longer and write into its own
    shutil.rmtree(files.work, ignore_errors=True)
    files.work.mkdir(parents=True)
    work = files.work / run_id
    work.mkdir()
    _describe_run(project, job, work, run_id, started)
    exit_code = _execute(work, files.log, lock)
    manifest, failure = _judge(work, files.log, exit_code, run_id)
    if failure is None:
        manifest = publish(work, files)
    else:
        _keep_failure(work, files, job, failure)
    shutil.rmtree(files.work)
    status = DONE if failure is None else FAILED
    return RunResult(job.stem, status, time.time() - started, manifest, failure)


def publish(work: Path, files: NotebookFiles) -> dict[str, Any]:
    """Move a good run's notebook and manifest from the folder it worked in to their places.

    The manifest, which is returned, then holds the hash of the notebook (``output``).

    Killed at any moment, this leaves no manifest beside the notebook of another run, and what
    :func:`recover` needs to complete it.
    """
    manifest = read_manifest(work / MANIFEST)
    if (work / OUTPUT).is_file():
        manifest["output"] = digest(work / OUTPUT)
        write_json(work / MANIFEST, manifest)
        files.keep_foreign(manifest["output"])
        files.manifest.unlink(missing_ok=True)
        os.replace(work / OUTPUT, files.notebook)
    os.replace(work / MANIFEST, files.manifest)
    files.clear_failure()
    return manifest


def recover(files: NotebookFiles, job: Job) -> bool:
    """Publish what a killed run had completed if it is what `job` would give; return whether.

    The lock of the notebook must be held.
    """
    for facts in files.work.glob(f"*/{FACTS}"):
        if _is_complete(facts.parent, files, job):
            publish(facts.parent, files)
            shutil.rmtree(files.work)
            return True
    return False


def _is_complete(work: Path, files: NotebookFiles, job: Job) -> bool:
    """Return whether a run did everything: its manifest is whole, every cell before ran well."""
    try:
        run_id = json.loads((work / FACTS).read_text(encoding="utf-8"))["run_id"]
        manifest = read_manifest(work / MANIFEST, run_id)
        if manifest["fingerprint"] != job.fingerprint:
            return False
        if not (work / OUTPUT).exists():  # killed within publish()
            moved = files.notebook.is_file() and not files.is_foreign(manifest)
            return moved and not files.manifest.exists()
        notebook = source.load_notebook(work / OUTPUT)
    except (IavError, ValueError):
        return False
    if source.has_error(notebook):
        return False
    number = source.first_unrun(notebook)
    cells = source.own_code_cells(notebook)
    # the end of the last cell may not have been recorded any more
    is_last = number == len(cells) and "finish(cohorts=" in source.cell_source(cells[-1])
    return number is None or is_last


def _describe_run(project: Project, job: Job, work: Path, run_id: str, started: float) -> None:
    """Write what the worker and the notebook's kernel must know."""
    names = ("profile", "parameters", "fingerprint", "inputs", "changed")
    facts = {
        **{name: getattr(job, name) for name in names},
        **{"notebook": job.stem, "overrides": dict(job.overrides), "run_id": run_id},
        **{"input": str(job.notebook), "output": str(work / OUTPUT), "started": started},
        **{"folder": str(project.notebooks), "manifest": str(work / MANIFEST)},
    }
    write_json(work / FACTS, facts)


def _execute(work: Path, log: Path, lock: int) -> int:
    """Run the worker to its end and give its exit status; end it if we are interrupted.

    It inherits the notebook's lock: should we be killed, nobody runs the notebook
    before the worker has ended too.
    """
    facts = str(work / FACTS)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _PERSONAL},
        RUN_VARIABLE: facts,
        "PYTHONUTF8": "1",  # whatever the locale
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "iavlib.book.worker", "notebook", facts]
    with log.open("wb") as stream:
        streams = {"stdin": subprocess.PIPE, "stdout": stream, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(
            command, **streams, env=environment, start_new_session=True, pass_fds=(lock,)
        )
        try:
            return process.wait()
        except BaseException:
            process.stdin.close()  # the worker then ends its kernel
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise


def _judge(
    work: Path, log: Path, exit_code: int, run_id: str
) -> tuple[dict[str, Any] | None, source.Failure | None]:
    """Decide whether a run is done: its manifest, or why it is not."""
    output, reason, manifest = work / OUTPUT, None, None
    if exit_code == 0:
        if source.first_unrun(source.load_notebook(output)) is not None:
            reason = "the run stopped here without an error"
        elif not (work / MANIFEST).is_file():
            reason = _NO_MANIFEST
        else:
            try:
                manifest = read_manifest(work / MANIFEST, run_id)
            except ManifestError as error:
                reason = str(error)
    return manifest, None if manifest else source.locate_failure(output, log, exit_code, reason)


def _keep_failure(work: Path, files: NotebookFiles, job: Job, failure: source.Failure) -> None:
    """Keep the partial notebook and the reason; what is moved is the file's last whole state."""
    if (work / OUTPUT).is_file():
        os.replace(work / OUTPUT, files.failed_notebook)
    else:
        files.failed_notebook.unlink(missing_ok=True)
    facts = {"notebook": job.stem, "profile": job.profile, "parameters": job.parameters}
    facts["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(files.failed_json, facts | asdict(failure))
