"""Finishing what a killed run had done all but for the bookkeeping; no kernel is started."""

import json

import nbformat
import pytest

from iavlib.book.graph import Traces, is_current, prepare_jobs
from iavlib.book.notebooks import adopt, bring_up_to_date
from iavlib.core.files import write_json


@pytest.fixture
def job(workshop):
    path = workshop.notebook("01_first", "x = 1", "manifest.write(cohorts=[])")
    return prepare_jobs(workshop.project, [path], "quick")[0]


@pytest.fixture
def traces(workshop, job):
    return Traces(workshop.project.executed, job.stem)


@pytest.fixture
def work(traces, job):
    """What a run leaves that was killed just after its last cell had written the manifest."""
    folder = traces.work / "run1"
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


def test_a_finished_run_is_not_repeated(workshop, job, traces, work):
    result = bring_up_to_date(workshop.project, job)
    assert result.status == "up to date"
    assert result.manifest["run_id"] == "run1"
    assert is_current(workshop.project, job)
    assert not traces.work.exists()


def test_a_kill_between_the_two_moves_is_made_up_for(workshop, job, traces, work):
    (work / "output.ipynb").rename(traces.notebook)
    assert adopt(traces, job)
    assert is_current(workshop.project, job)


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
def test_nothing_half_done_is_taken_for_whole(workshop, job, traces, work, damage):
    damage(work)
    assert not adopt(traces, job)
    assert not is_current(workshop.project, job)


def test_force_repeats_even_that(workshop, job, traces, work, monkeypatch):
    from iavlib.book import notebooks

    monkeypatch.setattr(notebooks, "_run", lambda *_: "run again")
    assert bring_up_to_date(workshop.project, job, force=True) == "run again"
