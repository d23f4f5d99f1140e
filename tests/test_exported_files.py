"""Tables hold no formulas, pages run only their own script, and files that are gone are named."""

import base64
import csv
import hashlib
import io
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from iavlib.agreement.analysis import analyse
from iavlib.core.errors import DataError
from iavlib.core.files import csv_text
from iavlib.models.loading import read_tensors
from iavlib.models.model_files import read_model, read_sidecar, write_model
from iavlib.predict.report import STATEMENT, write_report

FORMULAS = ["=cmd|'/C calc'!A1", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "=1,2\n=3", "=a\r=b"]


def cells(text):
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def is_formula(cell):
    try:
        float(cell)
    except ValueError:
        return cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return False


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("place", ["column", "index", "mixed", "category"])
def test_no_text_becomes_a_formula(text, place):
    values = {"mixed": [text, -1.5]}.get(place, [text, "plain"])
    table = pd.DataFrame({"a": values, "b": [-1.5, np.inf], "c": pd.array([-2, None], "Int64")})
    table = table.astype({"a": "category"}) if place == "category" else table
    table = table.set_index("a") if place == "index" else table
    written = cells(csv_text(table))
    assert f"'{text}".replace("\r", "\n") in written and not any(map(is_formula, written))
    assert "-1.5" in written and "-2" in written  # numbers stay numbers


@pytest.mark.parametrize("text", ["-3", "+1.5e-3", "-inf", "", "plain", "a=b"])
def test_numbers_and_plain_texts_stay_as_they_are(text):
    assert cells(csv_text(pd.DataFrame({"a": [text, "x"]}))) == ["a", text, "x"]


def only_own_script(page):
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    [allowed] = re.findall(r"script-src ([^;]*);", policy)
    scripts = re.findall(r"(?s)<script>(.*?)</script>", page)
    [script] = scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert allowed.replace("&#39;", "'") == f"'sha256-{digest}'"
    assert "default-src 'none'" in policy and not re.search(r"<[^>]*\son\w+=", page)
    return script


def test_results_of_agreement(tmp_path):
    names = ("=cmd|'/C calc'!A1", "-2+3", "<script>alert(1)</script>")
    rows = []
    for number, who in enumerate(names):
        mask = np.zeros((30, 40), np.uint8)
        mask[5 : 20 + number, 8:30] = 255
        Image.fromarray(mask).save(tmp_path / f"m{number}.png")
        rows.append({"image_id": "=1+1", "mask": f"m{number}.png", "annotator": who})
    pd.DataFrame(rows).to_csv(tmp_path / "masks.csv", index=False)
    out = tmp_path / "out"
    analyse(tmp_path / "masks.csv", out, processes=1)
    tables = sorted(out.glob("*.csv"))
    assert len(tables) > 6
    for path in tables:
        assert not any(map(is_formula, cells(path.read_text()))), path.name
    assert "'=cmd|'/C calc'!A1" in cells((out / "annotators.csv").read_text())
    script = only_own_script((out / "report.html").read_text())
    assert 'querySelectorAll(".key input")' in script and "alert" not in script


def test_the_report_of_predictions_runs_only_its_script(tmp_path):
    about = {"statement": STATEMENT, "models": [], "agreement": True, "alpha": 0.1, "facts": []}
    about |= {"warnings": ["<script>alert(1)</script>"], "failed": 0, "summary": []}
    write_report(tmp_path / "report.html", [], tmp_path, about, 10)
    assert "alert" not in only_own_script((tmp_path / "report.html").read_text())


def test_a_model_that_is_removed_while_it_is_read_is_named(tmp_path):
    def build(sidecar):
        shutil.rmtree(tmp_path / "model")
        return torch.nn.Linear(3, 2)

    for read in (read_sidecar, lambda folder: read_model(folder, build)):
        with pytest.raises(DataError, match=r"model\.json: is missing\. To fix it"):
            read(tmp_path / "model")
    write_model(torch.nn.Linear(3, 2), tmp_path / "model", {})
    with pytest.raises(DataError, match=r"model\.safetensors: is missing\. To fix it"):
        read_model(tmp_path / "model", build)
    with pytest.raises(DataError, match=r"a\.pt: is missing"):
        read_tensors(tmp_path / "a.pt")
