"""Notebooks and the experiments that they read: jobs, reasons, reruns, batches."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import constant_task
import pytest
import yaml
from typer.testing import CliRunner

from iavlib.book import jobs
from iavlib.book.jobs import NotebookFiles, prepare_jobs, reason_to_run
from iavlib.book.plan import Request
from iavlib.cli.main import app
from iavlib.core.errors import IavError
from iavlib.core.files import load_json, write_json
from iavlib.experiments import TASKS, for_notebook, run, sweep
from iavlib.experiments.store import RunStore

TESTS = Path(__file__).parents[2]
WORKFLOW = TESTS.parent / "workflow"
STEM = "03_regression"
PARAMETERS = "cohort = 'phantom'\nn_images = 20\nsize = [64, 64]"
OPTIONS = {"cohort": "phantom", "n_images": 20, "size": [64, 64]}
READING = f"""
from iavlib import experiments
listed = experiments.for_notebook(None, {STEM!r}, "phantom", n_images=n_images, size=size)
table = experiments.sweep(listed)
print(table["status"].tolist())
"""


@pytest.fixture(autouse=True)
def constant(monkeypatch):
    monkeypatch.setitem(TASKS, "constant", constant_task.TASK)
    monkeypatch.delenv("IAV_RUNS", raising=False)
    monkeypatch.delenv("IAV_NO_TRAIN", raising=False)
    monkeypatch.setattr(jobs, "cohort_fingerprint", lambda *_, **__: "d")


@pytest.fixture
def project(workshop):
    workshop.good_notebook("01_first")
    workshop.good_notebook(STEM, READING, parameters=PARAMETERS)
    write_list(workshop.project, {STEM: [{"task": "constant", "seed": [0, 1]}]})
    return workshop.project


def write_list(project, content, profile="quick"):
    folder = project.profiles / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{profile}.yaml").write_text(yaml.safe_dump(content))


def targets_of(project):
    return Request(
        project, list(project.notebook_files().values()), "quick", {}, n_jobs=2
    ).targets()


def job_of(project):
    notebook = project.notebook_files()[STEM]
    return prepare_jobs(project, [notebook], "quick")[0]


def pretend_to_run(project, job, finished="2999-01-01T00:00:00+00:00", **more):
    """Leave the manifest of a good run, ended at that time."""
    files = NotebookFiles(project.executed, STEM)
    files.executed.mkdir(parents=True, exist_ok=True)
    shutil.copy(project.notebook_files()[STEM], files.notebook)
    facts = {"schema_version": 1, "run_id": "r", "notebook": STEM, "profile": "quick"}
    facts |= {"overrides": {}, "parameters": {}, "cohorts": [], "claims": [], "versions": {}}
    facts |= {"hardware": {}, "seconds": 1, "finished": finished}
    write_json(
        files.manifest, facts | {"fingerprint": job.fingerprint, "inputs": job.inputs} | more
    )


def test_each_experiment_is_a_job_before_its_notebook(project):
    targets = targets_of(project)
    ids = [item.id for item in for_notebook("quick", STEM, **OPTIONS)]
    assert [target.id for target in targets] == [
        *(f"experiment/constant-{one}" for one in ids),
        "notebook/01_first",
        f"notebook/{STEM}",
    ]
    assert [target.reason for target in targets[:2]] == ["never run"] * 2
    spec = project.root / "runs" / "constant" / ids[0] / "spec.json"
    assert targets[0].command == ("train", str(spec), "--keep-going")
    assert targets[3].needs == (targets[0].id, targets[1].id)
    assert [target.command[-1] for target in targets[2:]] == ["quick", "--apart"]
    assert not (project.root / "runs").exists()
    targets[0].prepare()
    result = CliRunner().invoke(app, targets[0].command)
    assert result.exit_code == 0, result.output
    reasons = [target.reason for target in targets_of(project)]
    assert reasons[:2] == [None, "never run"]


def test_a_notebook_is_run_again_when_its_experiments_change(project):
    experiments = for_notebook("quick", STEM, **OPTIONS)
    sweep(experiments)
    job = job_of(project)
    pretend_to_run(project, job)
    assert reason_to_run(project, job) is None

    pretend_to_run(project, job, finished="2000-01-01T00:00:00+00:00")
    assert reason_to_run(project, job) == "2 of its 2 experiments finished since"

    metrics = RunStore.of(project).folder(experiments[0]) / "metrics.json"
    write_json(metrics, load_json(metrics) | {"finished": "2000-01-01T00:00:00+00:00"})
    pretend_to_run(project, job, finished="2001-01-01T00:00:00+00:00")
    assert reason_to_run(project, job) == "2 of its 2 experiments finished since", "one was copied"

    pretend_to_run(project, job)
    store = RunStore.of(project)
    store.remove(store.folder(experiments[0]))
    assert reason_to_run(project, job) == "1 of its 2 experiments are not finished"
    write_json(store.begin(experiments[0]) / "failed.json", {"error": "x"})
    assert reason_to_run(project, job) == "1 of its 2 experiments failed"
    assert targets_of(project)[0].reason == "its last run failed"

    write_list(project, {STEM: [{"task": "constant", "seed": [1]}]})
    assert reason_to_run(project, job_of(project)).startswith("experiments changed (ids: ")


def test_a_page_made_without_training_does_not_do_where_training_is_allowed(project):
    """Whether its list names the experiments, or the notebook alone does."""
    project.config.write_text("")
    job = job_of(project)
    pretend_to_run(project, job)
    assert reason_to_run(project, job) == "2 of its 2 experiments are not finished"
    assert reason_to_run(project, job, train=False) is None
    experiments = for_notebook("quick", STEM, **OPTIONS)
    run(experiments[0])
    pretend_to_run(project, job, finished="2000-01-01T00:00:00+00:00")
    later = "1 of its 2 experiments finished since"
    assert reason_to_run(project, job, train=False) == later

    run(experiments[1])
    pretend_to_run(project, job, not_trained=["constant/live", "constant/control"])
    off = "training was switched off in its last run (2 left out)"
    assert reason_to_run(project, job) == off
    notebook = [project.notebook_files()[STEM]]
    for with_book in (False, True):
        allowed = Request(project, notebook, "quick", {}, with_book=with_book)
        assert allowed.targets()[0].reason == off
        refused = Request(project, notebook, "quick", {}, with_book=with_book, train=False)
        assert refused.targets()[0].reason is None
    pretend_to_run(project, job)
    assert reason_to_run(project, job) is None
    assert reason_to_run(project, job, train=False) is None


def test_results_of_other_scales_count_too(project):
    sweep(for_notebook("quick", STEM, **OPTIONS))
    write_list(project, {STEM: [{"task": "constant", "seed": [7]}]}, "paper")
    pretend_to_run(project, job_of(project))
    assert reason_to_run(project, job_of(project)) is None
    (seven,) = for_notebook("paper", STEM, **OPTIONS)
    stranger = for_notebook("paper", STEM, cohort="phantom", n_images=20, size=[65, 64])[0]
    run(seven)
    assert reason_to_run(project, job_of(project)).startswith("experiments changed (other results")
    pretend_to_run(project, job_of(project))
    run(type(seven)(**seven.to_dict() | {"data": "", "seed": 99}))  # no list names it
    assert reason_to_run(project, job_of(project)) is None
    assert stranger.id != seven.id


def test_notebooks_without_experiments_keep_their_fingerprints(project):
    (job,) = prepare_jobs(project, [project.notebook_files()["01_first"]], "quick")
    assert "experiments" not in job.inputs


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"task": "constant", "sede": 1}, "no field 'sede'"),
        ({"task": "constant", "cohort": "imap"}, "did you mean 'imapp'"),
    ],
)
def test_a_wrong_list_is_said_in_a_line(project, entry, said, monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    write_list(project, {STEM: [entry]})
    result = CliRunner().invoke(app, ["run", "--dry-run"])
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1
    with pytest.raises(IavError):
        targets_of(project)


@pytest.mark.thorough
def test_a_batch_trains_then_reads_and_a_failure_stops_nothing(project, workshop, tmp_path):
    """Snakemake, `iav train` and the notebook, each in a process of its own."""
    mended = tmp_path / "mended"
    bad = {"error": "value", "unless": str(mended)}
    entries = [{"task": "constant", "seed": [0, 1]}, {"task": "constant", "settings": bad}]
    write_list(project, {STEM: entries})
    code, said = iav(tmp_path, "run", "--jobs", "2")
    ids = [item.id for item in for_notebook("quick", STEM, **OPTIONS)]
    assert code == 1, said
    assert said.startswith("5 of 5 jobs to do, 2 at a time\n")
    assert f"not done: constant-{ids[2]}" in said
    assert "ValueError: as was wished" in said
    executed = json.loads((project.executed / f"{STEM}.ipynb").read_text())
    printed = [o["text"] for c in executed["cells"] for o in c.get("outputs", ()) if "text" in o]
    assert "['finished', 'finished', 'failed']\n" in ["".join(text) for text in printed]
    mended.touch()
    code, said = iav(tmp_path, "run", "--jobs", "2")
    assert (code, said.splitlines()[0]) == (0, "2 of 5 jobs to do, 2 at a time")
    assert iav(tmp_path, "run", "--jobs", "2") == (
        0,
        "nothing to do: 5 of 5 jobs are up to date\n",
    )


@pytest.mark.thorough
def test_in_turn_the_notebook_runs_what_is_missing(project, tmp_path):
    code, said = iav(tmp_path, "run", STEM)
    assert code == 0, said
    assert len(RunStore.of(project).finished()) == 2
    assert "up to date" in iav(tmp_path, "run", STEM)[1]


@pytest.mark.thorough
def test_what_no_list_names_is_trained_where_that_is_allowed(project, workshop, tmp_path):
    """By the notebook itself, also where the experiments of its list are jobs of their own."""
    live = "experiments.sweep([experiments.Experiment(task='constant', cohort='phantom', seed=9)])"
    workshop.good_notebook(STEM, READING, live, parameters=PARAMETERS)
    store, manifest = RunStore.of(project), NotebookFiles(project.executed, STEM).good_manifest
    assert iav(tmp_path, "run", STEM, "--no-train")[0] == 0
    assert len(manifest()["not_trained"]) == 3
    assert "up to date" in iav(tmp_path, "run", STEM, "--no-train")[1]
    assert iav(tmp_path, "run", STEM, "--jobs", "2")[0] == 0
    assert (len(store.finished()), manifest()["not_trained"]) == (3, [])
    for options in ((), ("--no-train",), ("--jobs", "2")):
        assert "nothing to do" in iav(tmp_path, "run", STEM, *options)[1]


def iav(tmp_path, *arguments):
    """Run a command in a process of its own, where the task is one of an installed package."""
    about = tmp_path / "site" / "constant-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: constant\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[iavlib.tasks]\nconstant = constant_task:TASK\n")
    paths = [str(about.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "iavlib", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_what_an_experiment_starts_from_is_a_job_before_it(project):
    start = {"task": "constant", "settings": {"shift": 1}}
    write_list(project, {STEM: [{"task": "constant", "seed": [0, 1], "init_from": start}]})
    experiments = for_notebook("quick", STEM, **OPTIONS)
    begun = [one.init_from for one in experiments]
    assert [one.seed for one in begun] == [0, 1]
    names = [f"constant-{one.id}" for pair in zip(begun, experiments, strict=True) for one in pair]
    targets = targets_of(project)
    assert [target.name for target in targets[:4]] == names
    assert [target.needs for target in targets[:4]] == [
        (),
        (f"experiment/{names[0]}",),
        (),
        (f"experiment/{names[2]}",),
    ]
    assert targets[-1].needs == (f"experiment/{names[1]}", f"experiment/{names[3]}")

    store = RunStore.of(project)
    folder = run(begun[0], store).folder
    result = CliRunner().invoke(app, ["train", f"constant/{begun[0].id}"])
    assert result.exit_code == 0
    targets[1].prepare()
    failing = CliRunner().invoke(app, targets[1].command[:2])
    assert failing.exit_code == 2
    assert "model.safetensors: is gone" in failing.output
    (folder / "model.safetensors").touch()
    assert CliRunner().invoke(app, targets[1].command[:2]).exit_code == 0
    left = targets_of(project)
    assert [target.name for target in left[:3]] == names[1:], "what is finished needs no parent"
    assert [target.reason for target in left[:3]] == [None, "never run", "never run"]


def test_experiments_whose_data_are_not_here_wait_and_stop_no_other(project, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(project.root / "nothing"))
    content = [{"task": "constant"}, {"task": "constant", "cohort": "derm7pt", "seed": [0, 1]}]
    write_list(project, {STEM: content})
    assert len(for_notebook("quick", STEM, **OPTIONS)) == 1
    targets = targets_of(project)
    assert [target.kind for target in targets] == ["experiment", "notebook", "notebook"]
    shown = CliRunner().invoke(app, ["run", "--jobs", "2", "--dry-run"]).output
    assert "2 cannot be run here: cohort 'derm7pt' is not available" in shown
    assert shown.count("derm7pt' is not") == 1
