"""The image cache: the pixels of Pillow, once, for all who ask, or an error that names the file."""

import errno
import json
import multiprocessing
import os
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iavlib.core.errors import DataError
from iavlib.training import image_cache
from iavlib.training.image_cache import cache_images

SIZE = 16


def colourful(width=30, height=20, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path):
    """Files of every colour mode that dermatoscopes and programs write."""
    image, alpha = colourful(), Image.linear_gradient("L").resize((30, 20))
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    images = {
        "rgb": (image, "jpg"),
        "grey": (image.convert("L"), "jpg"),
        "cmyk": (image.convert("CMYK"), "jpg"),
        "rgba": (with_alpha, "png"),
        "palette": (image.quantize(16), "png"),
        "grey_alpha": (with_alpha.convert("LA"), "png"),
        "one_bit": (image.convert("1"), "png"),
    }
    paths = {}
    for name, (picture, ending) in images.items():
        paths[name] = tmp_path / f"{name}.{ending}"
        picture.save(paths[name])
    return pd.Series(paths).rename_axis("image_id")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def test_pixels_are_pillows_bicubic_of_rgb(files, folder):
    cache = cache_images(files, SIZE, folder)
    assert cache.ids.tolist() == files.index.tolist()
    assert cache.pixels.shape == (len(files), SIZE, SIZE, 3) and cache.pixels.dtype == np.uint8
    assert len(cache) == len(files) and cache.size == SIZE
    for name, pixels in zip(cache.ids, cache.pixels, strict=True):
        with Image.open(files[name]) as image:
            scaled = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        assert (pixels == np.asarray(scaled)).all(), name


def test_colour_modes_show_the_same_picture(files, folder):
    cache = cache_images(files, SIZE, folder)
    rgb, cmyk, rgba = (cache.pixels[cache.rows([name])[0]] for name in ("rgb", "cmyk", "rgba"))
    assert np.abs(rgb.astype(int) - rgba).mean() < 10  # JPEG beside PNG
    assert np.abs(rgb.astype(int) - cmyk).mean() < 10


def test_the_second_time_nothing_is_decoded(files, folder, monkeypatch):
    first = cache_images(files, SIZE, folder)
    monkeypatch.setattr(image_cache, "_build", lambda *_: pytest.fail("it was built again"))
    again = cache_images(files, SIZE, folder)
    assert again.path == first.path and (again.pixels == first.pixels).all()


def test_writing_into_the_pixels_never_reaches_the_file(files, folder):
    cache_images(files, SIZE, folder).pixels[:] = 0
    assert cache_images(files, SIZE, folder).pixels.any()


@pytest.mark.parametrize("change", ["content", "ids", "order", "size"])
def test_another_content_is_another_cache(files, folder, change):
    first = cache_images(files, SIZE, folder)
    size = SIZE
    if change == "content":
        colourful(31, 21, seed=1).save(files["rgb"])
    elif change == "ids":
        files = files.rename(index={"rgb": "renamed"})
    elif change == "order":
        files = files[::-1]
    else:
        size = SIZE + 1
    assert cache_images(files, size, folder).key != first.key


def test_files_that_differ_in_content_alone_are_told_apart(tmp_path, folder):
    """Uncompressed photographs agree in name, size and, unpacked from an archive, in time."""
    levels = {}
    for name, level in (("black", 0), ("white", 255)):
        path = tmp_path / name / "photo.bmp"
        path.parent.mkdir()
        Image.new("RGB", (8, 8), (level,) * 3).save(path)
        os.utime(path, ns=(10**18, 10**18))
        cache = cache_images(pd.Series({"photo": str(path)}), 4, folder)
        levels[name] = cache.pixels.mean()
    assert levels == {"black": 0, "white": 255}
    state = path.stat()
    Image.new("RGB", (8, 8), (9,) * 3).save(path)  # in place, the time set back
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert cache_images(pd.Series({"photo": str(path)}), 4, folder).pixels.mean() == 9


def damage_pixels(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen_pixels(path):
    path.write_bytes(path.read_bytes() + b"0")


def other_shape(path):
    np.save(path, np.zeros((2, SIZE, SIZE, 3), np.uint8))


def other_type(path):
    np.save(path, np.load(path).astype(np.int8))


def no_array(path):
    path.write_bytes(b"no array at all")


def empty_index(path):
    path.with_suffix(".json").write_text("")


def other_index(path):
    index = json.loads(path.with_suffix(".json").read_text())
    index["images"][0][0] = "somebody else"
    path.with_suffix(".json").write_text(json.dumps(index))


def other_checksum(path):
    index = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**index, "sha256": "0"}))


