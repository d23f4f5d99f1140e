"""Rows of a user's table: spellings, objects, orientation; every row ends in a count."""

import html
import json
import os
import shutil
import unicodedata
from itertools import product

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from PIL import Image

from iavlib import data
from iavlib.agreement.analysis import analyse
from iavlib.core.errors import DataError
from iavlib.data.datasets.folder import read_listing
from iavlib.data.exports import list_files
from iavlib.data.images import image_size, orientation, read_image, read_mask
from iavlib.masks import dice
from iavlib.multiannotator.cohort_sets import from_cohort
from iavlib.predict.run import RequestedImage, find_masks

pytestmark = pytest.mark.filterwarnings("ignore:.*masks.csv:")  # looked up in the notes instead
W, H = 48, 36
Y, X = np.mgrid[:H, :W]


def disc(x=20, y=16, radius=8):
    return np.hypot(X - x, Y - y) < radius


A, B = disc(radius=8), disc(x=21, radius=9)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array.astype(np.uint8) * 255 if array.dtype == bool else array
    Image.fromarray(array).save(path, **options)


def table(root, rows, header="image,mask,annotator", name="masks.csv", encoding="utf-8"):
    text = "\n".join([header, *rows]) + "\n"
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return root / name


@pytest.fixture
def two(tmp_path):
    """Masks a.png and b.png of two annotators, and a pair of another image."""
    for name, mask in (("a", A), ("b", B), ("x", A), ("y", A)):
        save(tmp_path / f"{name}.png", mask)
    return tmp_path


OTHER = ["other,x.png,A", "other,y.png,B"]


def counts(listing) -> dict:
    return listing.account["status"].value_counts().to_dict()


# --- tables --------------------------------------------------------------------------------------

PLAIN = "image,mask,annotator\nimg0,a.png,Ä\nimg0,b.png,B\n"


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "comma": ("masks.csv", PLAIN.encode()),
        "semicolon": ("masks.csv", PLAIN.replace(",", ";").encode()),
        "tab": ("masks.csv", PLAIN.replace(",", "\t").encode()),
        "tsv": ("masks.tsv", PLAIN.replace(",", "\t").encode()),
        "sep": ("masks.csv", b"sep=;\r\n" + PLAIN.replace(",", ";").encode()),
        "bom": ("masks.csv", PLAIN.encode("utf-8-sig")),
        "utf-16": ("masks.csv", PLAIN.encode("utf-16")),
        "utf-16 big": ("masks.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
        "utf-16 bare": ("masks.csv", PLAIN.encode("utf-16-le")),
        "latin-1": ("masks.csv", PLAIN.encode("latin-1")),
        "quoted": ("masks.csv", PLAIN.replace("Ä", '"Ä"').encode()),
        "stray quote": ("masks.csv", PLAIN.replace("Ä", 'Ä"').encode()),
        "quote at the start": ("masks.csv", PLAIN.replace("img0,a", '"img0,a').encode()),
        "blanks": ("masks.csv", PLAIN.replace(",", " , ").encode()),
        "old Mac": ("masks.csv", PLAIN.replace("\n", "\r").encode()),
    }.values(),
)
def test_a_table_as_spreadsheets_write_it(two, name, content):
    (two / name).write_bytes(content)
    for path in (two, two / name):
        listing = read_listing(path)
        assert listing.rows["annotator"].tolist() == ["Ä", "B"]
        assert listing.rows["image_id"].tolist() == ["img0", "img0"]
        assert counts(listing) == {"used": 2}
    assert data.load("folder", path=two).pairs["dice"].tolist() == [pytest.approx(dice(A, B))]


def test_a_table_of_excel(two):
    rows = [["img0", "a.png", 1], ["img0", "b.png", 2], [None, None, None]]
    frame = pd.DataFrame(rows, columns=["Image", "Mask", "Annotator"])
    frame.to_excel(two / "masks.xlsx", index=False)
    listing = read_listing(two)
    assert listing.rows["annotator"].tolist() == ["1", "2"]
    assert listing.source.format == "XLSX table"


def test_a_stray_quote_swallows_no_row(two):
    for name in "cdef":
        save(two / f"{name}.png", A)
    rows = ['"img0,a.png,A', "img0,b.png,B", 'img1,c.png,"A', "img1,d.png,B", "img2,e.png,A"]
    table(two, [*rows, 'img2,f.png,B"'])
    listing = read_listing(two)
    assert counts(listing) == {"used": 6} and set(listing.rows["annotator"]) == {"A", "B"}
    assert sum("stray quote" in note for note in listing.notes) == 3


# --- spellings -----------------------------------------------------------------------------------

ACCENT = unicodedata.normalize("NFC", "lésion"), unicodedata.normalize("NFD", "lésion")


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("img0", "IMG0", 1),
        ("img0.jpg", "IMG0.JPG", 1),
        ("img0.jpg", "img0.png", 1),
        (*ACCENT, 1),
        ("p 1", "p  1", 1),
        ("img0", "img1", 2),
        ("img0", "img00", 2),
    ],
)
def test_spellings_of_one_image(two, first, second, kept):
    table(two, [f"{first},a.png,A", f"{second},b.png,B"])
    listing = read_listing(two)
    assert listing.rows["image_id"].nunique() == kept
    assert counts(listing) == ({"used": 2} if kept == 1 else {"left out": 2})
    assert len(data.load("folder", path=two).pairs) == 2 - kept


