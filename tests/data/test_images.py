"""Image and mask files of every kind."""

import numpy as np
import pytest
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.data.images import read_image, read_mask


def test_masks_of_every_kind_read_alike(tmp_path):
    truth = np.zeros((6, 8), bool)
    truth[2:4, 3:6] = True
    grey = Image.fromarray(truth.astype(np.uint8) * 255)
    for name, image in {
        "grey.png": grey,
        "rgb.png": grey.convert("RGB"),
        "bool.png": grey.convert("1"),
        "small.png": Image.fromarray(truth.astype(np.uint8)),
        "deep.png": Image.fromarray(truth.astype(np.uint16) * 65535),
    }.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), truth, name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "grey.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"broken\.png: no readable image"):
        read_mask(tmp_path / "broken.png")
    with pytest.raises(DataError, match="is missing"):
        read_image(tmp_path / "none.png")
