"""Runs that `iav run` did not start get into the book too, if they are whole."""

import json
import shutil
import subprocess
import sys

import pytest

from iavlib.book.interactive import collect
from iavlib.book.jobs import NotebookFiles, prepare_jobs, reason_to_run


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
        lambda cells: cells[-2].update(
            outputs=[{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]
        ),
    ],
    ids=["out of order", "not run", "edited", "error"],
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
