"""Putting the result of a run in place, now or, if we were killed before, the next time.

A notebook's last cell writes the manifest. Should everything be killed between
that and our putting the result in place, hours of work would have to be
repeated, although nothing but bookkeeping is missing; so it is made up for.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from iavlib.execution.errors import ExecutionError
from iavlib.execution.failure import first_unrun, has_error, own_code_cells
from iavlib.execution.jobs import Job, Traces
from iavlib.execution.manifest import read_manifest
from iavlib.execution.source import cell_source, load_notebook

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
