"""Results that are exported, and what the ledger and the pages make of them."""

import json
import shutil
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from iavlib import book
from iavlib.book.claims import ledger
from iavlib.book.site import assemble
from iavlib.book.stored import StoredResultsError, export_results, read_stored
from iavlib.cli.main import app
from iavlib.core.errors import ExperimentError, ManifestError
from iavlib.core.project import Project
from iavlib.experiments import Experiment
from iavlib.experiments.store import read_facts, read_json, read_prediction_file
from iavlib.experiments.stored import read_stored_predictions, stored_runs

CLAIM = """
- id: mean
  source: paper2020
  place: here
  statement: The mean is a half.
  reported: 0.5
  unit: Dice
  compare: {kind: equal, tolerance: 0.01}
  protocol: published
  cohorts: [real]
  notebook: 01_first
  needs: the tables
"""


class Lab:
    """A project in which runs have left their traces."""

    def __init__(self, root):
        self.project = Project(root)
        for folder in ("book/executed", "notebooks"):
            (root / folder).mkdir(parents=True)
        chapters = "chapters:\n  - file: notebooks/01_first\n"
        self.project.toc.write_text(f"format: jb-book\nroot: book/index\n{chapters}")
        (root / "book" / "index.md").write_text("# Book\n")
        self.project.config.write_text("title: Book\n")
        self.project.claims.write_text(CLAIM)
        self.notebook("x = 1")

    def notebook(self, source, folder=None):
        cells = [nbformat.v4.new_markdown_cell("# First"), nbformat.v4.new_code_cell(source)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, (folder or self.project.notebooks) / "01_first.ipynb")

    def ran(self, value=0.5, profile="paper", run_id="r1", synthetic=False, **fields):
        self.notebook("x = 1", self.project.executed)
        claim = {"id": "mean", "value": value, "interval": [0.4, 0.6], "n": 10, "note": None}
        cohort = {"name": "real", "synthetic": synthetic, "fingerprint": "f", "citation": ""}
        manifest = {
            "schema_version": 1,
            "run_id": run_id,
            "notebook": "01_first",
            "profile": profile,
            "overrides": {},
            "parameters": {},
            "fingerprint": "f",
            "cohorts": [cohort | {"n_images": 10, "n_masks": 20}],
            "claims": [claim | {"cohort": "real", "synthetic": synthetic}],
            "versions": {"python": "3.11"},
            "hardware": {"system": "Linux", "machine": "x86_64", "cpus": 16},
            "seconds": 1.0,
            "finished": "2026-02-03T04:05:06+00:00",
        }
        path = self.project.executed / "01_first.json"
        path.write_text(json.dumps(manifest | fields))

    def moved(self):
        """Another machine: what was committed is there, what ran is not."""
        for path in self.project.executed.iterdir():
            path.unlink()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path.resolve())


STORED = "01_first.paper"


def stored_file(lab):
    return lab.project.book / "results" / "notebooks.json"


def test_an_exported_value_outlives_its_machine(lab):
    lab.ran(0.501)
    assert export_results(lab.project).written == (STORED,)
    lab.moved()
    (row,) = ledger(lab.project)
    assert (row["measured"], row["verdict"]) == (0.501, "reproduced")
    assert row["profile"] == "paper, stored 2026-02-03, 16 CPUs"


def test_the_same_run_is_exported_once_and_a_later_one_replaces_it(lab):
    lab.ran(0.501)
    export_results(lab.project)
    before = stored_file(lab).read_bytes()
    again = export_results(lab.project)
    assert (again.written, again.unchanged) == ((), (STORED,))
    assert stored_file(lab).read_bytes() == before
    lab.ran(0.502, run_id="r2")
    assert export_results(lab.project).written == (STORED,)
    lab.moved()
    assert ledger(lab.project)[0]["measured"] == 0.502


def test_the_larger_scale_goes_first_and_at_one_scale_this_machine(lab):
    lab.ran(0.501, profile="paper")
    export_results(lab.project)
    lab.ran(0.3, profile="quick")
    assert ledger(lab.project)[0]["measured"] == 0.501
    lab.ran(0.504, profile="paper")
    (row,) = ledger(lab.project)
    assert (row["measured"], row["profile"]) == (0.504, "paper")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"overrides": {"n": 5}}, r"parameters set by hand \(n\)"),
        ({"synthetic": True}, "synthetic data"),
        ({"profile": "huge"}, "unknown scale 'huge'"),
    ],
)
def test_what_is_not_worth_keeping_is_left_out_with_the_reason(lab, fields, reason):
    import re

    lab.ran(**fields)
    done = export_results(lab.project)
    assert done.written == ()
    assert re.search(reason, done.skipped[0])


