"""What README, CONTRIBUTING and the book's pages tell users to type exists and runs."""

import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import typer

from iavlib.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]


def blocks(path, language):
    """List the fenced blocks of a page in a language; "" for none."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)


def commands():
    for path in PAGES:
        for line in "".join(blocks(path, "(?:bash|sh)?")).splitlines():
            if line.startswith(("iav ", ".venv/bin/iav ")):
                words = shlex.split(line, comments=True)
                yield pytest.param(words[1:], id=f"{path.name}: {' '.join(words[1:])}")


@pytest.mark.parametrize("words", [*commands()])
def test_commands_and_their_options_exist(words):
    command = typer.main.get_command(app)
    context = command.make_context("iav", [], resilient_parsing=True)
    while words and hasattr(command, "get_command"):
        inner = command.get_command(context, words[0])
        if inner is None:
            break
        context = inner.make_context(words[0], [], parent=context, resilient_parsing=True)
        command, words = context.command, words[1:]
    parameters = command.get_params(context)
    known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    options = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert options <= known


def test_the_python_of_the_readme_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    (code,) = blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert "rank_biserial" in capsys.readouterr().out


#: Groups of entry points are no names of Python.
ENTRY_POINTS = {"iavlib.datasets", "iavlib.methods", "iavlib.tasks"}


def exists(name):
    try:
        return pkgutil.resolve_name(name) is not None
    except (AttributeError, ImportError):
        return False


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_names_of_the_library_exist(path):
    names = set(re.findall(r"`(iavlib[\w.]*)", path.read_text("utf-8")))
    missing = {name for name in names if not exists(name)}
    assert not missing - ENTRY_POINTS


def test_every_package_with_a_public_list_has_a_page_of_the_reference():
    offered = {path.parent.name for path in (ROOT / "iavlib").glob("*/__init__.pyi")}
    pages = {path.stem for path in (ROOT / "book" / "api").glob("*.md")}
    assert pages == {"index", *offered}


def test_the_readme_states_the_stored_coefficients(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from readme_figure import coefficients

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stored = coefficients()
    for name in ("no adjustment", "same pair of annotators"):
        assert f"{stored.loc[name, 'estimate']:.3f}".replace("-", "−") in text
    last = stored.loc["same pair of annotators"]
    assert (last["ci_low"] < 0 < last["ci_high"]) == ("the interval includes zero" in text)


def test_the_table_of_pairs_shows_the_stored_times(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import pair_metrics

    report = json.loads(pair_metrics.RESULTS.read_text(encoding="utf-8"))
    assert pair_metrics.markdown(report) in pair_metrics.PAGE.read_text(encoding="utf-8")
