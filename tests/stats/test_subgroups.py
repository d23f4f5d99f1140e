"""Subgroups: bands, counts, the rows that are too few, and scores as of the subgroup alone."""

import numpy as np
import pandas as pd
import pytest
from test_classification_scores import cohort

from iavlib.stats import NOT_RECORDED, age_bands, auroc, classification_scores, scores_by_group


def test_bands_include_their_first_year():
    bands = age_bands(pd.Series([0, 29.5, 30, 44, 45, 75, 90, np.nan]))
    expected = ["under 30", "under 30", "30-44", "30-44", "45-59", "75 and over", "75 and over"]
    assert bands[:7].tolist() == expected and bands.isna()[7]
    assert bands.cat.ordered


def test_bad_ages_are_named():
    with pytest.raises(ValueError, match="1 ages lie outside 0 to 120, for instance 850 at 'x'"):
        age_bands(pd.Series([85, 850], index=["w", "x"]))


@pytest.fixture(scope="module")
def rows():
    malignant, score = cohort(600)
    rng = np.random.default_rng(0)
    sex = pd.Series(rng.choice(["female", "male", None], 600, p=[0.5, 0.4, 0.1]))
    site = pd.Series(rng.choice(["torso", "palms", "scalp"], 600, p=[0.93, 0.03, 0.04]))
    age = age_bands(pd.Series(rng.choice([25, 50, 80], 600)))
    return malignant, score, {"sex": sex, "age": age, "site": site}


def test_every_row_is_in_the_table_once_a_factor(rows):
    malignant, score, groups = rows
    table = scores_by_group(malignant, score, groups, n_boot=100)
    counts = table.groupby("factor")[["n", "n_malignant"]].sum()
    assert (counts["n"] == 600).all() and (counts["n_malignant"] == malignant.sum()).all()
    assert table.index[0] == ("all", "all")
    assert list(table.loc["sex"].index) == ["female", "male", NOT_RECORDED]
    assert list(table.loc["age"].index) == ["under 30", "45-59", "75 and over"]


def test_scores_are_those_of_the_subgroup_alone(rows):
    malignant, score, groups = rows
    clusters = np.arange(600) // 2
    table = scores_by_group(malignant, score, groups, 0.3, clusters, n_boot=200)
    female = (groups["sex"] == "female").to_numpy()
    women = malignant[female], score[female], 0.3, clusters[female]
    expected = classification_scores(*women, n_boot=200)
    row = table.loc[("sex", "female")]
    for name in ("auroc", "balanced_accuracy", "sensitivity", "specificity"):
        assert row[name] == pytest.approx(expected.loc[name, "estimate"])
        assert row[f"{name}_low"] == pytest.approx(expected.loc[name, "ci_low"], abs=0.03)
    assert row["auroc"] == pytest.approx(auroc(malignant[female], score[female]).value)
    assert row["n_clusters"] == expected["n_clusters"].iloc[0]


def test_too_few_is_said_and_not_left_out(rows):
    malignant, score, groups = rows
    table = scores_by_group(malignant, score, groups, n_boot=100)
    palms = table.loc[("site", "palms")]
    n = ((groups["site"] == "palms") & malignant).sum()
    assert palms["note"].startswith(f"too few: {n} malignant") and np.isnan(palms["auroc"])
    assert palms["n"] == (groups["site"] == "palms").sum()
    assert table.loc[("sex", "female"), "note"] == ""


def test_one_patient_is_too_few(rows):
    malignant, score, _ = rows
    clusters = np.where(np.arange(600) < 300, 0, np.arange(600))
    half = {"half": np.where(np.arange(600) < 300, "a", "b")}
    table = scores_by_group(malignant, score, half, clusters=clusters, n_boot=50)
    assert table.loc[("half", "a"), "note"] == "too few: 1 patient"


def test_bad_factors_are_named(rows):
    malignant, score, groups = rows
    with pytest.raises(ValueError, match="600 rows but 10 levels of 'sex'"):
        scores_by_group(malignant, score, {"sex": ["male"] * 10})
    with pytest.raises(ValueError, match="different indexes"):
        scores_by_group(pd.Series(malignant), score, {"sex": groups["sex"].iloc[::-1]})
    with pytest.raises(ValueError, match="min_per_class must be"):
        scores_by_group(malignant, score, groups, min_per_class=1)
