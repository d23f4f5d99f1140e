"""Handing open jobs to Snakemake, which decides order, parallelism and place.

Every start has a folder and names of its own below ``_build/graph``: nothing
Snakemake remembers of an earlier start (locks, times, half-made files) can
matter, and a start that was killed leaves nothing to be unlocked or repaired.

A batch: lay out the jobs, hand the open ones to Snakemake, see what became of them.
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from iavlib.book.graph import BOOK, EXPERIMENT, Step, Traces, plan
from iavlib.core.errors import ExecutionError, ProjectError, suggest
from iavlib.core.files import only_one, write_json
from iavlib.core.project import Project

LOCAL = "local"
_SNAKEFILE = "Snakefile"


def find_place(project: Project, name: str) -> Path:
    """Find the Snakemake profile that says where jobs run.

    Parameters
    ----------
    project : Project
        The project.
    name : str
        A folder of ``workflow/profiles``, or the path of one elsewhere.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ProjectError
        If it holds no ``config.yaml``.
    ExecutionError
        If Snakemake is not installed.
    """
    profiles = project.workflow / "profiles"
    for folder in (profiles / name, Path(name).resolve()):
        if (folder / "config.yaml").is_file():
            break
    else:
        known = [file.parent.name for file in profiles.glob("*/config.yaml")]
        raise ProjectError(
            f"no place {name!r} (no {name}/config.yaml here or in {profiles}); "
            f"{suggest(name, known)}"
        )
    if importlib.util.find_spec("snakemake") is None:
        raise ExecutionError(
            "several jobs at a time need Snakemake, which is not installed: "
            "pip install 'iavlib[batch]' (for a cluster also iavlib[cluster])"
        )
    return folder


def run_steps(project: Project, steps: Sequence[Step], jobs: int, place: Path) -> tuple[int, Path]:
    """Let Snakemake run the jobs that are open.

    Parameters
    ----------
    project : Project
        The project, whose lock must be held.
    steps : sequence of Step
        What is to be done.
    jobs : int
        How many at a time.
    place : Path
        Folder of the Snakemake profile.

    Returns
    -------
    int
        Snakemake's exit status; independent jobs go on when one fails.
    Path
        Its log, there if the status is not 0. On a cluster it is shown instead.
    """
    shutil.rmtree(project.build / "graph", ignore_errors=True)
    folder = project.build / "graph" / secrets.token_hex(4)
    folder.mkdir(parents=True)
    log = folder / "snakemake.log"
    command = [*_command(project, steps, jobs, place, folder), "--keep-going"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stderr=stream if _is_local(place) else None,
        )
        try:
            code = process.wait()
        except BaseException:
            process.stdin.close()  # ends the jobs too
            process.wait()
            raise
    if code == 0:
        shutil.rmtree(folder)
    return code, log


def show_steps(project: Project, steps: Sequence[Step], jobs: int, place: Path) -> int:
    """Let Snakemake say what it would do there, and check its profile; nothing is written here.

    Parameters
    ----------
    project, steps, jobs, place
        As for :func:`run_steps`.

    Returns
    -------
    int
        Its exit status.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = _command(project, steps, jobs, place, Path(folder))
        options = ["--dry-run", "--printshellcmds"]
        with subprocess.Popen([*command, *options], cwd=folder, stdin=subprocess.PIPE) as process:
            return process.wait()


def _command(
    project: Project, steps: Sequence[Step], jobs: int, place: Path, folder: Path
) -> list[str]:
    """Write the Snakefile and its configuration into a folder, and give the command."""
    source = project.workflow / _SNAKEFILE
    if not source.is_file():
        raise ProjectError(f"{source} is missing; restore it from git")
    # the copies travel with the jobs where no file system is shared
    shutil.copyfile(source, folder / _SNAKEFILE)
    described = {
        step.id: {"arguments": list(step.arguments), "after": list(step.after)} for step in steps
    }
    config = {"root": str(project.root), "run": folder.name, "jobs": described}
    write_json(folder / "plan.json", config)
    return [
        *(sys.executable, "-m", "iavlib.book.snakemake_worker"),
        *("--snakefile", _SNAKEFILE, "--configfile", "plan.json"),
        *("--workflow-profile", str(place)),
        *("--cores" if _is_local(place) else "--jobs", str(jobs)),
    ]


