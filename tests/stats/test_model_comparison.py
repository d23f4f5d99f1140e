"""The Kruskal-Wallis test: R's numbers."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from iavlib import stats

# R: PlantGrowth, dried weight of plants under a control and two treatments.
PLANTS = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26],
}


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of constant errors
def test_kruskal_wallis_as_r():
    # R: kruskal.test(weight ~ group, data = PlantGrowth): 7.9882, df = 2, p-value = 0.01842.
    result = stats.z_normalised_kruskal(PLANTS).loc["as measured"]
    assert result["h"] == pytest.approx(7.9882, abs=5e-5)
    assert result["p"] == pytest.approx(0.01842, abs=5e-6)
    # rstatix and rcompanion define epsilon squared as H (n + 1) / (n^2 - 1).
    assert result["epsilon_squared"] == pytest.approx(7.9882 * 31 / (30**2 - 1), abs=1e-5)
    assert (stats.z_normalised_kruskal({"a": [1, 1], "b": [1, 1, 1]})["p"] == 1).all()


def test_the_students_p_values_belong_to_the_h_they_print():
    for h, p in ((0.09319, 0.954), (0.11104, 0.946)):
        assert scipy_stats.chi2.sf(h, 2) == pytest.approx(p, abs=5e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.z_normalised_kruskal({"a": [1, 2]}), "two models at least"),
        (lambda: stats.z_normalised_kruskal({"a": [1, 2], "b": [np.nan]}), "errors of 'b' are NaN"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
