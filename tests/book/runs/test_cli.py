import json
import os
import re
from pathlib import Path

import pytest
from iav_process import iav as run_iav
from typer.testing import CliRunner

import iavlib
from iavlib.cli.main import app

REPOSITORY = Path(__file__).parents[3]


def iav(*arguments):
    return CliRunner().invoke(app, arguments)


def test_version():
    assert iav("--version").output == f"iavlib {iavlib.__version__}\n"


@pytest.mark.parametrize("columns", [20, 80, 200])
@pytest.mark.parametrize("terminal", ["", "1"])
def test_ids_of_claims_are_whole_at_any_width(monkeypatch, columns, terminal):
    monkeypatch.setenv("IAV_PROJECT", str(REPOSITORY))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    shown = set(re.findall(r"[\w-]+", iav("claims").output))
    assert shown >= {row["id"] for row in json.loads(iav("claims", "--json").output)}


def test_commands_are_listed():
    for command in ("run", "book", "claims", "data"):
        assert command in iav("--help").output
    assert "status" in iav("data", "--help").output
    assert iav("data", "nosuch").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "03"), "error: no notebook '03'"),
        (("run", "-p", "sise=2"), "error: 01_first.ipynb has no parameter 'sise'; did you mean"),
        (("run", "-p", "size=big"), "error: 01_first.ipynb: parameter 'size' = 'big' is not"),
        (("run", "-p", "size"), "error: -p size: write it as name=value"),
        (("run", "-p", "=1"), "error: -p =1: write it as name=value"),
        (("run", "-p", "size=1", "-p", "size=2"), "error: -p size is given twice; keep one"),
        (("run", "-p", "size=x=y"), "error: 01_first.ipynb: parameter 'size' = 'x=y' is not"),
        (("run", "--profile", "qick"), "error: no profile 'qick'"),
        (("book", "--profile", "qick"), "error: no profile 'qick'"),
    ],
)
def test_wrong_input_is_one_line_and_runs_nothing(workshop, arguments, message):
    workshop.good_notebook("01_first", parameters="size = 1.0")
    result = iav(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith(message)
    assert result.output.count("\n") == 1
    assert not workshop.project.executed.exists()


def test_outside_a_project_the_error_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("iavlib.core.project._CLONE", tmp_path)
    for command in (["run"], ["book"], ["claims"]):
        result = iav(*command)
        assert result.exit_code == 2
        assert "is in no project" in result.output


def test_all_notebooks_run_even_if_one_fails(workshop):
    workshop.notebook("01_first", "raise RuntimeError('no luck')")
    workshop.good_notebook("02_second", "import os\nassert os.environ['OMP_NUM_THREADS'] == '3'")
    asked = os.environ | {"OMP_NUM_THREADS": "3"}
    code, output, errors = run_iav(workshop.project, "run", "--profile", "smoke", env=asked)
    assert (code, errors) == (1, "")
    todo, *middle, undone = output.splitlines()  # notebooks run in any order
    assert re.fullmatch("2 of 2 jobs to do, [12] at a time", todo)  # by cores and memory
    assert undone == "not done: 01_first; the same command goes on with what is left"
    failed = next(at for at, line in enumerate(middle) if line.startswith("01_first"))
    assert (
        "FAILED in code cell 1 (raise RuntimeError('no luck')): RuntimeError: no luck"
        in (middle[failed])
    )
    assert "book/executed/01_first.failed.ipynb" in middle[failed + 1]
    assert any(line.startswith("02_second") and "done: toy, 0 claims" in line for line in middle)
