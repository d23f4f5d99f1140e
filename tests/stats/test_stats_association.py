"""The whole comparison: R and pingouin for its parts, planted truths for the intervals."""

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from iavlib.stats import association, cohens_d, rank_biserial

# Miles per gallon of R's `mtcars`, automatic then manual gearbox.
MPG = [21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4, 14.7, 21.5]
MPG += [15.5, 15.2, 13.3, 19.2]
MPG += [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4]
MPG = np.array(MPG)
MANUAL = np.arange(32) >= 19


@pytest.fixture(scope="module")
def cars():
    return association(MPG, MANUAL, n_boot=400)


def test_mann_whitney_as_r(cars):
    # R: wilcox.test(mpg ~ am, data = mtcars) gives W = 42 for the automatic cars, p = 0.001871.
    assert cars.mann_whitney.value == 19 * 13 - 42
    assert cars.mann_whitney.p == pytest.approx(0.001871, abs=5e-7)


def test_point_biserial_as_r(cars):
    # R: cor.test(mtcars$mpg, mtcars$am) gives r = 0.5998324, p = 0.000285.
    assert cars.point_biserial.value == pytest.approx(0.5998324, abs=5e-8)
    assert cars.point_biserial.p == pytest.approx(0.000285, abs=5e-7)


def test_effect_sizes_as_r_and_pingouin(cars):
    # R: effectsize::cohens_d(mpg ~ am, data = mtcars) prints -1.48 (automatic minus manual).
    assert cars.cohens_d.value == pytest.approx(1.48, abs=0.005)
    theirs = pingouin.mwu(MPG[MANUAL], MPG[~MANUAL])
    assert abs(cars.rank_biserial.value) == pytest.approx(abs(theirs["RBC"].iloc[0]))
    assert cars.rank_biserial.value > 0
    assert cars.mean_difference.value == pytest.approx(24.39231 - 17.14737, abs=1e-5)


def test_two_sample_ks_by_counting(cars):
    grid = np.unique(MPG)
    below = [(MPG[flag][:, None] <= grid).mean(axis=0) for flag in (MANUAL, ~MANUAL)]
    assert cars.kolmogorov_smirnov.value == pytest.approx(np.abs(below[0] - below[1]).max())
    exact = stats.ks_2samp(MPG[MANUAL], MPG[~MANUAL], method="exact").pvalue
    assert cars.kolmogorov_smirnov.p == pytest.approx(exact)


def test_groups_are_described(cars):
    malignant = cars.groups.loc["malignant"]
    assert malignant["n"] == 13
    assert malignant["mean"] == pytest.approx(24.39231, abs=1e-5)
    # R: sd(mtcars$mpg[mtcars$am == 1]) is 6.166504, median 22.8.
    assert malignant["sd"] == pytest.approx(6.166504, abs=1e-6)
    assert malignant["median"] == 22.8
    assert cars.groups.loc["other", "n"] == 19


def test_tidy_table(cars):
    table = cars.to_frame()
    assert table.index.tolist() == [
        "mean_difference",
        "cohens_d",
        "rank_biserial",
        "point_biserial",
        "mann_whitney",
        "kolmogorov_smirnov",
    ]
    assert list(table.columns) == ["estimate", "ci_low", "ci_high", "p", "n", "n_clusters"]
    effects = table.iloc[:4]
    assert (effects["ci_low"] < effects["estimate"]).all()
    assert (effects["estimate"] < effects["ci_high"]).all()
    assert table["n"].eq(32).all()


def test_signs_turn_with_the_labels():
    turned = association(MPG, ~MANUAL, n_boot=50)
    straight = association(MPG, MANUAL, n_boot=50)
    for name in ("mean_difference", "cohens_d", "rank_biserial", "point_biserial"):
        assert getattr(turned, name).value == pytest.approx(-getattr(straight, name).value)
    assert turned.mann_whitney.p == pytest.approx(straight.mann_whitney.p)


def test_clusters_widen_the_interval_and_leave_the_rest():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(60), 5)
    malignant = patients < 20
    values = rng.normal(size=60)[patients] + rng.normal(size=300) - 0.5 * malignant
    rows = association(values, malignant, n_boot=600)
    clustered = association(values, malignant, patients, n_boot=600)
    assert clustered.n_clusters == 60
    assert clustered.groups["n_clusters"].tolist() == [20, 40]
    assert clustered.mann_whitney == rows.mann_whitney
    assert clustered.cohens_d.value == rows.cohens_d.value
    assert clustered.cohens_d.value == pytest.approx(
        cohens_d(values[malignant], values[~malignant])
    )
    assert clustered.rank_biserial.value == pytest.approx(
        rank_biserial(values[malignant], values[~malignant])
    )
    # Five rows with intraclass correlation one half: errors larger by sqrt(1 + 4/2), about 1.7.
    widths = [a.mean_difference.high - a.mean_difference.low for a in (clustered, rows)]
    assert 1.3 < widths[0] / widths[1] < 2.2


def test_the_same_seed_gives_the_same_table():
    first, second = (association(MPG, MANUAL, n_boot=80, seed=5).to_frame() for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_constant_values_have_no_r_and_no_p():
    result = association(np.ones(8), np.arange(8) < 3, n_boot=20)
    assert np.isnan(result.point_biserial.value)
    assert np.isnan(result.point_biserial.p)
    assert result.rank_biserial.value == 0


def test_errors_name_the_group_and_the_rows():
    with pytest.raises(ValueError, match="all 2 rows are other and none is malignant"):
        association([0.1, 0.2], [False, False])
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        association([0.1, np.nan, 0.3], [True, False, False])
    values = pd.Series(MPG, index=np.arange(32))
    with pytest.raises(ValueError, match="different indexes"):
        association(values, pd.Series(MANUAL, index=np.arange(32)[::-1]))
