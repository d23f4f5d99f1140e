"""The order for further annotators: by whose predictions, with what beside it."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.core.errors import ExperimentError
from iavlib.data.datasets import phantom
from iavlib.experiments import RunStore
from iavlib.experiments.tasks.image import agreement_targets as targets
from iavlib.predict.triage import describe, out_of_fold_runs, triage

OPTIONS = {"n_images": 40, "size": (64, 64)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return phantom.load(cache=tmp_path_factory.mktemp("phantom"), **OPTIONS)


@pytest.fixture(scope="module")
def runs(study, tmp_path_factory):
    """Two models in two folds each, one of them near the truth."""
    table, rng = targets(study), np.random.default_rng(0)
    fold = np.arange(len(table)) % 2
    rows = []
    for label, noise in (("near", 0.02), ("far", 0.4)):
        guess = table["target"] + rng.normal(0, noise, len(table))
        for number in (0, 1):
            folder = tmp_path_factory.mktemp(f"{label}{number}")
            found = table.assign(
                subset=np.where(fold == number, "test", "train"),
                true=table["target"],
                predicted=guess,
            )
            found.reset_index().to_csv(folder / "predictions.csv", index=False)
            row = {"id": folder.name, "label": label, "status": "finished", "folder": str(folder)}
            row |= {"backbone": "b", "recipe": "r", "seed": 0, "split_fold": number}
            rows.append(row | {"origin": "here", "weights_random": False, "train_share": 1})
    return pd.DataFrame(rows)


def test_the_order_is_by_the_better_model(study, runs):
    found = triage(study, runs, n_boot=50)
    assert found.model == "near"
    ranking = found.ranking
    assert ranking["rank"].tolist() == list(range(1, len(ranking) + 1))
    assert ranking["predicted_dice"].is_monotonic_increasing
    assert np.corrcoef(ranking["predicted_dice"], ranking["true_dice"])[0, 1] > 0.9
    inside = ranking["predicted_dice"].between(ranking["lower"], ranking["upper"])
    assert inside.all()
    assert found.gains.loc["disagreement", "area_gained"] > 0
    compared = {"disagreement", "uncertainty", "both", "image statistics", "best possible"}
    assert set(found.gains.index) == compared
    far = triage(study, runs, model="far", statistics=False, n_boot=50)
    assert "more_than_reference" not in far.gains
    assert far.gains.loc["disagreement", "of_possible"] < 0.9
    assert "image statistics" not in far.gains.index
    told = describe(found, study, first=3)
    assert "invented" in told and ranking["image_id"][0] in told and "random order" in told


def test_other_orders(study, runs):
    spread = triage(study, runs, by="uncertainty", statistics=False, n_boot=50).ranking
    assert spread["spread"].is_monotonic_decreasing
    both = triage(study, runs, by="both", statistics=False, n_boot=50).ranking
    np.testing.assert_allclose(both["priority"], 1 - both["predicted_dice"] + both["spread"])
    with pytest.raises(ExperimentError, match="unknown order"):
        triage(study, runs, by="chance")
    with pytest.raises(ExperimentError, match="no such model"):
        triage(study, runs, model="nearest")
    with pytest.raises(ExperimentError, match="at least two models"):
        triage(study, runs[runs["label"] == "near"], by="both")


def test_without_runs_the_way_to_them_is_told(study, tmp_path):
    with pytest.raises(ExperimentError, match="no runs predict all of its images"):
        out_of_fold_runs(study, RunStore(tmp_path))


def test_stored_predictions_of_the_published_images(imapp_home, monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_DATA_HOME", str(imapp_home))
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "none"))
    out = tmp_path / "order.csv"
    arguments = ["triage", "imapp", "--out", str(out), "--n-boot", "20", "--no-statistics"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    ranking = pd.read_csv(out)
    assert len(ranking) == 1053 and ranking["priority"].is_monotonic_decreasing
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "--overwrite" in again.output
