"""LIDC-IDRI, BraTS and ISBI 2015 in the layouts in which they are published."""

import numpy as np
import pytest
import SimpleITK

from iavlib import data
from iavlib.core.errors import DataError, DatasetUnavailable
from iavlib.data.images import read_image, read_mask
from iavlib.multiannotator import from_cohort

SHAPE = (4, 40, 48)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))


def volume(seed=0):
    return np.random.default_rng(seed).integers(0, 1000, SHAPE).astype(np.int16)


def box(*slices, value=1, shift=0):
    mask = np.zeros(SHAPE, np.uint8)
    mask[list(slices), 10 + shift : 20 + shift, 12:30] = value
    return mask


def test_isbi2015(home):
    for person, visit in (("training01", "01"), ("training01", "02"), ("training02", "01")):
        name = f"{person}_{visit}"
        write(home / f"isbi2015/{person}/preprocessed/{name}_flair_pp.nii", volume())
        for rater, slices in ((1, (1, 2)), (2, (2, 3))):
            write(home / f"isbi2015/{person}/masks/{name}_mask{rater}.nii", box(*slices))
    assert "isbi2015" in data.available()
    cohort = data.load("isbi2015")
    # slice 0 is marked by nobody, 1 and 3 by one of the raters
    assert len(cohort.images) == 9 and len(cohort.masks) == 18 and len(cohort.pairs) == 9
    assert set(cohort.images["patient_id"]) == {"training01", "training02"}
    dice = cohort.pairs.set_index("image_id")["dice"]
    assert dice["training01_02_002"] == 1 and dice["training01_02_001"] == 0
    assert cohort.name == "isbi2015" and not cohort.synthetic
    learnt = from_cohort(cohort, 32, fractions=None)
    assert learnt.annotators == ("R1", "R2") and len(set(learnt.clusters)) == 2
    # read again from the cache, and anew once a file has changed
    assert data.load("isbi2015").fingerprint == cohort.fingerprint
    write(home / "isbi2015/training02/masks/training02_01_mask2.nii", box(0, 1, 2, 3, shift=3))
    assert len(data.load("isbi2015").images) == 10
    write(home / "isbi2015/training02/masks/training02_01_mask2.nii", box(0)[:, :20])
    with pytest.raises(DataError, match=r"mask2\.nii.*the image has \(4, 40, 48\)"):
        data.load("isbi2015")


def test_brats(home):
    name = "MICCAI/BraTS20_Training_001/BraTS20_Training_001"
    whole = box(1, 2, value=2)
    whole[1, 12:16, 15:20] = 4
    whole[2, 12:16, 15:20] = 1
    write(home / f"brats/{name}_seg.nii.gz", whole)
    write(home / f"brats/{name}_flair.nii.gz", volume())
    cohort = data.load("brats")
    assert list(cohort.images.index) == ["BraTS20_Training_001_001", "BraTS20_Training_001_002"]
    # one mask of three classes, which is the whole tumour to whoever reads it as one
    path = cohort.masks["path"].iloc[0]
    assert (read_mask(path) == (whole[1] > 0)).all()
    learnt = from_cohort(cohort, SHAPE[1:], fractions=None)
    wanted = np.zeros(SHAPE, int) + (whole == 2) + 2 * (whole == 1) + 3 * (whole == 4)
    assert (learnt.labels[:, 0] == wanted[1:3]).all()
    assert learnt.structures["tumour"] == (1, 2, 3) and learnt.structures["core"] == (2, 3)
    whole[0, 0, 0] = 3
    write(home / f"brats/{name}_seg.nii.gz", whole)
    with pytest.raises(DataError, match=r"values \[3\] stand for no class"):
        data.load("brats")


READING = """<readingSession><unblindedReadNodule><noduleID>1</noduleID>{}</unblindedReadNodule>
</readingSession>"""
ROI = """<roi><imageZposition>1</imageZposition><imageSOP_UID>{}</imageSOP_UID>
<inclusion>{}</inclusion>{}</roi>"""


def outline(uid, low, high, included="TRUE"):
    corners = ((low, low), (high, low), (high, high), (low, high))
    edge = "<edgeMap><xCoord>{}</xCoord><yCoord>{}</yCoord></edgeMap>"
    return ROI.format(uid, included, "".join(edge.format(x, y) for x, y in corners))


def test_lidc(home):
    scan = home / "lidc/LIDC-IDRI-0007/study/series"
    scan.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(3):
        image = SimpleITK.GetImageFromArray(np.full((40, 48), 100 * number - 300, np.int16))
        image.SetMetaData("0008|0018", f"1.2.3.{number}")
        writer.SetFileName(str(scan / f"{number + 1:06d}.dcm"))
        writer.Execute(image)
    point = ROI.format("1.2.3.2", "TRUE", "<edgeMap><xCoord>5</xCoord><yCoord>5</yCoord></edgeMap>")
    hole = outline("1.2.3.1", 14, 18, "FALSE") + outline("1.2.3.1", 10, 20)
    drawn = [outline("1.2.3.1", 10, 20), outline("1.2.3.1", 11, 20), hole, point]
    text = '<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov">{}</LidcReadMessage>'
    (scan / "069.xml").write_text(text.format("".join(READING.format(one) for one in drawn)))
    cohort = data.load("lidc")
    # a point is no outline: the third slice is not marked
    assert list(cohort.images.index) == ["LIDC-IDRI-0007_069_000002"]
    assert cohort.images["patient_id"].tolist() == ["LIDC-IDRI-0007"]
    areas = {row.annotator: int(read_mask(row.path).sum()) for row in cohort.masks.itertuples()}
    # the line itself is outside: from 11 to 19 there are 9 x 9 pixels, less the excluded 3 x 3
    assert areas == {"R1": 81, "R2": 64, "R3": 72, "R4": 0}
    grey = read_image(cohort.images["path"].iloc[0])
    assert (grey == round(255 * 800 / 1400)).all()  # -200 Hounsfield units
    (scan / "069.xml").write_text("<LidcReadMessage>")
    with pytest.raises(DataError, match=r"069\.xml.*is not XML"):
        data.load("lidc")


@pytest.mark.parametrize("name", ["isbi2015", "brats", "lidc"])
def test_without_files(name, home):
    with pytest.raises(DatasetUnavailable, match="no volumes with masks"):
        data.load(name)
