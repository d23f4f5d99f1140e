"""Finishing what a killed run had done all but for the bookkeeping; no kernel is started."""

import json

import nbformat
import pytest

from iavlib.book.jobs import NotebookFiles, prepare_jobs, reason_to_run
from iavlib.book.notebooks import recover, run_if_needed
from iavlib.core.files import write_json


@pytest.fixture
def job(workshop):
    path = workshop.notebook("01_first", "x = 1", "manifest.finish(cohorts=[])")
    return prepare_jobs(workshop.project, [path], "quick")[0]


@pytest.fixture
def files(workshop, job):
    return NotebookFiles(workshop.project.executed, job.stem)


@pytest.fixture
def work(files, job):
    """What a run leaves that was killed just after its last cell had written the manifest."""
    folder = files.work / "run1"
    write_json(folder / "run.json", {"run_id": "run1"})
    manifest = {
        **{"schema_version": 1, "run_id": "run1", "notebook": job.stem, "profile": "quick"},
        **{"overrides": {}, "parameters": {}, "fingerprint": job.fingerprint, "cohorts": []},
        **{"claims": [], "versions": {}, "hardware": {}, "seconds": 1},
        "finished": "2026-01-01T00:00:00+00:00",
    }
    write_json(folder / "manifest.json", manifest)
    notebook = nbformat.read(job.notebook, as_version=4)
    notebook.cells[1].execution_count = 1
    nbformat.write(notebook, folder / "output.ipynb")
    return folder


def test_a_finished_run_is_not_repeated(workshop, job, files, work):
    result = run_if_needed(workshop.project, job)
    assert result.status == "up to date"
    assert result.manifest["run_id"] == "run1"
    assert reason_to_run(workshop.project, job) is None
    assert not files.work.exists()


def test_a_kill_between_the_two_moves_is_made_up_for(workshop, job, files, work):
    (work / "output.ipynb").rename(files.notebook)
    assert recover(files, job)
    assert reason_to_run(workshop.project, job) is None


def of_another_run(work):
    (work / "output.ipynb").rename(work.parent.parent / "01_first.ipynb")
    (work.parent.parent / "01_first.json").write_text("of another run")


def change(name, **values):
    def damage(work):
        path = work / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


def unfinished(work):
    notebook = nbformat.read(work / "output.ipynb", as_version=4)
    notebook.cells[1].execution_count = None
    nbformat.write(notebook, work / "output.ipynb")


def erroneous(work):
    notebook = nbformat.read(work / "output.ipynb", as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("error", ename="E", evalue="")]
    nbformat.write(notebook, work / "output.ipynb")


@pytest.mark.parametrize(
    "damage",
    [
        lambda work: (work / "manifest.json").unlink(),
        lambda work: (work / "manifest.json").write_text('{"schema_'),
        lambda work: (work / "output.ipynb").write_text('{"cells": ['),
        lambda work: (work / "run.json").write_text(""),
        change("manifest.json", fingerprint="of other inputs"),
        change("run.json", run_id="run2"),
        unfinished,
        erroneous,
        of_another_run,
    ],
)
def test_nothing_half_done_is_taken_for_whole(workshop, job, files, work, damage):
    damage(work)
    assert not recover(files, job)
    assert reason_to_run(workshop.project, job) is not None


def test_force_repeats_even_that(workshop, job, files, work, monkeypatch):
    from iavlib.book import notebooks

    monkeypatch.setattr(notebooks, "_run", lambda *_: "run again")
    assert run_if_needed(workshop.project, job, force=True) == "run again"
