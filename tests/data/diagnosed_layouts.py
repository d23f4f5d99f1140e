"""Small data sets in the layouts in which the real ones are published."""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.data import Cohort, target, target_names

SIZE = (24, 18)
CLASSES_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
DERM_DIAGNOSES = (
    *(
        "melanoma (in situ)",
        "melanoma metastasis",
        "melanoma",
        "clark nevus",
        "basal cell carcinoma",
    ),
    *("seborrheic keratosis", "lentigo", "miscellaneous", "reed or spitz nevus", "Blue nevus"),
)


def picture(path: Path, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask:
        drawn = np.zeros(SIZE[::-1], np.uint8)
        # no two masks alike, as copies would be told of
        number = zlib.crc32(path.name.encode())
        drawn[4:12, 5:15] = 255
        drawn.flat[[5 + 24 * 4 + bit for bit in range(9) if number >> bit & 1]] = 0
        Image.fromarray(drawn).save(path)
    else:
        Image.new("RGB", SIZE, (180, 120, 100)).save(path)


def write(path: Path, rows, **options) -> pd.DataFrame:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(path, index=False, **options)
    return table


def isic(number: int) -> str:
    return f"ISIC_{number:07d}"


def isic2017(folder: Path, sizes=(("Training", 8), ("Validation", 4), ("Test_v2", 6))) -> Path:
    """Every second image of each part is melanoma; the last is a seborrheic keratosis."""
    start = 0
    for name, n in sizes:
        stem, ids = f"ISIC-2017_{name}", [isic(start + i) for i in range(n)]
        start += 100
        for image in ids:
            picture(folder / f"{stem}_Data" / f"{image}.jpg")
            picture(folder / f"{stem}_Data" / f"{image}_superpixels.png")
            picture(folder / f"{stem}_Part1_GroundTruth" / f"{image}_segmentation.png", mask=True)
        write(
            folder / f"{stem}_Part3_GroundTruth.csv",
            {
                "image_id": ids,
                "melanoma": [float(i % 2 == 0) for i in range(n)],
                "seborrheic_keratosis": [float(i == n - 1) for i in range(n)],
            },
        )
        ages = ["unknown", *range(40, 39 + n)]
        sexes = ["unknown", *(["female", "male"] * n)[: n - 1]]
        write(
            folder / f"{stem}_Data" / f"{stem}_Data_metadata.csv",
            {"image_id": ids, "age_approximate": ages, "sex": sexes},
        )
    return folder


def simple2017(folder: Path) -> Path:
    ids = [isic(i) for i in range(12)]
    subsets = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    for image in ids:
        picture(folder / "images" / f"{image}.jpg")
    for image in ids[:8]:
        picture(folder / "masks" / f"{image}_segmentation.png", mask=True)
    rows = {
        "image_id": ids,
        "split": subsets,
        "melanoma": ["1.0", "0.0"] * 4 + [""] * 4,
        "age_approximate": ["55", "unknown", "", *["40"] * 9],
        "sex": ["female", "unknown", "", *["male"] * 9],
        "has_mask": [1] * 8 + [0] * 4,
    }
    write(folder / "labels.csv", rows)
    return folder


def one_hot(folder: Path, truth: str, images: str, ids, labels, classes) -> None:
    hot = {c: [float(label == c) for label in labels] for c in classes}
    write(folder / truth, {"image": ids} | hot)
    for image in ids:
        picture(folder / images / f"{image}.jpg")


def isic2018(folder: Path) -> Path:
    """Each class twice in training and once in the other parts; two images a lesion."""
    for name, repeat, start in (("Training", 2, 0), ("Validation", 1, 100), ("Test", 1, 200)):
        labels = [c for c in CLASSES_2018 for _ in range(repeat)]
        ids = [isic(start + i) for i in range(len(labels))]
        stem = f"ISIC2018_Task3_{name}"
        truth = f"{stem}_GroundTruth/{stem}_GroundTruth.csv"
        one_hot(folder, truth, f"{stem}_Input", ids, labels, CLASSES_2018)
        if name == "Training":
            lesions = [f"HAM_{i // 2:07d}" for i in range(len(ids))]
            rows = {"image": ids, "lesion_id": lesions, "diagnosis_confirm_type": "histopathology"}
            write(folder / f"{stem}_LesionGroupings.csv", rows)
    return folder


def isic2019(folder: Path, n: int = 3) -> Path:
    """Ten lesions of two images for each of three classes; the test part has unknown classes."""
    labels = [c for c in ("MEL", "NV", "SCC") for _ in range(20)]
    ids = [isic(i) + ("_downsampled" if i % 5 == 0 else "") for i in range(len(labels))]
    lesions = [f"BCN_{i // 2:07d}" if i > 3 else "" for i in range(len(ids))]
    facts = {"image": ids, "age_approx": 50.0, "anatom_site_general": "head/neck"}
    one_hot(
        *(folder, "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Input"),
        *(ids, labels, CLASSES_2019),
    )
    table = facts | {"lesion_id": lesions, "sex": "male"}
    write(folder / "ISIC_2019_Training_Metadata.csv", table)
    labels = ["MEL", "NV", "UNK", "UNK", "BCC"]
    ids = [isic(500 + i) for i in range(len(labels))]
    one_hot(
        *(folder, "ISIC_2019_Test_GroundTruth.csv", "ISIC_2019_Test_Input"),
        *(ids, labels, CLASSES_2019),
    )
    truth = pd.read_csv(folder / "ISIC_2019_Test_GroundTruth.csv")
    truth.assign(score_weight=1.0, validation_weight=0.0).to_csv(
        folder / "ISIC_2019_Test_GroundTruth.csv", index=False
    )
    facts |= {"image": ids, "age_approx": "", "sex": "female"}
    write(folder / "ISIC_2019_Test_Metadata.csv", facts)
    return folder


def derm7pt(folder: Path, repeat: int = 4) -> Path:
    """Each diagnosis several times; the first two cases share their clinical image."""
    names = [d for d in DERM_DIAGNOSES for _ in range(repeat)]
    rows = []
    for i, name in enumerate(names):
        clinic = "NEL/NEL900.JPG" if i < 2 else f"NEL/NEL{900 + i}.JPG"
        rows.append(
            {
                "case_num": i + 1,
                "diagnosis": name,
                "seven_point_score": 3,
                "location": "back",
                "sex": "female",
                "clinic": clinic,
                "derm": f"NEL/NEL{i:03d}.jpg",
            }
        )
        picture(folder / "images" / "NEL" / f"Nel{i:03d}.jpg")
        picture(folder / "images" / clinic)
    write(folder / "meta" / "meta.csv", rows)
    for subset, remainder in (("train", (0, 1)), ("valid", (2,)), ("test", (3,))):
        indexes = [i for i in range(len(names)) if i % repeat in remainder]
        write(folder / "meta" / f"{subset}_indexes.csv", {"indexes": indexes})
    return folder


PH2_LINES = """\
|| Name   || Histological Diagnosis   || Clinical Diagnosis || Asymmetry | Streaks || Colors ||
|| IMD003 ||                          ||                  0 ||         0 |       A ||   4    ||
|| IMD009 ||                          ||                  0 ||         0 |       A ||   3  4 ||
|| IMD016 || Melanocytic nevus        ||                  1 ||         2 |       P ||   4    ||
|| IMD058 || Superficial melanoma     ||                  2 ||         2 |       P ||   4  6 ||

Legends:
Clinical Diagnosis:  0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.
"""


def ph2(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "PH2_dataset.txt").write_text(PH2_LINES)
    for name in ("IMD003", "IMD009", "IMD016", "IMD058"):
        own = folder / "PH2 Dataset images" / name
        picture(own / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        picture(own / f"{name}_lesion" / f"{name}_lesion.bmp", mask=True)
        picture(own / f"{name}_roi" / f"{name}_R1_Label4.bmp", mask=True)
    return folder


def simple_ph2(folder: Path) -> Path:
    codes = {"IMD003": 0, "IMD009": 1, "IMD058": 2}
    for name in codes:
        picture(folder / "images" / f"{name}.jpg")
        picture(folder / "masks" / f"{name}_lesion.png", mask=True)
    rows = {"image_id": list(codes), "clinical_diagnosis": list(codes.values()), "asymmetry": 0}
    write(folder / "labels.csv", rows)
    return folder


def label_map(cohort: Cohort) -> pd.DataFrame:
    """Table of the class that each of a dataset's own labels becomes, with the number of images."""
    images = cohort.images
    own = [c for c in ("diagnosis", "diagnosis_group") if c in images]
    classes = target(cohort).map(dict(enumerate(target_names(cohort))))
    table = images[[*own, "malignancy"]].astype(object).fillna("none")
    table["class"] = classes.reindex(images.index).astype(object).fillna("left out")
    keys = list(table)
    counts = table.value_counts().rename("n").to_frame()
    if "subset" in images and images["subset"].notna().any():
        subset = images["subset"].astype(object).fillna("no part")
        by_part = table.assign(subset=subset).value_counts().unstack("subset", fill_value=0)
        order = [p for p in ("train", "val", "test", "no part") if p in by_part]
        counts = counts.join(by_part[order])
    return counts.sort_values("n", ascending=False, kind="stable").reset_index()[
        [*keys, *counts.columns]
    ]
