"""Runs of a notebook that `iav run` did not start: in JupyterLab, or by papermill from anywhere.

Their last cell leaves the same manifest, in a folder of its own, with the place of the notebook
file. What the cells showed is known only once JupyterLab or papermill has written that file, so
the next `iav run` or `iav book` takes over notebook and manifest together (:func:`collect`). A file
counts only if it is of that very run: its last cell shows the run's id, every cell was run once,
in order, from a fresh kernel, and its cells are those of the book's notebook.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from iavlib.book import notebook_source as source
from iavlib.book.jobs import NotebookFiles, prepare_jobs
from iavlib.book.manifest import read_manifest
from iavlib.book.notebooks import FACTS, MANIFEST, OUTPUT, publish
from iavlib.book.parameters import load_profile, parameter_defaults, resolve
from iavlib.core.errors import IavError, ProjectError
from iavlib.core.files import only_one, write_json
from iavlib.core.project import Project, find_project

_PROFILE = "quick"
_FOLDER = ".{stem}.elsewhere"


def executed_file(namespace: Mapping[str, Any]) -> tuple[Path, Path] | None:
    """Find which notebook this kernel runs, and the file that will hold its outputs.

    Parameters
    ----------
    namespace : mapping
        The notebook's variables; papermill's ``--inject-paths`` puts both paths there.

    Returns
    -------
    tuple of Path or None
        The notebook and that file, one and the same in JupyterLab; None where neither
        `namespace`, the environment (JupyterLab) nor the parent's command line (papermill) does.
    """
    injected = [namespace.get(f"PAPERMILL_{name}_PATH") for name in ("INPUT", "OUTPUT")]
    if all(injected):
        return Path(injected[0]).resolve(), Path(injected[1]).resolve()
    if session := os.environ.get("JPY_SESSION_NAME"):
        path = Path(session).resolve()
        return (path, path) if path.suffix == ".ipynb" else None
    import psutil

    parent = psutil.Process().parent()
    words = parent.cmdline() if parent is not None else []
    if not any("papermill" in Path(word).name for word in words[:4]):
        return None
    folder = Path(parent.cwd())
    files = [(folder / word).resolve() for word in words if word.endswith(".ipynb")]
    return (files[0], files[1]) if len(files) > 1 else None


def begin(namespace: Mapping[str, Any], started: float) -> dict[str, Any] | None:
    """Work out the facts of this run as `iav run` would hand them over.

    Parameters
    ----------
    namespace : mapping
        The notebook's variables, of which its parameters are read.
    started : float
        When the run began, in seconds since the epoch.

    Returns
    -------
    dict or None
        What the manifest takes over, with ``manifest`` (path to write) and ``output`` (the
        executed notebook's file); None where the notebook is not one of this project or its file
        cannot be found.
    """
    files = executed_file(namespace)
    if files is None:
        return None
    notebook, output = files
    try:
        project = find_project(notebook.parent)
    except ProjectError:  # a copy of the notebook that lies elsewhere
        project = find_project()
    path = project.notebook_files().get(notebook.stem)
    if path is None:
        return None
    names = parameter_defaults(path)
    values = {name: namespace[name] for name in names if name in namespace}
    usual = resolve(path, load_profile(project, _PROFILE).get(path.stem))
    overrides = {name: value for name, value in values.items() if value != usual[name]}
    [job] = prepare_jobs(project, [path], _PROFILE, overrides)
    run_id = secrets.token_hex(8)
    work = project.executed / _FOLDER.format(stem=job.stem) / run_id
    facts = {
        **{name: getattr(job, name) for name in ("profile", "parameters", "fingerprint", "inputs")},
        **{"notebook": job.stem, "overrides": dict(job.overrides), "run_id": run_id},
        **{"output": str(output), "manifest": str(work / MANIFEST), "started": started},
    }
    for earlier in project.executed.glob(f".*.elsewhere/*/{FACTS}"):
        with suppress(OSError, ValueError):  # damaged, or taken over meanwhile
            if json.loads(earlier.read_text(encoding="utf-8"))["output"] == str(output):
                shutil.rmtree(earlier.parent)  # the file will hold this run, whichever notebook's
    write_json(work / FACTS, facts)
    return facts


def collect(
    project: Project,
    log: Callable[[str], None] = print,
    fits: Callable[[Mapping[str, Any]], bool] = lambda manifest: True,
) -> list[str]:
    """Take over finished runs of JupyterLab and papermill that are later than what is shown.

    Parameters
    ----------
    project : Project
        The project.
    log : callable
        Gets one line per run that is taken over or cannot be.
    fits : callable
        From the manifest of a whole run to whether it is asked for; others stay where they are.

    Returns
    -------
    list of str
        Stems of the notebooks whose result is now that of such a run.
    """
    taken = []
    for stem, notebook in project.notebook_files().items():
        files = NotebookFiles(project.executed, stem)
        folder = project.executed / _FOLDER.format(stem=stem)
        if not folder.is_dir():
            continue
        with only_one(files.lock, f"a run of {stem}"):
            works = sorted(folder.iterdir(), key=lambda work: work.stat().st_mtime, reverse=True)
            for work in works:  # the latest first; an older one is then out of date
                reason = _why_not(work, notebook)
                if reason is None:
                    manifest, shown = read_manifest(work / MANIFEST), files.good_manifest()
                    if shown is not None and shown["finished"] >= manifest["finished"]:
                        reason = "a later run is shown"
                    elif not fits(manifest):
                        continue
                if reason is None:
                    shutil.copyfile(_place(work), work / OUTPUT)
                    publish(work, files)
                    taken.append(stem)
                    log(f"{stem}: took over the run of {_place(work)}")
                else:
                    log(f"{stem}: a run outside of iav run is not taken over: {reason}")
                    if reason.startswith("not saved"):
                        continue
                shutil.rmtree(work)
        if not any(folder.iterdir()):
            folder.rmdir()
    return taken


def _place(work: Path) -> str:
    return json.loads((work / FACTS).read_text(encoding="utf-8"))["output"]


def _why_not(work: Path, notebook: Path) -> str | None:
    """Return why a run is not taken over; None if it may be."""
    try:
        facts = json.loads((work / FACTS).read_text(encoding="utf-8"))
        read_manifest(work / MANIFEST, facts["run_id"])
        output = Path(facts["output"])
        executed = source.load_notebook(output)
    except (OSError, ValueError, IavError) as error:
        return str(error)
    cells = source.own_code_cells(executed)
    if facts["run_id"] not in json.dumps([cell.get("outputs") for cell in cells[-1:]]):
        recent = time.time() - work.stat().st_mtime < 7 * 24 * 3600
        return f"not saved yet: save {output} to show this run in the book" if recent else "stale"
    if source.has_error(executed):
        return "a cell ended with an error"
    code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    counts = [cell.get("execution_count") for cell in code if source.cell_source(cell).strip()]
    if counts != list(range(1, len(counts) + 1)):
        return "its cells were not run once in order; choose Restart Kernel and Run All Cells"
    added = {source.INJECTED_TAG, source.ERROR_MARK_TAG}
    ran = [cell for cell in source.read_cells(output) if added.isdisjoint(cell.tags)]
    ran, now = ([(c.kind, c.source) for c in cells] for cells in (ran, source.read_cells(notebook)))
    if ran != now:
        return "it is of another notebook, or the notebook has changed since"
    return None
