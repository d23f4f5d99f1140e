"""The specification curve against statsmodels, and the random-effects mean against metafor."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from iavlib import stats

#: Thirteen trials of the BCG vaccine against tuberculosis (Colditz et al. 1994): cases and others
#: among the vaccinated, then among the controls.
BCG = """4 119 11 128; 6 300 29 274; 3 228 11 209; 62 13536 248 12619; 33 5036 47 5761;
180 1361 372 1079; 8 2537 10 619; 505 87886 499 87892; 29 7470 45 7232; 17 1699 65 1600;
186 50448 141 27197; 5 2493 3 2338; 27 16886 29 17825"""


def table(n: int = 240, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "malignant": generator.uniform(size=n) < 0.3,
            "tool": generator.choice(list("abcd"), n),
            "age": generator.normal(50, 15, n),
            "cluster": generator.integers(0, n // 3, n),
        }
    )
    noise = generator.normal(size=n) + frame["cluster"] % 5
    frame["dice"] = noise - 0.5 * frame["malignant"] + (frame["tool"] == "a") + frame["age"] / 30
    return frame


@pytest.mark.parametrize("controls", [[], ["tool"], ["age"], ["tool", "age"]])
def test_the_coefficient_is_that_of_the_full_model(controls):
    frame = table()
    found = stats.clustered_coefficient(frame, "dice", controls=controls)
    formula = " + ".join(["dice ~ malignant", *controls])
    options = {"groups": frame["cluster"], "use_correction": True, "df_correction": True}
    whole = smf.ols(formula, frame.astype({"malignant": float})).fit(
        cov_type="cluster", cov_kwds=options, use_t=True
    )
    assert found["estimate"] == pytest.approx(whole.params["malignant"])
    assert found["se"] == pytest.approx(whole.bse["malignant"])
    assert found["p"] == pytest.approx(whole.pvalues["malignant"])
    limits = whole.conf_int().loc["malignant"].tolist()
    assert [found["ci_low"], found["ci_high"]] == pytest.approx(limits)
    assert found["n_clusters"] == frame["cluster"].nunique()
    assert found["note"] == ""


def test_dependent_controls_change_nothing():
    frame = table().assign(copy=lambda rows: rows["tool"] + "!", constant="x", one=1.0)
    once = stats.clustered_coefficient(frame, "dice", controls=["tool"])
    twice = stats.clustered_coefficient(frame, "dice", controls=["tool", "copy", "constant", "one"])
    assert {k: twice[k] for k in ("estimate", "se", "p")} == pytest.approx(
        {k: once[k] for k in ("estimate", "se", "p")}
    )


def test_missing_values_are_a_level_or_are_left_out():
    frame = table()
    frame.loc[:9, "tool"] = None
    frame.loc[5:19, "age"] = np.nan
    assert stats.clustered_coefficient(frame, "dice", controls=["tool"])["n"] == 240
    named = frame.assign(tool=frame["tool"].fillna("none"))
    assert stats.clustered_coefficient(frame, "dice", controls=["tool"]) == pytest.approx(
        stats.clustered_coefficient(named, "dice", controls=["tool"])
    )
    assert stats.clustered_coefficient(frame, "dice", controls=["age"])["n"] == 225


@pytest.mark.parametrize(
    ("change", "note", "has_estimate"),
    [
        ({"malignant": False}, "same value of malignant", False),
        ({"malignant": True}, "same value of malignant", False),
        ({"dice": np.nan}, "same value of malignant", False),
        ({"tool": lambda rows: rows["malignant"].map(str)}, "determine malignant", False),
        ({"cluster": "p"}, "too few clusters", True),
        ({"cluster": lambda rows: rows["malignant"]}, "too few clusters", True),
        ({"dice": 1.0}, "does not vary", True),
    ],
)
def test_what_cannot_be_estimated_has_a_reason(change, note, has_estimate):
    found = stats.clustered_coefficient(table().assign(**change), "dice", controls=["tool"])
    assert note in found["note"]
    assert np.isfinite(found["estimate"]) == has_estimate
    assert np.isnan(found["ci_low"])
    assert np.isnan(found["p"])


def test_errors_of_the_coefficient_are_honest():
    """Under no effect the interval leaves out zero in about five of a hundred samples."""
    out = 0
    for seed in range(100):
        frame = table(150, seed)
        frame["dice"] += 0.5 * frame["malignant"]  # takes back the planted effect
        found = stats.clustered_coefficient(frame, "dice", controls=["tool", "age"])
        out += not found["ci_low"] < 0 < found["ci_high"]
    assert 1 <= out <= 12


@pytest.fixture
def curve():
    images = table().assign(distance=lambda rows: 5 - rows["dice"])
    pairs = images.drop(columns="age")
    return stats.specification_curve(
        {"images": images, "pairs": pairs},
        {"Dice": ("dice", 1), "distance": ("distance", -1)},
        {"all": lambda rows: rows["dice"] > -9, "tool a": lambda rows: rows["tool"] == "a"},
        {"none": [], "tool": ["tool"], "age": ["age"]},
    )


def test_every_combination_that_exists_is_a_row(curve):
    assert len(curve) == 2 * 2 * (3 + 2)  # pairs have no age
    assert curve.groupby("subset")["n"].first()["tool a"] < 100
    one = curve[(curve["unit"] == "images") & (curve["adjustment"] == "age")].iloc[0]
    alone = stats.clustered_coefficient(table(), "dice", controls=["age"])
    assert one["estimate"] == pytest.approx(alone["estimate"])
    assert one["effect_low"] == pytest.approx(alone["ci_low"] / table()["dice"].std())


def test_a_distance_is_turned_round(curve):
    rows = curve[curve["subset"] == "all"].set_index("outcome")
    for column in ("effect", "effect_low", "effect_high", "p"):
        turned, straight = rows.loc["distance", column], rows.loc["Dice", column]
        assert turned.to_numpy() == pytest.approx(straight.to_numpy())


def test_a_curve_without_estimates_is_empty():
    frame = table().assign(malignant=False)
    every = {"all": lambda rows: rows["dice"] > -9}
    curve = stats.specification_curve({"i": frame}, {"D": ("dice", 1)}, every, {"none": []})
    assert curve.empty


def test_random_effects_as_metafor():
    # R: rma(measure = "RR", ..., data = dat.bcg, method = "DL") of metafor prints -0.7141 (se
    # 0.1787, -1.0644 to -0.3638), tau^2 0.3088, I^2 92.12 %, Q 152.2330.
    a, b, c, d = np.array([row.split() for row in BCG.split(";")], float).T
    effects = np.log(a / (a + b) / (c / (c + d)))
    mean = stats.random_effects_mean(effects, np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))
    assert mean["estimate"] == pytest.approx(-0.7141, abs=5e-5)
    assert mean["se"] == pytest.approx(0.1787, abs=5e-5)
    assert mean["ci_low"] == pytest.approx(-1.0644, abs=5e-5)
    assert mean["ci_high"] == pytest.approx(-0.3638, abs=5e-5)
    assert mean["tau"] ** 2 == pytest.approx(0.3088, abs=5e-5)
    assert mean["i2"] == pytest.approx(0.9212, abs=5e-5)
    assert mean["q"] == pytest.approx(152.2330, abs=5e-4)
    assert mean["k"] == 13
    assert mean["new_low"] < mean["ci_low"] < mean["ci_high"] < mean["new_high"]


def test_equal_effects_have_no_heterogeneity():
    mean = stats.random_effects_mean([0.1, 0.1, 0.1], [0.1, 0.2, 0.2])
    assert (mean["tau"], mean["i2"]) == (0, 0)
    assert mean["estimate"] == pytest.approx(0.1)
    assert mean["se"] == pytest.approx(1 / np.sqrt(100 + 25 + 25))
    assert np.isnan(stats.random_effects_mean([0.1, 0.2], [0.1, 0.1])["new_low"])


@pytest.mark.parametrize(("effects", "errors"), [([0.1], [1]), ([0.1, 0.2], [1, 0]), ([1, 2], [1])])
def test_groups_that_cannot_be_averaged(effects, errors):
    with pytest.raises(ValueError, match="two or more"):
        stats.random_effects_mean(effects, errors)
