"""A user's folder of masks, from the command line to the report."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from iavlib.agreement.analysis import analyse
from iavlib.cli.main import app
from iavlib.core.errors import DataError
from iavlib.data.images import read_mask
from iavlib.masks import pair_metrics


@pytest.fixture
def folder(tmp_path):
    """Four images of 40x30 with three annotators' masks each; A draws small, C large."""
    generator = np.random.default_rng(0)
    root = tmp_path / "mine"
    root.mkdir()
    y, x = np.mgrid[:30, :40]
    rows = []
    for image in range(4):
        cx, cy = generator.uniform(15, 25), generator.uniform(12, 18)
        for annotator, radius in (("A", 6), ("B", 8), ("C", 10)):
            mask = np.hypot(x - cx, y - cy) < radius + generator.uniform(-0.5, 0.5)
            name = f"i{image}_{annotator}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / name)
            rows.append({"image": f"i{image}", "mask": name, "annotator": annotator})
    pd.DataFrame(rows).to_csv(root / "masks.csv", index=False)
    return root


def run(*arguments) -> object:
    return CliRunner().invoke(app, ["agreement", *map(str, arguments)])


def test_everything_is_written(folder, tmp_path):
    out = tmp_path / "out"
    done = run(folder, "--out", out)
    assert done.exit_code == 0, done.output
    assert "12 pairs of 4 images" in done.output
    pairs = pd.read_csv(out / "pairs.csv")
    assert list(pairs)[:6] == ["img_id", "mask1", "mask2", "annotator1", "annotator2", "dice_score"]
    assert {"kappa", "nsd", "boundary_f1", "assd_score_normalized"} <= set(pairs)
    row = pairs.iloc[5]
    expected = pair_metrics(read_mask(folder / row["mask1"]), read_mask(folder / row["mask2"]))
    assert row["dice_score"] == pytest.approx(expected["dice"], abs=1e-12)
    assert row["hd95_score"] == pytest.approx(expected["hd95"], abs=1e-9)
    images = pd.read_csv(out / "images.csv").set_index("img_id")
    mean = pairs.groupby("img_id")["dice_score"].mean()
    assert images["dice_score_mean"].to_dict() == pytest.approx(mean.to_dict())
    assert sorted(p.name for p in (out / "consensus").glob("i0_*")) == [
        "i0_majority.png",
        "i0_mean.png",
        "i0_staple.png",
    ]
    np.testing.assert_array_equal(
        read_mask(out / "consensus" / "i0_majority.png"), read_mask(folder / "i0_B.png")
    )
    consensus = pd.read_csv(out / "consensus.csv")
    assert all((out / path).is_file() for path in consensus["path"])
    assert consensus["path"].iloc[0] == "consensus/i0_majority.png"


def test_annotators_who_draw_small_and_large_are_told(folder, tmp_path):
    summary = analyse(folder, tmp_path / "out").annotators
    bias = summary[summary["quantity"] == "log_area_bias"].set_index("annotator")["value"]
    assert bias["A"] < bias["B"] < bias["C"]


def test_the_report_stands_alone(folder, tmp_path):
    analyse(folder, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "12 pairs of masks, 3 annotators" in page
    assert 'aria-label="Histogram of Dice over 12 pairs' in page
    assert "http" not in page.replace("http-equiv", "")
    assert "All masks could be used" in page


def test_a_second_run_computes_no_pair_again(folder, tmp_path):
    first = analyse(folder, tmp_path / "out")
    second = analyse(folder, tmp_path / "out")
    assert (first.n_reused, second.n_reused) == (0, 4)
    pd.testing.assert_frame_equal(first.pairs, second.pairs)
    Image.new("L", (40, 30), 255).save(folder / "i2_A.png")
    assert analyse(folder, tmp_path / "out").n_reused == 3


def test_bad_masks_are_told_and_the_rest_is_done(folder, tmp_path):
    (folder / "i0_A.png").write_bytes((folder / "i0_A.png").read_bytes()[:40])
    (folder / "i1_A.png").unlink()
    Image.new("L", (20, 20)).save(folder / "i2_A.png")
    colours = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(colours).save(folder / "i3_A.png")
    table = pd.read_csv(folder / "masks.csv")
    table.loc[len(table)] = ["i3", "../elsewhere.png", "D"]
    table.to_csv(folder / "masks.csv", index=False)
    out = tmp_path / "out"
    done = run(folder / "masks.csv", "--out", out)
    assert done.exit_code == 1
    problems = pd.read_csv(out / "problems.csv").set_index("mask_id")
    assert problems["left_out"].all()
    for mask, told in {
        "i0_A.png": "no readable image",
        "i1_A.png": "missing",
        "i2_A.png": "20 x 20 pixels",
        "i3_A.png": "channels differ",
        "../elsewhere.png": "outside the folder",
    }.items():
        assert told in problems.loc[mask, "problem"]
        assert problems.loc[mask, "hint"]
        assert f"left out: {mask}" in done.output
    assert len(pd.read_csv(out / "pairs.csv")) == 4
    assert "5 masks were left out" in (out / "report.html").read_text()


def test_empty_and_full_masks_stay_in_and_are_told(folder, tmp_path):
    Image.new("L", (40, 30), 0).save(folder / "i0_A.png")
    Image.new("L", (40, 30), 255).save(folder / "i1_A.png")
    result = analyse(folder, tmp_path / "out")
    assert len(result.pairs) == 12
    assert result.problems.set_index("mask_id")["left_out"].to_dict() == {
        "i0_A.png": False,
        "i1_A.png": False,
    }
    assert {"Empty mask", "Mask covers entire image"} <= set(result.findings["issue"])


def test_a_folder_of_somebody_elses_is_not_written_into(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    done = run(folder, "--out", out)
    assert done.exit_code == 2
    assert "holds other files" in done.output
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_nothing_to_compare(folder, tmp_path):
    table = pd.read_csv(folder / "masks.csv")
    table[table["annotator"] == "A"].to_csv(folder / "masks.csv", index=False)
    with pytest.raises(DataError, match="no other mask of its image"):
        analyse(folder, tmp_path / "out")
    assert run(tmp_path / "nowhere", "--out", tmp_path / "o").exit_code == 2


def test_the_lesion_crops_agree_with_the_published_pairs(imapp_home, tmp_path):
    """Crops at 512x512 of images whose full-size pair is published: Dice within .015."""
    crops = imapp_home / "isic_two_annotators"
    if not crops.is_dir():
        pytest.skip("needs isic_two_annotators in the data home")
    table = pd.read_csv(crops / "masks.csv")
    for column, kind in (("image", "images"), ("mask", "masks")):
        table[column] = [str(crops / kind / name) for name in table[column]]
    own = tmp_path / "masks.csv"
    table.rename(columns={"image_id": "image_id"})[
        ["image_id", "image", "mask", "annotator", "tool", "skill_level"]
    ].to_csv(own, index=False)
    result = analyse(own, tmp_path / "out", methods=("majority",))
    published = table.drop_duplicates("image_id").set_index("image_id")["published_pair_dice"]
    difference = result.images["dice_score_mean"] - published[result.images.index]
    assert len(difference) == 61
    assert difference.abs().max() < 0.015
    assert json.loads((tmp_path / "out" / "agreement.json").read_text())["pairs"] == 61
