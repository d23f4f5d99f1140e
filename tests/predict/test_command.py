"""``iav predict`` as a user meets it: bad files, the output folder, the report in a browser."""

import html
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from iavlib.cli.main import app
from iavlib.predict import run as job
from iavlib.predict.report import summarise


def iav(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def predict(runs):
    """Call the command with the run that tells both."""
    model = runs[1]["multitask"].folder

    def call(*arguments, alpha=0.2):
        return iav("predict", *arguments, "--model", model, "--alpha", alpha)

    return call


def read(out):
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    return table.set_index("image")


def test_a_folder_is_predicted(predict, folder, tmp_path):
    done = predict(folder, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "no medical device" in done.output
    table = read(tmp_path / "out")
    assert table.index.tolist() == ["first.png", "second.png"]
    assert tuple(table.reset_index().columns) == job.COLUMNS
    numbers = table[["dice_low", "predicted_dice", "dice_high"]].astype(float)
    assert (np.diff(numbers.to_numpy(), axis=1) >= 0).all()
    assert table["malignancy_probability"].astype(float).between(0, 1).all()
    assert set(table["out_of_distribution"]) == {"unknown"}
    shown = [name for names in table["heat_map"] for name in names.split(";") if name]
    assert shown and all((tmp_path / "out" / name).is_file() for name in shown)
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert (about["images"], about["failed"]) == (2, 0)
    assert any("invented images" in warning for warning in about["warnings"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("about.json", "heat_maps", "predictions.csv", "report.html")
    ]


def png_of_16_bits(values):
    """Encode (H, W) as three equal channels of 16 bits, which Pillow reads but cannot write."""
    lines = np.repeat(values[..., None], 3, axis=2).astype(">u2")
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    size = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    subsets = ((b"IHDR", size), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*subset) for subset in subsets)


def bad_files(folder, photograph):
    """Write one file of every bad kind; give what its row must say."""
    rng = np.random.default_rng(0)
    photograph.save(folder / "good.jpg")
    (folder / "cut.jpg").write_bytes((folder / "good.jpg").read_bytes()[:400])
    (folder / "text.jpg").write_text("a text")
    (folder / "nothing.png").write_bytes(b"")
    frames = {"save_all": True, "append_images": [photograph.rotate(90)]}
    photograph.save(folder / "moving.gif", **frames)
    photograph.save(folder / "moving.png", **frames)
    deep = rng.integers(0, 65535, (40, 40), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    (folder / "deep_colour.png").write_bytes(png_of_16_bits(deep))
    photograph.save(folder / "moving.webp", **frames)
    photograph.save(folder / "pages.tif", **frames)
    photograph.convert("CMYK").save(folder / "ink.tif")
    photograph.convert("CMYK").save(folder / "ink.jpg")
    photograph.resize((1, 1)).save(folder / "one.png")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    Image.new("1", (10_001, 10_001)).save(folder / "large.png")
    os.mkfifo(folder / "pipe.png")
    return {
        "cut.jpg": "no readable image",
        "text.jpg": "no readable image",
        "nothing.png": "no readable image",
        "moving.gif": "2 frames",
        "moving.png": "2 frames",
        "moving.webp": "2 frames",
        "pages.tif": "2 frames",
        "deep.png": "more than 8 bits",
        "deep.tif": "more than 8 bits",
        "deep_colour.png": "several channels of 16 bits",
        "ink.jpg": "CMYK",
        "ink.tif": "CMYK",
        "one.png": "1 x 1 pixels",
        "huge.png": "more than 178,956,970 pixels",
        "large.png": "more than the limit",
        "pipe.png": "no regular file",
        "empty": "the folder holds no image",
        "absent.jpg": "the file is missing",
    }


def test_bad_images_are_rows_and_the_rest_is_done(predict, folder, photograph, tmp_path):
    expected = bad_files(folder, photograph)
    (tmp_path / "empty").mkdir()
    given = (folder, tmp_path / "empty", tmp_path / "absent.jpg")
    done = predict(*given, "--out", tmp_path / "out", "--no-heat-maps")
    assert done.exit_code == 1, done.output
    table = read(tmp_path / "out").rename(index={str(tmp_path / "empty"): "empty"})
    failed = table[table["status"] == "failed"]
    assert set(failed.index) == set(expected)
    for name, problem in expected.items():
        assert problem in failed.loc[name, "problem"], name
        assert failed.loc[name, "hint"]
        assert failed.loc[name, "predicted_dice"] == ""
    good = table[table["status"] == "predicted"]
    assert sorted(good.index) == ["first.png", "good.jpg", "second.png"]
    assert good["predicted_dice"].astype(float).between(0, 1).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<td>not predicted:") == len(expected)
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    printed = done.output.splitlines()
    assert about["summary"][0] == f"3 images predicted, {len(expected)} not"
    grouped = [line for line in about["summary"] if line.startswith("not predicted: ")]
    assert "not predicted: 4, 2 frames or pages (first moving.gif)" in grouped
    assert grouped[-1].endswith("further reasons, which predictions.csv lists")
    for line in [*about["summary"], *(f"warning: {text}" for text in about["warnings"])]:
        assert line in printed
    for line in about["summary"]:
        assert f"<li>{html.escape(line)}</li>" in page


@pytest.mark.parametrize("flags", [(), ("no",), ("yes", "no", "yes"), ("unknown",), ("no", None)])
def test_the_summary_counts_what_is_unlike_the_training_images(flags):
    states = {"status": "predicted", "problem": "", "notes": ""}
    rows = [states | {"image": f"{n}.png", "out_of_distribution": f} for n, f in enumerate(flags)]
    text = "\n".join(summarise(rows, {"with_masks": None}))
    known, unlike = sum(f in ("yes", "no") for f in flags), flags.count("yes")
    assert (f"distribution: {unlike} of {known} images" in text) == (known > 0)
    assert ("(first 0.png)" in text) == (unlike > 0)
    assert (f"not known of {len(flags) - known} images" in text) == (known < len(flags))


def test_the_summary_counts_masks_and_notes():
    row = {"image": "a.png", "status": "predicted", "problem": "", "out_of_distribution": "no"}
    rows = [row | {"notes": "used to train m"}, row | {"image": "b.png", "notes": ""}]
    rows.append(row | {"image": "c.png", "notes": "mask a: cut"})
    rows.append(row | {"image": "d.png", "notes": "mask a: cut"})
    lines = summarise(rows, {"with_masks": 0})
    notes = ["note: 2, mask a: cut (first c.png)", "note: 1, used to train m (first a.png)"]
    assert [line for line in lines if line.startswith("note")] == notes
    assert "outlines: masks were found for 0 of 4 images" in lines


def test_an_empty_folder_alone_is_a_row(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    done = predict(tmp_path / "empty", "--out", tmp_path / "out")
    assert done.exit_code == 1 and "0 images predicted, 1 not" in done.output
    (row,) = read(tmp_path / "out").itertuples()
    assert row.status == "failed" and "holds no image" in row.problem
    assert "not predicted: the folder holds no image" in (tmp_path / "out/report.html").read_text()


def test_an_existing_folder_is_not_overwritten_unasked(predict, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused = predict(folder, "--out", out)
    assert refused.exit_code == 2 and "not empty" in refused.output
    assert predict(folder, "--out", out, "--overwrite").exit_code == 2  # no results of the command
    (out / "mine.txt").unlink()
    assert predict(folder / "first.png", "--out", out).exit_code == 0
    (out / "mine.txt").write_text("mine")
    assert predict(folder, "--out", out).exit_code == 2
    assert len(read(out)) == 1
    assert predict(folder, "--out", out, "--overwrite").exit_code == 0
    assert len(read(out)) == 2
    assert (out / "mine.txt").read_text() == "mine"
    inside = predict(folder, "--out", folder)
    assert inside.exit_code == 2 and "holds the images" in inside.output


def test_an_error_leaves_nothing(predict, runs, folder, tmp_path):
    done = predict(folder, "--out", tmp_path / "out", alpha=0.001)
    assert done.exit_code == 2 and "larger alpha" in done.output
    assert not (tmp_path / "out").exists()
    unknown = iav("predict", folder, "--model", tmp_path / "none", "--out", tmp_path / "out")
    assert unknown.exit_code == 2


def test_nothing_is_written_outside(runs, folder, photograph, tmp_path):
    expected = bad_files(folder, photograph)
    (tmp_path / "empty").mkdir()
    place = tmp_path / "elsewhere"
    out = tmp_path / "given" / "out"
    names = ("HOME", "TMPDIR", "IAV_CACHE_HOME", "IAV_DATA_HOME", "XDG_CACHE_HOME", "IAV_RUNS")
    environment = {k: v for k, v in os.environ.items() if k != "MPLCONFIGDIR"}
    for name in names:
        (place / name).mkdir(parents=True)
        environment[name] = str(place / name)
    environment["XDG_CONFIG_HOME"] = environment["HOME"]
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    model = runs[1]["multitask"].folder
    before = _state(tmp_path, out), _state(model, out)
    given = (folder, tmp_path / "empty", tmp_path / "absent.jpg")
    command = [sys.executable, "-m", "iavlib", "predict", *given, "--model", model]
    done = subprocess.run(
        [*map(str, command), "--alpha", "0.2", "--out", str(out)],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert (read(out)["status"] == "failed").sum() == len(expected)
    assert (_state(tmp_path, out), _state(model, out)) == before
    assert {p.name for p in out.iterdir()} == {
        *("about.json", "heat_maps", "predictions.csv", "report.html")
    }


def _state(folder, out):
    """List files and folders with their size, but for the output and the folders it is in."""
    found = (p for p in folder.rglob("*") if p != out and out not in p.parents)
    return {p: p.stat().st_size if p.is_file() else 0 for p in found if p not in out.parents}


def test_memory_holds_a_few_images_at_a_time(predict, folder, photograph, tmp_path, monkeypatch):
    for number in range(9):
        photograph.save(folder / f"more_{number}.png")
    seen = []
    before = job._predict_block

    def watched(pixels, *rest):
        seen.extend(map(len, pixels.values()))
        return before(pixels, *rest)

    monkeypatch.setattr(job, "_BLOCK", 4)
    monkeypatch.setattr(job, "_predict_block", watched)
    assert predict(folder, "--out", tmp_path / "out", "--embedded", 3).exit_code == 0
    assert seen == [4, 4, 3]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<template>") == 3
    assert page.count("<tr data-") == 11


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """A report of three images, one with outlines and a name that is no HTML."""
    base = tmp_path_factory.mktemp("report")
    images = base / "images"
    images.mkdir()
    rng = np.random.default_rng(3)
    names = ["a.png", "b.png", "<img src=x onerror=alert(1)>.png"]
    for name in names:
        low = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        low.resize((64, 48)).save(images / name)
    (images / "broken.png").write_text("no image")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 255
    Image.fromarray(mask).save(base / "mask.png")
    (base / "masks.csv").write_text("image,mask,annotator\na,mask.png,A<1>\na,lost.png,B\n")
    model = runs[1]["multitask"].folder
    arguments = ("--masks", base / "masks.csv", "--alpha", 0.2, "--out", base / "out")
    done = iav("predict", images, "--model", model, *arguments)
    assert done.exit_code == 1, done.output
    return base / "out" / "report.html", names


def test_the_page_needs_nothing_else(report):
    page = report[0].read_text()
    assert "Content-Security-Policy" in page and "default-src &#x27;none" not in page
    for word in ("http:", "https:", "<link", "@import", "src=x"):
        assert word not in page.replace(html.escape("<img src=x"), "")
    assert "Research software, no medical device" in page


def test_the_report_in_a_browser(report, browser):
    path, names = report
    browser.get(path.as_uri())
    table = read(path.parent)
    by_dice = table[table["status"] == "predicted"].sort_values("predicted_dice").index.tolist()
    assert _order(browser) == [*by_dice, "broken.png"]
    browser.find_element("css selector", "th[data-key=name] button").click()
    assert _order(browser) == browser.execute_script(
        "return arguments[0].sort((a, b) => a.localeCompare(b))", [*names, "broken.png"]
    )
    browser.find_element("css selector", "th[data-key=probability] button").click()
    browser.find_element("css selector", "th[data-key=probability] button").click()
    by_probability = table.loc[by_dice].sort_values("malignancy_probability", ascending=False)
    assert _order(browser) == [*by_probability.index, "broken.png"]
    browser.find_element("css selector", 'tr[data-name="a.png"] td').click()
    dialog = browser.find_element("css selector", "dialog")
    assert dialog.is_displayed() and "a.png" in dialog.text and "A<1>" in dialog.text
    assert browser.execute_script(
        "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    )
    outlines = dialog.find_element("css selector", "svg.outlines")
    drawn = outlines.find_element("css selector", "path")
    width = dialog.find_element("css selector", ".stage img").rect["width"]
    assert drawn.rect["width"] == pytest.approx(width * 30 / 64, abs=6)
    dialog.find_element("css selector", "input[value=outlines]").click()
    assert not outlines.is_displayed()
    heats = dialog.find_elements("css selector", "img.heat")
    boxes = dialog.find_elements("css selector", "input[data-group=heat]")
    assert [h.is_displayed() for h in heats] == [True] + [False] * (len(heats) - 1)
    boxes[-1].click()
    assert [h.is_displayed() for h in heats] == [False] * (len(heats) - 1) + [True]
    dialog.find_element("css selector", "button.close").click()
    assert not dialog.is_displayed()
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def _order(browser):
    rows = browser.find_elements("css selector", "#images tbody tr")
    return [row.get_attribute("data-name") for row in rows]


def test_masks_that_cannot_be_read_are_reported(report):
    notes = read(report[0].parent)["notes"]
    assert "mask lost.png: the file is missing" in notes["a.png"]
    assert "lost" not in notes["b.png"]