def test_images_that_differ_in_case_only_stay_apart_where_they_must(two):
    for name in "cd":
        save(two / f"{name}.png", B)
    table(two, ["img0,a.png,A", "img0,b.png,B", "IMG0,c.png,A", "IMG0,d.png,B"])
    listing = read_listing(two)
    assert listing.rows["image_id"].tolist() == ["img0", "img0", "IMG0", "IMG0"]
    assert any("kept as different" in note for note in listing.notes)
    table(two, ["img0.jpg,a.png,A", "IMG0.jpg,b.png,B"])
    for name in ("img0.jpg", "IMG0.jpg"):
        save(two / name, np.zeros((H, W, 3), np.uint8))
    if len(list(two.glob("*.jpg"))) == 2:  # where file names differ in case
        assert read_listing(two).rows["image_id"].nunique() == 2


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["1", "1.0", "2", "2"], 2),
        (["Ann1 ", "ann1", "bob", "Bob"], 2),
        (["Jürgen", unicodedata.normalize("NFD", "Jürgen"), "x", "x"], 2),
        (["07", "7", "x", "x"], 3),
        (["$a$", "$a$", "b_$", "b_$"], 2),
        (["張三", "張三", "李四", "李四"], 2),
    ],
)
def test_spellings_of_one_annotator(tmp_path, names, found):
    rows = []
    for n, name in enumerate(names):
        save(tmp_path / f"{n}.png", A)
        rows.append(f"img{n % 2},{n}.png,{name}")
    table(tmp_path, rows)
    listing = read_listing(tmp_path)
    assert listing.rows["annotator"].nunique() == found
    assert counts(listing) == {"used": 4}
    different = len({unicodedata.normalize("NFC", name.strip()) for name in names})
    assert (found < different) == any("taken as one" in note for note in listing.notes)


def test_annotators_of_one_image_who_differ_in_case_stay_apart(two):
    table(two, ["img0,a.png,ann", "img0,b.png,Ann"])
    listing = read_listing(two)
    assert listing.rows["annotator"].tolist() == ["ann", "Ann"]
    assert any("kept as different" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("masks\\a.png", "masks/a.png"),
        ("sub\\deep\\a.png", "sub/deep/a.png"),
        ("sub\\a.png", "masks/sub/a.png"),
        (".\\a.png", "a.png"),
        ("A.PNG", "a.png"),
        ("Sub/A.png", "sub/a.png"),
        (f"{ACCENT[0]}.png", f"{ACCENT[1]}.png"),
        (f"{ACCENT[1]}.png", f"{ACCENT[0]}.png"),
        ("病变" * 20 + ".png", "病变" * 20 + ".png"),
        ("n" * 251 + ".png", "n" * 251 + ".png"),
        ("$x$ & <b>.png", "$x$ & <b>.png"),
    ],
)
def test_names_of_files(tmp_path, written, file):
    save(tmp_path / file, A)
    save(tmp_path / "other.png", B)
    table(tmp_path, [f"img0,{written},A", "img0,other.png,B"])
    assert data.load("folder", path=tmp_path).pairs["dice"].tolist() == [pytest.approx(dice(A, B))]
    assert read_listing(tmp_path).rows["mask_path"].iloc[0] == str(tmp_path / file)


@pytest.mark.parametrize("image_id", ["p0/lesion", "a" * 251, "病变" * 30, "$x$", "a:b", "x y"])
def test_ids_of_every_kind(two, image_id):
    header = "image_id,mask,annotator"
    table(two, [f"{image_id},a.png,A", f"{image_id},b.png,B"], header)
    assert data.load("folder", path=two).pairs["image_id"].tolist() == [image_id]


def test_one_name_in_the_folders_of_two_patients(tmp_path):
    rows = []
    for patient in ("p1", "p2"):
        save(tmp_path / patient / "img.jpg", np.full((H, W, 3), 9, np.uint8))
        for who, mask in (("A", A), ("B", B if patient == "p1" else A)):
            save(tmp_path / patient / f"{who}.png", mask)
            rows.append(f"{patient}/img.jpg,{patient}/{who}.png,{who}")
    table(tmp_path, rows)
    cohort = data.load("folder", path=tmp_path)
    assert cohort.images.index.tolist() == ["p1/img", "p2/img"]
    assert cohort.pairs["dice"].tolist() == pytest.approx([dice(A, B), 1])
    images = [tmp_path / p / "img.jpg" for p in ("p2", "p1")]
    requested = [RequestedImage(str(p.relative_to(tmp_path)), p) for p in images]
    found = find_masks(read_listing(tmp_path).rows, requested)
    for number, patient in enumerate(("p2", "p1")):
        paths = [path for _, path in found[number]]
        assert paths == [str(tmp_path / patient / f"{who}.png") for who in "AB"]
    elsewhere = [
        RequestedImage(f"{p}/img.png", tmp_path / "new" / p / "img.png") for p in ("p1", "p3")
    ]
    assert list(find_masks(read_listing(tmp_path).rows, elsewhere)) == [0]


def test_masks_of_an_ambiguous_name_are_on_no_photograph(two):
    table(two, ["img,a.png,A", "img,b.png,B"])
    rows = read_listing(two).rows
    one = RequestedImage("x/img.jpg", two / "x" / "img.jpg")
    assert list(find_masks(rows, [one])) == [0]
    assert find_masks(rows, [one, RequestedImage("y/img.jpg", two / "y" / "img.jpg")]) == {}


# --- rows that cannot be used --------------------------------------------------------------------


def test_every_row_ends_in_a_count(two):
    for name in ("c", "d", "alone", "again"):
        save(two / f"{name}.png", B)
    (two / "broken.png").write_bytes(b"no image")
    rows = ["img0,a.png,A", "img0,b.png,B", "img0,again.png,B", "img1,c.png,A", "img1,gone.png,B"]
    rows += ["img2,alone.png,A", "img3,lost.png,A", "img4,broken.png,A", "img4,../d.png,B"]
    table(two, [*rows, *OTHER])
    lines = []
    result = analyse(two, two / "out", processes=1, log=lines.append)
    account = pd.read_csv(two / "out" / "rows.csv")
    assert account["status"].tolist() == [
        *("used", "merged", "merged", *["left out"] * 6, "used", "used")
    ]
    assert account["where"].tolist() == [f"line {n}" for n in range(2, 13)]
    assert account["reason"].isna().tolist() == [True] * 3 + [False] * 6 + [True] * 2
    assert set(result.problems["mask_id"]) == {"gone.png", "lost.png", "broken.png", "../d.png"}
    assert "11 rows or objects: 3 used, 2 merged, 6 left out" in "\n".join(lines)
    assert len(result.pairs) == 2


