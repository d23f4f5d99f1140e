"""The mixed model: lme4's and MixedModels.jl's numbers for published data, and planted truths."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from iavlib.stats import clustered_coefficient, mixed_effects_model

# Davies & Goldsmith (1972): paste strength, ten batches, three casks each, two analyses each.
PASTES = """
62.8 62.6 60.1 62.3 62.7 63.1 60.0 61.4 57.5 56.9 61.1 58.9 58.7 57.5 63.9 63.1 65.4 63.7
57.1 56.4 56.9 58.6 64.7 64.5 55.1 55.1 54.7 54.2 58.8 57.5 63.4 64.9 59.3 58.1 60.5 60.0
62.5 62.6 61.0 58.7 56.9 57.7 59.2 59.4 65.2 66.0 64.8 64.1 54.8 54.8 64.0 64.0 57.7 56.8
58.3 59.3 59.2 59.2 58.9 56.6
"""
# Davies & Goldsmith (1972) and Box & Tiao (1973): dyestuff yield, six batches of five.
DYESTUFF = """
1545 1440 1440 1520 1580 1540 1555 1490 1560 1495 1595 1550 1605 1510 1560
1445 1440 1595 1465 1545 1595 1630 1515 1635 1625 1520 1455 1450 1480 1445
"""
DYESTUFF2 = """
7.298 3.846 2.434 9.566 7.990 5.220 6.556 0.608 11.788 -0.892 0.110 10.386 13.434 5.510 8.166
2.212 4.852 7.092 9.288 4.980 0.282 9.014 4.458 9.446 7.198 1.722 4.782 8.106 0.758 3.758
"""


def numbers(text):
    return np.array(text.split(), dtype=float)


@pytest.fixture(scope="module")
def pastes():
    return pd.DataFrame(
        {
            "strength": numbers(PASTES),
            "batch": np.repeat(list("ABCDEFGHIJ"), 6),
            "cask": np.repeat(np.arange(30), 2),
        }
    )


def test_nested_intercepts_as_lme4(pastes):
    # lme4: lmer(strength ~ 1 + (1 | batch/cask), Pastes): REML criterion 246.9907; variances
    # 1.657 (batch), 8.434 (cask), 0.678 (residual); intercept 60.0533, error 0.6769.
    fit = mixed_effects_model(pastes, "strength ~ 1", "batch", "cask")
    assert fit.sound
    assert -2 * fit.log_likelihood == pytest.approx(246.9907, abs=1e-4)
    assert fit.variances["variance"].tolist() == pytest.approx([1.657, 8.434, 0.678], abs=6e-4)
    assert fit.coefficients.loc["Intercept", "estimate"] == pytest.approx(60.0533, abs=5e-5)
    assert fit.coefficients.loc["Intercept", "se"] == pytest.approx(0.6769, abs=5e-5)
    assert (fit.n, fit.n_outer, fit.n_inner) == (60, 10, 30)
    assert (fit.n_outer_repeated, fit.n_inner_repeated) == (10, 30)


def test_maximum_likelihood_as_mixedmodels_jl(pastes):
    # MixedModels.jl: -2 logLik 247.9945; variances 1.199180, 8.433617, 0.678002; error 0.642136.
    fit = mixed_effects_model(pastes, "strength ~ 1", "batch", "cask", reml=False)
    assert -2 * fit.log_likelihood == pytest.approx(247.9945, abs=1e-4)
    assert fit.variances["variance"].tolist() == pytest.approx(
        [1.199180, 8.433617, 0.678002], rel=1e-3
    )
    assert fit.coefficients.loc["Intercept", "se"] == pytest.approx(0.642136, rel=1e-4)


def test_without_inner_groups_as_mixedmodels_jl():
    # MixedModels.jl on dyestuff: -2 logLik 327.32706; variances 1388.3332 and 2451.25; 17.6946.
    data = pd.DataFrame({"y": numbers(DYESTUFF), "batch": np.repeat(list("ABCDEF"), 5)})
    fit = mixed_effects_model(data, "y ~ 1", "batch", inner=None, reml=False)
    assert -2 * fit.log_likelihood == pytest.approx(327.32706, abs=1e-4)
    assert fit.variances["variance"].tolist() == pytest.approx([1388.3332, 2451.25], rel=1e-3)
    assert fit.variances.index.tolist() == ["outer", "residual"]
    assert fit.coefficients.loc["Intercept", "se"] == pytest.approx(17.6946, rel=1e-4)
    assert fit.n_inner == 0


def test_a_singular_fit_says_so():
    # lme4 on Dyestuff2: singular, batch variance 0, residual 13.81, intercept 5.6656 +- 0.6784.
    data = pd.DataFrame({"y": numbers(DYESTUFF2), "batch": np.repeat(list("ABCDEF"), 5)})
    fit = mixed_effects_model(data, "y ~ 1", "batch", inner=None)
    assert fit.singular
    assert not fit.sound
    assert fit.warnings
    assert fit.variances.loc["outer", "share"] < 1e-4
    assert fit.variances.loc["residual", "variance"] == pytest.approx(13.81, abs=0.005)
    assert fit.coefficients.loc["Intercept", "se"] == pytest.approx(0.6784, abs=5e-5)


def restricted_deviance(logs, y, design, outer, inner):
    """-2 restricted log-likelihood of nested intercepts, from the full covariance matrix."""
    patient, image, residual = np.exp(logs)
    covariance = (
        patient * (outer[:, None] == outer)
        + image * (inner[:, None] == inner)
        + residual * np.eye(len(y))
    )
    solved = np.linalg.solve(covariance, np.column_stack([design, y]))
    information = design.T @ solved[:, :-1]
    beta = np.linalg.solve(information, design.T @ solved[:, -1])
    left = y - design @ beta
    quadratic = left @ np.linalg.solve(covariance, left)
    constant = (len(y) - design.shape[1]) * np.log(2 * np.pi)
    determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    return constant + determinants + quadratic


def simulate(n_patients, rng, effect=-0.05):
    """Pairs of masks of images of patients, uneven in number, malignancy given to patients."""
    images = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    pairs = np.repeat(np.arange(len(images)), rng.choice([1, 3], len(images)))
    patient = images[pairs]
    malignant = patient % 3 == 0
    dice = 0.8 + effect * malignant + rng.normal(0, 0.08, n_patients)[patient]
    dice += rng.normal(0, 0.06, len(images))[pairs] + rng.normal(0, 0.1, len(pairs))
    return pd.DataFrame(
        {"dice": dice, "malignant": malignant, "patient": patient, "image_id": pairs}
    )


def test_it_finds_the_maximum_of_the_restricted_likelihood():
    # Written out with dense matrices and another optimiser; small responses, uneven groups.
    data = simulate(40, np.random.default_rng(3))
    fit = mixed_effects_model(data, "dice ~ malignant", "patient")
    design = np.column_stack([np.ones(len(data)), data["malignant"]])
    arguments = (
        data["dice"].to_numpy(),
        design,
        data["patient"].to_numpy(),
        data["image_id"].to_numpy(),
    )
    start = np.log([0.005, 0.005, 0.01])
    best = optimize.minimize(
        restricted_deviance, start, args=arguments, method="Nelder-Mead", options={"fatol": 1e-7}
    )
    assert -2 * fit.log_likelihood == pytest.approx(best.fun, abs=1e-3)
    assert fit.variances["variance"].tolist() == pytest.approx(np.exp(best.x), rel=0.02)


def test_planted_effect_and_variances_are_recovered():
    data = simulate(400, np.random.default_rng(5))
    fit = mixed_effects_model(data, "dice ~ malignant", "patient")
    assert fit.sound
    malignant = fit.coefficients.loc["malignant"]
    assert malignant["ci_low"] < -0.05 < malignant["ci_high"]
    assert fit.variances["sd"].tolist() == pytest.approx([0.08, 0.06, 0.1], abs=0.015)
    beside = clustered_coefficient(data, "dice", clusters="patient")
    assert malignant["se"] == pytest.approx(beside["se"], rel=0.3)


def test_units_of_the_response_do_not_matter(pastes):
    milli = pastes.assign(strength=pastes["strength"] / 1000)
    small = mixed_effects_model(milli, "strength ~ 1", "batch", "cask")
    large = mixed_effects_model(pastes, "strength ~ 1", "batch", "cask")
    assert small.sound
    assert small.variances["share"].tolist() == pytest.approx(large.variances["share"].tolist())
    change = 59 * np.log(1000)
    assert small.log_likelihood == pytest.approx(large.log_likelihood + change)


def test_nestings_that_cannot_be_estimated_are_refused(pastes):
    rows = np.arange(60)
    with pytest.raises(ValueError, match=r"every inner group has one row.*inner=None"):
        mixed_effects_model(pastes, "strength ~ 1", "batch", rows)
    with pytest.raises(ValueError, match="every outer group has one member"):
        mixed_effects_model(pastes, "strength ~ 1", "cask", "cask")
    with pytest.raises(ValueError, match="every outer group has one member"):
        mixed_effects_model(pastes, "strength ~ 1", rows, inner=None)
    with pytest.raises(ValueError, match="6 of 6 inner groups lie in two outer groups"):
        mixed_effects_model(pastes, "strength ~ 1", "batch", rows % 6)


def test_other_errors(pastes):
    with pytest.raises(ValueError, match="60 of 60 rows have a missing value"):
        mixed_effects_model(pastes.assign(strength=np.nan), "strength ~ 1", "batch", "cask")
    with pytest.raises(ValueError, match="the response is constant"):
        mixed_effects_model(pastes.assign(strength=0.1), "strength ~ 1", "batch", "cask")
    with pytest.raises(KeyError, match="no column 'image_id'"):
        mixed_effects_model(pastes, "strength ~ 1", "batch")
    with pytest.raises(ValueError, match="level must lie"):
        mixed_effects_model(pastes, "strength ~ 1", "batch", "cask", level=1)