def test_a_run_of_an_earlier_notebook_is_not_exported(lab):
    lab.ran()
    lab.notebook("x = 2")
    assert "changed since" in export_results(lab.project).skipped[0]


def test_a_stored_result_of_an_earlier_notebook_says_so(lab):
    lab.ran(0.501)
    export_results(lab.project)
    lab.moved()
    lab.notebook("x = 2")
    assert ledger(lab.project)[0]["profile"].endswith("by an earlier version of the notebook")
    (lab.project.notebooks / "01_first.ipynb").unlink()
    assert read_stored(lab.project) == []


def test_a_page_that_was_not_run_shows_the_stored_values(lab):
    lab.ran(0.501)
    export_results(lab.project)
    lab.moved()
    files = assemble(lab.project).files
    page = "".join(
        cell["source"] for cell in json.loads(files["notebooks/01_first.ipynb"])["cells"]
    )
    assert "has not been run here" in page
    assert "paper: stored 2026-02-03, 16 CPUs" in page
    assert "0.501 (0.400 to 0.600)<" in page
    assert not [name for name in files if name.startswith("book/results")]


def test_a_damaged_stored_result_is_named(lab):
    lab.ran()
    export_results(lab.project)
    content = json.loads(stored_file(lab).read_text())
    del content[STORED]["stored"]
    stored_file(lab).write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"notebooks\.json, 01_first\.paper: no stored result"):
        ledger(lab.project)
    stored_file(lab).write_text(json.dumps(content)[:-5])
    with pytest.raises(ManifestError, match=r"damaged"):
        ledger(lab.project)


@pytest.fixture
def finished_run(tmp_path):
    """Leave a run in a store: (its directory, what completes it)."""
    experiment = Experiment(cohort="real", data="f", weights="hub", seed=1)
    run = tmp_path / "store" / "iaa" / experiment.id
    run.mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps(experiment.to_dict()))
    (run / "predictions.csv").write_text("image_id,predicted\na,0.5\n")
    (run / "model.safetensors").write_bytes(b"\0" * 100)
    facts = {"schema_version": 1, "metrics": {}, "baselines": {}, "weights": {}, "n": {}}
    facts |= {"weights_random": False, "hardware": {}, "seconds": 1, "data": "f"}
    facts |= {"cohort": "real", "synthetic": False, "finished": "2026-01-01"}

    def complete(**changes):
        (run / "metrics.json").write_text(json.dumps(facts | changes))

    return run, complete


def test_finished_experiments_without_their_models(lab, tmp_path, finished_run):
    run, complete = finished_run
    name, store = f"iaa/{run.name}", tmp_path / "store"
    target = lab.project.book / "results" / "runs" / "iaa.jsonl"
    assert f"{name}: not finished" in export_results(lab.project, store, every_run=True).skipped
    assert not target.exists()
    complete()
    assert export_results(lab.project, store, every_run=True).written == (name,)
    assert stored_runs(lab.project) == [target / run.name]
    assert read_facts(target / run.name) == read_facts(run)
    assert read_json(target / run.name / "spec.json") == read_json(run / "spec.json")
    assert read_prediction_file(target / run.name / "predictions.csv")["predicted"].item() == 0.5
    assert not [p for p in target.parent.iterdir() if p.suffix not in (".jsonl", ".xz")]
    assert export_results(lab.project, store, every_run=True).unchanged == (name,)


