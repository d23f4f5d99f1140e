"""Image and mask files of every kind."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.data.images import image_size, read_image, read_mask, read_photograph
from iavlib.data.own_masks import decode, look_at_files


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


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


#: First column and row of each pass of an interlaced PNG, and the steps between them.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
PASSES += ((0, 1, 1, 2),)


def png(width, height, rows, value=0, bits=8, colour=0, passes=((0, 0, 1, 1),)):
    """Make a PNG of one value with so many rows (of all passes), whatever height it states."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    lines = []
    for left, top, right, down in passes:
        n = -(-(width - left) // right) * bits * channels
        lines += [b"\0" + bytes([value]) * (-(-n // 8))] * -(-(height - top) // down)
    palette = bytes(range(6)) if colour == 3 else b""
    return assembled((width, height, bits, colour, 0, 0, len(passes) > 1), palette, lines[:rows])


def assembled(header, palette, lines):
    chunks = chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + chunk(b"PLTE", palette)
    stream = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + chunks + stream + chunk(b"IEND", b"")


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize(("bits", "colour"), [(1, 0), (8, 0), (8, 2), (8, 3), (8, 4), (8, 6)])
def test_a_png_without_its_last_rows_is_refused(tmp_path, bits, colour, value):
    path = tmp_path / "short.png"
    for read in (read_mask, read_image, read_photograph):
        for rows in (1, 40, 78, 79):
            path.write_bytes(png(60, 80, rows, value, bits, colour))
            with pytest.raises(DataError, match=r"short\.png: its last rows are missing"):
                read(path)
        path.write_bytes(png(60, 80, 80, value, bits, colour))
        pixels = np.asarray(read(path))
        assert pixels.shape[:2] == (80, 60) and (pixels == pixels[0, 0]).all()


@pytest.mark.parametrize("height", [80, 81])
@pytest.mark.parametrize("value", [0, 255])
def test_an_interlaced_png_is_whole_or_refused(tmp_path, height, value):
    path = tmp_path / "interlaced.png"
    whole = png(64, height, None, value, passes=PASSES)
    path.write_bytes(whole)
    assert (read_mask(path) == (value > 0)).all()
    for rows in (5, 100, 149):
        path.write_bytes(png(64, height, rows, value, passes=PASSES))
        assert path.read_bytes() != whole
        with pytest.raises(DataError, match="last rows"):
            read_mask(path)


@pytest.mark.parametrize("sides", [(100_000_000, 1), (1, 100_000_000), (70_000, 3)])
def test_a_header_cannot_claim_a_side_of_any_length(tmp_path, sides):
    path = tmp_path / "long.png"
    path.write_bytes(assembled((*sides, 8, 0, 0, 0, 0), b"", [b"\0\0"]))
    for read in (read_mask, read_image, read_photograph, image_size):
        with pytest.raises(DataError, match=r"long\.png: .* pixels are more than the limit of"):
            read(path)


def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch):
    pages = [Image.new("L", (40, 40)), Image.new("L", (40, 40))]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    content = path.read_bytes()  # the last entry 259 (compression) is the second page's
    entry = struct.pack("<HHIHH", 259, 3, 1, 5, 0)
    first, _, second = content.rpartition(entry)
    assert first
    path.write_bytes(first + struct.pack("<HHIHH", 259, 3, 1, 34712, 0) + second)
    for read in (read_mask, read_photograph):
        with pytest.raises(DataError, match=r"pages\.tif"):
            read(path)
    pages[0].save(tmp_path / "grey.bmp")
    for error in (KeyError(34712), MemoryError(), RuntimeError("odd"), OverflowError()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
        with pytest.raises(DataError, match=r"grey\.bmp: (no readable image|not enough memory)"):
            read_image(tmp_path / "grey.bmp")


@pytest.mark.parametrize("content", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"%PDF-1.7\n", b"II\0"])
def test_other_formats_are_named_with_a_remedy(tmp_path, content):
    path = tmp_path / "photo.heic"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"photo\.heic: no readable image.*as JPEG, PNG"):
        read_photograph(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (30, 41)])
def test_a_mask_that_was_looked_at_is_read_from_memory(tmp_path, shape):
    rng, path = np.random.default_rng(0), tmp_path / "mask.png"
    for mask in (rng.random(shape) < 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        looks = look_at_files(pd.DataFrame({"path": [str(path)]}), None)
        path.unlink()
        np.testing.assert_array_equal(decode(str(path), looks)[0], mask)
