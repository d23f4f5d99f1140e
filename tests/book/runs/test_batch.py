"""Batches of a few notebooks, run by Snakemake in processes of their own."""

import functools
import re
import shutil
import signal
from pathlib import Path

import pytest
from iav_process import iav, start_iav
from test_running import find_pid, is_alive, wait_for

from iavlib.book.jobs import NotebookFiles
from iavlib.book.manifest import read_manifest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def project(workshop):
    shutil.copy(REPOSITORY / "_config.yml", workshop.project.config)
    shutil.copytree(REPOSITORY / "book" / "_static", workshop.project.book / "_static")
    workshop.write(workshop.project.references, "")
    return workshop.project


@pytest.mark.thorough
def test_a_failed_notebook_fails_the_batch_but_stops_no_other(workshop, project):
    workshop.notebook("01_bad", "raise RuntimeError('no luck')")
    workshop.good_notebook("02_good", parameters="n = 1")
    code, output, errors = iav(project, "run", "--jobs", "2")
    assert code == 1
    assert errors == ""
    assert output.startswith("2 of 2 jobs to do, 2 at a time\n")
    assert re.search(r"^02_good +\d+\.\d s  done: toy, 0 claims$", output, flags=re.M)
    assert re.search(r"^01_bad .*FAILED in code cell 1 .*: RuntimeError: no luck$", output, re.M)
    assert output.endswith("not done: 01_bad; the same command goes on with what is left\n")
    assert "Snakemake" not in output

    workshop.good_notebook("01_bad")
    code, output, _ = iav(project, "run", "--jobs", "2")
    assert code == 0
    assert output.startswith("1 of 2 jobs to do")
    assert iav(project, "run", "--jobs", "2") == (
        0,
        "nothing to do: 2 of 2 jobs are up to date\n",
        "",
    )
    assert not any((project.build / "plan").iterdir())


def test_what_snakemake_itself_stumbles_over_is_said(workshop, project):
    workshop.good_notebook("01_first")
    (project.workflow / "Snakefile").write_text("this is no rule\n")
    code, output, _ = iav(project, "run", "--jobs", "2")
    assert code == 1
    assert re.search(r"Snakemake ended with status 1: .*\(in full: .*snakemake\.log\)", output)


@pytest.mark.thorough
def test_killing_the_command_alone_ends_its_jobs_and_leaves_nothing_locked(workshop, project):
    workshop.notebook(
        "01_slow", "import os, time\nprint('pid', os.getpid(), flush=True)", "time.sleep(99)"
    )
    log = NotebookFiles(project.executed, "01_slow").log
    process = start_iav(project, "run", "--jobs", "2")
    pid = wait_for(lambda: find_pid(log))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not is_alive(pid), seconds=20)
    workshop.good_notebook("01_slow")
    code, output, errors = iav(project, "run", "--jobs", "2")
    assert (code, errors) == (0, ""), output
    assert "done: toy" in output


@pytest.mark.thorough
def test_two_at_once(workshop, project):
    """The second waits for the first, then finds nothing left to do."""
    workshop.good_notebook("01_first", "import time\ntime.sleep(2)")
    workshop.toc(["book/index", "notebooks/01_first"])
    both = [start_iav(project, "book")]
    wait_for(lambda: project.lock.is_file() and project.lock.read_text())
    both.append(start_iav(project, "book"))
    (built, _), (waited, errors) = (process.communicate(timeout=120) for process in both)
    assert [process.returncode for process in both] == [0, 0], built + waited + errors
    assert f"Book: {project.html / 'index.html'}\n" in built
    assert re.match(r"waiting for iav book \(process \d+ on .*\) to end;", errors)
    assert waited == "nothing to do: 2 of 2 jobs are up to date\n"
    manifest = read_manifest(NotebookFiles(project.executed, "01_first").manifest)
    assert manifest["notebook"] == "01_first"


@pytest.mark.thorough
def test_the_book_is_a_job_after_its_notebooks(workshop, project):
    workshop.toc(["book/index", "notebooks/01_first"])
    workshop.good_notebook("01_first")
    code, output, errors = iav(project, "book", "--jobs", "2")
    assert (code, errors) == (0, ""), output
    lines = output.splitlines()
    assert lines[0] == "2 of 2 jobs to do, 2 at a time"
    assert lines[1].startswith("01_first")
    assert lines[2] == f"Book: {project.html / 'index.html'}"
    assert iav(project, "book", "--dry-run")[1].splitlines() == [
        "01_first  up to date",
        "book      up to date",
        "nothing to do: 2 of 2 jobs are up to date",
    ]
    workshop.page("index", "# Book\n\nGoodbye.\n")
    assert "book      pages, results, the library or" in iav(project, "book", "--dry-run")[1]
    workshop.notebook("01_first", "raise RuntimeError('no luck')")
    code, output, errors = iav(project, "book", "--jobs", "2")
    assert code == 1
    assert "not done: 01_first;" in output
    assert "Not a good book: 1 of its notebooks failed, 0 problems." in output
    assert "This notebook failed" in (project.html / "notebooks" / "01_first.html").read_text()


@pytest.mark.thorough
def test_jobs_do_not_depend_on_the_folder_or_on_signals_ignored(workshop, project):
    """A shell lets what it starts in the background ignore interrupts."""
    (project.root / "mine").mkdir()
    workshop.good_notebook(
        "01_first", "import os\nassert os.path.isdir(path), path", parameters="path = ''"
    )
    arguments = ["run", "01", "--jobs", "2", "-p", "path=mine"]
    ignore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    process = start_iav(project, *arguments, preexec_fn=ignore)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    manifest = read_manifest(NotebookFiles(project.executed, "01_first").manifest)
    assert manifest["overrides"] == {"path": str(project.root / "mine")}
