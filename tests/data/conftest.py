"""A tiny IMA++ in the published format, which tests then damage."""

import hashlib
import itertools

import pandas as pd
import pytest
from fileserver import serving
from PIL import Image

from iavlib.data.datasets import imapp

METADATA_COLUMNS = [
    "isic_id",
    "copyright_license",
    "age_approx",
    "anatom_site_general",
    "benign_malignant",
    *(f"diagnosis_{level}" for level in range(1, 6)),
    "lesion_id",
    "patient_id",
    "pixels_x",
    "pixels_y",
    "sex",
]
SIZE = (40, 30)


def _rows(n):
    labels = itertools.cycle(["benign", "malignant", "indeterminate/benign", None])
    for i, label in zip(range(n), labels, strict=False):
        yield {
            "isic_id": f"ISIC_{i:07d}",
            "copyright_license": "CC-0",
            "age_approx": 50 + i,
            "benign_malignant": label,
            "diagnosis_1": "Benign",
            "diagnosis_2": "Nevus" if i % 2 else None,
            "patient_id": f"IP_{i // 2}" if i < 4 else None,
            "pixels_x": SIZE[0],
            "pixels_y": SIZE[1],
        }


def _masks(n):
    for i in range(n):
        for annotator, tool, skill in (("A01", "T1", "S1"), ("A00", "T3", "S2")):
            name = f"ISIC_{i:07d}_{annotator}_{tool}_{skill}_{i}.png"
            yield {
                "ISIC_id": f"ISIC_{i:07d}",
                "img_filename": f"ISIC_{i:07d}.JPG",
                "seg_filename": name,
                "annotator": annotator,
                "tool": tool,
                "skill_level": skill,
                "mskObjectID": str(i),
                "mask_md5": hashlib.md5(name.encode()).hexdigest(),
            }


def _pairs(masks):
    for image, group in masks.groupby("ISIC_id", sort=False):
        first, second = group.to_dict("records")
        yield {
            "img_id": f"{image}.JPG",
            "mask1": first["seg_filename"],
            "mask2": second["seg_filename"],
            "dice_score": 0.8,
            "jaccard_score": 0.8 / 1.2,
            **{f"{m}_score": 5.0 for m in ("hd", "hd95", "assd")},
            **{f"{m}_score_normalized": 0.1 for m in ("hd", "hd95", "assd")},
            **{f"{c}1": first[c] for c in ("annotator", "tool", "skill_level")},
            **{f"{c}2": second[c] for c in ("annotator", "tool", "skill_level")},
        }


@pytest.fixture
def tiny_imapp(tmp_path):
    """Folder with the three tables of six images and twelve masks, and one image file."""
    folder = tmp_path / "home" / "imapp"
    (folder / "images").mkdir(parents=True)
    masks = pd.DataFrame(_masks(6))
    pd.DataFrame(_rows(6), columns=METADATA_COLUMNS).to_csv(folder / imapp.METADATA, index=False)
    masks.to_csv(folder / imapp.MASKS, index=False)
    pd.DataFrame(_pairs(masks)).to_csv(folder / imapp.PAIR_METRICS, index=False)
    Image.new("RGB", SIZE).save(folder / "images" / "ISIC_0000001.jpg")
    return folder


@pytest.fixture
def server():
    """Server of files in memory, see :mod:`fileserver`."""
    with serving() as http_server:
        yield http_server


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that a download would have waited between tries; no time passes."""
    waited = []
    monkeypatch.setattr("iavlib.data.download._pause", waited.append)
    return waited
