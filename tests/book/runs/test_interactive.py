"""Runs that `iav run` did not start get into the book too, if they are whole."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from iavlib.book.interactive import begin, collect
from iavlib.book.jobs import NotebookFiles, prepare_jobs, reason_to_run
from iavlib.book.notebooks import publish
from iavlib.book.plan import Request
from iavlib.core.files import write_json


@pytest.fixture(scope="module")
def shop(lasting_workshop):
    lasting_workshop.good_notebook("01_first", "print(size)", parameters="size = 1.0")
    return lasting_workshop


@pytest.fixture(scope="module")
def papermill_run(shop, tmp_path_factory):
    """Run a notebook by papermill from another folder; return the output file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "papermill", str(shop.project.notebooks / "01_first.ipynb")]
    command += ["out.ipynb", "-p", "size", "2.5", "--no-progress-bar"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out.ipynb"


@pytest.fixture
def run(shop, papermill_run, tmp_path, monkeypatch):
    """The project and output as they are after the run, to be changed; undone afterwards."""
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    kept = tmp_path / "kept"
    shutil.copytree(shop.project.executed, kept)
    output = papermill_run.read_bytes()
    yield papermill_run
    shutil.rmtree(shop.project.executed)
    shutil.copytree(kept, shop.project.executed)
    papermill_run.write_bytes(output)


def test_papermill_from_another_folder_leaves_the_manifest_of_iav_run(shop, run):
    lines = []
    assert collect(shop.project, lines.append) == ["01_first"]
    manifest = NotebookFiles(shop.project.executed, "01_first").good_manifest()
    assert manifest["parameters"] == {"size": 2.5} == manifest["overrides"]
    assert str(run) in lines[0]
    [job] = prepare_jobs(
        shop.project, [shop.project.notebooks / "01_first.ipynb"], "quick", {"size": 2.5}
    )
    assert reason_to_run(shop.project, job) is None  # iav run would do the same again
    assert collect(shop.project, lines.append) == [], "it is taken over once"


def test_only_the_run_that_is_asked_for_is_taken_over(shop, run):
    """Others wait for `iav book --no-run`, unless a later one is shown by then."""
    files, lines = NotebookFiles(shop.project.executed, "01_first"), []
    notebooks = [shop.project.notebooks / "01_first.ipynb"]
    for overrides in ({}, {"size": "7"}):
        request = Request(shop.project, notebooks, "quick", overrides)
        assert collect(shop.project, lines.append, request.fits) == lines == []
    request = Request(shop.project, notebooks, "quick", {"size": "2.5"})
    assert collect(shop.project, lines.append, request.fits) == ["01_first"]
    manifest = files.good_manifest()
    assert request.fits(manifest)
    assert not request.fits(manifest | {"notebook": "02_second"})
    assert not request.fits(manifest | {"not_trained": ["constant/one"]})
    assert replace(request, train=False).fits(manifest | {"not_trained": ["constant/one"]})


def test_an_earlier_run_does_not_replace_a_later_one(shop, run):
    lines, files = [], NotebookFiles(shop.project.executed, "01_first")
    (waiting,) = shop.project.executed.glob(".*.elsewhere/*/manifest.json")
    later = json.loads(waiting.read_text()) | {"finished": "2999-01-01T00:00:00+00:00"}
    shutil.copy(run, files.notebook)
    write_json(files.manifest, later)
    assert collect(shop.project, lines.append) == []
    assert "a later run is shown" in lines[0]
    assert files.good_manifest() == later
    assert run.exists()


def test_an_executed_notebook_of_somebody_else_is_neither_taken_nor_lost(shop, run):
    """As where papermill was given the place of an executed notebook for its output."""
    files = NotebookFiles(shop.project.executed, "01_first")
    files.notebook.write_text('{"cells": ["before any run"]}')
    assert collect(shop.project, print) == ["01_first"]
    (job,) = prepare_jobs(
        shop.project, [shop.project.notebooks / "01_first.ipynb"], "quick", {"size": 2.5}
    )
    assert reason_to_run(shop.project, job) is None
    manifest, whole = files.manifest.read_text(), files.notebook.read_text()
    files.notebook.write_text('{"cells": ["of another notebook"]}')
    assert files.good_manifest() is None
    reason = "its executed notebook was changed or replaced since"
    assert reason_to_run(shop.project, job) == reason
    work = files.work / "again"
    work.mkdir(parents=True)
    (work / "output.ipynb").write_text(whole)
    (work / "manifest.json").write_text(manifest)
    assert publish(work, files) == files.good_manifest()
    kept = {path.read_text() for path in files.executed.glob("01_first.*.ipynb")}
    assert kept == {'{"cells": ["before any run"]}', '{"cells": ["of another notebook"]}'}


def test_a_run_into_the_same_file_replaces_the_one_that_waits(shop, run):
    """Whichever notebook it is of: the file no longer holds the earlier run."""
    waiting = shop.project.executed / ".01_first.elsewhere"
    assert len(list(waiting.iterdir())) == 1
    shop.good_notebook("02_second")
    paths = {"PAPERMILL_INPUT_PATH": str(shop.project.notebooks / "02_second.ipynb")}
    begin(paths | {"PAPERMILL_OUTPUT_PATH": str(run.with_name("other.ipynb"))}, 0)
    assert len(list(waiting.iterdir())) == 1
    begin(paths | {"PAPERMILL_OUTPUT_PATH": str(run)}, 0)
    assert list(waiting.iterdir()) == []


@pytest.mark.parametrize("facts", ["", "{", b"\xff", None])
def test_what_is_left_of_another_run_does_not_stop_one(shop, run, facts):
    """Its facts may be damaged, or vanish as it is taken over."""
    (found,) = shop.project.executed.glob(".*.elsewhere/*/run.json")
    if facts is None:
        found.unlink()
        found.mkdir()  # listed, but no file when it is read
    else:
        found.write_bytes(facts if isinstance(facts, bytes) else facts.encode())
    notebook = shop.project.notebooks / "01_first.ipynb"
    paths = {"PAPERMILL_INPUT_PATH": str(notebook), "PAPERMILL_OUTPUT_PATH": str(run)}
    assert begin(paths, 0)["output"] == str(run)


def _edit(path, change):
    notebook = json.loads(path.read_text())
    change(notebook["cells"])
    path.write_text(json.dumps(notebook))


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: cells[1].update(execution_count=7),
        lambda cells: cells[-2].update(execution_count=None),
        lambda cells: cells[-2].update(source="print('edited')"),
        lambda cells: cells[0].update(source="# Edited\n\nText."),
        lambda cells: cells[-2].update(
            outputs=[{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]
        ),
    ],
    ids=["out of order", "not run", "edited", "text edited", "error"],
)
def test_a_run_that_is_not_whole_is_refused(shop, run, change):
    _edit(run, change)
    lines = []
    assert collect(shop.project, lines.append) == []
    assert NotebookFiles(shop.project.executed, "01_first").good_manifest() is None
    assert "not taken over" in lines[0]


def test_a_notebook_not_saved_yet_is_waited_for(shop, run):
    saved = run.read_bytes()
    _edit(run, lambda cells: cells[-1].update(outputs=[]))
    lines = []
    assert collect(shop.project, lines.append) == []
    assert "save" in lines[0]
    run.write_bytes(saved)
    assert collect(shop.project, lines.append) == ["01_first"]
