"""What runs of AVAP and its peers say together, and RIGA through the task."""

import numpy as np
import pandas as pd
import pytest
from riga_layout import fundus, outlined, save

from iavlib.core.errors import ExperimentError
from iavlib.experiments import Experiment, claims, read_facts, resolve, run, sweep
from iavlib.experiments.lookup import data_missing

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
    settings = read_facts(runs.loc[0, "folder"])["settings"]
    matrix = np.array(next(iter(settings["dice_matrices"].values()))["soft"], dtype=float)
    assert settings["annotators"] == ["good", "over", "under", "wrong", "blank"]
    assert matrix.shape == (5, 6), "the last column is the mean vote"
    assert runs.loc[0, "average"] == pytest.approx(matrix[:, :5].diagonal().mean(), abs=1e-5)
    maps = next(iter(settings["reliability"].values()))
    assert set(maps) == {"expectation", "argmax"}
    table = pd.DataFrame(maps["expectation"])
    away = np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"])
    assert runs.loc[0, "calibration_error"] == pytest.approx(away, abs=1e-5)


def test_differences_are_paired_by_seed_and_by_image(runs):
    pairs = claims.comparisons(runs)
    assert set(pairs) == {"avap-average-over-mh", "avap-two-step"}
    assert pairs["avap-two-step"][1]["average"].tolist() == [
        runs.loc[runs["method"] == "avap-joint", "average"].max()
    ]
    points = claims.points_ahead(*pairs["avap-average-over-mh"])
    own, other = (
        runs[runs["method"] == name].set_index("seed")["average"] for name in ("avap", "mh-unet")
    )
    assert points.to_dict() == pytest.approx((100 * (own - other)).to_dict())


def test_claims_take_three_seeds_and_weights_where_some_are_pretrained(runs):
    values = claims.avap_claims(runs)
    wanted = {"avap-average-over-mh", "avap-own-annotator-best", "avap-mean-voting"}
    assert set(values) == wanted and all(one["seeds"] == 3 for one in values.values())
    assert not claims.avap_claims(runs[runs["seed"] < 2])
    mixed = runs.assign(weights_random=runs["seed"] > 0, backbone="resnet18")
    assert set(claims.pretrained_first(mixed)["seed"]) == {0}
    first, second = claims.comparisons(mixed)["avap-pretraining"]
    assert not first["weights_random"].any() and second["weights_random"].all()
    assert claims.comparisons(runs.head(0)) == {} == claims.avap_claims(runs.head(0))
    assert claims.coverage("riga", 10) == (10, 750) and claims.coverage("ph2", 10) is None


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
