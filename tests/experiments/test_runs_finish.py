"""A run is done once, kept whole, and its trouble is told."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iavlib.core import files
from iavlib.core.errors import ExperimentError, ExperimentFailed
from iavlib.core.files import only_one
from iavlib.core.project import not_trained
from iavlib.experiments import read_predictions, read_run, resolve, run, run_table, sweep

TESTS = Path(__file__).parent.parent
OTHER_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
import constant_task
from iavlib.experiments import Experiment, RunStore, run
from pathlib import Path
experiment = Experiment(
    task="constant", cohort="phantom", cohort_options={"n_images": 20, "size": [64, 64]},
    settings={"calls": sys.argv[3], "gate": sys.argv[4]},
)
print(run(experiment, RunStore(Path(sys.argv[2]))).metrics["mae"])
"""


def test_a_finished_run_is_read(store, make, tmp_path):
    calls = tmp_path / "calls"
    said = []
    first = run(make(settings={"calls": str(calls)}), store, log=said.append)
    again = run(make(settings={"calls": str(calls)}), store)
    assert calls.read_text().count("\n") == 1
    assert said == ["fitted"]
    assert first.facts == again.facts
    assert first.predictions.equals(again.predictions)
    assert set(first.predictions["subset"]) == {"train", "val", "test"}
    assert first.metrics["mae"] == first.facts["baselines"]["constant_median"]["test"]["mae"]
    assert sorted(path.name for path in first.folder.iterdir()) == [
        *("log.txt", "metrics.json", "predictions.csv", "spec.json"),
    ]
    assert (first.facts["synthetic"], first.facts["weights_random"]) == (True, False)
    assert (store.root / "constant" / first.experiment.id) == first.folder


