"""``iav train`` and ``iav runs``."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.experiments import resolve, run
from iavlib.experiments.store import RunStore

TESTS = Path(__file__).parent.parent
SPEC = {
    "task": "constant",
    "cohort": "phantom",
    "cohort_options": {"n_images": 20, "size": [[64, 64]]},
}


def iav(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own(store, monkeypatch) -> RunStore:
    monkeypatch.setenv("IAV_RUNS", str(store.root))
    return store


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return path


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom iavlib.cli.main import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_runs_are_listed_without_loading_torch(own, spec):
    assert iav("train", spec).exit_code == 0
    code = (
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport constant_task\n"
        "from typer.testing import CliRunner\nfrom iavlib.cli.main import app\n"
        "print(CliRunner().invoke(app, ['runs']).output)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "1 finished" in done.stdout


def test_the_schema_is_printed():
    schema = json.loads(iav("train", "--schema").output)
    assert "recipe" in schema["$defs"]["Experiment"]["properties"]


@pytest.mark.thorough
def test_a_small_training_run_touches_few_modules(tmp_path):
    path = tmp_path / "tiny.yaml"
    tiny = SPEC | {"task": "iaa", "backbone": "test_resnet", "weights": "none", "size": 32}
    path.write_text(yaml.safe_dump(tiny | {"recipe": {"name": "smoke", "epochs": 1}}))
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom iavlib.cli.main import app\n"
        f"assert CliRunner().invoke(app, ['train', {str(path)!r}]).exit_code == 0\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'iavlib'])"
    )
    environment = os.environ | {"IAV_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    modules = ast.literal_eval(done.stdout.splitlines()[-1])
    assert len(modules) < 60, sorted(modules)


def test_a_file_is_trained_and_read_the_second_time(own, spec):
    first, second = iav("train", spec), iav("train", spec)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "fitted" in first.output
    assert "fitted" not in second.output
    assert "mae 0.03438" in second.output
    assert str(own.root) in first.output


def test_lists_and_settings(own, spec):
    result = iav("train", spec, "--set", "seed=[1, 2]", "--set", "split.kind=kfold", "--dry-run")
    assert result.exit_code == 0
    assert [line.rpartition(": ")[2] for line in result.output.splitlines()] == ["missing"] * 2
    assert "fold 1 of 5" in result.output
    assert not own.root.exists()


def test_a_run_is_gone_on_with_by_its_id(own, make):
    fixed = resolve(make())
    own.begin(fixed)
    result = iav("train", fixed.id[:6])
    assert result.exit_code == 0
    assert own.status(fixed) == "finished"
    assert iav("train", own.folder(fixed) / "spec.json").exit_code == 0
    assert len(own.folders()) == 1
    other = iav("train", fixed.id, "--set", "seed=4")
    assert other.exit_code == 0
    assert len(own.folders()) == 2


def test_failures_and_their_status(own, spec, tmp_path):
    bad = iav("train", spec, "--set", "settings.error=value")
    assert bad.exit_code == 1
    assert "failed: ValueError: as was wished" in bad.output
    assert iav("train", spec, "--set", "settings.error=value", "--keep-going").exit_code == 0
    listed = iav("runs")
    assert "ValueError: as was wished" in listed.output
    assert "1 failed" in listed.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to train"),
        (["nothing.yaml"], "not in"),
        (["--set", "sede=1"], "no field 'sede'; did you mean 'seed'"),
        (["--set", "seed"], "--set seed: write it as name=value"),
        (["--set", "seed=[1"], "is not valid YAML"),
        (["--set", "seed.x=1", "--set", "seed.x.y=1"], "x is not a mapping"),
        (["--set", "cohort=phantm", "--set", "task=constant"], "no cohort 'phantm'"),
    ],
)
def test_wrong_input_is_a_line(own, arguments, said):
    result = iav("train", *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert said in result.output
    assert result.output.count("\n") == 1


def test_rows_for_programs(own, make):
    run(make(seed=0), own)
    run(make(seed=1, settings={"shift": 0.1}), own)
    rows = json.loads(iav("runs", "--json").output)
    assert [row["task"] for row in rows] == ["constant"] * 2
    assert {row["id"] for row in rows} == {folder.name for folder in own.folders()}
    assert all(row["pearson"] is None and row["mae"] > 0 for row in rows)
    (row,) = json.loads(iav("runs", "--filter", "seed=1", "--json").output)
    assert row["shift"] == 0.1
    assert json.loads(iav("runs", "--task", "iaa", "--json").output) == []
    wrong = iav("runs", "--filter", "sede=1")
    assert (wrong.exit_code, "did you mean 'seed'" in wrong.output) == (2, True)


def test_two_runs_beside_each_other(own, make):
    ids = [
        run(make(seed=seed, settings=settings), own).experiment.id
        for seed, settings in ((0, {}), (1, {"shift": 0.1}))
    ]
    result = iav("runs", "--compare", *ids)
    assert result.exit_code == 0
    assert "shift" in result.output
    assert "absolute error on the 4 test images of both" in result.output
    assert re.search(r"first minus second -0\.\d+ \(95 % interval -0\.\d+ to \S+\)", result.output)
    content = json.loads(iav("runs", "--compare", *ids, "--json").output)
    assert set(content["settings"]) == {"seed", "shift"}
    assert content["difference"] < 0 and content["measure"] == "absolute error"
    assert content["difference_low"] <= content["difference"] <= content["difference_high"]
    shown = iav("runs", "show", ids[0][:8])
    assert "predictions.csv" in shown.output
    facts = json.loads(iav("runs", "show", ids[0], "--json").output)
    assert (facts["id"], facts["facts"]["n"]["test"]) == (ids[0], 4)


def test_cleaning_never_takes_a_finished_run_unasked(own, make):
    kept = run(make(), own).experiment
    for seed in (1, 2):
        own.begin(resolve(make(seed=seed)))
    failed = own.begin(resolve(make(seed=3)))
    (failed / "failed.json").write_text('{"error": "x"}')
    (own.folder(kept) / "checkpoint.pt").write_bytes(b"0" * 10)
    (own.folder(kept) / ".metrics.json.1.tmp").write_text("half")
    (own.root / "constant" / ".0123456789ab.12ab34cd").mkdir()
    listed = iav("runs", "gc", "--dry-run", "--failed", "--unfinished")
    assert "6 would be removed" in listed.output
    assert len(own.folders()) == 4
    assert iav("runs", "gc").exit_code == 1, "it was not confirmed"
    assert len(list(own.root.glob("constant/.0*"))) == 1
    assert "3 removed" in iav("runs", "gc", "--yes").output
    assert len(own.folders()) == 4
    assert "1 removed" in iav("runs", "gc", "--failed", "--yes").output
    assert "2 removed" in iav("runs", "gc", "--unfinished", "--yes").output
    assert own.folders() == [own.folder(kept)]
    refused = iav("runs", "gc", "--finished")
    assert (refused.exit_code, "only runs that are named" in refused.output) == (2, True)
    assert own.status(kept) == "finished"
    assert "0 removed" in iav("runs", "gc", kept.id, "--failed").output
    assert "1 removed" in iav("runs", "gc", kept.id, "--finished", "--yes").output
    assert own.folders() == []


def test_cleaning_leaves_what_is_no_run(own, make, tmp_path):
    """Hidden folders, data and other people's folders may lie in the same place."""
    strange = [
        own.root / "constant" / ".git" / "objects",
        own.root / "constant" / "notes",
        own.root / "constant" / "0123456789ab",  # like a run, but without a specification
        own.root / "constant" / ".012345678901.x",
        own.root / "data" / "isic2017" / "images",
        own.root / "data" / "0123456789ab",
        own.root / ".venv" / "0123456789ab",
    ]
    for folder in strange:
        folder.mkdir(parents=True)
        (folder / "precious.txt").write_text("x")
    (own.root / "data" / "0123456789ab" / "spec.json").write_text('{"task": "data"}')
    other = own.root / "constant" / "abcdefabcdef"
    other.mkdir()
    (other / "spec.json").write_text('{"task": "iaa"}')
    outside = tmp_path / "outside" / "0123456789ac"
    outside.mkdir(parents=True)
    (outside / "spec.json").write_text('{"task": "constant"}')
    (own.root / "constant" / outside.name).symlink_to(outside)
    done = iav("runs", "gc", "--failed", "--unfinished", "--checkpoints", "--yes")
    assert "0 removed" in done.output
    assert all((folder / "precious.txt").is_file() for folder in strange)
    assert (other / "spec.json").is_file() and (outside / "spec.json").is_file()


@pytest.mark.parametrize(
    "name",
    ["../outside/thesis", "*", "constant/*", "..", "constant/../x", "/", "", ".git", "?" * 12],
)
def test_only_ids_name_runs(own, make, tmp_path, name):
    precious = own.root.parent / "outside" / "thesis"
    precious.mkdir(parents=True)
    own.begin(resolve(make(seed=1)))
    done = iav("runs", "gc", "--unfinished", "--yes", name)
    assert done.exit_code == 2
    assert precious.is_dir() and len(own.folders()) == 1


def test_a_checkpoint_is_kept_until_its_removal_is_asked_for(own, make):
    failed = own.begin(resolve(make(seed=3)))
    (failed / "failed.json").write_text('{"error": "x"}')
    (failed / "checkpoint.pt").write_bytes(b"0" * 10)
    assert "0 removed" in iav("runs", "gc", "--failed", "--yes").output
    assert "1 removed" in iav("runs", "gc", "--failed", "--checkpoints", "--yes").output
    assert own.folders() == []
