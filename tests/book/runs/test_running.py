"""Runs of real kernels: each takes seconds, so that few are started and much is asked of each."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from iavlib.book.jobs import NotebookFiles, prepare_jobs
from iavlib.book.manifest import read_manifest
from iavlib.book.notebook_source import locate_failure
from iavlib.book.notebooks import run_if_needed

ENDINGS = {
    "raise": "ratio = 1 / 0",
    "kill": "os.kill(os.getpid(), 9)",
    "exit": "sys.exit(0)",
    "nothing": "pass",
}


@pytest.fixture(scope="module")
def shop(lasting_workshop):
    """Give a project whose notebook ends as its parameter says."""
    branches = "\n".join(f"if how == {how!r}:\n    {code}" for how, code in ENDINGS.items())
    lasting_workshop.good_notebook(
        "01_first",
        "from iavlib import book as claims\nclaims.record('toy-mean', 0.501, cohort=cohort, n=9)",
        "print(how, size)",  # in a cell before: a killed kernel may take its words with it
        f"# the end\nimport os, sys\n{branches}",
        parameters="how = 'well'\nsize = 1.0",
    )
    return lasting_workshop


@pytest.fixture(autouse=True)
def inside(shop, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.setenv("IAV_TOY", "passed on")
    monkeypatch.chdir(shop.project.root)


def job(shop, **overrides):
    (made,) = prepare_jobs(
        shop.project, [shop.project.notebooks / "01_first.ipynb"], "quick", overrides
    )
    return made


@pytest.fixture(scope="module")
def good_run(shop):
    files = NotebookFiles(shop.project.executed, "01_first")
    for trace in (files.failed_json, files.failed_notebook):
        shop.write(trace, "of an earlier failure, which a success removes")
    return run_if_needed(shop.project, job(shop, size="1e-4"), force=True)


def test_a_good_run_leaves_notebook_and_manifest(shop, good_run):
    assert good_run.failure is None
    assert good_run.status == "done"
    files = NotebookFiles(shop.project.executed, "01_first")
    content = read_manifest(files.manifest)
    assert content == good_run.manifest
    assert content["parameters"] == {"how": "well", "size": 1e-4}
    assert content["overrides"] == {"size": 1e-4}
    assert content["claims"][0]["value"] == 0.501
    assert "well 0.0001" in files.log.read_text()
    assert "well 0.0001" in files.notebook.read_text()
    left = {path.name for path in shop.project.executed.iterdir() if path.name[0] != "."}
    assert left == {"01_first.ipynb", "01_first.json", "01_first.log"}


def test_what_is_up_to_date_is_not_run_again(shop, good_run):
    before = NotebookFiles(shop.project.executed, "01_first").notebook.stat().st_mtime_ns
    result = run_if_needed(shop.project, job(shop, size="0.0001"))
    assert result.status == "up to date"
    assert result.manifest == good_run.manifest
    assert NotebookFiles(shop.project.executed, "01_first").notebook.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("how", "cell", "line", "error"),
    [
        ("raise", 5, "# the end", "ZeroDivisionError: division by zero"),
        ("kill", 5, "# the end", "the kernel died"),
        ("exit", 5, "# the end", "SystemExit: 0 (a notebook must not end its own process)"),
    ],
)
def test_a_bad_end_is_a_failure_that_names_its_cell(shop, good_run, how, cell, line, error):
    result = run_if_needed(shop.project, job(shop, how=how))
    assert result.status == "failed"
    assert (result.failure.cell, result.failure.line) == (cell, line)
    assert result.failure.error.startswith(error)
    files = NotebookFiles(shop.project.executed, "01_first")
    assert f"{how} 1.0" in files.failed_notebook.read_text()
    kept = json.loads(files.failed_json.read_text())
    assert (kept["cell"], kept["parameters"]["how"]) == (cell, how)
    if how == "raise":
        assert "ZeroDivisionError: division by zero" in kept["traceback"][-1]
    assert read_manifest(files.manifest) == good_run.manifest, "the good result stays"
    assert "well 0.0001" in files.notebook.read_text()


def test_the_good_source_put_back_clears_the_failure(shop, good_run):
    files = NotebookFiles(shop.project.executed, "01_first")
    files.failed_json.write_text("{}")
    files.failed_notebook.write_text("{}")
    assert run_if_needed(shop.project, job(shop, size="0.0001")).status == "up to date"
    assert not files.failed_json.exists()
    assert not files.failed_notebook.exists()


def test_a_notebook_that_writes_no_manifest_is_not_done(shop):
    path = shop.notebook("02_forgetful", "import os\nassert os.environ['IAV_TOY'] == 'passed on'")
    result = run_if_needed(shop.project, prepare_jobs(shop.project, [path], "quick")[0])
    assert result.status == "failed"
    assert result.failure.place == "code cell 1 (import os)"
    assert "the last cell must call book.finish" in result.failure.error
    assert NotebookFiles(shop.project.executed, "02_forgetful").failed_notebook.exists()


def test_a_notebook_is_run_by_one_process_at_a_time(shop, good_run, capsys):
    """The second waits, and then finds that nothing is left to do."""
    files = NotebookFiles(shop.project.executed, "01_first")
    manifest = files.manifest.read_text()
    files.manifest.unlink()

    def end():
        files.manifest.write_text(manifest)
        stream.close()

    with files.lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write("a run of 01_first (process 7)")
        stream.flush()
        threading.Timer(0.3, end).start()
        result = run_if_needed(shop.project, job(shop, size="0.0001"))
    assert result.status == "up to date"
    assert result.manifest == good_run.manifest
    assert "waiting for a run of 01_first (process 7) to end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_stopping_ends_the_kernel_too_and_says_how_to_go_on(shop, number, code, said):
    shop.notebook(
        "03_slow", "import os, time\nprint('pid', os.getpid(), flush=True)", "time.sleep(99)"
    )
    command = [sys.executable, "-m", "iavlib", "run", "03"]
    # a shell that runs the tests in the background has its children ignore the signal
    listening = partial(signal.signal, number, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    log = NotebookFiles(shop.project.executed, "03_slow").log
    log.unlink(missing_ok=True)
    pid = wait_for(lambda: find_pid(log))
    process.send_signal(number)
    lines = process.communicate(timeout=30)[1].split("\n")
    assert lines[-2] == f"{said}; what is finished is kept; run it again for the rest"
    assert process.returncode == code
    wait_for(lambda: not is_alive(pid))


def find_pid(log):
    words = log.read_text().split() if log.is_file() else []
    return int(words[words.index("pid") + 1]) if "pid" in words[:-1] else None


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # where there is one, do not count who only waits for burial
    return not state.exists() or state.read_text().split()[2] != "Z"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_run_that_never_began_is_diagnosed_from_its_log(tmp_path):
    (tmp_path / "log").write_text("Traceback\nModuleNotFoundError: No module named 'papermill'\n")
    failure = locate_failure(tmp_path / "none.ipynb", tmp_path / "log", 1)
    assert failure.cell is None
    assert failure.error == "ModuleNotFoundError: No module named 'papermill'"
