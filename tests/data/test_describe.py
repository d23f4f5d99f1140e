"""The published tables of IMA++, against counts made by hand or published."""

import pytest

from iavlib.agreement import image_level
from iavlib.data.datasets import imapp

pytestmark = pytest.mark.filterwarnings("ignore:.*differ from the published tables")


def test_tiny_tables(tiny_imapp):
    cohort = imapp.load(tiny_imapp)
    assert (len(cohort.images), len(cohort.masks), len(cohort.pairs)) == (6, 12, 6)
    assert cohort.multi_annotator().images["patient_id"].isna().sum() == 2
    assert cohort.images["path"].notna().sum() == 1
    assert "qa" not in cohort.extras


def test_published_tables(imapp_home):
    cohort = imapp.load(imapp_home / "imapp")
    multi, pairs = cohort.multi_annotator(), cohort.pairs
    counts = [cohort.masks["annotator"].nunique(), multi.masks["annotator"].nunique()]
    assert counts == [16, 15]
    assert (pairs["annotator_1"] == pairs["annotator_2"]).sum() == 225
    assert (pairs["dice"] == 0).sum() == 27
    assert (image_level(pairs)["dice_mean"] == 0).sum() == 23
    assert cohort.extras["qa"]["issue"].value_counts().to_dict() == {
        "Mask touches image border": 1129,
        "Empty mask": 59,
        "Mask covers entire image": 3,
    }
    assert multi.images["malignancy"].value_counts().to_dict() == {
        "benign": 1880,
        "malignant": 505,
        "indeterminate": 9,
    }
    summary = pairs.describe().T
    assert summary.loc["dice", ["mean", "std", "50%"]].round(4).tolist() == [0.7813, 0.2183, 0.8572]
    assert summary.loc["assd_normalized", "mean"] == pytest.approx(0.0354, abs=5e-5)
    assert cohort.images["licence"].notna().sum() == 14967
