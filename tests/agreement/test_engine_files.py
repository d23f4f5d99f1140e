"""Mask files of every kind."""

import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.data.images import read_image, read_mask

TRUTH = np.zeros((6, 8), bool)
TRUTH[2:4, 3:6] = True
GREY = Image.fromarray(TRUTH.astype(np.uint8) * 255)


def palette(*colours, indices=TRUTH):
    image = Image.fromarray(np.asarray(indices, np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    return image


GRADIENT = np.linspace(0, 0.45, 8) * np.ones((6, 1))


def transparent():
    image = GREY.convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    return image


def cut_out(colour):
    """The lesion in one colour, all else transparent."""
    pixels = np.zeros((*TRUTH.shape, 4), np.uint8)
    pixels[TRUTH] = (*colour, 255)
    return Image.fromarray(pixels)


def coloured(colour, ground=(0, 0, 0)):
    return Image.fromarray(np.where(TRUTH[..., None], colour, ground).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "image"),
    {
        "grey.png": GREY,
        "bits.png": GREY.convert("1"),
        "low.png": Image.fromarray(TRUTH.astype(np.uint8)),
        "deep.png": Image.fromarray(TRUTH.astype(np.uint16) * 65535),
        "deep_low.png": Image.fromarray(TRUTH.astype(np.uint16)),
        "whole.tif": Image.fromarray(TRUTH.astype(np.int32)),
        "float.tif": Image.fromarray(TRUTH.astype(np.float32) * 0.3),
        "rgb.png": GREY.convert("RGB"),
        "rgba.png": GREY.convert("RGBA"),
        "la.png": GREY.convert("LA"),
        "palette.png": GREY.convert("P"),
        "label.png": palette((0, 0, 0), (128, 0, 0)),
        "dark_label.png": palette((0, 0, 0), (0, 0, 1)),
        "swapped.png": palette((255, 255, 255), (0, 0, 0), indices=~TRUTH),
        "alpha.png": transparent(),
        "opaque.png": cut_out((255, 0, 0)),
        "black.png": cut_out((0, 0, 0)),
        "red.png": coloured((128, 0, 0)),
        "on_white.png": coloured((0, 128, 0), ground=(255, 255, 255)),
        "probability.tif": Image.fromarray(np.where(TRUTH, 0.95, 0.05).astype(np.float32)),
        "low_probability.tif": Image.fromarray(np.where(TRUTH, 0.8, GRADIENT).astype(np.float32)),
        "eighths.png": Image.fromarray(np.where(TRUTH, 242, 13).astype(np.uint8)),
        "shadow.png": Image.fromarray(np.where(TRUTH, 250, GRADIENT * 250).astype(np.uint8)),
        "grey.bmp": GREY,
        "grey.gif": GREY,
    }.items(),
)
def test_masks_of_every_kind_read_alike(tmp_path, name, image):
    image.save(tmp_path / name)
    mask = read_mask(tmp_path / name)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, TRUTH)


def rgb(value):
    array = np.repeat(TRUTH[..., None].astype(np.uint8) * 255, 3, axis=2)
    array[5, 1, 2] = value
    return Image.fromarray(array)


def photograph():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8))


def classes(*values):
    array = np.zeros((9, 12), np.uint8)
    for n, value in enumerate(values):
        array[2:6, 4 * n : 4 * n + 3] = value
    return Image.fromarray(array)


@pytest.mark.parametrize(
    ("name", "image", "told"),
    [
        ("picture.png", photograph(), "channels differ in 48 pixels, first in row 0, column 0"),
        ("colours.png", rgb(9), "2 colours besides the background: #000009, #ffffff"),
        ("small.png", classes(1, 2), "classes 1, 2"),
        ("void.png", classes(1, 2, 255), "classes 1, 2"),
        ("greys.png", classes(128, 255), "classes 128, 255"),
        ("minus.tif", Image.fromarray(-TRUTH.astype(np.int32)), "negative values"),
        (
            "labels.png",
            palette((0,) * 3, (128, 0, 0), (0, 128, 0), indices=TRUTH * 1 + 1),
            "colour",
        ),
        ("cmyk.tif", GREY.convert("CMYK"), "colour mode CMYK"),
        ("nan.tif", Image.fromarray(np.where(TRUTH, np.nan, 0).astype(np.float32)), "6 pixels are"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_what_is_no_mask_is_refused(tmp_path, name, image, told):
    if name == "labels.png":
        image.putpixel((0, 0), 0)
        image.putpixel((1, 0), 1)
    image.save(tmp_path / name)
    with pytest.raises(DataError, match=told) as caught:
        read_mask(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.hint


def test_several_pages_are_refused(tmp_path):
    GREY.save(tmp_path / "pages.tif", save_all=True, append_images=[GREY])
    with pytest.raises(DataError, match="2 pages"):
        read_mask(tmp_path / "pages.tif")


def test_colours_of_sixteen_bits_are_refused(tmp_path):
    """Pillow would cut them to eight bits, and 0 < value < 256 to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">6H", 1, 1, 1, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n"
    png += chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "deep_rgb.png").write_bytes(png)
    with pytest.raises(DataError, match="several channels of 16 bits"):
        read_mask(tmp_path / "deep_rgb.png")


def bomb(path, side):
    """A PNG whose header promises side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")):
        png += struct.pack(">I", len(data)) + kind + data
        png += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(png)
    return path


def test_a_bomb_is_refused_by_its_header(tmp_path):
    with pytest.raises(DataError, match=r"10,001 x 10,001 pixels are more than the limit"):
        read_mask(bomb(tmp_path / "large.png", 10_001))
    for read in (read_mask, read_image):
        with pytest.raises(DataError, match="more than 178,956,970 pixels") as caught:
            read(bomb(tmp_path / "bomb.png", 30_000))
        assert "scale it down" in caught.value.hint
    GREY.save(tmp_path / "grey.png")
    assert read_mask(tmp_path / "grey.png", max_pixels=48).any()
    with pytest.raises(DataError, match="8 x 6 pixels"):
        read_mask(tmp_path / "grey.png", max_pixels=47)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged TIFF
@pytest.mark.parametrize("name", ["cut.png", "cut.tif", "cut.gif", "cut.bmp"])
def test_damaged_files_are_told_and_nothing_else(tmp_path, name):
    """Cut short at every length and altered in a few bytes: a DataError, or a mask."""
    path = tmp_path / name
    GREY.save(path)
    whole = path.read_bytes()
    chance = random.Random(0)
    damaged = [whole[:length] for length in range(0, len(whole), 3)]
    for _ in range(150):
        altered = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            altered[chance.randrange(len(altered))] = chance.randrange(256)
        damaged.append(bytes(altered))
    told = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read_mask(path).dtype == bool
        except DataError as error:
            assert name in str(error)
            told += 1
    assert told > len(damaged) / 4


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="the file is missing"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(DataError, match="no readable image"):
        read_mask(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="no readable image"):
        read_mask(tmp_path / "text.png")
