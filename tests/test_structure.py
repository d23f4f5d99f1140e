"""The structure of the library: its layers, and what importing it costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))
import size  # noqa: E402

HEAVY = {"matplotlib", "numpy", "pandas", "scipy", "sklearn", "torch", "torchvision"}


def test_no_package_imports_a_package_above_it(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(cache_dir=None, is_debug_mode=False, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_the_library_stays_small():
    measured = size.measure()
    assert len(measured.lines) <= 177
    assert sum(measured.lines.values()) <= 23_650  # room for corrections only
    assert not measured.cycle


def modules_after(code):
    """List the heavy modules that are loaded after `code` ran in a new interpreter."""
    code += f"\nimport sys\nprint(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_importing_iavlib_loads_nothing_heavy():
    assert modules_after("import iavlib") == []


def test_help_loads_nothing_heavy():
    code = "from typer.testing import CliRunner\nfrom iavlib.cli.main import app\n"
    for arguments in ([], ["predict"], ["triage"], ["train"], ["book"], ["data"]):
        code += f"assert CliRunner().invoke(app, [*{arguments}, '--help']).exit_code == 0\n"
    assert modules_after(code) == []


@pytest.mark.parametrize(
    ("arguments", "seconds"), [(["-c", "import iavlib"], 0.3), (["-m", "iavlib", "--help"], 0.6)]
)
def test_starting_takes_little_time(arguments, seconds):
    def used():
        times = os.times()
        return times.children_user + times.children_system

    before = used()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    assert used() - before < seconds
