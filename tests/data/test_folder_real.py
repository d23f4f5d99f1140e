"""Real masks of two annotators, brought in as a user's own; skipped where they are not."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iavlib import data, stats
from iavlib.agreement import image_level, labelled_pairs


def home_of(name: str) -> Path:
    folder = Path(os.environ.get("IAV_DATA_HOME", "")) / name
    if not os.environ.get("IAV_DATA_HOME") or not (folder / "masks.csv").is_file():
        pytest.skip(f"needs {name} under IAV_DATA_HOME")
    return folder


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    """Crops with the masks of two annotators, under the names that a user would choose."""
    source = home_of("isic_two_annotators")
    folder = tmp_path_factory.mktemp("own") / "lesions"
    shutil.copytree(source / "images", folder / "pictures")
    shutil.copytree(source / "masks", folder / "drawn")
    table = pd.read_csv(source / "masks.csv")
    renamed = pd.DataFrame(
        {
            "Image": "pictures/" + table["image"],
            "Mask": "drawn/" + table["mask"],
            "Annotator": table["annotator"],
            "Tool": table["tool"],
            "Skill": table["skill_level"],
        }
    )
    renamed.to_csv(folder / "masks.csv", index=False)
    return folder, table


def test_two_annotators_of_lesions(lesions):
    folder, table = lesions
    cohort = data.load("folder", path=folder)
    assert len(cohort.images) == len(cohort.pairs) == table["image_id"].nunique() == 61
    assert set(cohort.images.index) == set(table["image_id"])
    assert cohort.images["path"].notna().all()
    assert cohort.masks["annotator"].nunique() == table["annotator"].nunique()
    # Measured by whoever prepared these crops, with another program.
    known = table.drop_duplicates("image_id").set_index("image_id")["pair_dice_on_this_crop"]
    measured = image_level(cohort.pairs)["dice_mean"]
    np.testing.assert_allclose(measured, known.reindex(measured.index), atol=1e-6)
    assert data.load("folder", path=folder).fingerprint == cohort.fingerprint
    assert stats.factor_matrix(cohort.pairs, "tool", n_boot=10).cells["n"].sum() == 61


def test_labels_added_by_the_user(lesions, tmp_path):
    folder, table = lesions
    own = pd.read_csv(folder / "masks.csv").assign(
        malignancy=np.where(table["image_id"] < "ISIC_0000500", "benign", "malignant"),
        patient=table["image_id"].str[:9],
    )
    own.to_csv(folder / "labelled.csv", index=False)
    cohort = data.load("folder", path=folder / "labelled.csv")
    assert cohort.images["malignancy"].isin(["benign", "malignant"]).sum() == 61
    assert labelled_pairs(cohort)["malignant"].nunique() == 2
    assert cohort.clusters().nunique() == table["image_id"].str[:9].nunique()


def test_two_observers_of_vessels(tmp_path):
    source = home_of("retina_two_observers")
    folder = tmp_path / "vessels"
    shutil.copytree(source, folder)
    table = pd.read_csv(folder / "masks.csv")
    some = table["image_id"].drop_duplicates().iloc[::4]
    table[table["image_id"].isin(some)].to_csv(folder / "masks.csv", index=False)
    cohort = data.load("folder", path=folder)
    assert (len(cohort.images), len(cohort.masks), len(cohort.pairs)) == (12, 24, 12)
    assert cohort.masks[["tool", "skill"]].isna().all(axis=None)
    assert cohort.pairs["dice"].between(0.6, 0.95).all()
    assert stats.factor_matrix(cohort.pairs, "annotator", n_boot=10).cells["n"].sum() == 12
    with pytest.raises(ValueError, match="have no tool_1"):
        stats.factor_matrix(cohort.pairs, "tool", n_boot=10)