def test_two_processes_do_the_work_once(store, tmp_path):
    calls, gate = tmp_path / "calls", tmp_path / "gate"
    places = [TESTS, store.root, calls, gate]
    command = [sys.executable, "-c", OTHER_PROCESS, *map(str, places)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **pipes)
    until(calls.exists)
    second = subprocess.Popen(command, **pipes)
    assert "waiting for experiment constant/" in second.stderr.readline()
    gate.touch()
    said = [process.communicate() for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert calls.read_text().count("\n") == 1
    assert said[0][0] == said[1][0] != ""


def until(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_a_failed_run_is_a_row_and_is_tried_again(store, make, tmp_path):
    mended = tmp_path / "mended"
    bad = make(settings={"error": "value", "unless": str(mended)})
    with pytest.raises(ExperimentFailed, match=r"constant/\w+ failed: ValueError: as was wished"):
        run(bad, store)
    (row,) = run_table(store).to_dict("records")
    assert (row["status"], row["reason"]) == ("failed", "ValueError: as was wished")
    failure = json.loads((store.folder(resolve(bad)) / "failed.json").read_text())
    assert "constant_task.py" in failure["traceback"]
    mended.touch()
    result = run(bad, store)
    assert not (result.folder / "failed.json").exists()
    assert store.status(result.experiment) == "finished"
    assert "started again" in (result.folder / "log.txt").read_text()


def test_a_sweep_goes_on_after_a_failure(store, make):
    said = []
    wanted = [make(seed=0), make(seed=1, settings={"error": "memory"}), make(seed=2)]
    table = sweep([*wanted, make(seed=0, label="again")], store, log=said.append)
    assert table["status"].tolist() == ["finished", "failed", "finished", "finished"]
    assert table.loc[1, "reason"] == "MemoryError: as was wished"
    assert table["label"].tolist() == ["", "", "", "again"]
    assert table["id"][0] == table["id"][3]
    assert len(said) == 3
    assert said[1].startswith("2 of 3: constant/")
    assert said[1].endswith("failed: MemoryError: as was wished")
    found = read_predictions(table)
    assert found.groupby("seed").size().to_dict() == {0: 40, 2: 20}
    again = sweep(wanted[::2], store, log=said.append)
    assert again["mae"].tolist() == table["mae"].dropna()[:2].tolist()
    assert len(said) == 3


def test_without_training_a_sweep_only_reads(store, make, monkeypatch):
    run(make(seed=1), store)
    left = resolve(make(seed=0))
    with monkeypatch.context() as patch:
        patch.setenv("IAV_NO_TRAIN", "1")
        table = sweep([make(seed=0), make(seed=1)], store)
    assert table["status"].tolist() == ["missing", "finished"]
    assert not store.folder(left).exists()
    assert not_trained == {left.name}
    not_trained.clear()
    monkeypatch.setenv("IAV_TRAINED_APART", f"constant/another,{left.name}")
    table = sweep([make(seed=0), make(seed=1), make(seed=2)], store)
    assert table["status"].tolist() == ["missing", "finished", "finished"]
    assert not_trained == {left.name}


def test_a_wrong_specification_stops_a_sweep_before_it_begins(store, make):
    with pytest.raises(ExperimentError, match="no task"):
        sweep([make(), make(task="nothing")], store)
    assert not store.root.exists()


def test_a_directory_with_another_specification_is_refused(store, make):
    result = run(make(), store)
    path = result.folder / "spec.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ExperimentError, match="does not describe the run that its directory is"):
        run(make(), store)
    (row,) = run_table(store).to_dict("records")
    assert row["status"] == "damaged"
    assert "spec.json" in row["reason"]
    path.write_text("{")
    with pytest.raises(ExperimentError, match="is damaged"):
        read_run(store, result.folder)


def test_half_a_result_is_refused(store, make):
    result = run(make(), store)
    (result.folder / "metrics.json").write_text('{"metrics": {}}')
    with pytest.raises(ExperimentError, match=r"metrics\.json: 'schema_version' is missing"):
        run(make(), store)
    assert run_table(store)["status"].tolist() == ["damaged"]


@pytest.mark.parametrize("file", ["spec.json", "predictions.csv", "metrics.json"])
def test_on_a_full_disk_nothing_is_lost_and_the_run_goes_on_later(store, make, monkeypatch, file):
    run(make(seed=1), store)
    real = os.replace

    def full(source, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "replace", full)
        with pytest.raises(OSError, match="No space left") as caught:
            run(make(), store)
    assert caught.value.filename.endswith(file)
    assert store.status(resolve(make())) == "unfinished"
    assert not list(store.root.rglob("*.tmp"))
    assert run(make(), store).metrics
    assert store.status(resolve(make(seed=1))) == "finished"


def test_predictions_that_are_no_numbers_fail_the_run(store, make):
    with pytest.raises(ExperimentFailed, match="predictions: 20 are no finite numbers"):
        run(make(settings={"shift": 1e308, "times": 100}), store)


def test_a_run_at_work_is_seen_and_left_alone(store, make):
    fixed = resolve(make())
    store.begin(fixed)
    assert store.status(fixed) == "unfinished"
    done = threading.Event()

    def work():
        with store.working(fixed):
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: store.status(fixed) == "running")
    try:
        assert store.status(fixed) == "running"
        with pytest.raises(ExperimentError, match="a process is at work in it"):
            store.remove(store.folder(fixed))
    finally:
        done.set()
        thread.join()
    store.remove(store.folder(fixed))
    assert store.status(fixed) == "missing"
    assert not [path for path in store.root.rglob("*") if path.suffix != ".lock" and path.is_file()]


def test_random_weights_are_labelled(store, make):
    result = run(make(weights="random"), store)
    assert result.facts["weights_random"] is True
    assert run_table(store)["weights_random"].tolist() == [True]


def test_a_lock_file_alone_is_no_run(store, make):
    fixed = resolve(make())
    with only_one(store.root / ".locks" / f"constant-{fixed.id}.lock", "test"):
        pass
    assert store.folders() == []
    assert store.status(fixed) == "missing"


@pytest.mark.parametrize(
    "content", [b"", b"\xe4\xf6", b'image_id,"subset\n1', b"image_id,b\n1\n1,2,3\n"]
)
@pytest.mark.parametrize("name", ["predictions.csv", "history.csv"])
def test_a_damaged_table_of_a_run_is_named(store, make, name, content):
    result = run(make(), store)
    (result.folder / name).write_bytes(content)
    with pytest.raises(ExperimentError, match=name):
        getattr(result, name.removesuffix(".csv"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs names of open files")
def test_a_run_is_finished_only_once_all_of_it_is_on_the_disk(store, make, monkeypatch):
    """After a power cut a file counts by what was synchronised, whatever was written."""
    events = []
    sync, replace, unlink = os.fsync, os.replace, Path.unlink

    def name(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}")

    monkeypatch.setattr(os, "fsync", lambda f: (events.append(("sync", name(f))), sync(f))[1])
    monkeypatch.setattr(
        os, "replace", lambda a, b: (events.append(("move", str(a), str(b))), replace(a, b))[1]
    )
    monkeypatch.setattr(
        Path, "unlink", lambda p, **k: (events.append(("remove", str(p))), unlink(p, **k))[1]
    )
    result = run(make(), store)
    moves = {event[2]: (i, event[1]) for i, event in enumerate(events) if event[0] == "move"}
    end = moves[str(result.folder / "metrics.json")][0]
    for file in result.folder.iterdir():
        if file.name not in ("log.txt",):
            moved, temporary = moves[str(file)]
            assert ("sync", temporary) in events[:moved], file.name
            after = events[moved:end] if file.name != "metrics.json" else events[end:]
            assert ("sync", str(result.folder)) in after, file.name
    removed = events.index(("remove", str(result.folder / "checkpoint.pt")))
    assert ("sync", str(result.folder)) in events[end:removed]
