"""Handing open jobs to Snakemake, which decides order, parallelism and place.

Every start has a folder and names of its own below ``_build/graph``: nothing
Snakemake remembers of an earlier start (locks, times, half-made files) can
matter, and a start that was killed leaves nothing to be unlocked or repaired.
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from iavlib.errors import suggest
from iavlib.execution.errors import ExecutionError, ProjectError
from iavlib.execution.graph import Step
from iavlib.execution.project import Project
from iavlib.files import write_json

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
        *(sys.executable, "-m", "iavlib.execution.snakemake_worker"),
        *("--snakefile", _SNAKEFILE, "--configfile", "plan.json"),
        *("--workflow-profile", str(place)),
        *("--cores" if _is_local(place) else "--jobs", str(jobs)),
    ]


def _is_local(place: Path) -> bool:
    """Tell whether jobs of a place run on this machine."""
    options = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8")) or {}
    return options.get("executor", LOCAL) == LOCAL
