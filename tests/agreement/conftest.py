"""Small cohorts of mask files."""

import numpy as np
import pandas as pd
import pytest
from engine_shapes import SHAPE, draw, save
from PIL import Image

from iavlib.data import Cohort
from iavlib.data.schemas import empty_pairs


@pytest.fixture
def mask_files(tmp_path) -> pd.DataFrame:
    """Images i0 (3 masks), i1 (2), i2 (1), i3 (2); the masks of i0 not in order of their names."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    rows = []
    for image, names in {"i0": "cab", "i1": "de", "i2": "f", "i3": "gh"}.items():
        for name in names:
            path = tmp_path / "masks" / f"{name}.png"
            save(draw(SHAPE, rng, 2), path)
            rows.append((name, image, str(path), f"A{name}", "T1", None if name == "a" else "S1"))
    columns = ["mask_id", "image_id", "path", "annotator", "tool", "skill"]
    return pd.DataFrame(rows, columns=columns).set_index("mask_id")


@pytest.fixture
def make_cohort(tmp_path):
    """Function from ``{image_id: {annotator or (annotator, number): mask}}`` to a cohort.

    Masks are written as PNG. A mask given as bytes is written as it is, None has no file. Images
    have the size of their first mask that is an array.
    """

    def write(name: str, mask) -> str | None:
        path = tmp_path / "masks" / name
        path.parent.mkdir(exist_ok=True)
        if mask is None:
            return None
        if isinstance(mask, bytes):
            path.write_bytes(mask)
        else:
            mask = np.asarray(mask)
            Image.fromarray(mask.astype(np.uint8) * 255 if mask.dtype == bool else mask).save(path)
        return str(path)

    def make(drawn: dict, pairs: pd.DataFrame | None = None, patients: dict | None = None):
        images, masks = [], []
        for image_id, of_image in drawn.items():
            arrays = [mask for mask in of_image.values() if isinstance(mask, np.ndarray)]
            height, width = arrays[0].shape[:2] if arrays else (10, 10)
            patient = (patients or {}).get(image_id)
            images.append(
                {"image_id": image_id, "width": width, "height": height, "patient_id": patient}
            )
            for number, (key, mask) in enumerate(of_image.items()):
                annotator = key if isinstance(key, str) else key[0]
                mask_id = f"{image_id}_{annotator}_T1_S1_{number}.png".replace("/", "_")
                masks.append(
                    {
                        "mask_id": mask_id,
                        "image_id": image_id,
                        "path": write(mask_id, mask),
                        "annotator": annotator,
                        "tool": "T1",
                        "skill": "S1",
                    }
                )
        empty = dict.fromkeys(("path", "diagnosis", "lesion_id", "licence", "sex", "site"))
        images = pd.DataFrame(images).assign(
            **empty, malignancy="benign", geometry="original", age=np.nan
        )
        return Cohort(
            "drawn",
            images.set_index("image_id"),
            pd.DataFrame(masks).set_index("mask_id"),
            empty_pairs() if pairs is None else pairs,
            synthetic=True,
        )

    return make