def no_index(path):
    path.with_suffix(".json").unlink()


DAMAGES = (
    damage_pixels,
    lengthen_pixels,
    other_shape,
    other_type,
    no_array,
    empty_index,
    other_index,
    other_checksum,
    no_index,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_anew(files, folder, damage):
    first = cache_images(files, SIZE, folder)
    whole = np.array(first.pixels)
    damage(first.path)
    again = cache_images(files, SIZE, folder)
    assert again.path == first.path and (again.pixels == whole).all()


@pytest.mark.parametrize("kept", [0, 2, 300])
def test_a_corrupt_jpeg_is_named_and_nothing_is_kept(files, folder, kept):
    files["rgb"].write_bytes(files["rgb"].read_bytes()[:kept])
    with pytest.raises(DataError, match=r"rgb\.jpg: no readable image"):
        cache_images(files, SIZE, folder)
    assert [file.suffix for file in folder.iterdir()] == [".lock"]


def test_several_corrupt_files_are_counted(files, folder):
    for name in ("rgb", "cmyk", "palette"):
        files[name].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"rgb\.jpg: .*3 files are at fault, also .*cmyk\.jpg"):
        cache_images(files, SIZE, folder)


def test_sixteen_bits_are_refused_rather_than_cut_off(files, folder):
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(files["palette"])
    with pytest.raises(DataError, match=r"palette\.png: a grey image of more than 8 bits"):
        cache_images(files, SIZE, folder)


def test_missing_files_and_paths_are_named(files, folder):
    files["rgb"].unlink()
    with pytest.raises(DataError, match=r"rgb\.jpg: image rgb cannot be read \(No such file"):
        cache_images(files, SIZE, folder)
    files["grey"] = None
    with pytest.raises(DataError, match="1 images have no file: grey"):
        cache_images(files, SIZE, folder)
    twice = pd.concat([files[["cmyk"]], files[["cmyk"]]])
    with pytest.raises(DataError, match="cmyk twice"):
        cache_images(twice, SIZE, folder)
    with pytest.raises(ValueError, match="no image to read"):
        cache_images(files[:0], SIZE, folder)
    with pytest.raises(ValueError, match="size must be a whole number"):
        cache_images(files, 0, folder)


def test_a_full_disk_keeps_nothing_and_names_the_cache(files, folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(image_cache.os, "replace", refuse)
        with pytest.raises(OSError, match=r"No space left.*\.npy"):
            cache_images(files, SIZE, folder)
    assert [file.suffix for file in folder.iterdir()] == [".lock"]
    assert len(cache_images(files, SIZE, folder)) == len(files)


def test_several_processes_read_the_same(files, folder, tmp_path):
    paths = {f"{name}_{i}": path for i in range(5) for name, path in files.items()}
    paths = pd.Series(paths)
    one = cache_images(paths, SIZE, folder, processes=1)
    two = cache_images(paths, SIZE, tmp_path / "other", processes=2)
    assert (one.pixels == two.pixels).all()


def test_those_who_ask_at_once_wait_for_the_first(files, folder, monkeypatch, capfd):
    built, build = [], image_cache._build

    def counted(*arguments):
        built.append(threading.get_ident())
        build(*arguments)

    monkeypatch.setattr(image_cache, "_build", counted)
    found = []
    askers = [
        threading.Thread(target=lambda: found.append(cache_images(files, SIZE, folder)))
        for _ in range(4)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(built) == 1 and len({cache.key for cache in found}) == 1


def test_a_builder_that_was_killed_is_no_obstacle(files, folder):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=die_while_building, args=(files, folder))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert len(list(folder.glob(".*.tmp"))) == 1
    assert len(cache_images(files, SIZE, folder)) == len(files)
    assert not list(folder.glob(".*.tmp"))


def die_while_building(files, folder):
    image_cache.os.replace = lambda *_: os.kill(os.getpid(), 9)
    cache_images(files, SIZE, folder)


def test_an_unknown_image_is_named(files, folder):
    with pytest.raises(KeyError, match="no image nobody in"):
        cache_images(files, SIZE, folder).rows(["rgb", "nobody"])
