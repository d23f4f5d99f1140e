"""Making what is asked for: Snakemake plans and runs experiments, then notebooks, then the book.

``workflow/Snakefile`` holds a rule for each kind of target. Every target is known before Snakemake
starts, as experiments are named by the hash of their configuration and data. What a rule writes
for Snakemake is a receipt, ``done/<kind>/<name>``. When Snakemake starts, there is a receipt for
exactly the targets whose result holds (:func:`iavlib.book.jobs.reason_to_run` and its like compare
contents, which Snakemake's times of files cannot do); from those that are missing it derives
what to run, in which order and where. If none is missing it is not started at all.

Every start has a folder of its own below ``_build/plan``: nothing that Snakemake remembers of an
earlier start (locks, incomplete files) can matter, so that a start that was killed leaves nothing
to be unlocked or repaired. Results themselves are never outputs of Snakemake, which removes the
outputs of a job that fails.
"""

import errno
import functools
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import iavlib
from iavlib.book.interactive import collect
from iavlib.book.jobs import PATH_PARAMETER, Job, NotebookFiles, prepare_jobs, reason_to_run
from iavlib.core.errors import IavError, ProjectError, suggest
from iavlib.core.files import only_one, write_json, write_text
from iavlib.core.processes import usable_cores
from iavlib.core.project import Project, cache_home, data_home
from iavlib.core.settings import read_yaml
from iavlib.core.versions import PACKAGES, package_versions

LOCAL = "local"
EXPERIMENT, NOTEBOOK, BOOK = "experiment", "notebook", "book"
_MIN_FREE_BYTES = 1_000_000
#: What a notebook that trains takes of the memory, at most.
_NOTEBOOK_BYTES = 3_000_000_000
_REASONS = {
    **{"missing": "never run", "unfinished": "not finished"},
    **{"failed": "its last run failed", "running": "another process runs it"},
}


