import signal
import subprocess
import sys
import threading

import pytest

from iavlib.core.files import only_one

HOLDER = """
import sys, time
from pathlib import Path
from iavlib.core.files import only_one
with only_one(Path(sys.argv[1]), "iav book"):
    print("held", flush=True)
    time.sleep(99)
"""


@pytest.fixture
def holder(tmp_path):
    """Start another process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "deep" / "lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_waits_and_says_for_whom_until_the_first_is_killed(tmp_path, holder):
    said = []

    def log(text):
        said.append(text)
        threading.Timer(0.2, holder.send_signal, [signal.SIGKILL]).start()

    with only_one(tmp_path / "deep" / "lock", "iav run", log):
        assert holder.wait(5) == -signal.SIGKILL
    (text,) = said
    assert text.startswith(f"waiting for iav book (process {holder.pid} on ")
    assert text.endswith("to end; Ctrl-C stops waiting")


def test_a_free_lock_is_taken_in_silence_and_signed(tmp_path, capsys):
    lock = tmp_path / "lock"
    lock.write_text("somebody who ended long ago, with a long name")
    with only_one(lock, "iav run"):
        assert lock.read_text().startswith("iav run (process ")
        assert "ago" not in lock.read_text()
    with only_one(lock, "iav book"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_child_that_inherits_the_lock_holds_it_too(tmp_path):
    lock = tmp_path / "lock"
    with only_one(lock, "parent") as stream:
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[stream.fileno()])
    said = []

    def log(text):
        said.append(text)
        child.stdin.close()

    with only_one(lock, "next", log):
        child.wait(5)
    assert said
