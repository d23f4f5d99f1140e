"""Predictions of new images: the numbers, the intervals, what is like the training images."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib import data
from iavlib.core.errors import DataError, PredictionError
from iavlib.data.images import read_image, read_photograph
from iavlib.explain import CENTRED
from iavlib.predict.model import calibrate, describe, limitations, load_predictor, make_ensemble
from iavlib.predict.ood import (
    FILE,
    OodReference,
    load_ood_reference,
    make_ood_reference,
    nearest_distance,
)
from iavlib.predict.run import find_explainers
from iavlib.stats import INTERVALS
from iavlib.training.image_cache import to_square


@pytest.fixture(scope="module")
def predictors(runs):
    store, made = runs
    return {name: load_predictor(str(result.folder), store) for name, result in made.items()}


def squares(result, size, n=7):
    cohort = data.load("phantom", **result.experiment.cohort_options)
    ids = result.predictions["image_id"].iloc[:n]
    images = [Image.fromarray(read_image(path)) for path in cohort.images.loc[ids, "path"]]
    return np.stack([to_square(image, size) for image in images])


def test_an_image_of_the_run_is_predicted_as_the_run_did(runs, predictors):
    for name, result in runs[1].items():
        found = predictors[name].predict(squares(result, predictors[name].size))
        own = result.predictions.iloc[:7]
        column = "predicted" if name == "iaa" else "predicted_iaa"
        expected = own[column].clip(0, 1)
        np.testing.assert_allclose(found["predicted_dice"], expected, atol=1e-5)
    np.testing.assert_allclose(found["malignancy_probability"], own["predicted"], atol=1e-5)


@pytest.mark.parametrize("kind", ["mondrian", "cqr", "equal"])
def test_intervals_are_those_of_the_validation_part(runs, predictors, kind):
    rows = runs[1]["iaa"].predictions
    rows = rows.assign(predicted=rows["predicted"].clip(0, 1))
    validation = rows[rows["subset"] == "val"]
    expected = INTERVALS[kind](validation["true"], validation["predicted"], 0.2)
    found = calibrate(predictors["iaa"], 0.2, kind=kind)
    assert (found.subset, found.n, found.kind) == ("val", len(validation), kind)
    test = rows[rows["subset"] == "test"]
    ends = expected.intervals(test["predicted"])
    np.testing.assert_allclose(found.conformal.intervals(test["predicted"]), ends)
    inside = (test["true"] >= ends["lower"] - 1e-9) & (test["true"] <= ends["upper"] + 1e-9)
    assert found.checked["coverage"] == pytest.approx(inside.mean())
    lowest = test["predicted"].rank(method="first") <= len(test) / 5
    assert found.checked["n_lowest"] == lowest.sum()
    assert found.checked["coverage_lowest"] == pytest.approx(inside[lowest].mean())
    other = calibrate(predictors["iaa"], 0.2, "test", kind)
    assert (other.subset, other.checked["subset"]) == ("test", "val")
    ensemble = make_ensemble([predictors["iaa"]], 0.2, kind=kind)
    assert "lowest predicted agreement" in " ".join(describe(ensemble))


def test_an_unknown_kind_of_intervals_is_refused(predictors):
    with pytest.raises(PredictionError, match="mondrian"):
        calibrate(predictors["iaa"], 0.2, kind="mondrain")


def test_too_few_images_for_a_level_are_refused(predictors):
    with pytest.raises(PredictionError, match="in subset 'val'"):
        calibrate(predictors["iaa"], 0.001)


def test_several_models_are_one_prediction(runs, predictors):
    ensemble = make_ensemble(list(predictors.values()), 0.2)
    pixels = squares(runs[1]["iaa"], 64)
    together = ensemble.predict({64: pixels})
    each = [one.predict(pixels) for one in predictors.values()]
    mean = (each[0]["predicted_dice"] + each[1]["predicted_dice"]) / 2
    np.testing.assert_allclose(together["predicted_dice"], mean)
    assert (together["dice_low"] <= together["predicted_dice"]).all()
    for one, found in zip(predictors.values(), each, strict=True):
        ends = ensemble.calibrations[one.name].conformal.intervals(found["predicted_dice"])
        assert (together["dice_low"] <= ends["lower"]).all()
        assert (together["dice_high"] >= ends["upper"]).all()
    text = " ".join([*describe(ensemble), *limitations(ensemble)])
    for subset in ("validation split", "test split", "invented images", "Predictions are means"):
        assert subset in text
    with pytest.raises(PredictionError, match="given twice"):
        make_ensemble([predictors["iaa"]] * 2)


def test_distance_to_the_tenth_nearest():
    known = np.eye(12)
    assert nearest_distance(np.eye(12)[:1] * 3, known) == pytest.approx(np.sqrt(2))
    assert nearest_distance(known[:1], known[[0] * 10]) == pytest.approx(0)


def test_images_like_the_training_images_are_rarely_flagged():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=32)
    draw = lambda n: centre + 0.3 * rng.normal(size=(n, 32))  # noqa: E731
    train = draw(200)
    familiar = OodReference(train.astype(np.float16), nearest_distance(draw(99), train))
    alike, strange = familiar.score(draw(2000)), familiar.score(rng.normal(size=(50, 32)))
    assert 0.01 < alike["out_of_distribution"].mean() < 0.12
    assert strange["out_of_distribution"].all()
    assert strange["ood_p"].eq(1 / 100).all()
    assert 0.4 < alike["ood_p"].mean() < 0.6
    for n, known in ((18, False), (19, True)):  # of 18, none could be flagged
        few = OodReference(train.astype(np.float16), nearest_distance(draw(n), train))
        flags = few.score(rng.normal(size=(50, 32)))["out_of_distribution"]
        assert flags.eq(1).all() if known else flags.isna().all()


def test_what_new_images_are_compared_with_is_kept_beside_the_network(runs, predictors):
    one = predictors["iaa"]
    assert load_ood_reference(one) is None
    path = make_ood_reference(one)
    kept = load_ood_reference(one)
    n = one.run.facts["n"]
    assert (len(kept.features), len(kept.validation)) == (n["train"], n["val"])
    assert set(kept.centre) == {"lowers agreement", "raises agreement"}
    assert kept.centre["lowers agreement"] == pytest.approx(-kept.centre["raises agreement"])
    explainers, reasons = find_explainers(make_ensemble([one], 0.2))
    (explainer,) = {pair[1] for pair in explainers.values()}
    assert explainer.methods == (CENTRED,) and not reasons
    maps = explainer.explain(one.to_input(squares(runs[1]["iaa"], 64)))
    signed = [maps.signed[name, CENTRED] for name in kept.centre]
    np.testing.assert_allclose(signed[0], -signed[1], atol=1e-5)
    own = kept.score(one.features(squares(runs[1]["iaa"], 64)))
    subsets = one.run.predictions["subset"].iloc[:7]
    expected = nearest_distance(one.features(squares(runs[1]["iaa"], 64)), kept.features)
    np.testing.assert_allclose(own["ood_distance"], expected)
    assert subsets.isin(["train", "val", "test"]).all()
    ensemble, pixels = make_ensemble([one], 0.2), {64: squares(runs[1]["iaa"], 64)}
    assert ensemble.predict(pixels)["out_of_distribution"].eq("unknown").all()  # of 18 images
    assert "that takes 19" in " ".join(describe(ensemble))
    more = OodReference(kept.features, np.repeat(kept.validation, 2))
    ensemble = replace(ensemble, references={one.name: more})
    assert ensemble.predict(pixels)["out_of_distribution"].isin(["yes", "no"]).all()
    assert "An image is out of distribution when" in " ".join(describe(ensemble))
    other = predictors["multitask"].run.folder / FILE
    other.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="made for another network"):
        load_ood_reference(predictors["multitask"])
    other.write_bytes(b"no tensors")
    with pytest.raises(DataError, match="cannot be read"):
        load_ood_reference(predictors["multitask"])
    other.unlink()
    path.rename(path.with_name("familiarity.safetensors"))
    with pytest.warns(DeprecationWarning, match="rename the file to ood.safetensors"):
        old = load_ood_reference(one)
    np.testing.assert_array_equal(old.features, kept.features)
    path.with_name("familiarity.safetensors").unlink()


def test_runs_that_predict_nothing_are_refused(runs, tmp_path):
    store, made = runs
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("spec.json", "metrics.json"):
        (folder / name).write_bytes((made["iaa"].folder / name).read_bytes())
    with pytest.raises(PredictionError, match=r"model\.safetensors is missing"):
        load_predictor(str(folder), store)
    (folder / "metrics.json").unlink()
    with pytest.raises(PredictionError, match="not finished"):
        load_predictor(str(folder), store)


def test_a_photograph_is_read_upright(tmp_path, photograph):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_photograph(tmp_path / "turned.png"), photograph)
    photograph.convert("RGBA").save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "clear.png"), photograph)
    photograph.convert("L").save(tmp_path / "grey.png")
    assert read_photograph(tmp_path / "grey.png").mode == "RGB"


def test_what_lies_beside_an_image_changes_nothing(predictors, photograph):
    pixels = to_square(photograph, 64)[None].copy()
    alone = predictors["multitask"].predict(pixels)
    both = predictors["multitask"].predict(np.concatenate([pixels, pixels[:, ::-1]]))
    pd.testing.assert_series_equal(alone.iloc[0], both.iloc[0], rtol=1e-5)
