"""TNMIX: thyroid nodules in ultrasound, a mixture of TNSCUI 2020 and DDTI, one mask per image.

No folder of this mixture is published; each part is read as its source gives it, where it is there:
``TNSCUI2020_train`` with ``image/1.PNG``, ``mask/1.PNG`` and ``train.csv`` (``ID``, and ``CATE``, 1
for malignant), and ``DDTI`` with ``1.xml``, whose polygons are drawn, and ``1_1.jpg``. Of DDTI,
TI-RADS 2 and 3 are benign, 4a is indeterminate, and 4b, 4c and 5 are malignant. Raters are
simulated on the masks by the cohort ``tnmix-simulated``.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from iavlib.data.catalogue import Layout, register_own
from iavlib.data.cohort import Cohort
from iavlib.data.images import read_image, read_mask
from iavlib.data.schemas import read_csv
from iavlib.data.volumes import Slice, load_slices, read_xml

TIRADS = {"2": "benign", "3": "benign", "4a": "indeterminate"}
TIRADS |= dict.fromkeys(("4b", "4c", "5"), "malignant")


def load() -> Cohort:
    """Load the images of the parts that are there.

    Raises
    ------
    DatasetUnavailable, DataError
        As :func:`iavlib.data.volumes.load_slices`.
    """
    tables = sorted(DATASET.folder.glob("TNSCUI2020_train/train.csv"))
    cases = sorted(DATASET.folder.glob("DDTI/*.xml"))
    masks = [path for table in tables for path in sorted(table.parent.glob("mask/*"))]
    cohort = load_slices(DATASET, [*masks, *cases], lambda: _slices(masks, cases))
    known = {}
    for table in tables:
        rows = read_csv(table, "copy it again").set_index("ID")["CATE"].astype(str)
        meaning = rows.map({"1": "malignant", "0": "benign"})
        known |= {f"TNSCUI_{name.rpartition('.')[0]}": value for name, value in meaning.items()}
    for case in cases:
        grade = (read_xml(case).findtext("tirads") or "").strip()
        known[f"DDTI_{case.stem}"] = TIRADS.get(grade)
    ids = cohort.images.index.to_series()
    found = ids.str.replace(r"^(DDTI_[^_]+)_.*$", r"\1", regex=True).map(known).fillna("unknown")
    return replace(cohort, images=cohort.images.assign(malignancy=found))


def _slices(masks: list, cases: list) -> Iterator[Slice]:
    for mask in masks:
        name, drawn = f"TNSCUI_{mask.stem}", {"reference": 255 * read_mask(mask).astype(np.uint8)}
        yield Slice(name, name, read_image(mask.parents[1] / "image" / mask.name), drawn)
    for case in cases:
        for mark in read_xml(case).iterfind("mark"):
            number, drawn = (mark.findtext("image") or "").strip(), mark.findtext("svg")
            if not drawn:
                continue
            picture = read_image(case.with_name(f"{case.stem}_{number}.jpg"))
            area = Image.new("L", picture.shape[1::-1])
            for line in json.loads(drawn):
                points = [(point["x"], point["y"]) for point in line["points"]]
                ImageDraw.Draw(area).polygon(points, fill=255)
            name = f"DDTI_{case.stem}"
            yield Slice(f"{name}_{number}", name, picture, {"reference": np.asarray(area)})


def _layout(folder) -> Layout:
    return Layout({"TNSCUI2020_train/mask/*": 3644, "DDTI/*.xml": 390}, (".",))


DATASET = register_own("tnmix", load, layout=_layout)
