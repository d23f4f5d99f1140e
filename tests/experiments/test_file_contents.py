"""What a run is called follows from the content of its files."""

import os
import shutil
from dataclasses import replace

import pytest
from PIL import Image, ImageOps

from iavlib.core import files
from iavlib.core.files import content_digests
from iavlib.data.datasets import phantom
from iavlib.experiments import Experiment, resolve


@pytest.fixture
def photographs(tmp_path):
    """A cohort that counts as real, with uncompressed photographs."""
    made = phantom.load(n_images=12, size=(32, 32), cache=tmp_path / "cache")
    images = made.images.copy()
    for image_id, path in images["path"].items():
        images.loc[image_id, "path"] = str(tmp_path / f"{image_id}.bmp")
        Image.open(path).convert("RGB").save(tmp_path / f"{image_id}.bmp")
    return replace(made, name="own", synthetic=False, images=images)


def _id(cohort):
    return resolve(Experiment(task="constant", cohort="phantom"), cohort).id


@pytest.mark.parametrize("keep_times", [True, False])
def test_photographs_changed_in_place_make_another_run(photographs, keep_times):
    before = _id(photographs)
    assert _id(photographs) == before
    for path in photographs.images["path"]:
        facts = os.stat(path)
        ImageOps.invert(Image.open(path)).save(path)
        if keep_times:
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert os.stat(path).st_size == facts.st_size
    assert _id(photographs) != before


def test_photographs_that_are_moved_make_the_same_run(photographs, tmp_path):
    before = _id(photographs)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for image_id, path in photographs.images["path"].items():
        photographs.images.loc[image_id, "path"] = shutil.move(path, moved)
    assert _id(photographs) == before


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"content")
    [first] = content_digests([path])
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert content_digests([path, str(path)]) == [first, first]


@pytest.mark.parametrize("damage", ["directory", "garbage"])
def test_a_cache_that_cannot_be_used_costs_time_only(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    table = tmp_path / "cache" / "digests.sqlite"
    table.parent.mkdir()
    table.mkdir() if damage == "directory" else table.write_bytes(b"no database" * 999)
    path = tmp_path / "a"
    path.write_bytes(b"content")
    [first] = content_digests([path])
    path.write_bytes(b"CONTENT")
    assert content_digests([path]) != [first]
