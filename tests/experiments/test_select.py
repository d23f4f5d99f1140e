"""Which runs a notebook trains and shows: by cohort first, its own or stored."""

import shutil

import pandas as pd
import pytest

from iavlib.core.errors import ExperimentError
from iavlib.core.project import Project, find_project
from iavlib.experiments import for_notebook, read_results, select
from iavlib.experiments.config import from_mapping
from iavlib.experiments.lookup import notebook_experiments
from iavlib.experiments.table import STORED


def rows(origin, cohort, seeds, **fields):
    facts = {"task": "diagnosis", "label": "a", "cohort": cohort, "cohort_name": cohort}
    facts |= {"status": "finished", "origin": origin, "data": "d", "reason": ""}
    facts |= {"finished": "2026-01-02T03:04:05", "hardware": "4 CPUs, Linux"}
    ids = [f"{origin}-{cohort}-{seed}" for seed in seeds]
    return pd.DataFrame({"id": ids, "seed": seeds}).assign(**(facts | fields))


HERE = rows("here", "phantom", [0])
STORED_ROWS = pd.concat([rows("stored", "imapp", [0, 1]), rows("stored", "ph2", [0])])


def test_the_full_scale_is_shown_with_date_and_hardware_beside_ones_own_cohort():
    shown = select(HERE, STORED_ROWS)
    assert shown["id"].tolist() == [*STORED_ROWS["id"], *HERE["id"]]
    assert shown["scale"].tolist() == ["full"] * 3 + ["own"]
    assert shown["source"].tolist() == ["stored 2026-01-02, 4 CPUs"] * 3 + ["here"]


def test_a_run_on_a_cohort_of_the_full_scale_is_a_live_example_only():
    live = rows("here", "imapp", [7])
    assert "here" not in set(select(live, STORED_ROWS)["source"])
    unfinished = STORED_ROWS.assign(status="missing")
    assert select(live, unfinished)["id"].tolist() == live["id"].tolist()


def test_a_named_cohort_is_answered_with_no_other():
    own = rows("here", "folder", [0])
    assert select(own, STORED_ROWS, "folder")["id"].tolist() == own["id"].tolist()
    assert set(select(HERE, STORED_ROWS, "imapp")["cohort"]) == {"imapp", "phantom"}
    another = pd.concat([STORED_ROWS, rows("here", "folder", [5], data="of other masks")])
    assert select(own, another, "folder")["id"].tolist() == own["id"].tolist()
    same = pd.concat([STORED_ROWS, rows("here", "folder", [5])])
    assert select(own, same, "folder")["seed"].tolist() == [5]
    # nor is the book's page answered with somebody's own masks
    assert "folder" not in set(select(HERE, another)["cohort"])
    with_digits = pd.concat([own, rows("here", "digits", [0])])
    stored_digits = pd.concat([STORED_ROWS, rows("stored", "digits", [0, 1])])
    found = select(with_digits, stored_digits, "folder")
    assert found["cohort"].tolist() == ["digits", "digits", "folder"]


def test_networks_that_learnt_from_another_cohort_do_not_stand_for_ones_own():
    own = rows("here", "ph2", [0], init_from_cohort="folder")
    stored = rows("stored", "ph2", [0, 1], init_from_cohort="imapp")
    assert select(own, stored, "folder")["id"].tolist() == own["id"].tolist()
    assert select(own, stored)["id"].tolist() == stored["id"].tolist()


def test_one_source_can_be_asked_for():
    assert select(HERE, STORED_ROWS, source="here")["id"].tolist() == HERE["id"].tolist()
    finished_here = rows("here", "imapp", [3])
    full = pd.concat([STORED_ROWS, finished_here])
    assert set(select(HERE, full, source="stored")["origin"]) == {STORED}
    with pytest.raises(ExperimentError, match=r"source 'stord'.*stored"):
        select(HERE, STORED_ROWS, source="stord")
    with pytest.raises(ExperimentError, match=r"cohort 'folder': there are no results \(stored\)"):
        select(rows("here", "folder", [0]), STORED_ROWS, "folder", "stored")


SMALL = """
06_baseline_cm:
  - &digits {label: dense, task: segmentation, cohort: digits, backbone: unet, recipe: annotators,
      cohort_options: {n: [[16, 4, 8]]}, method: {name: [cm, staple], widths: [[4, 8]]}}
  - {<<: *digits, label: noise, settings: {noise: [0.4, 0.5]}}
"""


@pytest.fixture
def stored_only(monkeypatch, tmp_path):
    """The stored results and the full scale of this project, beside a small scale of digits."""
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "none"))
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    ours, project = find_project(), Project(tmp_path / "project")
    lists = project.profiles / "experiments"
    lists.mkdir(parents=True)
    shutil.copy(ours.profiles / "experiments" / "paper.yaml", lists)
    (lists / "smoke.yaml").write_text(SMALL)
    for notebook in ours.notebooks.glob("*.ipynb"):
        (project.notebooks / notebook.name).touch()
    project.book.mkdir()
    (project.book / "results").symlink_to(ours.book / "results")
    return project


def test_what_stored_results_replace_is_not_trained(stored_only):
    options, stem = {"n_images": 40, "seed": 0}, "06_baseline_cm"
    everything = for_notebook("smoke", stem, "auto", "here", stored_only, **options)
    asked = {"cohort": "auto", "source": "auto", "path": "", **options}
    trained = notebook_experiments(stored_only, "smoke", stem, asked)
    assert [item.label for item in trained] == ["dense"]
    assert trained[0] == everything[0] and len(everything) > 5
    assert notebook_experiments(stored_only, "smoke", stem, asked | {"source": "stored"}) == []
    full = read_results("paper", stem, project=stored_only)
    assert set(full.loc[full["status"] == "finished", "origin"]) == {STORED}


def test_a_fingerprint_that_looks_like_a_number_stays_text():
    experiment = from_mapping({"cohort": "folder", "data": "12345678e901", "files": "1e9"})
    assert (experiment.data, experiment.files) == ("12345678e901", "1e9")


def test_runs_of_which_none_finished_have_no_machine():
    nothing = HERE.assign(status="failed", hardware=None, finished=None)
    assert select(nothing, STORED_ROWS, "folder")["source"].tolist() == ["here"]
    assert (
        select(nothing.drop(columns=["hardware", "finished"]), STORED_ROWS, "folder").shape[0] == 1
    )
