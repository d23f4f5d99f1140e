"""Cluster-robust least squares: Stata's numbers, the sandwich by hand, and a planted truth."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from iavlib.stats import clustered_linear_model


def clustered_table(rng, n_clusters=40, size=5, slope=0.0):
    """A cluster-level yes/no with a cluster effect as large as the noise of the rows."""
    clusters = np.repeat(np.arange(n_clusters), size)
    malignant = clusters % 2 == 0
    noise = rng.normal(size=n_clusters)[clusters] + rng.normal(size=len(clusters))
    return pd.DataFrame(
        {"y": slope * malignant + noise, "malignant": malignant, "patient": clusters}
    )


def test_grunfeld_as_stata():
    # Stata: regress invest mvalue kstock, vce(cluster company), on the ten companies of Grunfeld
    # (1958); statsmodels' copy of the data has an eleventh, American Steel.
    data = sm.datasets.grunfeld.load_pandas().data
    data = data[data["firm"] != "American Steel"]
    table = clustered_linear_model(data, "invest ~ value + capital", "firm")
    assert table["n"].eq(200).all()
    assert table["n_clusters"].eq(10).all()
    stata = {
        # term: coefficient, standard error, p, lower and upper end
        "value": (0.115562156, 0.015894336, 0.0000471055, 0.079606669, 0.151517643),
        "capital": (0.230678487, 0.084967111, 0.0238051604, 0.038469529, 0.422887446),
        "Intercept": (-42.71436902, 20.42520258, 0.0660484328, -88.91938733, 3.490649301),
    }
    for term, numbers in stata.items():
        mine = table.loc[term, ["estimate", "se", "p", "ci_low", "ci_high"]].astype(float)
        assert mine.tolist() == pytest.approx(numbers, rel=1e-6)


def test_sandwich_by_hand():
    table = clustered_table(np.random.default_rng(0), n_clusters=12, size=3)
    result = clustered_linear_model(table, "y ~ malignant", "patient")
    design = np.column_stack([np.ones(36), table["malignant"]])
    inverse = np.linalg.inv(design.T @ design)
    residual = table["y"].to_numpy() - design @ (inverse @ design.T @ table["y"].to_numpy())
    scores = (design * residual[:, None]).reshape(12, 3, 2).sum(axis=1)
    covariance = inverse @ (scores.T @ scores) @ inverse * 12 / 11 * 35 / 34
    assert result["se"].tolist() == pytest.approx(np.sqrt(np.diag(covariance)))


def test_clustering_keeps_the_coefficient():
    table = clustered_table(np.random.default_rng(1), slope=0.7)
    by_patient = clustered_linear_model(table, "y ~ malignant", "patient")
    by_row = clustered_linear_model(table, "y ~ malignant", np.arange(len(table)))
    difference = table.groupby("malignant")["y"].mean()
    expected = difference[True] - difference[False]
    for result in (by_patient, by_row):
        assert result.loc["malignant", "estimate"] == pytest.approx(expected)
    assert by_row["n_clusters"].eq(200).all()


def test_naive_errors_are_too_small_and_clustered_ones_right():
    """Over many samples the estimate scatters as the clustered error says, not as the naive one.

    Five rows with intraclass correlation one half: the naive error is too small by sqrt(3).
    """
    rng = np.random.default_rng(7)
    estimates, clustered, naive = [], [], []
    for _ in range(150):
        table = clustered_table(rng)
        by_patient = clustered_linear_model(table, "y ~ malignant", "patient").loc["malignant"]
        by_row = clustered_linear_model(table, "y ~ malignant", np.arange(200)).loc["malignant"]
        estimates.append(by_patient["estimate"])
        clustered.append(by_patient["se"])
        naive.append(by_row["se"])
    scatter = np.std(estimates, ddof=1)
    assert np.mean(clustered) / scatter == pytest.approx(1, abs=0.15)
    assert np.mean(naive) / scatter == pytest.approx(1 / np.sqrt(3), abs=0.12)


def test_text_columns_become_indicators_against_the_first_level():
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "dice": rng.random(60),
            "malignant": rng.random(60) < 0.3,
            "tool_pair": np.tile(["T1-T1", "T1-T2", "T2-T2"], 20),
            "image_id": np.repeat(np.arange(20), 3),
        }
    )
    result = clustered_linear_model(table, "dice ~ malignant + tool_pair", "image_id")
    assert set(result.index) == {
        "Intercept",
        "malignant",
        "tool_pair[T.T1-T2]",
        "tool_pair[T.T2-T2]",
    }
    assert result.index.name == "term"
    columns = ["estimate", "se", "ci_low", "ci_high", "p", "n", "n_clusters"]
    assert list(result.columns) == columns
    assert (
        (result["ci_low"] < result["estimate"]) & (result["estimate"] < result["ci_high"])
    ).all()


def test_rows_are_never_dropped_in_silence():
    table = clustered_table(np.random.default_rng(3))
    table.loc[[4, 9], "y"] = np.nan
    with pytest.raises(ValueError, match=r"2 of 200 rows have a missing value.*\(y\)"):
        clustered_linear_model(table, "y ~ malignant", "patient")
    # A missing value elsewhere in the table does not matter.
    table["y"] = table["y"].fillna(0)
    table["sex"] = None
    assert clustered_linear_model(table, "y ~ malignant", "patient")["n"].eq(200).all()


def test_a_term_without_a_finite_value_is_named():
    table = clustered_table(np.random.default_rng(3)).assign(area=np.r_[0.0, np.ones(199)])
    with (
        np.errstate(divide="ignore"),
        pytest.raises(ValueError, match="1 of 200 rows have no finite value for a term"),
    ):
        clustered_linear_model(table, "y ~ np.log(area)", "patient")


def test_other_errors():
    table = clustered_table(np.random.default_rng(3))
    with pytest.raises(KeyError, match="no column 'patients'"):
        clustered_linear_model(table, "y ~ malignant", "patients")
    with pytest.raises(ValueError, match="at least two clusters"):
        clustered_linear_model(table, "y ~ malignant", np.zeros(200))
    with pytest.raises(ValueError, match="1 of 200 cluster labels are missing"):
        clustered_linear_model(table, "y ~ malignant", [None, *range(199)])
    table["benign"] = ~table["malignant"]
    with pytest.raises(ValueError, match="linearly dependent"):
        clustered_linear_model(table, "y ~ malignant + benign", "patient")
    with pytest.raises(ValueError, match="level must lie"):
        clustered_linear_model(table, "y ~ malignant", "patient", level=95)
