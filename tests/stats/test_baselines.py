"""Constants by counting, the ridge against sklearn's own choice, statistics of drawn images."""

import numpy as np
import pandas as pd
import pytest
from skimage.filters import threshold_otsu
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iavlib import stats
from iavlib.stats.image_baselines import otsu_thresholds


def table(n=150, seed=0):
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, n // 3, n)
    features = pd.DataFrame(generator.normal(size=(n, 4)), columns=list("abcd"))
    features["plain"] = 3.0  # a constant feature must do no harm
    true = 0.6 + 0.1 * features["a"] - 0.05 * features["b"] + 0.05 * generator.normal(size=n)
    return features, true.clip(0, 1), patients


def test_the_penalty_is_sklearns_choice():
    features, true, _ = table()
    patients = np.arange(150) // 3  # folds of one size: sklearn averages over folds, this over rows
    penalties = [0.1, 1.0, 10.0, 100.0, 1000.0]
    ours = stats.fit_statistics_baseline(features, true, patients, penalties)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": penalties},
        scoring="neg_mean_absolute_error",
        cv=GroupKFold(5),
    ).fit(features.to_numpy(), true, groups=patients)
    assert ours.penalty == search.best_params_["ridge__alpha"]
    assert ours.errors.to_numpy() == pytest.approx(-search.cv_results_["mean_test_score"])
    expected = search.predict(features.to_numpy()).clip(0, 1)
    assert ours.predict(features) == pytest.approx(expected)
    assert ours.model[-1].coef_[-1] == pytest.approx(0)  # of the constant feature


def test_predictions_stay_within_bounds_and_know_their_columns():
    features, true, patients = table()
    model = stats.fit_statistics_baseline(features, true, patients, [1.0])
    wild = features * 50
    assert model.predict(wild).min() == 0 and model.predict(wild).max() == 1
    swapped = features[["d", "plain", "c", "b", "a"]]
    assert list(model.predict(swapped)) == list(model.predict(features))
    with pytest.raises(KeyError, match="no feature a in the table"):
        model.predict(features.drop(columns="a"))


def test_bad_tables_are_refused():
    features, true, patients = table(20)
    holed = features.assign(b=features["b"].where(features.index != 3))
    with pytest.raises(ValueError, match="feature 'b' of row 3 is NaN"):
        stats.fit_statistics_baseline(holed, true, patients)
    with pytest.raises(ValueError, match="one cluster only"):
        stats.fit_statistics_baseline(features, true, ["p"] * 20)
    with pytest.raises(ValueError, match="20 rows of features but 19"):
        stats.fit_statistics_baseline(features, true.to_numpy()[1:])
    with pytest.raises(ValueError, match="positive"):
        stats.fit_statistics_baseline(features, true, patients, [0.0, 1.0])


# --- statistics of images -----------------------------------------------------------------------


def pictures(n=6, size=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def disc(size=64, radius=0.25, shift=0.0, dark=60, light=200):
    place = (np.arange(size) + 0.5) / size - 0.5
    inside = (place[:, None] - shift) ** 2 + place**2 <= radius**2
    grey = np.where(inside, dark, light).astype(np.uint8)
    return np.repeat(grey[None, :, :, None], 3, axis=3), inside


def test_statistics_are_finite_and_of_one_image_each():
    pixels = pictures()
    whole = stats.image_statistics(pixels, list("abcdef"))
    assert np.isfinite(whole.to_numpy()).all()
    assert list(whole.index) == list("abcdef") and whole.index.name == "image_id"
    alone = stats.image_statistics(pixels[3:4])
    assert alone.iloc[0].to_numpy() == pytest.approx(whole.loc["d"].to_numpy(), rel=1e-5)
    many = stats.image_statistics(np.concatenate([pixels] * 11))  # more than one block
    assert many.iloc[63].to_numpy() == pytest.approx(whole.loc["d"].to_numpy(), rel=1e-5)


def test_plain_images_have_no_structure():
    for level in (0, 90, 255):
        row = stats.image_statistics(np.full((1, 16, 16, 3), level, np.uint8)).iloc[0]
        assert np.isfinite(row).all()
        assert row["light_mean"] == pytest.approx(level / 255, abs=1e-6)
        zero = ["light_sd", "edge_share", "dark_contrast", "dark_separation", "saturation_mean"]
        assert row[[*zero, "colourfulness", "light_skew"]].to_numpy() == pytest.approx(0, abs=1e-5)


def test_a_dark_disc_is_found():
    pixels, inside = disc()
    row = stats.image_statistics(pixels).iloc[0]
    assert row["dark_share"] == inside.mean()
    assert row["dark_contrast"] == pytest.approx(140 / 255, abs=1e-6)
    assert row["dark_separation"] == pytest.approx(1)
    # A disc of radius r has root mean squared distance r / sqrt 2 from its centre.
    assert row["dark_spread"] == pytest.approx(0.25 / np.sqrt(2), rel=0.02)
    assert row["dark_offset"] == pytest.approx(0, abs=1e-9)
    assert stats.image_statistics(disc(shift=0.2)[0])["dark_offset"].iloc[0] == pytest.approx(
        0.2, abs=1e-3
    )
    assert row["corner_minus_centre"] > 0 and row["corner_dark_share"] == 0


def test_sharpness_darkness_and_colour_have_their_numbers():
    pixels, _ = disc()
    blurred = pixels.astype(float)
    for axis in (1, 2):
        blurred = (np.roll(blurred, 1, axis) + blurred + np.roll(blurred, -1, axis)) / 3
    both = stats.image_statistics(np.concatenate([pixels, blurred.astype(np.uint8)]))
    assert both["laplace_sd"].iloc[1] < both["laplace_sd"].iloc[0] / 2
    framed = pixels.copy()
    framed[:, :12], framed[:, -12:] = 5, 5
    assert stats.image_statistics(framed)["corner_dark_share"].iloc[0] == 1
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    row = stats.image_statistics(red).iloc[0]
    assert (row["saturation_mean"], row["redgreen_mean"]) == pytest.approx((1, 200 / 255))


def test_otsu_as_scikit_image():
    generator = np.random.default_rng(1)
    modes = generator.choice([60, 180], (5, 32, 32)) + generator.normal(0, 20, (5, 32, 32))
    levels = modes.clip(0, 255).astype(np.uint8)
    ours, separation = otsu_thresholds(levels)
    for threshold, image in zip(ours, levels, strict=True):
        assert ((image > threshold) == (image > threshold_otsu(image))).all()
    assert (separation > 0.8).all() and (separation < 1).all()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 16, 16, 3)), "must be uint8"),
        (np.zeros((2, 16, 16), np.uint8), "must be uint8 of shape"),
        (np.zeros((2, 16, 20, 3), np.uint8), "must be square"),
        (np.zeros((0, 16, 16, 3), np.uint8), "empty"),
    ],
)
def test_what_is_no_stack_of_images_is_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        stats.image_statistics(pixels)
    with pytest.raises(ValueError, match="6 images but 2 labels"):
        stats.image_statistics(pictures(), ["a", "b"])
