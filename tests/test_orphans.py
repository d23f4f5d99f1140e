"""No process of ours outlives the one that started it, and temporary folders go with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

POOL = """
import sys, tempfile, time
from iavlib.core.processes import end_orderly, run_in_order
if __name__ == "__main__":
    end_orderly()
    with tempfile.TemporaryDirectory(prefix="mine-", dir=sys.argv[1]):
        run_in_order(time.sleep, [600] * 4, 2, None)
"""
SPHINX = """
import sys
from pathlib import Path
from iavlib.book import site
site._BUILD_PROGRAM = site._BUILD_PROGRAM.replace("from jupyter_book.cli", "import time\\n"
    "time.sleep(600)\\nfrom jupyter_book.cli")
site._run_sphinx(Path(sys.argv[1]), Path(sys.argv[1]))
"""


def _as_from_a_terminal():
    """Undo what nohup and background shells let their children inherit."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def start(program, folder, n_children):
    script = folder / "program.py"
    script.write_text(program)
    command = [sys.executable, str(script), str(folder)]
    process = subprocess.Popen(command, preexec_fn=_as_from_a_terminal)
    parent, end = psutil.Process(process.pid), time.monotonic() + 60
    while len(parent.children(recursive=True)) < n_children:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    time.sleep(2)  # until the children have imported what ends them
    return process, parent.children(recursive=True)


def left(children, seconds=15):
    """Return which children are still there after a while."""
    return [
        child for child in psutil.wait_procs(children, timeout=seconds)[1] if child.is_running()
    ]


_OTHERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_OTHER_SIGNALS = [pytest.param(number, marks=pytest.mark.thorough) for number in _OTHERS]


@pytest.mark.parametrize("number", [signal.SIGKILL, *_OTHER_SIGNALS])
def test_a_pool_ends_with_its_owner(tmp_path, number):
    process, children = start(POOL, tmp_path, 2)
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        process.wait(15)
        assert not left(children)
        return
    for child in children:  # what the owner waits for, where it has not ended them itself
        with suppress(psutil.NoSuchProcess):
            child.kill()
    assert process.wait(30) != 0
    assert not left(children)
    assert not list(tmp_path.glob("mine-*"))


def test_the_builder_of_pages_ends_with_its_owner(tmp_path):
    process, children = start(SPHINX, tmp_path, 1)
    process.kill()
    process.wait(15)
    assert not left(children)
