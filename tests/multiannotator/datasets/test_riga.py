"""RIGA's layout: outlines in copies of the picture, six annotators, disc and cup."""

import numpy as np
import pytest
from PIL import Image
from riga_layout import fundus, outlined, save

from iavlib import data
from iavlib.data.catalogue import status
from iavlib.data.datasets.riga import CUP, RIM, labels_from_outlines
from iavlib.multiannotator import from_cohort

FOLDERS = {
    "BinRushed/BinRushed1-Corrected": "jpg",
    "BinRushed/BinRushed2": "jpg",
    "Magrabia/Magrabia/MagrabiaMale": "tif",
    "Magrabia/Magrabia/MagrabiFemale": "tif",
    "MESSIDOR/MESSIDOR": "tif",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    for number, (folder, ending) in enumerate(FOLDERS.items()):
        place = tmp_path / "riga" / folder
        place.mkdir(parents=True)
        for image in (1, 10):
            picture = fundus(10 * number + image)
            save(picture, place / f"image{image}prime.{ending}")
            for annotator in range(1, 7):
                drawn = outlined(picture, 30 + annotator, 12 + annotator)
                name = f"{'Image' if annotator == 1 else 'image'}{image}-{annotator}.{ending}"
                save(drawn, place / name)
    return tmp_path / "riga"


def test_layout(home):
    cohort = data.load("riga")
    assert "riga" in data.available()
    assert not cohort.synthetic
    assert len(cohort.images) == 10
    assert sorted(cohort.masks["annotator"].unique()) == [f"R{k}" for k in range(1, 7)]
    assert (cohort.masks.groupby("image_id").size() == 6).all()
    assert len(cohort.pairs) == 10 * 15
    assert cohort.pairs["dice"].between(0.7, 1).all()
    split = cohort.extras["published_split"]
    assert split.groupby("subset")["source"].unique().map(sorted).to_dict() == {
        "test": ["Magrabia"],
        "train": ["BinRushed", "MESSIDOR"],
    }
    assert list(cohort.images.index[:2]) == [
        "BinRushed1-Corrected_image1",
        "BinRushed1-Corrected_image10",
    ]
    row = next(row for row in status() if row.name == "riga")
    assert row.counts["MESSIDOR/**/*prime.*"] == (2, 460)


def test_disc_and_cup_as_arrays(home):
    made = from_cohort(data.load("riga"), (120, 160), fractions="published")
    assert made.n_classes == 3
    assert made.structures == {"disc": (1, 2), "cup": (2,)}
    assert {subset: len(made.subset(subset)) for subset in ("train", "test")} == {
        "train": 6,
        "test": 4,
    }
    disc, cup = (made.structure(name).sum(axis=(2, 3)) for name in ("disc", "cup"))
    for annotator in range(6):
        assert np.allclose(disc[:, annotator], np.pi * (30 + annotator) ** 2, rtol=0.05)
        assert np.allclose(cup[:, annotator], np.pi * (12 + annotator) ** 2, rtol=0.1)
    assert (np.diff(disc, axis=1) > 0).all()


def test_what_cannot_be_read_is_left_out_and_told(home):
    place = home / "MESSIDOR" / "MESSIDOR"
    picture = np.asarray(Image.open(place / "image1prime.tif"))
    save(picture, place / "image1-2.tif")
    save(outlined(picture, 30, 0), place / "image1-3.tif")
    Image.new("RGB", (50, 50)).save(place / "image1-4.tif")
    (place / "image10prime.tif").unlink()
    (home / "BinRushed" / "BinRushed1").mkdir()
    save(picture, home / "BinRushed" / "BinRushed1" / "image1-1.jpg")
    save(picture, home / "BinRushed" / "BinRushed1" / "image1prime.jpg")
    cohort = data.load("riga")
    problems = cohort.extras["problems"].set_index("annotator")
    assert set(problems["image_id"]) == {"MESSIDOR_image1"}
    assert "nothing drawn" in problems.loc["R2", "problem"]
    assert "not a rim and a cup" in problems.loc["R3", "problem"]
    assert "50x50 pixels, the picture has 160x120" in problems.loc["R4", "problem"]
    assert (cohort.masks["image_id"] == "MESSIDOR_image1").sum() == 3
    assert "MESSIDOR_image10" not in cohort.images.index, "outlines without their picture"
    assert not cohort.images.index.str.startswith("BinRushed1_").any(), "there is a correction"


def test_read_once_until_a_file_changes(home):
    first = data.load("riga")
    kept = first.masks["path"].iloc[0]
    assert data.load("riga").masks["path"].iloc[0] == kept
    place = home / "BinRushed" / "BinRushed2"
    picture = np.asarray(Image.open(place / "image1prime.jpg"))
    save(outlined(picture, 40, 20), place / "image1-2.jpg")
    again = data.load("riga")
    assert again.masks["path"].iloc[0] != kept
    assert again.fingerprint != first.fingerprint


def test_folders_without_outlines(home):
    for path in home.rglob("*-?.*"):
        path.unlink()
    with pytest.raises(data.DataError, match="no picture …prime with outlines"):
        data.load("riga")


@pytest.mark.parametrize("cup", [8, 15, 24])
@pytest.mark.parametrize("shift", [0, 3])
def test_outlines(cup, shift):
    picture = fundus(0)
    labels = labels_from_outlines(picture, outlined(picture, 30, cup, cup_shift=shift))
    assert labels.shape == picture.shape[:2]
    assert (labels > 0).sum() == pytest.approx(np.pi * 29**2, rel=0.03)
    assert (labels == CUP).sum() == pytest.approx(np.pi * (cup - 1) ** 2, rel=0.08)
    assert labels[60, 80 + shift] == CUP
    assert labels[60, 80 + (30 + cup + shift) // 2] == RIM
    assert labels[5, 5] == 0


def test_outlines_at_the_border_of_the_picture_and_with_a_gap():
    picture = fundus(1)
    drawn = outlined(picture, 30, 14, middle=(32, 60)).copy()
    drawn[60:63, 60:64] = picture[60:63, 60:64]
    labels = labels_from_outlines(picture, drawn)
    assert labels[60, 32] == CUP
    assert (labels > 0).sum() == pytest.approx(np.pi * 29**2, rel=0.04)


def test_lines_that_touch_are_no_guess():
    picture = fundus(2)
    with pytest.raises(data.DataError, match="enclose 1 areas"):
        labels_from_outlines(picture, outlined(picture, 30, 29), "here.tif")