@dataclass(frozen=True)
class Target:
    """One thing to be made.

    Parameters
    ----------
    kind : str
        ``"experiment"``, ``"notebook"`` or ``"book"``: the rule of the Snakefile.
    name : str
        Unique within its kind.
    reason : str or None
        Why it is made; None if its result holds.
    command : tuple of str
        Arguments of ``iav`` that make it.
    needs : tuple of str
        Ids of the targets that must be made before.
    failed : callable
        Returns whether making it failed.
    prepare : callable, optional
        Writes what its command reads.
    """

    kind: str
    name: str
    reason: str | None
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    failed: Callable[[], bool] = lambda: False
    prepare: Callable[[], object] = lambda: None

    @property
    def id(self) -> str:
        """Kind and name, unique in the plan."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Parameters
    ----------
    project : Project
        The project.
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping
        Parameters the user set, as text.
    force : bool
        Whether to run even what is up to date; experiments excepted.
    with_book : bool
        Whether the book is built at the end.
    n_jobs : int, optional
        Jobs at a time, an experiment being one; by default notebooks train themselves, and several
        of them run at a time where cores and memory allow.
    train : bool
        Whether experiments that are not finished are trained.
    executor : str
        A folder of ``workflow/profiles``, or the path of one elsewhere: where jobs run.
    """

    project: Project
    notebooks: Sequence[Path]
    profile: str
    overrides: Mapping[str, str]
    force: bool = False
    with_book: bool = False
    n_jobs: int | None = None
    executor: str = LOCAL
    train: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the only jobs are notebooks, on this machine: they then train themselves."""
        return (self.n_jobs or 1) == 1 and self.executor == LOCAL

    def n_at_once(self, targets: Sequence[Target]) -> int:
        """Return how many of the jobs that are to be done run at a time."""
        if self.n_jobs or self.executor != LOCAL:
            return self.n_jobs or 1
        if shutil.which("nvidia-smi"):  # notebooks would compete for the memory of the GPU
            return 1
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        n_todo = sum(target.kind == NOTEBOOK and target.reason is not None for target in targets)
        return max(1, min(usable_cores(), n_todo, memory // _NOTEBOOK_BYTES))

    @functools.cached_property
    def jobs(self) -> list[Job]:
        """The notebooks with everything fixed, as they are when first asked for."""
        return prepare_jobs(self.project, self.notebooks, self.profile, self.overrides)

    def targets(self) -> list[Target]:
        """List all targets, each after those it needs.

        Raises
        ------
        IavError
            If a parameter, a profile or the table of contents is wrong.
        """
        separate = self.jobs if self.train and not self.is_plain else ()
        experiments = {t.id: t for job in separate for t in _experiment_targets(job)}
        notebooks = [self._notebook_target(job) for job in self.jobs]
        book = [self._book_target(notebooks)] if self.with_book else []
        return [*experiments.values(), *notebooks, *book]

    def snapshot(self) -> str:
        """Hash the request with names, sizes and times of all files that could change its targets.

        If it is the same as when everything was up to date, everything still is. Comparing it
        takes a second; comparing contents means loading data and listing experiments.
        """
        runs = os.environ.get("IAV_RUNS") or self.project.root / "runs"
        total = hashlib.sha256(f"{self._subject} {package_versions(PACKAGES)}".encode())
        folders = [self.project.notebooks, self.project.book, self.project.html, runs, data_home()]
        for folder in (*folders, Path(iavlib.__file__).parent):
            for parent, names, files in os.walk(folder):
                names[:] = sorted(n for n in names if n[0] != "." and n != "__pycache__")
                for file in sorted(file for file in files if file[0] != "."):
                    with suppress(FileNotFoundError):  # removed in the meantime
                        facts = os.stat(os.path.join(parent, file))
                        state = f"{parent}/{file}|{facts.st_size}|{facts.st_mtime_ns}"
                        total.update(state.encode())
        for file in (self.project.toc, self.project.config):
            total.update(file.read_bytes() if file.is_file() else b"none")
        return total.hexdigest()

    def recorded(self, snapshot: str) -> int:
        """Return the number of targets if all were up to date at this snapshot, else 0."""
        # the snapshot does not cover a user's own files
        if self.force or PATH_PARAMETER in self.overrides or not self._record.is_file():
            return 0
        content = json.loads(self._record.read_text())
        return content["targets"] if content["snapshot"] == snapshot else 0

    def record(self, snapshot: str, n_targets: int) -> None:
        """Remember that all targets were up to date at this snapshot, unless the disk refuses."""
        with suppress(OSError):
            write_json(self._record, {"snapshot": snapshot, "targets": n_targets})

    @property
    def _subject(self) -> str:
        """What is asked for, however it is made."""
        return repr(replace(self, force=False, n_jobs=None, executor=LOCAL))

    @property
    def _record(self) -> Path:
        name = hashlib.sha256(self._subject.encode()).hexdigest()[:16]
        return self.project.build / "up-to-date" / f"{name}.json"

    def fits(self, manifest: Mapping[str, Any]) -> bool:
        """Return whether a run, given by its manifest, is what would be made."""
        wanted = {(job.stem, job.fingerprint) for job in self.jobs}
        is_made = not (self.train and manifest.get("not_trained"))
        return is_made and (manifest["notebook"], manifest["fingerprint"]) in wanted

    def _notebook_target(self, job: Job) -> Target:
        overrides = dict(self.overrides)
        if PATH_PARAMETER in overrides:  # it may be relative, and jobs run in another folder
            overrides[PATH_PARAMETER] = job.parameters[PATH_PARAMETER]
        command = ["run", job.stem, "--job", "--profile", job.profile]
        command += [word for name, value in overrides.items() for word in ("-p", f"{name}={value}")]
        needs = () if self.is_plain or not self.train else job.experiments.listed
        if needs or not self.train:  # what it needs are jobs of their own
            command.append("--apart" if self.train else "--no-train")
        command += ["--force"] if self.force else []
        has_failed = NotebookFiles(self.project.executed, job.stem).failed_json.is_file
        reason = "forced" if self.force else reason_to_run(self.project, job, self.train)
        if reason is None and has_failed():
            reason = "its last run failed, and its source was restored"
        ids = tuple(map(_experiment_id, needs))
        return Target(NOTEBOOK, job.stem, reason, tuple(command), ids, has_failed)

    def _book_target(self, notebooks: Sequence[Target]) -> Target:
        from iavlib.book.site import reason_to_build

        reason = "forced" if self.force else "notebooks are run before it"
        if not self.force and not any(target.reason for target in notebooks):
            reason = reason_to_build(self.project)
        command = ("book", "--no-run", "--job", *(["--force"] if self.force else []))
        return Target(BOOK, BOOK, reason, command, tuple(target.id for target in notebooks))


def _experiment_targets(job: Job) -> list[Target]:
    """List a notebook's experiments. One that fails does not keep the notebook from running."""
    store, targets = job.experiments.store, []
    for experiment in job.experiments.with_parents():
        folder, parent = store.folder(experiment), experiment.parent
        name, reason = f"{experiment.task}-{experiment.id}", _REASONS.get(store.status(experiment))
        command = ("train", str(folder / "spec.json"), "--keep-going")
        needs = (_experiment_id(parent),) if reason and parent is not None else ()
        begin = functools.partial(store.begin, experiment)
        failed = functools.partial(lambda path: store.status(path) == "failed", folder)
        targets.append(Target(EXPERIMENT, name, reason, command, needs, failed, begin))
    return targets