def test_exported_runs_join_the_stored_ones_and_replace_those_of_their_id(
    lab, tmp_path, finished_run
):
    run, complete = finished_run
    complete()
    export_results(lab.project, tmp_path / "store", every_run=True)
    (folder,) = stored_runs(lab.project)
    other = Experiment(cohort="real", data="f", weights="hub", seed=2)
    second = tmp_path / "second" / "iaa" / other.id
    shutil.copytree(run, second)
    (second / "spec.json").write_text(json.dumps(other.to_dict()))
    assert export_results(lab.project, tmp_path / "second", every_run=True).written == (
        f"iaa/{other.id}",
    )
    assert {path.name for path in stored_runs(lab.project)} == {run.name, other.id}
    complete(seconds=2)
    (run / "predictions.csv").write_text("image_id,predicted\na,0.25\n")
    export_results(lab.project, tmp_path / "store", every_run=True)
    assert read_facts(folder)["seconds"] == 2
    assert read_prediction_file(folder / "predictions.csv")["predicted"].item() == 0.25
    assert len(stored_runs(lab.project)) == 2


def test_what_is_too_large_or_damaged_is_named(lab, tmp_path, finished_run, monkeypatch):
    _, complete = finished_run
    complete()
    store = tmp_path / "store"
    monkeypatch.setattr("iavlib.book.stored.LARGEST", 100)
    with pytest.raises(StoredResultsError, match=r"iaa\.tar\.xz.*more than 100"):
        export_results(lab.project, store, every_run=True)
    assert stored_runs(lab.project) == []
    monkeypatch.undo()
    monkeypatch.chdir(lab.project.root)
    export_results(lab.project, store, every_run=True)
    (folder,) = stored_runs(lab.project)
    with pytest.raises(ExperimentError, match="is missing"):
        read_facts(folder.with_name("nothing"))
    folder.parent.with_suffix(".tar.xz").write_bytes(b"no archive")
    with pytest.raises(ExperimentError, match=r"iaa\.tar\.xz"):
        read_prediction_file(folder / "predictions.csv")
    folder.parent.write_text("{}\n")
    with pytest.raises(ExperimentError, match="line 1 is damaged"):
        stored_runs(lab.project)


def test_a_diagnosis_is_stored_without_its_training_images(lab, tmp_path, finished_run):
    run, complete = finished_run
    store = tmp_path / "store"
    experiment = Experiment(task="diagnosis", cohort="real", data="f", weights="hub", seed=1)
    moved = store / "diagnosis" / experiment.id
    complete()
    moved.parent.mkdir()
    run.rename(moved)
    (moved / "spec.json").write_text(json.dumps(experiment.to_dict()))
    head, kept = "image_id,subset,predicted\n", 'a,val,0.5\n"b,c",test,0.25\n'
    (moved / "predictions.csv").write_text(f"{head}x,train,0.9\n{kept}train,train,0.1\n")
    name = f"diagnosis/{experiment.id}"
    assert export_results(lab.project, store, every_run=True).written == (name,)
    (folder,) = stored_runs(lab.project)
    assert read_stored_predictions(folder).decode() == head + kept
    assert export_results(lab.project, store, every_run=True).unchanged == (name,)
    (moved / "predictions.csv").write_text("image_id,predicted\na,0.5\n")
    with pytest.raises(StoredResultsError, match="no column 'subset'"):
        export_results(lab.project, store, every_run=True)


def test_only_listed_experiments_on_real_images_are_kept_unasked(lab, tmp_path, finished_run):
    run, complete = finished_run
    complete()
    name, store = f"iaa/{run.name}", tmp_path / "store"
    assert f"{name}: in no list of experiments" in export_results(lab.project, store).skipped
    lists = lab.project.profiles / "experiments"
    lists.mkdir(parents=True)
    (lists / "paper.yaml").write_text("01_first: [{seed: [0, 1]}]")
    complete(synthetic=True)
    assert f"{name}: run on synthetic data" in export_results(lab.project, store).skipped
    complete()
    assert len(export_results(lab.project, store).written) == 1
    complete(synthetic=True)  # data that the list itself names are what it asks for
    (lists / "paper.yaml").write_text("01_first: [{seed: 1, cohort: other}]")
    assert f"{name}: run on synthetic data" in export_results(lab.project, store).skipped
    (lists / "paper.yaml").write_text("01_first: [{seed: 1, cohort: real}]")
    assert not [one for one in export_results(lab.project, store).skipped if name in one]
    (run / "spec.json").write_text("{}")
    skipped = export_results(lab.project, store).skipped
    assert any("does not describe the run" in reason for reason in skipped)


def test_the_command(lab):
    lab.ran(0.501)
    result = CliRunner().invoke(app, ["results", "export"])
    assert result.exit_code == 0
    assert "stored: 01_first.paper" in result.output
    assert "1 stored, 0 unchanged" in result.output


