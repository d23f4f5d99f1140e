"""Orders of images: against a random order, the best one, and numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from iavlib.stats import triage_curve, triage_gains

LOSS = np.array([0.0, 1.0, 3.0, 0.0])


def test_the_curve_is_what_the_first_images_hold():
    curve = triage_curve(LOSS, LOSS)
    assert curve["k"].tolist() == [0, 1, 2, 4]  # two images share the last score
    assert curve["found"].tolist() == [0, 0.75, 1, 1]
    worst = triage_curve(LOSS, [4, 2, 1, 3])
    assert worst["found"].tolist() == [0, 0, 0, 0.25, 1]


def test_areas_by_hand():
    scores = pd.DataFrame({"right": LOSS, "wrong": -LOSS, "nothing": np.zeros(4)})
    gains = triage_gains(LOSS, scores, n_boot=20)
    # trapezoids of width 1/4: (0 + .75) / 2 + (.75 + 1) / 2 + 1 + 1, less a half
    assert gains.loc["right", "area_gained"] == pytest.approx((0.375 + 0.875 + 2) / 4 - 0.5)
    assert gains.loc["wrong", "area_gained"] == pytest.approx(-gains.loc["right", "area_gained"])
    assert gains.loc["nothing", "area_gained"] == pytest.approx(0)
    assert gains.loc["right", "of_possible"] == pytest.approx(1)
    assert gains.loc["best possible", "of_possible"] == pytest.approx(1)
    assert gains.loc["nothing", "found_20"] == pytest.approx(0.2)


def test_a_random_order_of_many_images_gains_nothing():
    rng = np.random.default_rng(0)
    loss = rng.beta(1, 4, 400)
    scores = pd.DataFrame({"random": rng.random(400), "noisy": loss + rng.normal(0, 0.2, 400)})
    gains = triage_gains(loss, scores, reference="random", n_boot=300)
    row = gains.loc["random"]
    assert row["area_gained_low"] < 0 < row["area_gained_high"]
    assert gains.loc["noisy", "area_gained_low"] > 0
    assert gains.loc["noisy", "more_than_reference_low"] > 0
    assert row["more_than_reference"] == 0


def test_the_interval_draws_patients_and_weights_repeat_rows():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 5)
    own = rng.beta(1, 3, 40)[patients]
    scores = pd.DataFrame({"order": own + rng.normal(0, 0.3, 200)})
    settings = {"n_boot": 400, "shares": (0.5,)}
    wide = triage_gains(own, scores, patients, **settings).loc["order"]
    narrow = triage_gains(own, scores, **settings).loc["order"]
    width = [row["area_gained_high"] - row["area_gained_low"] for row in (wide, narrow)]
    assert width[0] > 1.3 * width[1]
    twice = triage_gains(np.tile(own, 2), pd.concat([scores, scores], ignore_index=True), n_boot=2)
    assert twice.loc["order", "area_gained"] == pytest.approx(wide["area_gained"])


@pytest.mark.parametrize(
    "loss, score", [([-1, 2], [1, 2]), ([0, 0], [1, 2]), ([1, 2], [1]), ([1, np.nan], [1, 2])]
)
def test_what_makes_no_sense_is_refused(loss, score):
    with pytest.raises(ValueError):
        triage_curve(loss, score)


def test_an_unknown_reference_is_named():
    with pytest.raises(KeyError, match="no order 'b'; there are a"):
        triage_gains(LOSS, pd.DataFrame({"a": LOSS}), reference="b")