def test_a_file_of_that_name_in_another_folder_is_not_taken(two):
    save(two / "p2" / "gone.png", B)
    save(two / "p2" / "img0.jpg", np.zeros((H, W, 3), np.uint8))
    table(two, ["img0.jpg,a.png,A", "img0.jpg,gone.png,B", *OTHER])
    listing = read_listing(two, strict=False)
    assert listing.rows["problem"].notna().sum() == 1 and listing.rows["image_path"].isna().all()


def test_a_mask_is_not_the_photograph_of_another_suffix(two):
    save(two / "images" / "img0.png", A)
    table(two, ["img0.jpg,a.png,A", "img0.jpg,b.png,B"])
    with pytest.warns(UserWarning, match=r"img0\.png is not taken for the image img0\.jpg"):
        cohort = data.load("folder", path=two)
    assert cohort.images["path"].isna().all()
    save(two / "images" / "img0.JPEG", np.zeros((H, W, 3), np.uint8))
    assert data.load("folder", path=two).images["path"].iloc[0].endswith("img0.JPEG")


@pytest.mark.parametrize(("size", "told"), [((96, 72), "larger"), ((50, 50), "do not fit")])
def test_masks_of_another_size_than_the_photograph_are_told(two, size, told):
    save(two / "images" / "img0.jpg", np.zeros((*size[::-1], 3), np.uint8))
    table(two, ["img0.jpg,a.png,A", "img0.jpg,b.png,B", *OTHER])
    lines = []
    analyse(two, two / "out", processes=1, log=lines.append)
    assert any(told in line and str(size[0]) in line for line in lines)
    with pytest.raises(DataError, match="of sizes"):
        data.load("folder", path=two)


# --- objects -------------------------------------------------------------------------------------

LEFT, RIGHT = disc(x=10, radius=6), disc(x=36, radius=6)


@pytest.fixture
def objects(tmp_path):
    """A draws two objects in two files, B both in one; on img1 B misses one."""
    for i in range(2):
        save(tmp_path / f"{i}_left.png", LEFT)
        save(tmp_path / f"{i}_right.png", np.roll(RIGHT, i, axis=1))
        save(tmp_path / f"{i}_b.png", LEFT | RIGHT if i == 0 else LEFT)
    rows = [f"img{i},{i}_{n}.png,{w}" for i in range(2) for n, w in (("left", "A"), ("right", "A"))]
    table(tmp_path, [*rows, "img0,0_b.png,B", "img1,1_b.png,B"])
    return tmp_path


def test_objects_of_one_annotator_are_united(objects):
    listing = read_listing(objects)
    assert counts(listing) == {"merged": 4, "used": 2}
    assert any("img0, A: 2 objects; img1, A: 2 objects" in note for note in listing.notes)
    cohort = data.load("folder", path=objects)
    expected = dice(LEFT | np.roll(RIGHT, 1, axis=1), LEFT)
    assert cohort.pairs["dice"].tolist() == pytest.approx([1, expected])
    np.testing.assert_array_equal(read_mask(cohort.masks["path"].iloc[0]), LEFT | RIGHT)


def test_objects_are_matched_one_to_one(objects):
    result = analyse(objects, objects / "out", processes=1, per_object=True)
    assert result.pairs["img_id"].tolist() == ["img0_object1", "img0_object2", "img1_object1"]
    assert result.pairs["dice_score"].tolist() == [1, 1, 1]
    notes = read_listing(objects, per_object=True).notes
    assert any("4, of which one annotator alone drew 1" in note for note in notes)
    cohort = data.load("folder", path=objects, per_object=True)
    assert cohort.clusters().nunique() == 2


def test_training_uses_the_united_mask(objects):
    for i in range(2):
        save(objects / f"img{i}.png", np.full((H, W, 3), 50, np.uint8))
    made = from_cohort(data.load("folder", path=objects), (H, W), fractions=None)
    np.testing.assert_array_equal(made.labels[0, 0], LEFT | RIGHT)


def test_drawings_that_overlap_are_asked_about(two):
    save(two / "again.png", disc(radius=9))
    table(two, ["img0,a.png,A", "img0,again.png,A", "img0,b.png,B"])
    assert any("add a column session" in note for note in read_listing(two).notes)


@pytest.mark.parametrize("column", ["session", "tool", "skill"])
def test_repeated_drawings_are_no_agreement_of_two_annotators(two, column):
    save(two / "again.png", disc(radius=12))
    rows = ["img0,a.png,A,1", "img0,again.png,A,2", "img0,b.png,B,1"]
    rows += [f"{row},1" for row in OTHER]
    table(two, rows, f"image,mask,annotator,{column}")
    lines = []
    result = analyse(two, two / "out", processes=1, log=lines.append)
    assert len(result.pairs) == 4
    across = np.mean([dice(A, B), dice(disc(radius=12), B)])
    assert result.images["dice_score_mean"].iloc[0] == pytest.approx(across)
    assert any("1 pairs are two drawings by one annotator" in line for line in lines)
    cohort = data.load("folder", path=two)
    assert cohort.pairs["dice"].iloc[:2].mean() == pytest.approx(across)
    assert cohort.extras["repeated"]["dice"].tolist() == [pytest.approx(dice(A, disc(radius=12)))]


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_a_mask_saved_as_jpeg_is_the_same_mask(two, quality):
    save(two / "a.jpg", A, quality=quality)
    table(two, ["img0,a.png,A", "img0,a.jpg,B"])
    listing = read_listing(two)
    assert any("1 masks have values between" in note for note in listing.notes)
    assert data.load("folder", path=two).pairs["dice"].iloc[0] > 0.99


