"""What the graph holds, and what Snakemake makes of it in each place; no job is run."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from iavlib.book import engine, graph
from iavlib.book.engine import find_place, show_steps
from iavlib.book.graph import Step, plan
from iavlib.cli.main import app
from iavlib.core.errors import ExecutionError, ProjectError

WORKFLOW = Path(__file__).parent.parent.parent / "workflow"
PLUGINS = {
    "local": [],
    "slurm": ["snakemake_executor_plugin_slurm"],
    "kubernetes": ["snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"],
}
EXPERIMENT = Step("experiment", "mtl-1", "not finished", ("runs/spec one.json",))


def iav(*arguments):
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def project(workshop):
    shutil.copytree(WORKFLOW, workshop.project.workflow)
    workshop.good_notebook("01_first", parameters="n = 1\npath = ''")
    workshop.good_notebook("02_second", parameters="path = ''")
    return workshop.project


@pytest.fixture
def with_experiment(monkeypatch):
    """Let notebook 02 read an experiment, as notebooks will."""
    monkeypatch.setattr(graph, "experiments", lambda *_: {"02_second": [EXPERIMENT]})


def steps_of(project, **options):
    notebooks = list(project.notebook_files().values())
    return plan(project, notebooks, "quick", data_fingerprint=str, **options)


def test_experiments_come_before_their_notebooks_and_the_book_last(project, with_experiment):
    steps = steps_of(project, with_book=True)
    assert [step.id for step in steps] == [
        "experiment/mtl-1",
        "notebook/01_first",
        "notebook/02_second",
        "book/book",
    ]
    assert [step.after for step in steps] == [
        (),
        (),
        ("experiment/mtl-1",),
        ("notebook/01_first", "notebook/02_second"),
    ]


def test_a_notebook_that_is_current_is_run_after_its_experiments(
    project, with_experiment, monkeypatch
):
    monkeypatch.setattr(graph, "reason_to_run", lambda *_: None)
    assert [step.reason for step in steps_of(project)] == [
        "not finished",
        None,
        "after its experiments",
    ]


def test_a_job_gets_the_options_of_the_user_wherever_it_runs(project, tmp_path):
    (step, _) = steps_of(project, overrides={"path": "mine"}, force=True)
    path = f"path={tmp_path.resolve() / 'clone' / 'mine'}"
    assert step.arguments == ("--profile", "quick", "-p", path, "--force")
    assert step.reason == "forced"


def test_a_dry_run_lists_every_job_and_writes_nothing(project):
    before = sorted(project.root.rglob("*"))
    result = iav("run", "--dry-run", "-p", "path=x")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "01_first   no manifest: never run",
        "02_second  no manifest: never run",
        "2 of 2 jobs to do",
    ]
    assert sorted(project.root.rglob("*")) == before


def test_without_snakemake_jobs_can_be_listed_but_not_run(project, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)
    assert iav("run", "--dry-run", "--jobs", "2").exit_code == 0
    result = iav("run", "--jobs", "2")
    assert result.exit_code == 2
    assert result.output.startswith("error: several jobs at a time need Snakemake")
    assert result.output.count("\n") == 1


def test_an_unknown_place_is_named(project):
    result = iav("run", "--executor", "slrum")
    assert result.exit_code == 2
    assert result.output.startswith("error: no place 'slrum'")
    assert "did you mean 'slurm'?" in result.output
    with pytest.raises(ProjectError, match="no place"):
        find_place(project, ".")


def test_a_place_may_be_a_folder_of_ones_own(project, tmp_path):
    for name, counted in (("local", "--cores"), ("slurm", "--jobs")):
        mine = tmp_path / f"my {name}"
        shutil.copytree(WORKFLOW / "profiles" / name, mine)
        assert find_place(project, str(mine)) == mine
        command = engine._command(project, steps_of(project), 3, mine, tmp_path)
        assert command[-2:] == [counted, "3"]


def test_a_missing_snakefile_is_named(project):
    (project.workflow / "Snakefile").unlink()
    with pytest.raises(ExecutionError, match=r"Snakefile is missing; restore it from git"):
        show_steps(project, steps_of(project), 2, find_place(project, "local"))


def test_every_place_is_tested():
    assert {path.name for path in (WORKFLOW / "profiles").iterdir()} == set(PLUGINS)
    for name in PLUGINS:
        options = yaml.safe_load((WORKFLOW / "profiles" / name / "config.yaml").read_text())
        assert options["executor"] == name


@pytest.mark.book
@pytest.mark.parametrize("place", PLUGINS)
def test_snakemake_accepts_the_graph_in_every_place(project, with_experiment, place, capfd):
    """A dry run reads the profile with the real plugin and sizes each job; no cluster is asked."""
    for plugin in PLUGINS[place]:
        if importlib.util.find_spec(plugin) is None:
            pytest.skip("needs iavlib[cluster]")
    steps = steps_of(project, with_book=True)
    assert show_steps(project, steps, 2, find_place(project, place)) == 0
    said = "".join(capfd.readouterr())
    experiment, second = said.index("rule experiment:"), said.index("name=02_second")
    book = said.index("rule book:")
    assert experiment < second < book
    assert "iavlib.cli.main train 'runs/spec one.json'" in said[experiment:]
    assert "iavlib.cli.main run 02_second --profile quick" in said[second:book]
    assert "iavlib.cli.main book --no-run" in said[book:]
    resources = said[experiment : said.index("Shell command", experiment)]
    assert "gpu=1" in resources
    assert "gpu=1" not in said[second:book]
    if place != "local":
        assert "mem_mb=32000" in resources
    if place == "kubernetes":
        assert "gpu_manufacturer=nvidia" in resources
        assert "scale=0" in resources
