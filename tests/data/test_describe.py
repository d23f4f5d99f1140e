"""Tables about a cohort, against counts made by hand or published."""

import pytest

from iavlib.agreement import image_level
from iavlib.data import cohort as describe
from iavlib.data.datasets import imapp

pytestmark = pytest.mark.filterwarnings("ignore:.*differ from the published tables")


def test_tiny_overview(tiny_imapp):
    counts = describe.overview(imapp.load(tiny_imapp))
    assert counts[["images", "masks", "annotators", "pairs"]].tolist() == [6, 12, 2, 6]
    assert counts["multi_images_without_patient"] == 2
    assert counts["images_with_file"] == 1


def test_no_published_findings_no_rows(tiny_imapp):
    assert describe.quality_findings(imapp.load(tiny_imapp)).empty


def test_published_tables(imapp_home):
    cohort = imapp.load(imapp_home / "imapp")
    counts = describe.overview(cohort)
    assert counts[["annotators", "multi_annotators", "pairs_same_annotator"]].tolist() == [
        *(16, 15, 225),
    ]
    assert len(describe.without_overlap(cohort)) == counts["pairs_without_overlap"] == 27
    assert (image_level(cohort.pairs)["dice_mean"] == 0).sum() == 23
    findings = describe.quality_findings(cohort).set_index("issue")["masks"]
    assert findings.to_dict() == {
        "Mask touches image border": 1129,
        "Empty mask": 59,
        "Mask covers entire image": 3,
    }
    assert describe.labels(cohort)["at least two masks"].to_dict() == {
        "benign": 1880,
        "malignant": 505,
        "indeterminate": 9,
        "unknown": 0,
    }
    summary = describe.pair_summary(cohort.pairs)
    assert summary.loc["dice", ["mean", "sd", "50%"]].round(4).tolist() == [0.7813, 0.2183, 0.8572]
    assert summary.loc["assd_normalized", "mean"] == pytest.approx(0.0354, abs=5e-5)
    assert describe.licences(cohort)["images"].sum() == 14967
