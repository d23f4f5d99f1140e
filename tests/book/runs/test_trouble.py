"""Disks that are full or read-only: one sentence, and earlier results stay."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.core import files
from iavlib.core.errors import explain


def refuse(number):
    def refusing(*_, **__):
        raise OSError(number, os.strerror(number))

    return refusing


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "/x: the disk is full or your share of it is; free some space and run"),
        (errno.EDQUOT, "/x: the disk is full or your share of it is"),
        (errno.EROFS, "/x: read-only file system; iav writes into book/executed and _build"),
        (errno.EACCES, "/x: permission denied; iav writes into book/executed and _build"),
        (errno.ENOLCK, "/x: this file system has no file locks"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(number, said):
    assert explain(OSError(number, os.strerror(number), "/x")).startswith(said)


def test_other_errors_keep_their_traceback():
    assert explain(FileNotFoundError(errno.ENOENT, "gone", "/x")) is None


@pytest.mark.parametrize("command", [["run"], ["book"], ["book", "--no-run"]])
def test_a_project_that_cannot_be_written(workshop, monkeypatch, command):
    workshop.good_notebook("01_first")
    workshop.write(workshop.project.config, "")
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EROFS))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output.startswith("error: read-only file system; iav writes into")
    assert result.output.count("\n") == 1


def test_a_full_disk_is_named_with_the_file_that_found_no_room(workshop, monkeypatch):
    workshop.good_notebook("01_first")
    monkeypatch.setattr(files.os, "replace", refuse(errno.ENOSPC))
    for command, folder, file in (
        (["run", "--job"], workshop.project.executed / ".01_first.run", "run.json"),
        (["run"], workshop.project.build / "plan", "Snakefile"),
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        line = result.output.splitlines()[-1]
        assert line.startswith(f"error: {folder}/")
        assert f"{file}: the disk is full" in line
        assert not list(folder.rglob("*.tmp"))


MOUNTED = """
set -e
mount -t tmpfs -o size=1m tmpfs {disk}
cp -r {project} {disk}/p
cd {disk}/p
{iav} run || exit 3
cp book/executed/01_first.json book/executed/01_first.ipynb ..
sed -i 's/n = 1/n = 2/' notebooks/01_first.ipynb
fill() {{ rm -f {disk}/filler
    head -c $(( ($(df -k --output=avail . | tail -1) - $1) * 1024 )) /dev/zero > {disk}/filler; }}
for room in 0 4 8; do
    fill $room
    code=0; {iav} run || code=$?
    test $code = 1
    cmp book/executed/01_first.json ../01_first.json
    cmp book/executed/01_first.ipynb ../01_first.ipynb
done
rm {disk}/filler
{iav} run
mount -o remount,ro {disk}
code=0; {iav} run -p n=3 || code=$?
test $code = 1
{iav} run
"""


@pytest.mark.thorough
def test_a_disk_that_really_fills_up_and_is_then_read_only(workshop, tmp_path):
    (tmp_path / "disk").mkdir()
    mounts = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*mounts, "true"], check=False).returncode:
        pytest.skip("needs the right to mount a small disk (unshare)")
    workshop.good_notebook("01_first", "x = 'much text ' * 100\nprint(x)", parameters="n = 1")
    script = MOUNTED.format(
        disk=tmp_path / "disk",
        project=workshop.project.root,
        iav=f"{sys.executable} -m iavlib",
    )
    done = subprocess.run(
        [*mounts, "bash", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    errors = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in errors), errors
    assert "the disk is full" in errors[0]
    assert "read-only file system" in errors[-1]
    assert "Traceback" not in done.stdout
    assert done.stdout.splitlines()[-1] == "nothing to do: 1 of 1 jobs are up to date"
