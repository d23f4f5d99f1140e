"""What is planned, and what Snakemake makes of it in each place; no job is run."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from iavlib.book import plan
from iavlib.book.plan import Request, Target, find_executor, show
from iavlib.cli.main import app
from iavlib.core.errors import IavError, ProjectError

WORKFLOW = Path(__file__).parents[3] / "workflow"
PLUGINS = {
    "local": [],
    "slurm": ["snakemake_executor_plugin_slurm"],
    "kubernetes": ["snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"],
}
EXPERIMENT = Target("experiment", "mtl-1", "not finished", ("train", "runs/spec one.json"))


def iav(*arguments):
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def project(workshop):
    workshop.good_notebook("01_first", parameters="n = 1\npath = ''")
    workshop.good_notebook("02_second", parameters="path = ''")
    return workshop.project


def request(project, **options):
    options = {"overrides": {}, "n_jobs": 2} | options
    return Request(project, list(project.notebook_files().values()), "quick", **options)


def test_the_book_comes_after_all_notebooks(project):
    targets = request(project, with_book=True).targets()
    ids = ["notebook/01_first", "notebook/02_second", "book/book"]
    assert [target.id for target in targets] == ids
    assert [target.needs for target in targets] == [(), (), tuple(ids[:2])]
    assert targets[-1].reason == "notebooks are run before it"


def test_a_job_gets_the_options_of_the_user_wherever_it_runs(project, tmp_path):
    (target, _) = request(project, overrides={"path": "mine"}, force=True).targets()
    path = f"path={tmp_path.resolve() / 'clone' / 'mine'}"
    options = ("--profile", "quick", "-p", path, "--force")
    assert target.command == ("run", "01_first", "--job", *options)
    assert target.reason == "forced"
    assert request(project, train=False).targets()[0].command[-1] == "--no-train"


def test_a_dry_run_lists_every_job_and_writes_nothing(project):
    before = sorted(project.root.rglob("*"))
    result = iav("run", "--dry-run", "-p", "path=x")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "01_first   never run",
        "02_second  never run",
        "2 of 2 jobs to do",
    ]
    assert sorted(project.root.rglob("*")) == before


def test_without_snakemake_jobs_can_be_listed_but_not_run(project, monkeypatch):
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda _: None)
    assert iav("run", "--dry-run").exit_code == 0
    result = iav("run")
    assert result.exit_code == 2
    assert result.output.startswith("error: running notebooks needs Snakemake")
    assert result.output.count("\n") == 1


def test_an_unknown_executor_is_named(project):
    result = iav("run", "--executor", "slrum")
    assert result.exit_code == 2
    assert result.output.startswith("error: no executor 'slrum'")
    assert "did you mean 'slurm'?" in result.output
    with pytest.raises(ProjectError, match="no executor"):
        find_executor(project, ".")


def test_an_executor_may_be_a_folder_of_ones_own(project, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(WORKFLOW / "profiles" / "local", mine)
    assert find_executor(project, str(mine)) == mine


def test_a_missing_snakefile_is_named(project, tmp_path):
    (project.workflow / "Snakefile").unlink()
    with pytest.raises(IavError, match=r"Snakefile is missing; restore it from git"):
        plan.make(request(project), print)


def test_every_executor_is_tested():
    assert {path.name for path in (WORKFLOW / "profiles").iterdir()} == set(PLUGINS)
    for name in PLUGINS:
        options = yaml.safe_load((WORKFLOW / "profiles" / name / "config.yaml").read_text())
        assert options["executor"] == name


@pytest.mark.thorough
@pytest.mark.parametrize("executor", PLUGINS)
def test_snakemake_accepts_the_plan_on_every_executor(project, executor, capfd, monkeypatch):
    """A dry run reads the profile with the real plugin and sizes each job; no cluster is asked."""
    for plugin in PLUGINS[executor]:
        if importlib.util.find_spec(plugin) is None:
            pytest.skip("needs iavlib[cluster]")
    asked = request(project, with_book=True, executor=executor)
    first, second, book = asked.targets()
    first = Target(first.kind, first.name, None, first.command)
    second = Target(second.kind, second.name, "changed", second.command, (EXPERIMENT.id,))
    targets = [EXPERIMENT, first, second, book]
    monkeypatch.setattr(Request, "targets", lambda _: targets)
    monkeypatch.setattr(plan, "LOCAL", "elsewhere")  # this machine is planned for as well
    assert show(asked, print)
    printed = "".join(capfd.readouterr())
    experiment, notebook = printed.index("rule experiment:"), printed.index("name=02_second")
    last = printed.index("rule book:")
    assert experiment < notebook < last
    assert "name=01_first" not in printed, "its result holds"
    assert "-m iavlib train 'runs/spec one.json'" in printed[experiment:]
    assert "-m iavlib run 02_second --job --profile quick" in printed[notebook:last]
    assert "-m iavlib book --no-run" in printed[last:]
    resources = printed[experiment : printed.index("Shell command", experiment)]
    assert "gpu=1" in resources
    assert "gpu=1" not in printed[notebook:last]
    if executor != "local":
        assert "mem_mb=32000" in resources
    if executor == "kubernetes":
        assert "gpu_manufacturer=nvidia" in resources
        assert "scale=0" in resources


def test_a_snapshot_changes_with_every_file_that_could_matter(project, tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "data"))
    asked = request(project)
    snapshots = [asked.snapshot()]
    for file in (
        project.notebooks / "01_first.ipynb",
        project.profiles / "quick.yaml",
        project.book / "index.md",
        project.toc,
        project.executed / "01_first.json",
        project.root / "runs" / "mtl" / "1" / "metrics.json",
        tmp_path / "data" / "imapp" / "masks.csv",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("changed")
        snapshots.append(asked.snapshot())
    (project.executed / ".01_first.lock").touch()
    assert asked.snapshot() == snapshots[-1]
    assert len(set(snapshots)) == len(snapshots)
    assert request(project, overrides={"n": "2"}).snapshot() not in snapshots


def test_a_record_holds_for_its_snapshot_only(project):
    asked = request(project)
    asked.record("as it is", 3)
    assert asked.recorded("as it is") == 3
    assert asked.recorded("as it was") == 0
    assert request(project, force=True).recorded("as it is") == 0
    assert request(project, with_book=True).recorded("as it is") == 0
    assert request(project, n_jobs=1).recorded("as it is") == 3
    own = request(project, overrides={"path": "masks.csv"})
    own.record("as it is", 3)
    assert own.recorded("as it is") == 0