def _experiment_id(experiment: Any) -> str:
    return f"{EXPERIMENT}/{experiment.task}-{experiment.id}"


def make(request: Request, log: Callable[[str], None]) -> list[Target]:
    """Make what is asked for.

    Waits while another process does so in this project. Jobs print themselves how they ended.

    Parameters
    ----------
    request : Request
        What is asked for.
    log : callable
        Gets a line before and one after.

    Returns
    -------
    list of Target
        Those that are not made; empty if all went well.

    Raises
    ------
    IavError
        If the request is wrong, or Snakemake failed for another reason than a job.
    """
    project, profile = request.project, find_executor(request.project, request.executor)
    collect(project, log, request.fits)
    snapshot = request.snapshot()
    n_targets = request.recorded(snapshot)
    targets = [] if n_targets else request.targets()
    if all(target.reason is None for target in targets):
        if not n_targets:
            request.record(snapshot, len(targets))
        log(nothing_to_do(n_targets or len(targets)))
        return []
    with only_one(project.lock, "iav book" if request.with_book else "iav run"):
        if request.snapshot() != snapshot:  # another process was at work while we waited
            targets = replace(request).targets()
        todo = [target for target in targets if target.reason]
        if not todo:
            log(nothing_to_do(len(targets)))
            return []
        log(f"{len(todo)} of {len(targets)} jobs to do, {request.n_at_once(targets)} at a time")
        for target in todo:
            target.prepare()
        shutil.rmtree(project.build / "plan", ignore_errors=True)
        folder = project.build / "plan" / secrets.token_hex(4)
        code = _run_snakemake(request, targets, folder, profile)
        receipts = folder / "done"
        left = [t for t in todo if not (receipts / t.id).exists() or t.failed()]
        if code and not any(target.failed() for target in left):
            if shutil.disk_usage(folder).free < _MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            log(f"Snakemake ended with status {code}: {_last_line(folder)}")
        elif not left:
            shutil.rmtree(folder)
            snapshot = request.snapshot()
            if all(target.reason is None for target in replace(request, force=False).targets()):
                request.record(snapshot, len(targets))
    if left:
        names = [target.name for target in left if target.kind != BOOK] or [BOOK]
        log(f"not done: {', '.join(names)}; the same command goes on with what is left")
    return left


def nothing_to_do(n_targets: int) -> str:
    """Return the line for a request of which everything is up to date."""
    return f"nothing to do: {n_targets} of {n_targets} jobs are up to date"