def test_the_threshold_is_a_share_of_the_maximum(two):
    wide = disc(radius=14)
    soft = np.where(A, 200, np.where(wide, 80, 0)).astype(np.uint8)
    save(two / "soft.png", soft)
    table(two, ["img0,soft.png,A", "img0,b.png,B"])
    with pytest.raises(DataError, match=r"3 classes .*80 \(1\), 200 \(1\), unnamed \(1\)"):
        read_listing(two)
    for threshold, mask in ((0.5, A), (0.3, wide), (0.0, wide), (0.45, A)):
        path = read_listing(two, threshold=threshold).rows["mask_path"].iloc[0]
        np.testing.assert_array_equal(read_mask(path), mask)
    with pytest.raises(DataError, match="share of the maximum"):
        read_listing(two, threshold=128)


def test_an_inverted_mask_is_asked_about(two):
    save(two / "b.png", ~B)
    table(two, ["img0,a.png,A", "img0,b.png,B", *OTHER])
    problems = analyse(two, two / "out", processes=1).problems
    assert problems["problem"].str.contains("inverted").any() and not problems["left_out"].any()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.where(A, 1, 0) + np.where(B, 1, 0), "label map with the classes 1, 2"),
        (-A.astype(int), "negative"),
        (np.where(A, np.inf, 0), "infinite"),
    ],
)
def test_arrays_are_checked_like_files(values, told):
    with pytest.raises(ValueError, match=told):
        dice(values, B)


def test_soft_arrays_are_binarised_at_half_with_a_warning():
    soft = np.where(A, 0.95, 0.05 + 0.3 * B)
    with pytest.warns(UserWarning, match="binarised at half"):
        assert dice(soft, B) == dice(A, B)
    assert dice(np.where(A, 0.95, 0.05) > 0.5, A) == 1


# --- orientation ---------------------------------------------------------------------------------


