"""What runs of AVAP and its peers say together, and RIGA through the task."""

import numpy as np
import pytest
from riga_layout import fundus, outlined, save

from iavlib.core.errors import ExperimentError
from iavlib.experiments import Experiment, resolve, run, sweep
from iavlib.experiments.lookup import data_missing
from iavlib.experiments.results import preference as preference_claims, preference as results

TINY = {"epochs": 1, "widths": [4, 8], "batch_size": 4, "warmup_epochs": 0}


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiment(**fields):
    overrides = TINY | fields.pop("overrides", {})
    given = {
        "task": "segmentation",
        "cohort": "digits",
        "cohort_options": {"n": [8, 0, 4], "source": "drawn"},
        "backbone": "unet",
        "method": "avap",
        "recipe": "annotators",
        "overrides": overrides,
    }
    return Experiment(**{**given, **fields})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from iavlib.experiments import RunStore

    store = RunStore(tmp_path_factory.mktemp("runs"))
    wanted = [experiment(seed=seed, label="d") for seed in (0, 1, 2)]
    wanted += [experiment(seed=seed, label="d", method="mh-unet") for seed in (0, 1, 2)]
    wanted += [
        experiment(label="d", method="avap-joint", overrides={"joint_weight": weight})
        for weight in (0.3, 0.7)
    ]
    return sweep(wanted, store, log=lambda line: None)


def test_runs_hold_whose_prediction_fits_whom_and_how_calibrated_the_vote_is(runs):
    names = ["good", "over", "under", "wrong", "blank"]
    matrix = results.read_matrix(runs.loc[0, "folder"])
    assert list(matrix.index) == names and list(matrix.columns) == [*names, "mean_vote"]
    own = matrix.to_numpy()[:, :5].diagonal().mean()
    assert runs.loc[0, "average"] == pytest.approx(own, abs=1e-5)
    curves = results.read_reliability(runs.loc[0, "folder"])
    assert set(curves) == {"expectation", "argmax"}
    table = curves["expectation"]
    away = np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"])
    assert runs.loc[0, "calibration_error"] == pytest.approx(away, abs=1e-5)
    with pytest.raises(ExperimentError, match="no soft matrix of 'cup'"):
        results.read_matrix(runs.loc[0, "folder"], structure="cup")


def test_methods_stand_in_the_papers_order_with_its_names(runs):
    table = results.peers(runs)
    assert list(table.index) == ["avap", "mh-unet", "avap-joint"]
    assert list(table["paper"]) == ["AVAP", "MH-UNet", ""] and table.loc["avap", "runs"] == 3
    mean = runs.loc[runs["method"] == "avap", "average"].mean()
    assert table.loc["avap", "average"] == pytest.approx(100 * mean)
    assert results.published_table().loc["AVAP", "vote cup"] == 87.90


def test_differences_are_paired_by_seed_and_by_image(runs):
    pairs = preference_claims.comparisons(runs)
    assert set(pairs) == {"avap-average-over-mh", "avap-two-step"}
    assert pairs["avap-two-step"][1]["average"].tolist() == [
        runs.loc[runs["method"] == "avap-joint", "average"].max()
    ]
    found = results.difference(*pairs["avap-average-over-mh"])
    own, other = (
        runs[runs["method"] == name].set_index("seed")["average"] for name in ("avap", "mh-unet")
    )
    assert found.mean == pytest.approx(100 * (own - other).mean())
    assert found.low < found.mean < found.high and found.n_images == 4
    assert "3 seeds" in found.words
    same = results.difference(pairs["avap-two-step"][0], pairs["avap-two-step"][0])
    assert same.mean == 0 and np.isnan(same.p_seeds) and np.isnan(same.p_images)
    table = results.differences(pairs)
    assert list(table["seeds"]) == [3, 1] and list(table["paper"]) == [1.73, 1.63]


def test_claims_take_three_seeds_and_weights_where_some_are_pretrained(runs):
    values = preference_claims.claim_values(runs)
    wanted = {"avap-average-over-mh", "avap-own-annotator-best", "avap-mean-voting"}
    assert set(values) == wanted and all(one["n"] == 3 for one in values.values())
    assert not preference_claims.claim_values(runs[runs["seed"] < 2])
    mixed = runs.assign(weights_random=runs["seed"] > 0, backbone="resnet18")
    assert set(results.pretrained_first(mixed)["seed"]) == {0}
    first, second = preference_claims.comparisons(mixed)["avap-pretraining"]
    assert not first["weights_random"].any() and second["weights_random"].all()
    assert (
        preference_claims.comparisons(runs.head(0))
        == {}
        == preference_claims.claim_values(runs.head(0))
    )
    assert (
        preference_claims.coverage("riga", 10) == (10, 750)
        and preference_claims.coverage("ph2", 10) is None
    )


def test_claims_of_all_sets_and_those_against_them(runs):
    table = preference_claims.claims_table(runs)
    assert set(table.index.get_level_values("set")) == {"d"} and (table["seeds"] == 3).all()
    own = table.loc[("d", "avap-own-annotator-best")]
    assert 0 <= own["low"] <= own["value"] <= own["high"] <= 1
    table["high"] = 1.0
    assert preference_claims.against(table) == "none"
    table.loc[("d", "avap-average-over-mh"), "high"] = -1.0
    table.loc[("d", "avap-own-annotator-best"), "high"] = -1.0
    assert preference_claims.against(table) == "avap-average-over-mh on d"
    nothing = preference_claims.claims_table(runs[runs["seed"] < 2])
    assert nothing.empty and "nothing was run" in preference_claims.against(nothing)


def test_riga_runs_in_its_layout_with_its_published_split(tmp_path, monkeypatch, store):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    wanted = experiment(cohort="riga", cohort_options={}, size=32, split={"kind": "official"})
    assert "riga" in data_missing(wanted)
    for number, folder in enumerate(("BinRushed/BinRushed2", "Magrabia/MagrabiaMale", "MESSIDOR")):
        place = tmp_path / "riga" / folder
        place.mkdir(parents=True)
        for image in (1, 2):
            picture = fundus(10 * number + image)
            save(picture, place / f"image{image}prime.tif")
            for annotator in range(1, 7):
                if (image, annotator) != (2, 3):  # one is missing now and then
                    drawn = outlined(picture, 30 + annotator, 12 + annotator)
                    save(drawn, place / f"image{image}-{annotator}.tif")
    assert data_missing(wanted) is None
    result = run(wanted, store)
    assert result.facts["n"] == {"test": 2} and len(result.facts["settings"]["annotators"]) == 6
    assert {"average_disc", "average_cup", "mean_voting_cup"} <= set(result.metrics)
    assert set(result.facts["settings"]["dice_matrices"]) == {"disc", "cup"}
    with pytest.raises(ExperimentError, match="has no official one"):
        resolve(experiment(split={"kind": "official"}))
