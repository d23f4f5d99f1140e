"""Runs that are killed, and disks that are full: what was done stays, to the last bit."""

import errno
import functools
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import killed_run
import pytest
import torch

from iavlib.core.errors import CheckpointError
from iavlib.training import loop
from iavlib.training.loop import CHECKPOINT, fit, load_checkpoint, save_checkpoint
from iavlib.training.objectives import ImageObjective
from iavlib.training.recipe import get_recipe

TEMPORARY = ".checkpoint.pt.tmp"


@pytest.fixture(scope="module")
def start(pictures, cache, tmp_path_factory):
    """Start a run by recipe and folder, in a process forked from one that has imported all."""
    table = tmp_path_factory.mktemp("told") / "pictures.csv"
    pictures[0].to_frame().join(pictures[1]).to_csv(table)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["iavlib.training.objectives", "iavlib.training.loop"])

    def begin(recipe, folder):
        told = (recipe, str(table), str(cache.path.parent), str(folder))
        process = context.Process(target=killed_run.main, args=told)
        process.start()
        return process

    return begin


def end(process):
    process.join(120)
    assert process.exitcode == 0


def kill(process):
    process.kill()
    process.join(60)
    return process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """Runs that nothing disturbed: folder and seconds by recipe."""

    @functools.cache
    def by_recipe(recipe):
        folder, begun = tmp_path_factory.mktemp(recipe), time.monotonic()
        end(start(recipe, folder))
        return folder, time.monotonic() - begun

    return by_recipe


def assert_equal(folder, other):
    one, two = (torch.load(place / "result.pt", weights_only=True) for place in (folder, other))
    assert one["history"] == two["history"]
    assert torch.equal(one["predictions"], two["predictions"])
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, two["weights"][name]), name


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", ["paper", "modern"])
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(
    start, undisturbed, tmp_path, recipe
):
    whole, seconds = undisturbed(recipe)
    rng, kills = random.Random(recipe), 0
    while kills < 3:
        process = start(recipe, tmp_path)
        time.sleep(rng.uniform(0.1, 0.5) * seconds)
        kills += kill(process)
        if (tmp_path / "result.pt").exists():  # it was quicker than expected
            (tmp_path / CHECKPOINT).unlink()
            (tmp_path / "result.pt").unlink()
    end(start(recipe, tmp_path))
    assert_equal(whole, tmp_path)


@pytest.mark.thorough
def test_a_kill_while_the_checkpoint_is_written(start, undisturbed, tmp_path):
    for _ in range(3):
        process = start("paper", tmp_path)
        while not (tmp_path / TEMPORARY).exists():
            assert process.is_alive()
        kill(process)
    assert not (tmp_path / "result.pt").exists()
    end(start("paper", tmp_path))
    assert_equal(undisturbed("paper")[0], tmp_path)


class Stopped(Exception):
    """Stands for a kill, in this process."""


def run(subsets, tiny, folder, epochs_before_stop=None, **overrides):
    """Train, and stop after some epochs; return the history."""
    recipe = get_recipe("smoke", **{"epochs": 4, **overrides})

    def stop(row):
        if row["epoch"] + 1 == epochs_before_stop:
            raise Stopped

    objective = ImageObjective(subsets[1], "iaa")
    return fit(tiny(), subsets[0], objective, recipe, folder, seed=1, progress=stop)


def stopped(subsets, tiny, folder, epochs, **overrides):
    with pytest.raises(Stopped):
        run(subsets, tiny, folder, epochs, **overrides)
    return folder / CHECKPOINT


def refuse(number):
    def refusing(*_):
        raise OSError(number, os.strerror(number))

    return refusing


def test_a_full_disk_leaves_the_checkpoint_before(subsets, tiny, tmp_path, monkeypatch):
    path = stopped(subsets, tiny, tmp_path, 2)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(loop.os, "fsync", refuse(errno.ENOSPC))
        with pytest.raises(CheckpointError, match=r"checkpoint.pt: .* disk is full .* is intact"):
            run(subsets, tiny, tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    history = run(subsets, tiny, tmp_path)
    fresh = run(subsets, tiny, None)
    assert history["train_loss"].tolist() == fresh["train_loss"].tolist()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_really_full(tmp_path):
    (tmp_path / TEMPORARY).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"the disk is full .*there is none yet"):
        save_checkpoint(tmp_path / "checkpoint.pt", {"tensor": torch.zeros(100_000)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EROFS, "[Rr]ead-only"), (errno.EACCES, "[Pp]ermission denied")]
)
def test_a_folder_that_cannot_be_written(subsets, tiny, tmp_path, monkeypatch, number, said):
    monkeypatch.setattr(loop.os, "replace", refuse(number))
    with pytest.raises(CheckpointError, match=f"{said}.*; make its folder writable"):
        run(subsets, tiny, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more", b"{}"])
def test_a_damaged_checkpoint_is_named(subsets, tiny, tmp_path, damage):
    path = stopped(subsets, tiny, tmp_path, 1)
    path.write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a readable checkpoint"):
        run(subsets, tiny, tmp_path)


def test_a_truncated_checkpoint_is_named(subsets, tiny, tmp_path):
    path = stopped(subsets, tiny, tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="remove it to start this run anew"):
        run(subsets, tiny, tmp_path)


def test_nothing_that_is_no_tensor_or_plain_value_is_loaded(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"anything": path}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_recipe_says_what_differs(subsets, tiny, tmp_path):
    stopped(subsets, tiny, tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"of another run \(lr 0.01, here 0.02\)"):
        run(subsets, tiny, tmp_path, lr=0.02)


def test_a_checkpoint_of_other_images_says_so(subsets, tiny, tmp_path):
    stopped(subsets, tiny, tmp_path, 1)
    fewer = subsets[0].select(subsets[0].ids[:10])
    with pytest.raises(CheckpointError, match=r"of another run \(images"):
        run((fewer, subsets[1]), tiny, tmp_path)


def test_a_checkpoint_of_another_network_says_so(subsets, tiny, tmp_path):
    stopped(subsets, tiny, tmp_path, 1)
    with pytest.raises(CheckpointError, match="it is from another network"):
        run(subsets, lambda: tiny(outputs=2), tmp_path)


def test_a_finished_run_is_read(subsets, tiny, tmp_path):
    first = run(subsets, tiny, tmp_path)
    before = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    again = run(subsets, tiny, tmp_path)
    assert first.equals(again)
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == before