def photograph(path, orientation):
    """A photograph whose upper left quarter is bright once it is upright."""
    upright = np.zeros((H, W, 3), np.uint8)
    upright[: H // 2, : W // 2] = 255
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    turned = np.asarray(turn_back(upright, inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(path, turned, exif=exif, quality=95)


def turn_back(array, orientation):
    how = Image.Transpose
    methods = {2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM}
    methods |= {5: how.TRANSPOSE, 6: how.ROTATE_270, 7: how.TRANSVERSE, 8: how.ROTATE_90}
    image = Image.fromarray(array)
    return image if orientation == 1 else image.transpose(methods[orientation])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_photographs_are_read_upright(tmp_path, value, suffix):
    path = tmp_path / f"a{suffix}"
    photograph(path, value)
    image = read_image(path)
    assert image.shape == (H, W, 3) and image_size(path) == (W, H) and orientation(path) == value
    bright = image[..., 0] > 127
    assert bright[: H // 2, : W // 2].mean() > 0.95 and bright.mean() < 0.3


@pytest.mark.parametrize("value", [5, 6, 7, 8])
def test_masks_that_fit_only_the_stored_photograph_are_turned(tmp_path, value):
    photograph(tmp_path / "images" / "img0.jpg", value)
    inverse = {6: 8, 8: 6}.get(value, value)
    for who, mask in (("A", A), ("B", B)):
        save(tmp_path / f"{who}.png", np.asarray(turn_back(mask.astype(np.uint8) * 255, inverse)))
    table(tmp_path, ["img0.jpg,A.png,A", "img0.jpg,B.png,B"])
    listing = read_listing(tmp_path)
    assert any("2 masks fit the photograph only as it is stored" in note for note in listing.notes)
    np.testing.assert_array_equal(read_mask(listing.rows["mask_path"].iloc[0]), A)
    cohort = data.load("folder", path=tmp_path)
    assert cohort.images[["width", "height"]].iloc[0].tolist() == [W, H]


def test_upright_masks_lie_on_the_lesion_in_training(tmp_path):
    photograph(tmp_path / "images" / "img0.jpg", 3)
    lesion = np.zeros((H, W), bool)
    lesion[: H // 2, : W // 2] = True
    for who in "AB":
        save(tmp_path / f"{who}.png", lesion)
    table(tmp_path, ["img0.jpg,A.png,A", "img0.jpg,B.png,B"])
    made = from_cohort(data.load("folder", path=tmp_path), (H, W), fractions=None)
    assert dice(made.images[0, ..., 0] > 127, made.labels[0, 0]) > 0.95


def test_an_array_that_is_stored_by_columns_is_turned(tmp_path):
    save(tmp_path / "images" / "img0.jpg", np.zeros((H, W, 3), np.uint8))
    for who, mask in (("A", A), ("B", B)):
        np.save(tmp_path / f"{who}.npy", mask.T)
    table(tmp_path, ["img0.jpg,A.npy,A", "img0.jpg,B.npy,B"])
    np.testing.assert_array_equal(read_mask(read_listing(tmp_path).rows["mask_path"].iloc[0]), A)


@pytest.mark.parametrize("photographs", [False, True])
@pytest.mark.parametrize(
    ("people", "names"),
    [
        (["1", "2"], ["img_1", "img_2", "img_3"]),
        (["1", "2", "3"], ["slice-1", "slice-2", "slice-3"]),
        (["a", "b"], ["x_a", "x_b"]),
        (["1", "2"], ["img_2"]),
    ],
)
def test_the_number_of_an_image_is_not_the_name_of_its_annotator(
    tmp_path, people, names, photographs
):
    for who in people:
        for name in names:
            save(tmp_path / who / f"{name}.png", disc(radius=8 + int(name[-1] > "1")))
    for name in names if photographs else ():
        save(tmp_path / "images" / f"{name}.png", np.zeros((H, W, 3), np.uint8))
    masks = data.load("folder", path=str(tmp_path)).masks
    assert set(masks["image_id"]) == set(names) and set(masks["annotator"]) == set(people)


@pytest.mark.parametrize("end", ["_{who}", "-{who}", "_{who}_mask"])
def test_the_name_of_the_annotator_is_no_part_of_the_image(tmp_path, end):
    for who in ("ann", "bob"):
        for name in ("img0", "img1"):
            save(tmp_path / who / f"{name}{end.format(who=who)}.png", A)
    for name in ("img0", "img1"):  # the third writes images' names alone
        save(tmp_path / "eve" / f"{name}.png", B)
    masks = data.load("folder", path=str(tmp_path)).masks
    assert masks.groupby("image_id")["annotator"].nunique().to_dict() == {"img0": 3, "img1": 3}


def labelme(name):
    points = [[5, 5], [30, 5], [30, 25], [5, 25]]
    shape = {"label": "lesion", "points": points, "shape_type": "polygon", "flags": {}}
    size = {"imageWidth": W, "imageHeight": H, "imageData": None}
    return json.dumps({"shapes": [shape], "imagePath": f"{name}.png", **size})


def geojson(name):
    ring = [[5, 5], [30, 5], [30, 25], [5, 25], [5, 5]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


@pytest.mark.parametrize(("document", "suffix"), [(labelme, "json"), (geojson, "geojson")])
def test_documents_of_two_images_of_one_name_are_not_united(tmp_path, document, suffix):
    save(tmp_path / "images" / "img.png", np.zeros((H, W, 3), np.uint8))
    for who in ("ann", "bob"):
        for patient in ("p0", "p1"):
            path = tmp_path / who / patient / f"img.{suffix}"
            path.parent.mkdir(parents=True)
            path.write_text(document("img"))
    with pytest.raises(DataError, match=r"p0.*p1"):
        read_listing(tmp_path)


def test_images_of_one_name_in_two_folders_are_two_in_label_studio(tmp_path):
    value = {"points": [[10, 10], [60, 10], [60, 60]], "polygonlabels": ["lesion"]}
    size = {"original_width": W, "original_height": H, "type": "polygonlabels"}
    result = [{"value": value, **size, "id": "r"}]
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d={patient}/img.png"},
            "annotations": [{"id": n, "completed_by": n, "result": result} for n in (1, 2)],
        }
        for patient in ("p0", "p1")
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    masks = data.load("folder", path=str(tmp_path / "export.json")).masks
    assert masks["image_id"].nunique() == 2 and len(masks) == 4


@pytest.mark.parametrize("votes", [float("nan"), float("inf"), 0, -1, 1.5])
def test_a_quorum_is_a_share_or_a_number_of_votes(two, votes):
    rows = table(two, ["a,a.png,1", "a,b.png,2"])
    with pytest.raises(DataError, match="quorum"):
        analyse(rows, two / "out", quorum=votes)


@pytest.mark.parametrize("n", [31, 40])
def test_many_numbered_objects_are_no_grey_values(tmp_path, n):
    numbers = np.zeros((80, 200), np.uint16)
    for k in range(n):
        row, column = divmod(k, 10)
        numbers[2 + 16 * row : 14 + 16 * row, 2 + 19 * column : 16 + 19 * column] = k + 1
    for who, drawn in (("ann", numbers), ("bob", np.where(numbers > 0, n + 1 - numbers, 0))):
        save(tmp_path / who / "img.png", drawn.astype(np.uint16))
    with pytest.raises(DataError, match=f"{n} classes"):
        data.load("folder", path=str(tmp_path))
    assert data.load("folder", path=str(tmp_path), label="any").pairs["dice"].tolist() == [1.0]


def test_a_mask_that_cannot_be_measured_is_not_counted_as_used(two):
    save(two / "small.png", A[:20])
    rows = table(two, ["a,a.png,1", "a,b.png,2", "a,small.png,3", "x,x.png,1", "x,y.png,2"])
    analyse(rows, two / "out")
    read = pd.read_csv(two / "out" / "rows.csv")
    assert read["status"].tolist() == ["used", "used", "left out", "used", "used"]
    assert "unlike" in read["reason"][2]


def test_somebody_elses_file_of_our_name_is_not_replaced(two):
    rows, out = table(two, ["a,a.png,1", "a,b.png,2"]), two / "out"
    out.mkdir()
    (out / "agreement.json").write_text('{"my": "file"}')
    with pytest.raises(DataError, match=r"agreement\.json"):
        analyse(rows, out)
    assert (out / "agreement.json").read_text() == '{"my": "file"}'


@pytest.mark.parametrize("several", [False, True])
def test_equal_accounts_in_two_files_are_told_apart_or_said(tmp_path, several):
    value = {"points": [[10, 10], [60, 10], [60, 60]], "polygonlabels": ["lesion"]}
    size = {"original_width": W, "original_height": H, "type": "polygonlabels"}
    result = [{"value": value, **size, "id": "r"}]
    for site, accounts in (("siteA", (1, 2) if several else (1,)), ("siteB", (1,))):
        drawn = [{"id": n, "completed_by": n, "result": result} for n in accounts]
        tasks = [{"data": {"image": "/data/img.png"}, "annotations": drawn}]
        (tmp_path / f"{site}.json").write_text(json.dumps(tasks))
    found = read_listing(tmp_path)
    assert found.rows["annotator"].tolist() == (["1", "2"] if several else ["siteA", "siteB"])
    assert any("one person" in note for note in found.notes) == several


def write_drawing(path, photograph):
    """Write a mask or a document, by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.lower()
    if kind.endswith("geojson"):
        path.write_text(geojson(photograph))
    elif kind.endswith("json"):
        path.write_text(labelme("img").replace("img.png", photograph))
    elif kind.endswith((".nii", ".nii.gz")):
        whole = path.with_name("lower.nii.gz" if kind.endswith("gz") else "lower.nii")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(A.astype(np.uint8)), whole)
        whole.rename(path)
    else:
        image_format = {".tif": "TIFF", ".png": "PNG"}[path.suffix.lower()]
        Image.fromarray(A).save(path, image_format)


PICTURES = {".png": "PNG", ".JPG": "JPEG", ".ome.tif": "TIFF"}


@pytest.mark.parametrize("photographs", ["", *PICTURES])
@pytest.mark.parametrize(
    "suffix",
    [
        *(".geojson", ".GEOJSON", ".png.geojson", ".json", ".png.json", ".png", ".PNG"),
        *(".tif", ".ome.tif", ".OME.TIF", ".nii", ".nii.gz", ".NII.GZ"),
    ],
)
@pytest.mark.parametrize("names", [("case.1", "case.2"), ("a b. c", "Ä.1.x")])
def test_dots_belong_to_the_name_of_an_image(tmp_path, names, suffix, photographs):
    if "geojson" in suffix.lower() and not photographs:
        photographs = ".png"  # which gives the size
    for name in names:
        for who in ("ann", "bob"):
            write_drawing(tmp_path / who / f"{name}{suffix}", name + (photographs or ".png"))
        if photographs:
            (tmp_path / "images").mkdir(exist_ok=True)
            path = tmp_path / "images" / f"{name}{photographs}"
            Image.new("RGB", (W, H)).save(path, PICTURES[photographs])
    rows = read_listing(tmp_path).rows
    assert rows.groupby("image_id")["annotator"].nunique().to_dict() == dict.fromkeys(names, 2)
    assert rows["image_path"].notna().all() == bool(photographs)


# --- what is printed, what the report states and what rows.csv holds are one ---------------------


def said(printed, out):
    """Return the lines on what was read; the report, the JSON and rows.csv must hold them."""
    notes = json.loads((out / "agreement.json").read_text())["notes"]
    page, lines = (
        (out / "report.html").read_text(),
        [line.removeprefix("note: ") for line in printed],
    )
    for note in notes:
        assert note in lines and f"<li>{html.escape(note, quote=False)}</li>" in page.replace(
            "&#39;", "'"
        ).replace("&#34;", '"')
    rows = pd.read_csv(out / "rows.csv", keep_default_na=False)
    n = rows["status"].value_counts()
    counted = ", ".join(f"{n.get(kind, 0)} {kind}" for kind in ("used", "merged", "left out"))
    assert f"{len(rows)} rows or objects: {counted}" in notes
    assert ("All masks could be used" in page) == (
        "left out" not in n and "<h2>Problems" not in page
    )
    for reason, some in rows[rows["status"] == "left out"].groupby("reason"):
        assert f"left out: {len(some)}, {reason} (first {some['where'].iloc[0]})" in notes
    return notes


BAD = {
    "all used": {},
    "another size": {"c.png": A[:20]},
    "another size of two": {"y.png": A[:20]},
    "missing": {"c.png": None},
    "missing of two": {"y.png": None},
    "no picture": {"c.png": b"text"},
    "several bad": {"c.png": b"text", "y.png": None},
    "a picture": {"c.png": np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)},
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("objects", [False, True])
def test_counts_are_the_same_everywhere(two, case, objects):
    save(two / "c.png", B)
    for name, content in BAD[case].items():
        if isinstance(content, np.ndarray):
            save(two / name, content)
        elif content is None:
            (two / name).unlink()
        else:
            (two / name).write_bytes(content)
    rows = ["a,a.png,1", "a,b.png,2", "a,c.png,3", "x,x.png,1", "x,y.png,2"]
    if objects:  # of the third annotator, and of the second on the other image
        for name in ("c2.png", "y2.png"):
            save(two / name, disc(x=38, radius=5))
        rows += ["a,c2.png,3", "x,y2.png,2"]
    printed = []
    analyse(table(two, rows), two / "out", log=printed.append)
    notes = said(printed, two / "out")
    read = pd.read_csv(two / "out" / "rows.csv").set_index("where")
    if case == "another size of two" and objects:
        assert "differ in the size" in read.loc["line 6", "reason"]
        assert read.loc["line 5", "reason"] == "no other mask of its image"
    if case == "another size of two" and not objects:
        assert "unlike" in read.loc["line 5", "reason"] and "unlike" in read.loc["line 6", "reason"]
    assert notes and len(pd.read_csv(two / "out" / "pairs.csv")) > 0


@pytest.mark.parametrize(("votes", "few"), [(1, 0), (2, 0), (3, 1), (4, 2), (0.9, 0)])
def test_a_quorum_above_the_masks_of_images_is_said(two, votes, few):
    save(two / "c.png", B)
    rows = table(two, ["a,a.png,1", "a,b.png,2", "a,c.png,3", "x,x.png,1", "x,y.png,2"])
    printed = []
    analyse(rows, two / "out", quorum=votes, log=printed.append)
    notes = [note for note in said(printed, two / "out") if "quorum" in note]
    assert len(notes) == (few > 0)
    assert (
        not few or f"of {votes} votes is more than the masks of {few} of the 2 images" in notes[0]
    )


@pytest.mark.parametrize("several", [1, 2, 3])
def test_equal_accounts_of_several_files_are_said_alike(tmp_path, several):
    value = {"points": [[10, 10], [60, 10], [60, 60]], "polygonlabels": ["lesion"]}
    size = {"original_width": W, "original_height": H, "type": "polygonlabels"}
    result = [{"value": value, **size, "id": "r"}]
    for site in range(several):
        drawn = [{"id": n, "completed_by": n, "result": result} for n in (1, 2)]
        tasks = [{"data": {"image": "/data/img.png"}, "annotations": drawn}]
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"site{site}.json").write_text(json.dumps(tasks))
    printed = []
    analyse(tmp_path / "in", tmp_path / "out", log=printed.append)
    notes = said(printed, tmp_path / "out")
    assert any("one person's" in note for note in notes) == (several > 1)


BINARY = {
    "0 and 255": A.astype(np.uint8) * 255,
    "0 and 1": A.astype(np.uint8),
    "bool": A,
    "grey": np.where(A, 200, 30).astype(np.uint8) * A,
    "soft": (np.hypot(X - 20, Y - 16) * -9 + 200).clip(0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("label", ["lesion", "1", "lesion,crust", ""])
def test_a_class_of_masks_without_classes_is_refused(tmp_path, kind, label):
    for who in ("ann", "bob"):
        save(tmp_path / who / "img.png", BINARY[kind])
    assert len(read_listing(tmp_path, label="any").rows) == 2
    if (kind, label) == ("0 and 1", "1"):  # the value of the file
        assert len(read_listing(tmp_path, label=label).rows) == 2
        return
    with pytest.raises(DataError, match=r"no class .* binary"):
        read_listing(tmp_path, label=label)


@pytest.mark.parametrize("values", [(1, 2, 1, 2), (1, 1, 1, 2), (1, 1, 2, 2), (1, 1, 1, 1)])
def test_files_of_one_value_each_are_classes_where_one_annotator_has_several(tmp_path, values):
    names = [tmp_path / who / f"{image}.png" for who in ("ann", "bob") for image in ("i", "j")]
    for name, value in zip(names, values, strict=True):
        save(name, A.astype(np.uint8) * value)
    if len(set(values[:2])) + len(set(values[2:])) > 2:
        with pytest.raises(DataError, match=r"2 classes \(with objects\): 1"):
            read_listing(tmp_path)
    else:  # 255, or a value for each annotator
        assert data.load("folder", path=str(tmp_path)).pairs["dice"].tolist() == [1, 1]
    assert data.load("folder", path=str(tmp_path), label="any").pairs["dice"].tolist() == [1, 1]
    every = read_listing(tmp_path, label="any")  # a class that a file lacks is no object to unite
    assert every.account["status"].eq("used").all() and not every.notes
    if 2 in values:
        found = data.load("folder", path=str(tmp_path), label="2").pairs
        assert found["dice"].tolist() == [float(values[k] == values[k + 2]) for k in (0, 1)]


@pytest.mark.parametrize("values", [(1, 255, 1, 1), (1, 255, 255, 1), (2, 255, 2, 2)])
def test_one_and_the_largest_value_are_two_ways_to_write_inside(tmp_path, values):
    names = [tmp_path / who / f"{image}.png" for who in ("ann", "bob") for image in ("i", "j")]
    for name, value in zip(names, values, strict=True):
        save(name, A.astype(np.uint8) * value)
    assert data.load("folder", path=str(tmp_path)).pairs["dice"].tolist() == [1, 1]


def test_a_class_may_have_a_comma_in_its_name(two):
    rows = ["a;a.png;1;mole, flat", "a;b.png;2;mole, flat", "a;x.png;1;hair", "a;y.png;2;hair"]
    rows = table(two, rows, "image;mask;annotator;label")
    assert len(read_listing(rows, label="mole, flat").rows) == 2
    with pytest.raises(DataError, match="hair"):
        read_listing(rows, label="hairs,mole, flat")


@pytest.mark.parametrize("label", ["lesoin", "Lesion, crsut", "nail"])
def test_a_misspelt_class_is_named_with_those_that_are_near(two, label):
    rows = table(two, ["a,a.png,1,lesion", "a,b.png,2,Lesion"], "image,mask,annotator,label")
    near = "lesion" if label == "lesoin" else "known: "
    with pytest.raises(DataError, match=near):
        read_listing(rows, label=label)


@pytest.mark.parametrize("place", ["last", "middle", "three lines"])
def test_a_cell_may_have_several_lines(two, place):
    comment = '"two\nlines"' if place != "three lines" else '"one\n\n""two"", three\nlines"'
    header = "image,mask,annotator,comment"
    rows = [
        f"img0,a.png,1,{comment}",
        "img0,b.png,2,x",
        'img1,x.png,"1",',
        f"img1,y.png,2,{comment}",
    ]
    if place == "middle":
        header = "image,comment,mask,annotator"
        rows = [
            f"img0,{comment},a.png,1",
            "img0,x,b.png,2",
            "img1,,x.png,1",
            f"img1,{comment},y.png,2",
        ]
    listing = read_listing(table(two, rows, header))
    assert counts(listing) == {"used": 4} and set(listing.rows["annotator"]) == {"1", "2"}
    assert not any("quote" in note for note in listing.notes)


# --- palettes, negative values, links, archives, documents beside masks --------------------------


def of_palette(path, mask, colours, **options):
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([*colours, *[0] * (768 - len(colours))])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.mark.parametrize(
    ("colours", "options"),
    [
        ([0, 0, 0, 255, 0, 0], {}),
        ([0] * 6, {}),  # the numbers alone tell inside from outside
        ([255] * 6, {}),
        ([255] * 6, {"transparency": 0}),
        ([0] * 6, {"transparency": 0}),
        ([0, 0, 0, 255, 255, 255], {"transparency": 0}),
    ],
)
def test_masks_of_a_palette(tmp_path, colours, options):
    for who, mask in (("ann", A), ("bob", B)):
        of_palette(tmp_path / who / "i.png", mask, colours, **options)
        np.testing.assert_array_equal(read_mask(tmp_path / who / "i.png"), mask)
    assert data.load("folder", path=str(tmp_path)).pairs["dice"].tolist() == [dice(A, B)]


@pytest.mark.parametrize("values", [(-3.0, 3.0), (-1, 1), (-1, 0, 1), (-2, -1, 0)])
def test_negative_values_are_no_classes(tmp_path, values):
    values = np.array(values)[np.clip(A.astype(int) + B, 0, len(values) - 1)]
    for who in ("ann", "bob"):
        (tmp_path / who).mkdir()
        np.save(tmp_path / who / "i.npy", values)
    with pytest.raises(DataError, match="negative values"):
        data.load("folder", path=str(tmp_path))


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    save(tmp_path / "ann" / "i.png", A), save(tmp_path / "bob" / "i.png", B)
    (tmp_path / "ann" / "all").symlink_to(tmp_path)
    (tmp_path / "cem").symlink_to(tmp_path / "bob")  # which is a folder of masks like others
    rows = read_listing(tmp_path).rows
    assert rows["annotator"].tolist() == ["ann", "bob", "cem"]


def test_links_of_two_folders_to_each_other_end(tmp_path):
    for who, other in (("ann", "bob"), ("bob", "ann")):
        save(tmp_path / who / "i.png", A)
        (tmp_path / who / "of the other").symlink_to(tmp_path / other)
    found = {parts for _, parts in list_files(tmp_path)}
    assert found == {
        *[(who, "i.png") for who in ("ann", "bob")],
        *[(who, "of the other", "i.png") for who in ("ann", "bob")],
    }


def test_equal_archives_under_several_names(tmp_path):
    for who in ("ann", "bob"):
        save(tmp_path / who / "i.png", A)
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "ann")
    (tmp_path / "in").mkdir()
    for name in ("ann.zip", "B b.1.ZIP"):
        shutil.copy(tmp_path / "all.zip", tmp_path / "in" / name)
    assert read_listing(tmp_path / "in").rows["annotator"].tolist() == ["B b.1", "ann"]
    shutil.make_archive(str(tmp_path / "whole"), "zip", tmp_path / "in")
    assert len(read_listing(tmp_path / "whole.zip").rows) == 2
    (tmp_path / "outer").mkdir()
    shutil.move(tmp_path / "whole.zip", tmp_path / "outer")
    assert len(read_listing(tmp_path / "outer").rows) == 2  # one archive in a folder


def test_masks_beside_documents_are_said_and_are_no_photographs(tmp_path):
    for who in ("ann", "bob"):
        write_drawing(tmp_path / who / "img.json", "img.png")
    save(tmp_path / "cem" / "img.png", A)
    photograph = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    save(tmp_path / "dermoscopy" / "other.png", photograph)
    (tmp_path / "dan").mkdir()
    np.save(tmp_path / "dan" / "img.npy", A)
    (tmp_path / "eve.json").write_text("[1]")
    listing = read_listing(tmp_path)
    assert set(listing.rows["annotator"]) == {"ann", "bob"}
    assert listing.rows["image_path"].isna().all()
    notes = "; ".join(listing.notes)
    assert "2 folders hold masks beside documents and are not used (first cem)" in notes
    assert "1 documents have no format that is read (first eve.json)" in notes
    save(tmp_path / "dermoscopy" / "img.png", photograph)
    assert read_listing(tmp_path).rows["image_path"].str.contains("dermoscopy").all()


def test_names_that_run_together_are_two_masks(tmp_path):
    for image, people in (("img_1", "ab"), ("img", ("1_a", "b"))):
        for who in people:
            write_drawing(tmp_path / who / f"{image}.json", f"{image}.png")
    masks = data.load("folder", path=str(tmp_path)).masks
    assert masks.index.is_unique and masks["image_id"].value_counts().to_dict() == {
        "img": 2,
        "img_1": 2,
    }


@pytest.mark.parametrize("equal", [False, True])
def test_the_same_mask_twice_is_said(two, equal):
    rows = ["a,a.png,1", f"a,{'x' if equal else 'b'}.png,2"]
    printed = []
    analyse(table(two, rows), two / "out", log=printed.append)
    found = [note for note in said(printed, two / "out") if "Same mask twice" in note]
    assert bool(found) == equal


@pytest.mark.parametrize(
    "images", [("img1", "img2"), ("img_1", "img_2"), ("case.1", "case.2"), ("mole",)]
)
@pytest.mark.parametrize("people", [("ann", "bob"), ("ann", "bob", "cem")])
@pytest.mark.parametrize("form", ["{i}_{w}", "{i}.{w}", "{w}.{i}"])
@pytest.mark.parametrize("photographs", [False, True])
def test_a_dot_may_part_image_and_annotator(tmp_path, images, people, form, photographs):
    photographs |= form == "{w}.{i}" and "_" in images[0]  # or 1 by ann.img, 2 by ann.img
    for i in images:
        for w in people:
            save(tmp_path / f"{form.format(i=i, w=w)}.png", A)
        if photographs:
            save(tmp_path / "images" / f"{i}.jpg", np.zeros((H, W, 3), np.uint8))
    rows = read_listing(tmp_path).rows
    assert set(zip(rows["image_id"], rows["annotator"], strict=True)) == set(
        product(images, people)
    )
    assert len(rows) == len(images) * len(people)


@pytest.mark.parametrize("counts", [[5, 7], [W * H + 1], [0, W * H - 1]])
def test_run_lengths_that_do_not_fill_the_image_are_left_out(tmp_path, counts):
    one = {"image_id": 1, "category_id": 1}
    good = {"size": [H, W], "counts": [W * H - 9, 9]}
    drawn = [("ann", good), ("bob", good), ("cem", {"size": [H, W], "counts": counts})]
    marked = [one | {"id": n, "annotator": w, "segmentation": s} for n, (w, s) in enumerate(drawn)]
    image = {"id": 1, "file_name": "i.jpg", "width": W, "height": H}
    document = {"images": [image], "categories": [], "annotations": marked}
    (tmp_path / "all.json").write_text(json.dumps(document))
    analyse(tmp_path / "all.json", tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert rows["status"].tolist() == ["used", "used", "left out"]
    assert f"{sum(counts)} pixels, not {W} x {H}" in rows["reason"][2]


def test_pipes_are_not_read(two):
    os.mkfifo(two / "pipe.png")
    listing = read_listing(table(two, ["i,a.png,1", "i,b.png,2", "i,pipe.png,3"]), strict=False)
    assert listing.account["reason"].tolist() == ["", "", "no regular file"]
    with pytest.raises(DataError, match="no regular file"):
        read_mask(two / "pipe.png")
    for who in ("ann", "bob"):
        save(two / "in" / who / "i.png", A)
        os.mkfifo(two / "in" / who / "p.png")
        os.mkfifo(two / "in" / who / "p.json")
    assert read_listing(two / "in").rows["image_id"].tolist() == ["i", "i"]
