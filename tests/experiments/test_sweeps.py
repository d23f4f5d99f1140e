"""Lists that are worked down by priority: what comes first, when it stops, and where it goes on."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.core.errors import ExperimentError
from iavlib.core.processes import OutOfTime, time_limit
from iavlib.core.project import Project
from iavlib.experiments import Experiment, RunStore, run, work_through
from iavlib.experiments.config import by_priority
from iavlib.experiments.stored import read_stored

ROOT = Path(__file__).parent.parent.parent
TINY = {
    "cohort": "phantom",
    "cohort_options": {"n_images": 20, "size": [64, 64]},
    "backbone": "test_resnet",
    "weights": "none",
    "size": 32,
    "recipe": {"name": "smoke", "epochs": 6},
}

#: Lists in a file are crossed.
SIZED = {"cohort_options": {"n_images": 20, "size": [[64, 64]]}}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    made = Project(tmp_path / "clone")
    for folder in ("sweeps", "experiments"):
        (made.profiles / folder).mkdir(parents=True)
    made.toc.write_text("format: jb-book\nroot: book/index\n")
    made.book.mkdir()
    made.claims.write_text("[]")
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.delenv("IAV_RUNS", raising=False)
    monkeypatch.chdir(made.root)
    return made


def write(project, content, name="mine"):
    path = project.profiles / "sweeps" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def statuses(table):
    return table["status"].tolist()


def test_a_limit_interrupts_and_is_lifted():
    with pytest.raises(OutOfTime), time_limit(0.01):
        time.sleep(20)
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 50
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) == before
    assert not issubclass(OutOfTime, Exception)


def test_it_stops_in_time_and_goes_on_where_it_stopped(store, make, tmp_path):
    calls, gate = tmp_path / "calls", tmp_path / "gate"
    slow = {"calls": str(calls), "gate": str(gate)}
    wanted = [make(seed=0), make(seed=1, settings=slow), make(seed=2)]
    said = []
    run(wanted[0], store)

    def end_once_it_works():
        while not calls.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGALRM)  # as when the time is over

    threading.Thread(target=end_once_it_works, daemon=True).start()
    table = work_through(wanted, store, said.append, budget=600)
    assert statuses(table) == ["finished", "unfinished", "missing"]
    assert table["reason"].tolist() == ["", "", ""]
    assert said[-1] == "the time is over; the same call goes on from here"
    gate.touch()
    table = work_through(wanted, store, said.append, budget=60)
    assert statuses(table) == ["finished"] * 3 and table["seed"].tolist() == [0, 1, 2]
    assert calls.read_text().count("\n") == 2  # the interrupted attempt and the second
    assert not list(store.root.glob("*/*/failed.json"))


def test_what_failed_or_cannot_be_run_here_stops_nothing(store, make, tmp_path):
    mended = tmp_path / "mended"
    bad = make(settings={"error": "value", "unless": str(mended)})
    wanted = [bad, make(cohort="derm7pt", cohort_options={}), make(seed=1)]
    said = []
    table = work_through(wanted, store, said.append)
    assert statuses(table) == ["failed", "missing", "finished"]
    assert "derm7pt" in table["reason"][1] and "as was wished" in table["reason"][0]
    said.clear()
    mended.touch()
    table = work_through([*wanted, make(seed=2)], store, said.append)
    assert statuses(table) == ["finished", "missing", "finished", "finished"]
    done = [line for line in said if line.startswith("constant/")]
    assert "seed 2" in done[0] and "seed 0" in done[1]  # what failed before comes last


def test_training_that_ran_out_of_time_ends_as_if_it_had_not(tmp_path):
    whole, stopped = RunStore(tmp_path / "whole"), RunStore(tmp_path / "stopped")
    said = []

    def stop_in_the_third_epoch(line):
        said.append(line)
        if line.startswith("  epoch 2"):
            signal.setitimer(signal.ITIMER_REAL, 1e-6)

    table = work_through([Experiment(**TINY)], stopped, stop_in_the_third_epoch, budget=600)
    assert statuses(table) == ["unfinished"]
    (folder,) = stopped.folders("iaa")
    assert (folder / "checkpoint.pt").is_file()
    assert statuses(work_through([Experiment(**TINY)], stopped, said.append)) == ["finished"]
    work_through([Experiment(**TINY)], whole, said.append)
    results = [(store.finished()[0] / "predictions.csv").read_bytes() for store in (stopped, whole)]
    assert results[0] == results[1]
    assert sum(line.startswith("  epoch 2 of 6") for line in said) == 2  # not trained twice


def test_no_epoch_is_begun_that_would_not_end_in_time(store, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))  # every epoch takes 100 seconds
    said = []
    table = work_through([Experiment(**TINY)], store, said.append, budget=450)
    assert statuses(table) == ["unfinished"]
    assert 1 <= sum(line.startswith("  epoch") for line in said) < 6


def test_a_list_is_read_in_its_order_and_once(project):
    entries = [{"task": "constant", "seed": [1, 0]}, {"task": "constant", "seed": [0, 2]}]
    path = write(project, {"second": entries, "first": [{"task": "constant", "seed": 3}]})
    assert [item.seed for item in by_priority(project, "mine")] == [1, 0, 2, 3]
    assert by_priority(project, path) == by_priority(project, "mine")
    with pytest.raises(ExperimentError, match=r"no list of experiments.*mine"):
        by_priority(project, "nime")


def test_the_committed_list_begins_with_the_published_protocol():
    experiments = by_priority(Project(ROOT), "published")
    first = [(item.task, item.cohort, item.recipe.name, item.seed) for item in experiments[:12]]
    tasks = ["iaa", "diagnosis", "multitask"]
    assert first[:9] == [(task, "imapp", "paper", seed) for task in tasks for seed in range(3)]
    assert first[9:] == [("diagnosis", "ph2", "paper_finetune", seed) for seed in range(3)]
    assert all(item.backbone == "mobilenetv2_100" and item.size is None for item in experiments[:9])
    assert experiments[0].training_recipe().epochs == 50
    assert {item.seed for item in experiments} == {0, 1, 2}
    folds = [item for item in experiments if item.split.kind == "kfold"]
    assert len(folds) == 4 * 3 * 5 * 3 and len({item.backbone for item in folds}) == 4


def test_what_cannot_be_run_is_listed_in_order_and_explained_once(project, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(project.root / "nothing"))
    paper = {"task": "iaa", "label": "published", "backbone": "resnet18", "recipe": "paper"}
    entries = [paper | {"cohort": "imapp", "seed": [4, 2]}, TINY | {"seed": 7} | SIZED]
    tuned = {"task": "diagnosis", "cohort": "ph2", "backbone": "resnet18"}
    started = paper | {"task": "multitask", "cohort": "imapp"}
    write(project, {"all": [*entries, tuned | {"init_from": started}, tuned]})
    lines = CliRunner().invoke(app, ["sweep", "mine", "--dry-run"]).output.splitlines()
    assert lines[:2] == [
        f"{n}  iaa on imapp, published, resnet18, paper, seed {seed}: cannot be run here"
        for n, seed in ((1, 4), (2, 2))
    ]
    assert re.fullmatch(r"3  iaa/\w{12}, test_resnet, smoke, seed 7: missing", lines[2])
    assert [line.split(",")[0] for line in lines[3:5]] == [f"{n}  diagnosis on ph2" for n in (4, 5)]
    missing = [(3, "imapp"), (1, "ph2")]
    reasons = [line.partition(" is not available")[0] for line in lines[5:]]
    assert reasons == [f"{n} cannot be run here: cohort {name!r}" for n, name in missing]
    said = []
    work_through(by_priority(project, "mine"), RunStore.of(project), said.append, budget=600)
    assert [line for line in said if "not available" in line] == lines[5:]


def test_a_list_of_which_nothing_can_be_run_ends_well(project, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(project.root / "nothing"))
    write(project, {"all": [{"task": "iaa", "cohort": "imapp", "seed": [0, 1]}]})
    done = CliRunner().invoke(app, ["sweep", "mine"])
    assert done.exit_code == 0 and "0 stored, 0 unchanged\n2 missing" in done.output
    assert done.output.count("2 cannot be run here: cohort 'imapp' is not available") == 1


def test_the_command_lists_works_and_stores(project):
    write(project, {"all": [TINY | SIZED]})
    iav = CliRunner()
    listed = iav.invoke(app, ["sweep", "mine", "--dry-run"])
    assert listed.exit_code == 0 and ": missing" in listed.output
    stopped = iav.invoke(app, ["sweep", "mine", "--budget", "0.001"])
    assert stopped.exit_code == 0 and "0 stored" in stopped.output
    done = iav.invoke(app, ["sweep", "mine"])
    assert done.exit_code == 0 and "1 stored, 0 unchanged\n1 finished" in done.output
    (name,) = (path.name for path in RunStore.of(project).finished("iaa"))
    stored = project.book / "results" / "runs" / "iaa.jsonl" / name / "spec.json"
    assert read_stored(stored)["backbone"] == "test_resnet"


def test_a_sweep_that_is_killed_goes_on(project):
    long = TINY | {"recipe": {"name": "smoke", "epochs": 40}}
    write(project, {"all": [long | {"cohort_options": {"n_images": 20, "size": [[64, 64]]}}]})
    command = [sys.executable, "-m", "iavlib", "sweep", "mine"]
    environment = os.environ | {"IAV_PROJECT": str(project.root), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert any("epoch 2 of 40" in line for line in process.stdout)
        process.kill()
    done = CliRunner().invoke(app, ["sweep", "mine"])
    assert done.exit_code == 0
    assert "epoch 1 of 40" not in done.output and "epoch 40 of 40" in done.output
    assert "1 stored" in done.output
