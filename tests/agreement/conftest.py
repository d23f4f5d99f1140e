"""A small cohort of mask files."""

import numpy as np
import pandas as pd
import pytest
from engine_shapes import SHAPE, draw, save


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