class Cohort:
    """The little that recording needs to know of data."""

    images = masks = pd.DataFrame(index=["ISIC_1", "ISIC_2"])
    citation, fingerprint = "", "f"

    def __init__(self, name="real", synthetic=False):
        self.name, self.synthetic = name, synthetic


def kept(monkeypatch, tmp_path, cohort, **tables):
    """Run the last cell of a notebook; return what its manifest holds of tables."""
    facts = dict.fromkeys(("run_id", "notebook", "profile", "fingerprint"), "x")
    facts |= {"overrides": {}, "parameters": {}, "inputs": {}, "started": time.time()}
    facts["manifest"] = str(tmp_path / "manifest.json")
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    monkeypatch.setenv("IAV_RUN", str(tmp_path / "facts.json"))
    for name, table in tables.items():
        book.keep(name, table, cohort=cohort)
    book.finish(cohorts=[cohort])
    return json.loads((tmp_path / "manifest.json").read_text())["tables"]


TABLE = pd.DataFrame(
    {
        "mean": [0.123456789, np.nan],
        "n": np.array([3, 4]),
        "known": [True, False],
        "interval": [np.inf, -1e-12],
    },
    pd.MultiIndex.from_tuples([("a", "benign"), ("b", "malignant")], names=["pair", "group"]),
)


def test_a_kept_table_is_read_back_on_another_machine(lab, monkeypatch, tmp_path):
    tables = kept(monkeypatch, tmp_path, Cohort(), groups=TABLE, plain=TABLE.reset_index(drop=True))
    lab.ran(tables=tables)
    export_results(lab.project)
    lab.moved()
    for number in ("01_first", "01", "1"):
        stored = book.stored_tables(number)
        assert list(stored) == ["groups", "plain"]
    groups = stored["groups"]
    assert groups.index.equals(TABLE.index)
    assert groups.index.names == ["pair", "group"]
    assert groups["mean"].iloc[0] == 0.1234568
    assert groups[["mean", "interval"]].isna().sum().tolist() == [1, 1]
    assert groups["n"].tolist() == [3, 4]
    assert stored.label == "stored 2026-02-03, 16 CPUs, scale paper"
    assert (stored.cohort, stored.n_images, stored.n_masks) == ("real", 10, 20)
    lab.notebook("x = 2")
    assert "earlier version" in book.stored_tables("01").label


def test_only_tables_of_real_data_and_the_largest_scale_are_read(lab, monkeypatch, tmp_path):
    assert not book.stored_tables("01")
    of_phantom = kept(monkeypatch, tmp_path, Cohort("phantom", synthetic=True), groups=TABLE)
    lab.ran(tables=of_phantom)
    export_results(lab.project)
    assert not book.stored_tables("01")
    for profile, mean in (("paper", 0.7), ("quick", 0.6)):
        tables = kept(monkeypatch, tmp_path, Cohort(), groups=pd.DataFrame({"mean": [mean]}))
        lab.ran(profile=profile, run_id=profile, tables=tables)
        export_results(lab.project)
    assert book.stored_tables("01")["groups"]["mean"].tolist() == [0.7]
    assert book.stored_tables("01", cohort="real").cohort == "real"
    assert not book.stored_tables("01", cohort="other")
    assert not book.stored_tables("07")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pd.DataFrame({"image": ["ISIC_1"]}), "names the image or mask 'ISIC_1'"),
        (pd.DataFrame({"x": [1]}, pd.Index(["ISIC_2"], name="image_id")), "'ISIC_2'"),
        (pd.DataFrame({"x": range(501)}), "501 rows"),
        (pd.DataFrame([range(25)]), "25 columns"),
        (pd.DataFrame({"x": [{"a": 1}]}), "dict"),
    ],
)
def test_data_are_not_kept(table, problem):
    with pytest.raises(ValueError, match=problem):
        book.keep("t", table, cohort=Cohort())


def test_a_table_of_data_that_the_notebook_does_not_list(monkeypatch, tmp_path):
    book.keep("t", TABLE, cohort=Cohort("other"))
    with pytest.raises(ManifestError, match="other"):
        kept(monkeypatch, tmp_path, Cohort())