def _is_local(place: Path) -> bool:
    """Tell whether jobs of a place run on this machine."""
    options = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8")) or {}
    return options.get("executor", LOCAL) == LOCAL


@dataclass(frozen=True)
class Batch:
    """What is wanted.

    Parameters
    ----------
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping
        Parameters the user set, as text.
    force : bool
        Whether to run even what is up to date.
    with_book : bool
        Whether the book is built at the end.
    """

    notebooks: Sequence[Path]
    profile: str
    overrides: Mapping[str, str]
    force: bool = False
    with_book: bool = False

    def steps(self, project: Project, force: bool | None = None) -> list[Step]:
        """Lay out the jobs, all of them; `force` replaces that of the batch."""
        force = self.force if force is None else force
        return plan(project, self.notebooks, self.profile, self.overrides, force, self.with_book)


def run_batch(
    project: Project, batch: Batch, jobs: int, place: str, log: Callable[[str], None]
) -> list[Step]:
    """Bring a batch up to date, several jobs at a time.

    Waits while another batch runs in this project. The jobs say themselves how
    they ended.

    Parameters
    ----------
    project : Project
        The project.
    batch : Batch
        What is wanted.
    jobs : int
        How many at a time.
    place : str
        Where, as for :func:`iavlib.book.engine.find_place`.
    log : callable
        Gets a line before and one after.

    Returns
    -------
    list of Step
        Those that are not done, the book last; empty if all went well.

    Raises
    ------
    ExecutionError
        If the batch is wrong, or Snakemake failed and it cannot be told at what.
    """
    folder = find_place(project, place)
    with only_one(project.lock, "iav book" if batch.with_book else "iav run --jobs"):
        steps = [step for step in batch.steps(project) if not step.obstacle]
        todo = [step for step in steps if step.reason]
        if not todo:
            log(nothing_to_do(len(steps)))
            return []
        log(f"{len(todo)} of {len(steps)} jobs to do, {jobs} at a time")
        for step in todo:
            if step.prepare is not None:
                step.prepare()
        code, log = run_steps(project, todo, jobs, folder)
        # a failed experiment is kept as a result, and is no failure to Snakemake
        if code == 0 and all(step.kind != EXPERIMENT for step in todo):
            return []
        left = _left(project, batch, todo)
        if code == 0 and not left:
            return []
    if not left:  # as when a forced job was killed, whose earlier result is good
        raise ExecutionError(f"Snakemake ended with status {code}: {_last_words(log)}")
    if code and not any(Traces(project.executed, step.name).failed_json.is_file() for step in left):
        log(f"Snakemake ended with status {code}: {_last_words(log)}")
    names = [step.name for step in left if step.kind != BOOK] or [BOOK]
    log(f"not done: {', '.join(names)}; the same command goes on with what is left")
    return left


def nothing_to_do(n_jobs: int) -> str:
    """Say that every job is up to date."""
    return f"nothing to do: {n_jobs} of {n_jobs} jobs are up to date"


def _left(project: Project, batch: Batch, todo: Sequence[Step]) -> list[Step]:
    """List what is still open, or failed in spite of an earlier good result, the book last."""
    still = {step.id for step in batch.steps(project, force=False) if step.reason}
    return [
        step
        for step in todo
        if step.id in still or Traces(project.executed, step.name).failed_json.is_file()
    ]


def _last_words(log: Path) -> str:
    """Give the last line of Snakemake's log; on a cluster all of it was shown."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"{said[-1]} (all it said: {log})" if said else "see above"