def show(request: Request, log: Callable[[str], None]) -> bool:
    """List every target with the reason why it would be made; nothing is made.

    For another place than this machine, Snakemake's dry run is shown too, which checks the profile
    and shows the resources of every job. Returns whether it succeeded.
    """
    targets = request.targets()
    width = max((len(target.name) for target in targets), default=0)
    for target in targets:
        log(f"{target.name:<{width}}  {target.reason or 'up to date'}")
    n_todo = sum(target.reason is not None for target in targets)
    log(f"{n_todo} of {len(targets)} jobs to do" if n_todo else nothing_to_do(len(targets)))
    pairs = [pair for job in request.jobs for pair in job.experiments.unavailable]
    if pairs:
        from iavlib.experiments.runner import log_left_out

        log_left_out({item.canonical: why for item, why in pairs}.values(), log)
    if not n_todo or request.executor == LOCAL:
        return True
    profile = find_executor(request.project, request.executor)
    with tempfile.TemporaryDirectory() as folder:
        options = ("--dry-run", "--printshellcmds")
        return _run_snakemake(request, targets, Path(folder), profile, *options) == 0


def find_executor(project: Project, name: str) -> Path:
    """Find the folder of the Snakemake profile that defines where jobs run.

    Raises
    ------
    ProjectError
        If it holds no ``config.yaml``.
    IavError
        If Snakemake is not installed.
    """
    profiles = project.workflow / "profiles"
    folders = (profiles / name, Path(name).resolve())
    folder = next((path for path in folders if (path / "config.yaml").is_file()), None)
    if folder is None:
        known = [file.parent.name for file in profiles.glob("*/config.yaml")]
        raise ProjectError(
            f"no executor {name!r} (no {name}/config.yaml here or in {profiles}); "
            f"{suggest(name, known)}"
        )
    if importlib.util.find_spec("snakemake") is None:
        raise IavError(
            "running notebooks needs Snakemake, which is not installed: "
            "pip install 'iavlib[notebooks]' (for a cluster also iavlib[cluster])"
        )
    return folder


def _run_snakemake(
    request: Request, targets: Sequence[Target], folder: Path, profile: Path, *options: str
) -> int:
    """Write receipts and configuration into a folder, run Snakemake there, return its status."""
    source = request.project.workflow / "Snakefile"
    if not source.is_file():
        raise ProjectError(f"{source} is missing; restore it from git")
    for target in targets:
        (folder / "done" / target.kind).mkdir(parents=True, exist_ok=True)
        if target.reason is None:
            (folder / "done" / target.id).touch()
    # the copies travel with the jobs where no file system is shared
    write_text(folder / "Snakefile", source.read_text(encoding="utf-8"))
    described = {t.id: {"command": list(t.command), "needs": list(t.needs)} for t in targets}
    n_jobs, threads = request.n_at_once(targets), 1
    if request.is_plain:  # they share the cores, or have as many as were asked for
        asked = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(asked) if asked.isdecimal() and int(asked) else usable_cores() // n_jobs
    # Snakemake gives each job this number of threads in OMP_NUM_THREADS
    config = {"root": str(request.project.root), "threads": threads, "targets": described}
    write_json(folder / "plan.json", config)
    settings = read_yaml(profile / "config.yaml") or {}
    is_local = settings.get("executor", LOCAL) == LOCAL
    command = [sys.executable, "-m", "iavlib.book.worker", "snakemake", "--snakefile", "Snakefile"]
    command += ["--configfile", "plan.json", "--workflow-profile", str(profile), "--keep-going"]
    limit = ("--cores" if is_local else "--jobs", str(n_jobs * threads))
    command += ["--rerun-triggers", "mtime", *limit]
    if "default-storage-provider" in settings:  # receipts must be seen on all machines
        command += ["--default-storage-prefix", str(folder)]
    with (folder / "snakemake.log").open("wb") as log:
        errors = log if is_local and not options else None  # a cluster's progress is shown
        streams = {"stdin": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen(
            [*command, *options], cwd=folder, env=_environment(folder), **streams
        )
        try:
            return process.wait()
        finally:
            process.stdin.close()  # if we are interrupted, this ends the jobs too
            process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Give Snakemake a cache that it can write; jobs keep the locations of ours."""
    ours = {"IAV_CACHE_HOME": str(cache_home()), "IAV_DATA_HOME": str(data_home())}
    return {**os.environ, **ours, "XDG_CACHE_HOME": str(folder / "cache")}


def _last_line(folder: Path) -> str:
    log = folder / "snakemake.log"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1].strip()} (in full: {log})" if lines else "see above"
