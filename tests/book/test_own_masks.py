"""A user's own masks through the first two notebooks, with as little beside them as allowed."""

import json

import pandas as pd
import pytest

from iavlib.book.site import assemble
from iavlib.core.project import Project
from iavlib.data.datasets import phantom

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def own_masks(tmp_path_factory):
    """Folder with masks.csv and the files it names: no tools, no skills, no patients."""
    root = tmp_path_factory.mktemp("own")
    cohort = phantom.load(n_images=40, size=(64, 48), cache=root / "cache")
    table = pd.DataFrame(
        {
            "image": cohort.masks["image_id"].map(cohort.images["path"]),
            "mask": cohort.masks["path"],
            "annotator": cohort.masks["annotator"],
            "malignancy": cohort.masks["image_id"].map(cohort.images["malignancy"]),
        }
    )
    folder = root / "masks"
    folder.mkdir()
    table.to_csv(folder / "masks.csv", index=False)
    return folder


def test_both_notebooks_run_on_them_and_no_claim_is_judged(project_copy, iav, own_masks):
    done = iav(
        project_copy,
        *("run", "01", "02", "--profile", "smoke", "-p", "cohort=folder"),
        *("-p", "path=masks.csv"),
        cwd=own_masks,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for stem in ("01_data_analysis", "02_iaa_malignancy"):
        manifest = json.loads((project_copy / "book" / "executed" / f"{stem}.json").read_text())
        assert manifest["cohorts"][0]["name"] == "folder"
        assert manifest["parameters"]["path"] == str(own_masks / "masks.csv")
    rows = json.loads(iav(project_copy, "claims", "--json").stdout)
    assert all(row["measured"] is None and row["verdict"] == "not run" for row in rows)

    files = {
        name: content.decode()
        for name, content in assemble(Project(project_copy)).files.items()
        if name.endswith((".md", ".ipynb"))
    }
    first = files["book/index.md"]
    assert "40 images with" in first and "Everything on this page was computed from them" in first
    assert "](../notebooks/01_data_analysis.ipynb)" in first
    for page in ("book/index.md", *(name for name in files if name.startswith("notebooks/"))):
        assert "Claims on this page" not in files[page] and "iav-claims" not in files[page], page
        assert "Stored results" not in files[page], "of other people's data"
    assert "reproduced" not in first


def test_another_masks_file_or_a_wrong_path_is_noticed(project_copy, iav, own_masks):
    options = ("run", "01", "--profile", "smoke", "-p", "cohort=folder", "-p", "path=nothing.csv")
    done = iav(project_copy, *options, cwd=own_masks)
    assert done.returncode == 2
    assert "parameter 'path'" in done.stderr and "nothing.csv" in done.stderr
