"""The generated parts of the model card, from the results stored with the book."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from iavlib import data
from iavlib.book.model_card import diagnosis_card, model_card
from iavlib.core.project import Project, find_project
from iavlib.experiments import RunStore, read_predictions, read_results


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """The project with its stored results and no run of this machine."""
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "none"))
    return find_project()


@pytest.fixture
def with_tables(stored, imapp_home, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(imapp_home))
    return stored


def rows_of(text, factor):
    """Rows of a table by level, as lists of cells."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix(factor): row[1:] for row in lines if row[0].startswith(factor)}


def number(cell):
    return float(re.match(r"[-+\d.]+", cell.replace(",", "")).group())


def test_a_diagnosis_by_sex_age_and_site(with_tables):
    models = diagnosis_card(with_tables).split("Model “")[1:]
    assert [one.split("”")[0] for one in models] == ["diagnosis alone", "multi-task"]
    for text in models:
        assert "5 seeds" in text and rows_of(text, "all images")[""][0] == "1,050 (312)"
        for factor in ("sex: ", "age: ", "site: "):
            counts = [row[0] for row in rows_of(text, factor).values()]
            assert sum(number(count) for count in counts) == 1050
        assert rows_of(text, "age: ")["under 30"][1] == "too few: 4 malignant"
        assert list(rows_of(text, "age: "))[:2] == ["under 30", "30-44"]


def test_a_cell_is_what_the_stored_predictions_give(with_tables, tmp_path):
    runs = read_results(
        *("paper", "04_mtl_diagnosis", "imapp"), RunStore(tmp_path / "none"), with_tables
    )
    runs = runs[(runs["label"] == "diagnosis alone") & (runs["status"] == "finished")]
    rows = read_predictions(runs).query("part == 'test'")
    images = rows.groupby("image_id").agg(true=("true", "first"), p=("predicted", "mean"))
    facts = data.load("imapp").images.reindex(images.index)
    men = images[facts["sex"] == "male"]
    cells = rows_of(diagnosis_card(with_tables).split("Model “")[1], "sex: ")["male"]
    assert number(cells[1]) == pytest.approx(roc_auc_score(men["true"], men["p"]), abs=0.006)
    ends = [float(one) for one in re.search(r"\((.*) to (.*)\)", cells[1]).groups()]
    assert ends[0] < number(cells[1]) < ends[1]
    hit = (men["p"] >= 0.5)[men["true"] == 1]
    assert number(cells[3]) == pytest.approx(hit.mean(), abs=0.006)


def test_errors_of_agreement_by_sex_age_and_site(with_tables):
    text = model_card(with_tables)
    for factor in ("sex: ", "age: ", "site: ", "malignancy: ", "true Dice: "):
        rows = rows_of(text, factor)
        assert sum(number(row[0]) for row in rows.values()) == 1053
        weighted = [number(row[0]) * number(row[2]) for row in rows.values()]
        assert np.sum(weighted) / 1053 == pytest.approx(
            number(rows_of(text, "all images")[""][2]), 0.01
        )
    assert list(rows_of(text, "true Dice: ")) == ["0 to .5", ".5 to .8", ".8 to 1"]
    covered = {
        f"{factor}{level}": number(row[5])
        for factor in ("sex: ", "age: ", "site: ")
        for level, row in rows_of(text, factor).items()
        if number(row[0]) >= 30
    }
    assert f"least often in {pd.Series(covered).idxmin()}," in text


def test_without_tables_or_runs_the_cards_say_so(stored, monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    text = diagnosis_card(stored)
    assert "subgroups were not measured" in text and not rows_of(text, "sex: ")
    assert not rows_of(model_card(stored), "sex: ")
    nothing = Project(tmp_path)
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "book").mkdir()
    assert diagnosis_card(nothing).startswith("No predictions of malignancy")
    assert model_card(nothing).startswith("No predictions of all images")
