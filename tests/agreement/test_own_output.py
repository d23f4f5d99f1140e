"""What `iav agreement` writes: few data, names, an earlier run's files, warnings, the report."""

import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from iavlib import data
from iavlib.agreement.analysis import analyse
from iavlib.agreement.consensus_files import consensus_names
from iavlib.cli.main import app
from iavlib.core.errors import DataError
from iavlib.core.files import replacing, safe_name
from iavlib.data import own_masks
from iavlib.data.images import read_mask
from iavlib.masks import fleiss_kappa
from iavlib.masks.overlap import krippendorff_alpha
from iavlib.stats import intraclass_correlation


def disc(radius, x=20, y=15):
    rows, columns = np.mgrid[:30, :40]
    return np.hypot(columns - x, rows - y) < radius


def study(root, masks, **columns):
    """Write a table of ``{(image, annotator): radius or array}``, with further columns."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, ((image, annotator), mask) in enumerate(masks.items()):
        mask = mask if isinstance(mask, np.ndarray) else disc(mask)
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"m{number}.png")
        row = {"image_id": image, "mask": f"m{number}.png", "annotator": annotator}
        rows.append(row | {name: values[number] for name, values in columns.items()})
    pd.DataFrame(rows).to_csv(root / "masks.csv", index=False)
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["agreement", *map(str, arguments)])


def files(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


TWO = {("i", "ann"): 8, ("i", "bob"): 9}
SMALL = {
    "one image, two masks": (TWO, {}),
    "one image, three masks": (TWO | {("i", "cem"): 7}, {}),
    "one patient": (
        {(f"i{n}", who): r + n % 2 for n in range(3) for who, r in (("ann", 8), ("bob", 9))},
        {"patient": ["P"] * 6},
    ),
    "equal masks": ({("i", "ann"): 8, ("i", "bob"): 8}, {}),
    "both empty": ({("i", "ann"): 0, ("i", "bob"): 0}, {}),
    "one empty": ({("i", "ann"): 0, ("i", "bob"): 8}, {}),
    "disjoint": ({("i", "ann"): disc(4, 8), ("i", "bob"): disc(4, 30)}, {}),
}


@pytest.mark.parametrize("name", SMALL)
def test_few_data_give_everything_but_intervals(name, tmp_path):
    masks, columns = SMALL[name]
    out = tmp_path / "out"
    done = run(study(tmp_path / "in", masks, **columns), "--out", out)
    assert done.exit_code == 0, done.output
    assert " pair" in done.output and str(out / "report.html") in done.output
    annotators = pd.read_csv(out / "annotators.csv")
    assert annotators["low"].isna().all()
    assert annotators["reason"].str.len().min() > 5
    page = (out / "report.html").read_text()
    assert "There are no intervals: one image, or images of one patient" in page
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))
    assert len(pd.read_csv(out / "images.csv")) == len({image for image, _ in masks})


def test_several_images_have_intervals(tmp_path):
    masks = {(f"i{n}", who): r + n % 2 for n in range(4) for who, r in (("a", 8), ("b", 6))}
    result = analyse(study(tmp_path / "in", masks), tmp_path / "out")
    dice = result.annotators[result.annotators["quantity"] == "dice"]
    assert dice["low"].notna().all() and (dice["reason"] == "").all()


def test_two_drawings_by_one_annotator_are_no_agreement_between_annotators(tmp_path):
    masks = {("i", "ann"): 8, ("i", "ann "): 9}
    root = study(tmp_path / "in", masks, session=["1", "2"])
    done = run(root, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "two drawings by one annotator" in done.output
    assert "no agreement between annotators" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("case", ["missing", "damaged", "one annotator", "sizes"])
def test_nothing_usable_leaves_a_list_of_problems(case, tmp_path):
    root, out = study(tmp_path / "in", TWO), tmp_path / "out"
    if case == "missing":
        (root / "m0.png").unlink(), (root / "m1.png").unlink()
    elif case == "damaged":
        (root / "m1.png").write_bytes(b"no picture")
    elif case == "sizes":
        Image.new("L", (10, 10), 255).save(root / "m1.png")
    else:
        study(root, {("i", "ann"): 8, ("j", "ann"): 8})
    done = run(root, "--out", out)
    assert done.exit_code == 2
    assert "error: " in done.output and "Traceback" not in done.output
    problems, rows = pd.read_csv(out / "problems.csv"), pd.read_csv(out / "rows.csv")
    assert len(problems) + (rows["status"] == "left out").sum() > 0
    assert not problems["path"].dropna().map(os.path.isabs).any()
    assert not (out / "report.html").exists()
    study(root, TWO)
    assert run(root, "--out", out).exit_code == 0  # the folder is known as ours


# --- an earlier run ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["image removed", "other table", "fewer masks"])
def test_consensus_masks_of_an_earlier_table_are_removed(change, tmp_path):
    masks = {(image, who): r for image in ("i", "j/k") for who, r in (("a", 8), ("b", 9))}
    root, out = study(tmp_path / "in", masks), tmp_path / "out"
    analyse(root, out)
    (out / "consensus" / "note.txt").write_text("mine")
    (out / "consensus" / "mine_majority.png").write_bytes(b"mine")
    assert (out / "consensus" / "j" / "k_majority.png").is_file()
    if change == "image removed":
        study(root, TWO)
    elif change == "fewer masks":
        study(root, {**TWO, ("j/k", "a"): 8})
    else:
        root = study(tmp_path / "other", TWO)
    done = run(root, "--out", out)
    assert done.exit_code == 0, done.output
    kept = [name for name in files(out) if name.startswith("consensus/")]
    ours = [f"consensus/i_{method}.png" for method in ("majority", "mean", "staple")]
    assert kept == sorted([*ours, "consensus/mine_majority.png", "consensus/note.txt"])
    assert ("holds the results of" in done.output) == (change == "other table")
    assert set(pd.read_csv(out / "images.csv")["img_id"]) == {"i"}


def test_a_list_that_names_other_files_removes_none_of_them(tmp_path):
    root, out = study(tmp_path / "in", TWO), tmp_path / "out"
    analyse(root, out)
    victim = tmp_path / "thesis.png"
    victim.write_bytes(b"mine")
    listed = json.loads((out / "agreement.json").read_text())
    listed["files"] += ["../thesis.png", "consensus/../../thesis.png", str(victim), "report.html"]
    (out / "agreement.json").write_text(json.dumps(listed))
    analyse(root, out)
    assert victim.is_file() and (out / "report.html").is_file()


def test_the_store_of_pairs_does_not_grow_with_other_options(tmp_path):
    root, out = study(tmp_path / "in", TWO), tmp_path / "out"
    for tolerance in (1, 2, 3):
        analyse(root, out, tolerance=tolerance)
    assert len((out / "pairs.jsonl").read_text().splitlines()) == 1
    assert analyse(root, out, tolerance=3).n_reused == 1


@pytest.mark.parametrize(
    "arguments", [("--tolerance", "inf"), ("--spacing", "inf"), ("--spacing", "nan")]
)
def test_options_that_are_no_numbers_end_in_one_line(arguments, tmp_path):
    done = run(study(tmp_path / "in", TWO), "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert arguments[0].strip("-") in done.output and "Traceback" not in done.output


@pytest.mark.parametrize("kind", ["file", "below a file", "foreign", "damaged", "read-only"])
def test_an_output_folder_that_cannot_be_used_ends_in_one_line(kind, tmp_path):
    root, out = study(tmp_path / "in", TWO), tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "below a file":
        (tmp_path / "file").write_text("mine")
        out = tmp_path / "file" / "out"
    elif kind == "read-only":
        out.mkdir()
        out.chmod(0o500)
        if os.access(out, os.W_OK):
            pytest.skip("this user may write everywhere")
    else:
        out.mkdir()
        name = "thesis.tex" if kind == "foreign" else "agreement.json"
        (out / name).write_text("mine")
    done = run(root, "--out", out)
    assert done.exit_code == 2
    assert str(out) in done.output.replace("\n", "") and "Traceback" not in done.output


def test_a_full_disk_ends_in_one_line(tmp_path, monkeypatch):
    root = study(tmp_path / "in", TWO)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iavlib.core.files.os.replace", full)
    done = run(root, "--out", tmp_path / "out", "--processes", 1)
    assert done.exit_code == 2
    assert "No space left" in done.output and "Traceback" not in done.output


# --- names ---------------------------------------------------------------------------------------

LONG = "x" * 251
NAMES = [
    "p1/img",
    "p2/img",
    "皮膚鏡画像" * 3,
    LONG,
    "皮" * 83,
    "a$b$",
    "../up",
    "/root",
    "CON: a?",
    "é",
]


def test_ids_of_any_kind_get_their_consensus_masks(tmp_path):
    masks = {(name, who): r for name in NAMES for who, r in (("$x_1$", 8), ("皮 & <b>", 9))}
    out = tmp_path / "out"
    result = analyse(study(tmp_path / "in", masks), out)
    assert result.consensus["problem"].isna().all()
    assert len(result.consensus) == 3 * len(NAMES)
    paths = pd.read_csv(out / "consensus.csv")["path"]
    assert paths.is_unique
    for path in paths:
        assert (out / path).resolve().is_relative_to(out.resolve() / "consensus")
        assert (out / path).is_file()
        assert all(len(part.encode()) <= 255 for part in path.split("/"))
    page = (out / "report.html").read_text()
    assert "$x_1$" in page and "皮 &amp; &lt;b&gt;" in page and "<b>" not in page


@pytest.mark.parametrize(
    "ids", [("a/b", "a_b"), ("A", "a"), ("x" * 300, "x" * 301), ("a:b", "a?b"), ("a//b", "a/b")]
)
def test_different_ids_have_different_names(ids):
    names = consensus_names(ids)
    assert len({name.casefold() for name in names.values()}) == len(ids)


@pytest.mark.parametrize("name", ["a" * 255, "皮" * 85, "é" * 127, "short.png"])
def test_files_of_the_longest_names_are_replaced(name, tmp_path):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "con\\x", "a. ", "皮" * 100, "\n"])
def test_a_safe_name_is_one_part_of_a_path(text, tmp_path):
    name = safe_name(text)
    (tmp_path / name).write_text("x")
    assert (tmp_path / name).parent == tmp_path and len(name.encode()) <= 200


# --- consensus -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("radii", "warned"),
    [((8, 9), True), ((8, 8), True), ((6, 8, 10), False), ((6, 7, 8, 9), True)],
)
def test_votes_without_a_majority_carry_a_warning(radii, warned, tmp_path):
    masks = {("i", f"a{n}"): radius for n, radius in enumerate(radii)}
    analyse(study(tmp_path / "in", masks), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "consensus.csv").set_index("method")
    warning = table["warnings"].astype(object).fillna("")["majority"]
    assert bool(warning) == warned
    assert ("union" in warning) == (len(radii) == 2)


def test_the_mean_map_holds_the_share_of_the_masks(tmp_path):
    radii = (6, 8, 10)
    masks = {("i", f"a{n}"): radius for n, radius in enumerate(radii)}
    analyse(study(tmp_path / "in", masks), tmp_path / "out")
    with Image.open(tmp_path / "out" / "consensus" / "i_mean.png") as image:
        share = np.asarray(image) / 255
    np.testing.assert_allclose(share, np.mean([disc(r) for r in radii], axis=0), atol=0.002)


@pytest.mark.parametrize(("quorum", "needed"), [(1, 1), (2, 2), (3, 3), (0.5, 2), (0.67, 3)])
def test_a_quorum_is_a_number_or_a_share_of_the_masks(quorum, needed, tmp_path):
    radii = (6, 8, 10)
    masks = {("i", f"a{n}"): radius for n, radius in enumerate(radii)}
    done = run(study(tmp_path / "in", masks), "--out", tmp_path / "out", "--quorum", quorum)
    assert done.exit_code == 0, done.output
    found = read_mask(tmp_path / "out" / "consensus" / "i_quorum.png")
    np.testing.assert_array_equal(found, sum(disc(r).astype(int) for r in radii) >= needed)


def test_a_quorum_that_cannot_be_reached_is_a_warning_or_an_error(tmp_path):
    root = study(tmp_path / "in", TWO)
    analyse(root, tmp_path / "out", quorum=3)
    table = pd.read_csv(tmp_path / "out" / "consensus.csv").set_index("method")
    assert table.loc["quorum", "warnings"] == "the quorum of 3 votes is more than the 2 masks"
    for value in ("0", "1.5", "-1"):
        done = run(root, "--out", tmp_path / "out", "--quorum", value)
        assert done.exit_code == 2 and "quorum" in done.output and "Traceback" not in done.output


# --- areas, objects, exports ---------------------------------------------------------------------


def test_areas_are_those_of_the_masks(twelve, tmp_path):
    out = tmp_path / "out"
    analyse(twelve, out, processes=1)
    areas = pd.read_csv(out / "measures.csv").sort_values(["image_id", "annotator"])
    pixels = [np.count_nonzero(read_mask(twelve / f"m{n}.png")) for n in range(36)]
    assert areas["area"].tolist() == pixels
    table = pd.read_csv(out / "area_agreement.csv").set_index(["annotator1", "annotator2"])
    wide = areas["area"].to_numpy().reshape(12, 3)
    assert table["n_images"].tolist() == [12] * 4
    assert table["icc"].tolist()[0] == pytest.approx(intraclass_correlation(wide).value)
    row = table.loc[("ann", "cem")]
    assert row["bias"] == pytest.approx((wide[:, 0] - wide[:, 2]).mean())
    assert row["ratio"] == pytest.approx(np.exp(np.log(wide[:, 0] / wide[:, 2]).mean()))
    page = (out / "report.html").read_text()
    assert page.count('aria-label="Bland-Altman plot') == 3 and f"{row['icc']:.3f} (" in page


def test_areas_of_images_that_not_all_drew(tmp_path):
    drawn = [("i", "ann"), ("i", "bob"), ("j", "bob"), ("j", "cem"), ("k", "bob"), ("k", "cem")]
    masks = {who: 5 + n for n, who in enumerate(drawn)} | {("k", "cem"): 0}
    analyse(study(tmp_path / "in", masks), tmp_path / "out", processes=1)
    table = pd.read_csv(tmp_path / "out" / "area_agreement.csv", dtype=str, keep_default_na=False)
    who = table["annotator1"].str.cat(table["annotator2"], " ").str.strip().tolist()
    assert who == ["", "ann bob", "bob cem"] and table["n_images"].tolist() == ["0", "1", "2"]
    assert table["reason"].tolist() == ["fewer than two images drawn by all"] * 2 + [""]
    assert table["ratio_low"].tolist() == ["", "", ""]  # one image with two areas above 0


def test_objects_are_counted_as_matched_missed_and_extra(tmp_path):
    one, two, three = disc(4, 8), disc(4, 20), disc(4, 32)
    masks = {("i", "ann"): one | two, ("i", "bob"): two | three, ("j", "ann"): one}
    masks |= {("j", "bob"): one | three, ("k", "ann"): one, ("k", "bob"): np.zeros_like(one)}
    analyse(study(tmp_path / "in", masks), tmp_path / "out", per_object=True, processes=1)
    table = pd.read_csv(tmp_path / "out" / "objects.csv").set_index("image_id")
    counts = table[["matched", "only_1", "only_2"]]
    assert counts.T.to_dict("list") == {"i": [1, 1, 1], "j": [1, 0, 1], "k": [0, 1, 0]}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Objects" in page and f">{2 * 2 / (2 * 2 + 2 + 2):.3f}</td>" in page
    described = (tmp_path / "out" / "columns.md").read_text()
    assert all(f"`{name}`" in described for name in [*counts, table.index.name])


def test_exports_are_read_by_other_tools_and_by_this_one(twelve, tmp_path):
    out = tmp_path / "out"
    analyse(twelve, out, export=("coco", "nifti", "png", "votes"), spacing=0.5, processes=1)
    masks = {f"m{n}.png": read_mask(twelve / f"m{n}.png") for n in range(36)}
    api = COCO(out / "export" / "coco" / "masks.json")
    assert len(api.getImgIds()) == 12 and len(api.getAnnIds()) == 36
    assert api.loadImgs(api.getImgIds())[0]["file_name"] == "i00.jpg"
    for n, one in enumerate(api.loadAnns(api.getAnnIds())):
        mask = masks[f"m{n}.png"]
        np.testing.assert_array_equal(api.annToMask(one), mask)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (one["area"], one["bbox"]) == (np.count_nonzero(mask), box)
        assert one["attributes"]["annotator"] == ("ann", "bob", "cem")[n % 3]
    image = SimpleITK.ReadImage(out / "export" / "nifti" / "bob" / "i01.nii.gz")
    assert image.GetSpacing() == (0.5, 0.5)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), masks["m4.png"])
    votes = np.asarray(Image.open(out / "export" / "votes" / "i01.png"))
    np.testing.assert_array_equal(votes, sum(masks[f"m{n}.png"].astype(int) for n in (3, 4, 5)))
    expected = sorted(data.load("folder", path=twelve).pairs["dice"])
    for kind in ("coco", "nifti", "png"):
        again = data.load("folder", path=out / "export" / kind)
        assert sorted(again.pairs["dice"]) == pytest.approx(expected), kind
        assert set(again.masks["annotator"]) == {"ann", "bob", "cem"}
    analyse(twelve, out, export=("png",), processes=1)
    assert {name.split("/")[1] for name in files(out) if name.startswith("export/")} == {"png"}
    with pytest.raises(DataError, match="no form 'coca'"):
        analyse(twelve, out, export=("coca",))


def test_exports_of_objects_and_of_repeated_drawings(tmp_path):
    masks = {("i", "ann"): disc(4, 8) | disc(4, 30), ("i", "bob"): disc(5, 8)}
    root = study(tmp_path / "in", masks)
    analyse(root, tmp_path / "objects", per_object=True, export=("coco", "png"), processes=1)
    api = COCO(tmp_path / "objects" / "export" / "coco" / "masks.json")
    assert len(api.getImgIds()) == 1 and len(api.getAnnIds()) == 2  # of the object that both drew
    root = study(tmp_path / "in", {("i", "ann"): 5, ("i", "ann "): 6}, session=["1", "2"])
    analyse(root, tmp_path / "again", export=("png",), processes=1)
    assert [n for n in files(tmp_path / "again") if "export" in n] == [
        "export/png/ann/i.png",
        "export/png/ann_2/i.png",
    ]


def test_rates_of_staple_have_a_row_each(tmp_path):
    analyse(study(tmp_path / "in", TWO | {("i", "cem"): 7}), tmp_path / "out")
    rates = pd.read_csv(tmp_path / "out" / "consensus_rates.csv")
    assert list(rates["of_mask"]) == ["m0.png", "m1.png", "m2.png"]
    assert rates[["sensitivity", "specificity"]].to_numpy().min() > 0.5
    for name in ("consensus", "consensus_rates", "annotators", "pairs", "images"):
        table = pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype=str)
        cells = table.astype(object).fillna("").to_numpy().ravel()
        assert not any(re.fullmatch(r"[\d.]+(;[\d.]+)+", cell) for cell in cells)


def test_alpha_equals_its_definition_on_coincidences():
    rng = np.random.default_rng(0)
    images = [rng.random((n, 12, 9)) < 0.4 for n in (2, 3, 5)]
    disagree, values = 0.0, []
    for stack in images:
        n = len(stack)
        for pixel in stack.reshape(n, -1).T:
            pairs = [pixel[a] != pixel[b] for a in range(n) for b in range(n) if a != b]
            disagree += sum(pairs) / (n - 1)
            values += list(pixel)
    ones, total = sum(values), len(values)
    expected = 1 - (disagree / total) / (2 * ones * (total - ones) / (total * (total - 1)))
    votes = [np.bincount(s.sum(axis=0).ravel(), minlength=len(s) + 1) for s in images]
    assert krippendorff_alpha(votes) == pytest.approx(expected, abs=1e-12)
    assert krippendorff_alpha([np.array([5, 0, 0])]) == 1


# --- report --------------------------------------------------------------------------------------


@pytest.fixture
def twelve(tmp_path):
    """Twelve images of three annotators with photographs, patients, diagnoses and tools."""
    masks, columns = {}, {"malignancy": [], "patient": [], "tool": []}
    for n in range(12):
        for k, who in enumerate(("ann", "bob", "cem")):
            masks[f"i{n:02d}", who] = 7 + k * (n % 5) / 2
            columns["malignancy"].append("malignant" if n % 3 == 0 else "benign")
            columns["patient"].append(f"P{n // 2}")
            columns["tool"].append(f"T{(n + k) % 2}")
    root = study(tmp_path / "in", masks, **columns)
    (root / "images").mkdir()
    for n in range(11):  # the last has no photograph
        Image.new("RGB", (40, 30), (200, 150, 120)).save(root / "images" / f"i{n:02d}.jpg")
    return root


def test_the_report_shows_outlines_that_can_be_switched(twelve, tmp_path):
    result = analyse(twelve, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == 6
    assert len(re.findall(r'<input type="checkbox" checked data-annotator="\d">', page)) == 3
    for number in range(3):
        assert page.count(f'<g data-annotator="{number}">') == 6
    order = result.images["dice_score_mean"].sort_values(kind="stable").index
    assert f"{order[0]}</strong> (lowest)" in page and f"{order[-1]}</strong> (highest)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page) < 2_000_000


def test_the_report_breaks_agreement_down_by_what_is_given(twelve, tmp_path):
    result = analyse(twelve, tmp_path / "out")
    table = result.breakdown.set_index(["factor", "value"])
    assert set(result.breakdown["factor"]) == {"malignancy", "patient", "tool", "annotator"}
    malignant = result.images["malignancy"] == "malignant"
    expected = result.pairs[result.pairs["img_id"].isin(result.images.index[malignant])]
    assert table.loc[("malignancy", "malignant"), "dice_mean"] == pytest.approx(
        expected["dice_score"].mean()
    )
    drawn = result.pairs[["annotator1", "annotator2"]]
    two = drawn.isin(["ann", "bob"]).all(axis=1)
    assert table.loc[("annotator", "ann and bob"), "n_pairs"] == two.sum() == 12
    page = (tmp_path / "out" / "report.html").read_text()
    cell = f"{result.pairs.loc[two, 'dice_score'].mean():.3f}"
    assert len(re.findall(rf'<td style="background[^>]*>{cell}</td>', page)) >= 2
    assert "By malignancy" in page and "By tool" in page


def test_fleiss_kappa_is_that_of_the_masks(twelve, tmp_path):
    result = analyse(twelve, tmp_path / "out")
    drawn = [read_mask(twelve / f"m{n}.png") for n in (6, 7, 8)]
    assert result.images.loc["i02", "fleiss_kappa"] == pytest.approx(fleiss_kappa(drawn))


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        ((), "drew the same 12 images"),
        ((0,), "drew different images"),
        (range(2, 36, 3), "With two annotators"),
    ],
)
def test_sentences_on_who_drew_what_are_true(removed, sentence, twelve, tmp_path):
    table = pd.read_csv(twelve / "masks.csv").drop(index=list(removed))
    table.to_csv(twelve / "masks.csv", index=False)
    analyse(twelve, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    every = ("drew the same 12 images", "drew different images", "With two annotators")
    assert [text for text in every if text in page] == [sentence]


def test_every_column_is_described(twelve, tmp_path):
    out = tmp_path / "out"
    analyse(twelve, out)
    described = (out / "columns.md").read_text()
    names = set(re.findall(r"`([^`]+)`", described))
    for file in out.glob("*.csv"):
        assert file.name in described
        for column in pd.read_csv(file).columns:
            assert re.sub(r"_(mean|std)$", "", column) in names or column in names, (file, column)


def test_each_mask_is_decoded_once(twelve, tmp_path, monkeypatch):
    """For its classes, its quality, all pairs and the consensus."""
    seen = []
    for name in ("read_values", "decode_mask"):
        function = getattr(own_masks, name)
        counted = lambda path, function=function: (seen.append(path), function(path))[1]  # noqa: E731
        monkeypatch.setattr(own_masks, name, counted)
    analyse(twelve, tmp_path / "out", processes=1)
    assert len(seen) == len(set(seen)) == 36


def test_any_number_of_processes_writes_the_same(twelve, tmp_path):
    written = []
    for n in (1, 2):
        out = tmp_path / str(n)
        analyse(twelve, out, processes=n, export=("coco", "png", "votes"))
        files = sorted(path for path in out.rglob("*") if path.is_file())
        written.append({path.relative_to(out): path.read_bytes() for path in files})
    assert len(written[0]) == 100 and written[0] == written[1]


def test_progress_is_shown_from_the_first_file_to_the_report(twelve, tmp_path):
    calls = []
    options = {"progress": lambda *counts: calls.append(counts), "log": calls.append}
    analyse(twelve, tmp_path / "out", **options)
    assert calls[:36] == [(n, 36) for n in range(1, 37)]
    counts = "36 rows or objects: 36 used, 0 merged, 0 left out"
    last = [*((n, 12) for n in range(13)), counts, "writing tables and the report"]
    assert calls[-16:-1] == last
    assert "no agreement; see findings.csv" in calls[-1]  # some annotators' masks are equal
    shutil.rmtree(tmp_path / "out" / "consensus")
    again = analyse(twelve, tmp_path / "out")
    assert again.n_reused == 12
    assert (tmp_path / "out" / again.consensus["path"].iloc[0]).is_file()


def test_a_folder_without_an_overview_is_not_ours(tmp_path):
    (tmp_path / "out" / "consensus").mkdir(parents=True)
    with pytest.raises(DataError, match="other files"):
        analyse(study(tmp_path / "in", TWO), tmp_path / "out")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd")])
def test_an_image_that_cannot_be_measured_is_reported_and_the_rest_is_done(
    tmp_path, monkeypatch, error
):
    from iavlib.agreement import consensus_files

    make = consensus_files.consensus_of_image

    def fail(task, **options):
        if task[0] == "large":
            raise error
        return make(task, **options)

    monkeypatch.setattr(consensus_files, "consensus_of_image", fail)
    masks = {(image, who): 8 for image in ("large", "small") for who in ("ann", "bob")}
    result = analyse(study(tmp_path / "in", masks), tmp_path / "out", processes=1)
    assert list(result.images.index) == ["small"]
    [problem] = set(result.problems["problem"])
    assert type(error).__name__ in problem and result.problems["image_id"].tolist() == ["large"] * 2
    assert result.problems["mask_id"].tolist() == ["m0.png", "m1.png"]
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert rows["status"].tolist() == ["left out", "left out", "used", "used"]
    assert rows["reason"].tolist()[:2] == [problem] * 2
