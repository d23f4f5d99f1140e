"""Findings on masks and on annotators."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from iavlib.agreement import (
    agreement_with_others,
    check_masks,
    compare_findings,
    near_duplicate_annotators,
    outlying_annotators,
)
from iavlib.agreement.mask_quality import COLUMNS, ISSUES
from iavlib.data.schemas import empty_pairs
from iavlib.masks.surfaces import region_sizes


def rectangle(top=10, bottom=30, left=10, right=40, shape=(50, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def issues(table: pd.DataFrame, image_id: str = "I") -> list[str]:
    return table.loc[table["image_id"] == image_id, "issue"].tolist()


# --- one mask ------------------------------------------------------------------------------------


def test_nothing_to_find(make_cohort):
    table = check_masks(make_cohort({"I": {"x": rectangle(), "y": rectangle(top=11)}}))
    assert table.empty
    assert table.columns.tolist() == list(COLUMNS)


FRAME = rectangle()
FRAME[15:20, 15:20] = FRAME[25, 20] = False
LEAK = rectangle()  # a hole, and a notch of the edge that meets it at a corner only
LEAK[11, 11] = LEAK[10, 10] = False
CASES = {
    "empty": (rectangle(0, 0), ["Empty mask"]),
    "full": (~rectangle(0, 0), ["Mask covers entire image"]),
    "border": (rectangle(top=0), ["Mask touches image border"]),
    "holes": (FRAME, ["Holes"]),
    "a hole at a corner": (LEAK, ["Holes"]),
    "two lesions": (rectangle() | rectangle(40, 45, 10, 30), ["Multiple disconnected regions"]),
    "a speck beside it": (rectangle() | rectangle(40, 42, 10, 12), []),
    "touching at a corner": (rectangle() | rectangle(30, 40, 40, 50), []),
    "a bay is no hole": (rectangle() & ~rectangle(20, 30, 20, 25), []),
    "all at once": (
        FRAME | rectangle(40, 50, 10, 30),
        ["Multiple disconnected regions", "Holes", "Mask touches image border"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_finding(make_cohort, case):
    mask, expected = CASES[case]
    table = check_masks(make_cohort({"I": {"x": mask}}))
    assert issues(table) == expected
    for row in table.itertuples():
        assert (row.severity, row.hint) == ISSUES[row.issue]
        assert row.detail


def test_details_count(make_cohort):
    details = check_masks(make_cohort({"I": {"x": CASES["all at once"][0]}}))["detail"].tolist()
    assert details[0] == "2 regions; the second largest has 34.8% of the first"
    assert details[1] == "2 holes, 3.36% of the mask"
    assert details[2] == "bottom"


SIDES = {
    "top": (0, 5, 10, 20),
    "bottom": (45, 50, 10, 20),
    "left": (10, 20, 0, 5),
    "right": (10, 20, 55, 60),
}


@pytest.mark.parametrize("side", SIDES)
def test_the_border_is_the_outermost_pixel(make_cohort, side):
    touching = rectangle(*SIDES[side])
    near = np.pad(touching[1:-1, 1:-1], 1)
    table = check_masks(make_cohort({"I": {"x": touching, "y": near}}))
    assert table["detail"].tolist() == [side]
    assert table["mask_id"].tolist() == ["I_x_T1_S1_0.png"]


def test_the_second_largest_region_and_the_second_found(make_cohort):
    """Big, speck, middle from top to bottom; and a speck above all, which the release takes as
    the first and so reports a mask that has nothing but that speck beside the lesion.
    """
    big, middle = rectangle(10, 30), rectangle(45, 50, 10, 30, (60, 60))
    late = np.pad(big, ((0, 10), (0, 0))) | rectangle(35, 36, 5, 6, (60, 60)) | middle
    early = rectangle(2, 3, 2, 3) | big
    cohort = make_cohort({"late": {"x": late}, "early": {"x": early}})
    ours = check_masks(cohort)
    released = check_masks(cohort, second_region="found")
    name = "Multiple disconnected regions"
    assert (issues(ours, "late"), issues(ours, "early")) == ([name], [])
    assert (issues(released, "late"), issues(released, "early")) == ([], [name])


@pytest.mark.parametrize("value", [3, 100, 200, 254])
def test_grey_values_are_told_and_binarised_at_half(make_cohort, value):
    truth = rectangle()
    grey = np.where(truth, 255, 0).astype(np.uint8)
    grey[30, 10:40] = value  # the shadow that lossy compression leaves
    truth[30, 10:40] = value > 127
    table = check_masks(make_cohort({"I": {"x": grey}, "J": {"y": truth * np.uint8(7)}}))
    assert issues(table, "I") == ["More than two grey values", "Same mask in another image"]
    assert table["detail"].iloc[0].startswith("1 values between 0 and 255 in 1.0% of the pixels")


def test_a_mask_of_the_background_is_asked_about(make_cohort):
    table = check_masks(make_cohort({"I": {"x": ~rectangle()}, "J": {"y": rectangle()}}))
    assert "Inverted mask?" in issues(table, "I")
    assert "Inverted mask?" not in issues(table, "J")


def test_another_size_than_the_image(make_cohort):
    cohort = make_cohort({"I": {"x": rectangle(), "y": rectangle(shape=(50, 61))}})
    table = check_masks(cohort)
    assert issues(table) == ["Mask size differs from image"]
    assert table["detail"].iloc[0] == "61x50 pixels, the image 60x50"
    empty = check_masks(make_cohort({"I": {"x": rectangle(), "y": np.zeros((5, 5), bool)}}))
    assert issues(empty) == ["Empty mask", "Mask size differs from image"]


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "content", [b"", b"not an image", PNG, PNG + b"\0\0\0\rIHDR" + b"\xff" * 20]
)
def test_a_corrupted_file_does_not_stop_the_rest(make_cohort, content):
    cohort = make_cohort({"I": {"x": content, "y": rectangle()}, "J": {"x": rectangle(0)}})
    table = check_masks(cohort)
    assert issues(table) == ["File not found or corrupted"]
    assert table["severity"].iloc[0] == "high"
    assert "_x_T1_S1_0.png" in table["detail"].iloc[0]
    assert issues(table, "J") == ["Mask touches image border"]


def test_a_truncated_mask_is_corrupted(make_cohort, tmp_path):
    cohort = make_cohort({"I": {"x": rectangle(shape=(500, 600))}})
    path = cohort.masks["path"].iloc[0]
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    assert issues(check_masks(cohort)) == ["File not found or corrupted"]


def test_masks_that_are_not_here(make_cohort):
    cohort = make_cohort({"I": {"x": None, "y": rectangle()}})
    assert issues(check_masks(cohort)) == ["File not found or corrupted"]
    assert check_masks(cohort, absent="skip").empty


def test_several_processes_find_the_same(make_cohort):
    drawn = {name.replace(" ", "_"): {"x": mask} for name, (mask, _) in CASES.items()}
    cohort = make_cohort(drawn | {"gone": {"x": None}})
    pd.testing.assert_frame_equal(check_masks(cohort, 2), check_masks(cohort, 1))


@pytest.mark.parametrize("options", [{"second_region": "third"}, {"absent": "hide"}])
def test_options_that_make_no_sense(make_cohort, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        check_masks(make_cohort({"I": {"x": rectangle()}}), **options)


# --- the same mask twice -------------------------------------------------------------------------


def test_copies_within_and_across_images(make_cohort):
    copy, other = rectangle(), rectangle(top=12)
    cohort = make_cohort({"I": {"x": copy, "y": copy, "z": other}, "J": {"x": copy}})
    table = check_masks(cohort).set_index(["mask_id", "issue"])["detail"]
    assert len(table) == 5
    twice = table.xs("Same mask twice in one image", level="issue")
    assert twice["I_x_T1_S1_0.png"] == "the same as I_y_T1_S1_1.png"
    elsewhere = table.xs("Same mask in another image", level="issue")
    assert elsewhere["J_x_T1_S1_0.png"] == "the same as I_x_T1_S1_0.png, I_y_T1_S1_1.png"


def test_copies_are_known_by_their_pixels_not_their_bytes(make_cohort):
    cohort = make_cohort({"I": {"x": rectangle() * np.uint8(255), "y": rectangle() * np.uint8(1)}})
    assert issues(check_masks(cohort)) == ["Same mask twice in one image"] * 2


def test_empty_and_full_masks_and_other_sizes_are_no_copies(make_cohort):
    blank = {"x": rectangle(0, 0), "y": rectangle(0, 0)}
    assert set(issues(check_masks(make_cohort({"I": blank})))) == {"Empty mask"}
    bars = {"I": {"x": rectangle(0, 2, 0, 8, (4, 8))}, "J": {"x": rectangle(0, 4, 0, 4, (8, 4))}}
    assert "Same mask in another image" not in check_masks(make_cohort(bars))["issue"].tolist()


def test_masks_that_are_not_here_are_compared_by_md5(make_cohort):
    from dataclasses import replace

    cohort = make_cohort({"I": {"x": None}, "J": {"x": None}, "K": {"x": rectangle()}})
    cohort = replace(cohort, masks=cohort.masks.assign(md5=["aa", "aa", "bb"]))
    table = check_masks(cohort, absent="skip")
    assert table["issue"].tolist() == ["Same mask in another image"] * 2
    assert table["image_id"].tolist() == ["I", "J"]


# --- regions -------------------------------------------------------------------------------------


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
@settings(deadline=None)
def test_regions_are_those_of_scipy(mask, corners):
    labels, n = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    expected = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    assert region_sizes(mask, corners).tolist() == expected.tolist()


# --- annotators ----------------------------------------------------------------------------------


def pairs_of(rows) -> pd.DataFrame:
    """Pairs table from (annotator, annotator, dice)."""
    table = empty_pairs().reindex(range(len(rows)))
    first, second, dice = zip(*rows, strict=True)
    return table.assign(annotator_1=first, annotator_2=second, dice=dice)


def test_near_duplicates():
    rows = [("A", "B", 0.99)] * 3 + [("B", "A", 0.999)] + [("A", "B", 0.7)] * 2
    rows += [("A", "C", 0.999)] * 4 + [("B", "C", 0.98)] * 9 + [("A", "A", 1.0)] * 9
    table = near_duplicate_annotators(pairs_of(rows))
    assert len(table) == 1
    assert table["detail"].iloc[0] == "A and B: Dice of 0.99 or more in 4 of 6 pairs"
    assert table["severity"].iloc[0] == "high"
    assert table[["image_id", "mask_id"]].isna().all(axis=None)
    assert len(near_duplicate_annotators(pairs_of(rows), min_pairs=4)) == 2
    assert near_duplicate_annotators(pairs_of(rows), share=0.7).empty


def test_an_annotator_who_disagrees_with_everybody():
    rng = np.random.default_rng(0)
    rows = [
        (a, b, (0.5 if "F" in a + b else 0.85) + 0.03 * rng.standard_normal())
        for a, b in itertools.combinations("ABCDEF", 2)
        for _ in range(10)
    ]
    table = outlying_annotators(pairs_of(rows))
    assert len(table) == 1
    assert table["detail"].iloc[0].startswith("F: median Dice 0.5")
    assert outlying_annotators(pairs_of(rows), threshold=1e6).empty


def test_robust_z_by_hand():
    medians = {"A": 0.80, "B": 0.82, "C": 0.85, "D": 0.60}
    rows = [(name, f"rare{k}", dice) for name, dice in medians.items() for k in range(10)]
    z = agreement_with_others(pairs_of(rows))["z"]
    # median 0.81; distances 0.01, 0.01, 0.04, 0.21, of which the median is 0.025
    assert z["D"] == pytest.approx(-0.21 / (1.4826 * 0.025))
    assert z["C"] == pytest.approx(0.04 / (1.4826 * 0.025))
    assert z.drop(list("ABCD")).isna().all()


def test_robust_z_where_most_are_equal():
    rows = [(name, f"rare{k}", 0.8) for name in "ABCD" for k in range(10)]
    rows += [("E", f"rare{k}", 0.4) for k in range(10)]
    z = agreement_with_others(pairs_of(rows))["z"]
    # the median distance is 0, the mean one 0.4 / 5
    assert z["E"] == pytest.approx(-0.4 / (1.2533 * 0.08))
    equal = [(name, f"rare{k}", 0.8) for name in "ABCD" for k in range(10)]
    assert agreement_with_others(pairs_of(equal))["z"].isna().all()


def test_too_few_annotators_to_call_one_unusual():
    rows = [("A", "B", 0.9)] * 20 + [("A", "C", 0.1)] * 20
    assert outlying_annotators(pairs_of(rows)).empty
    assert near_duplicate_annotators(empty_pairs()).empty
    assert outlying_annotators(empty_pairs()).empty


def test_findings_on_annotators_stand_at_the_end(make_cohort):
    names = [f"I{k}" for k in range(5)]
    pairs = pairs_of([("x", "y", 0.995)] * 5).assign(
        image_id=names,
        mask_1=[f"{name}_x_T1_S1_0.png" for name in names],
        mask_2=[f"{name}_y_T1_S1_1.png" for name in names],
        **dict.fromkeys(("jaccard", "hd_normalized", "hd95_normalized", "assd_normalized"), 0.5),
    )
    drawn = {f"I{k}": {"x": rectangle(10 + k), "y": rectangle(10 + k, 31)} for k in range(5)}
    drawn["I3"]["x"] = rectangle(0)
    table = check_masks(make_cohort(drawn, pairs))
    assert table["issue"].tolist() == ["Mask touches image border", "Near-duplicate annotators"]
    assert table["mask_id"].isna().tolist() == [False, True]


# --- the published findings ----------------------------------------------------------------------


def test_compare_findings():
    ours = pd.DataFrame(
        [("a", "Empty mask", "high"), ("b", "Holes", "low")],
        columns=["mask_id", "issue", "severity"],
    )
    rows = [
        ("a", "Empty mask", "high"),
        ("b", "Multiple disconnected regions (3)", "medium"),
        ("unseen", "Empty mask", "high"),
    ]
    published = pd.DataFrame(rows, columns=ours.columns)
    table = compare_findings(ours, published, pd.Index(["a", "b"])).set_index("mask_id")
    assert table["in"].to_dict() == {"a": "both", "b": "published"}
    assert table["issue"]["b"] == "Multiple disconnected regions"
    assert compare_findings(ours, published[2:], pd.Index(["a"]))["in"].tolist() == ["ours"]


def test_findings_as_published(imapp_home):
    """Of the masks at hand: the forty smallest, and the ten smallest with a published finding."""
    from dataclasses import replace

    from iavlib.data.datasets import imapp

    cohort = imapp.load(imapp_home / "imapp")
    here = cohort.masks[cohort.masks["path"].notna()]
    if here.empty:
        pytest.skip("needs masks of IMA++ in the data home")
    size = cohort.images.loc[here["image_id"], ["width", "height"]].prod(axis=1).to_numpy()
    here = here.iloc[np.argsort(size, kind="stable")]
    flagged = here.index.isin(cohort.extras["qa"]["mask_id"])
    chosen = pd.concat([here[flagged][:10], here[~flagged][:40]])
    table = check_masks(replace(cohort, masks=chosen, pairs=empty_pairs()))
    compared = compare_findings(table, cohort.extras["qa"], chosen.index)
    assert set(compared["in"]) == {"both"}
    assert len(compared) == min(flagged.sum(), 10)
    assert "Mask size differs from image" not in set(table["issue"])


def test_annotators_of_the_release(imapp_home):
    from iavlib.data.datasets import imapp

    pairs = imapp.load(imapp_home / "imapp").pairs
    assert near_duplicate_annotators(pairs).empty
    (told,) = outlying_annotators(pairs)["detail"]
    assert told.startswith("A08: median Dice 0.517 in 251 pairs")
