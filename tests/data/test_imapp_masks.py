"""Masks of IMA++ from a server on this machine, in the form of Zenodo's."""

import contextlib
import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pooch.downloaders import ZenodoRepository
from typer.testing import CliRunner

from iavlib import data
from iavlib.cli.main import data_app as app
from iavlib.core import files
from iavlib.core.errors import FetchError
from iavlib.data import imapp_fetch
from iavlib.data.datasets import imapp
from iavlib.data.datasets.imapp import STAGING
from iavlib.data.download import digest

RECORD = imapp_fetch.RECORD


def png(number: int) -> bytes:
    """A mask with noise, so that it hardly shrinks; 3 and 4 are the same, as some published are."""
    pixels = np.random.default_rng(min(number, 3) if number < 5 else number).random((30, 40)) < 0.5
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def zipped(masks: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("segs/", b"")
        archive.writestr("__MACOSX/segs/._x.png", b"what a Mac adds")
        for name, content in masks.items():
            archive.writestr(f"segs/{name}", content)
    return stream.getvalue()


def tarred(masks: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in masks.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def offer(server, content: bytes, name: str = "segs.zip") -> None:
    files = {"train.csv": b"image\n", name: content}
    server.publish(RECORD, files, {n: hashlib.md5(c).hexdigest() for n, c in files.items()})


def state(folder):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("*.png")}


@pytest.fixture
def masks(tiny_imapp, server, monkeypatch, pauses):
    """Name to content of the twelve masks of the table, which a server offers as an archive."""
    table = pd.read_csv(tiny_imapp / imapp.MASKS)
    content = {name: png(i) for i, name in enumerate(table["seg_filename"])}
    md5s = [hashlib.md5(c).hexdigest().upper() for c in content.values()]
    table.assign(mask_md5=md5s).to_csv(tiny_imapp / imapp.MASKS, index=False)
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    monkeypatch.setattr(ZenodoRepository, "base_api_url", f"{server.address}/records")
    tables = {n: digest(tiny_imapp / n) for n in imapp.REQUIRED}
    monkeypatch.setattr(imapp, "IMAPP_TABLES", tables)
    offer(server, zipped(content))
    return content


def run(*options, **more):
    return CliRunner().invoke(app, ["fetch", "imapp", "--masks", *options], **more)


def fetch(**options):
    return imapp_fetch.fetch_masks(imapp_fetch.plan_masks(attempts=2), attempts=2, **options)


def test_command_gets_verifies_and_tidies(masks, server, tiny_imapp):
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert "masks: 12 of 12 to get, 0.0 MB to download, needs about 0.1 MB of disk" in result.output
    assert "are free in" in result.output
    assert "masks: 12 verified, 0 missing, 0 different" in result.output
    for name, content in masks.items():
        assert (tiny_imapp / "masks" / name).read_bytes() == content
    assert sorted(p.name for p in (tiny_imapp / "masks").iterdir()) == sorted(masks)
    assert data.load("imapp").masks["path"].notna().all()


def test_what_is_here_needs_no_network(masks, server, tiny_imapp):
    fetch()
    before, asked = state(tiny_imapp / "masks"), len(server.asked)
    result = run()
    assert result.exit_code == 0
    assert "masks: all 12 are here and verified" in result.output
    assert len(server.asked) == asked
    assert state(tiny_imapp / "masks") == before


def test_a_tar_will_do(masks, server):
    offer(server, tarred(masks), "segs.tar.gz")
    assert fetch().complete


def test_dry_run_writes_nothing(masks, tiny_imapp):
    before = sorted(tiny_imapp.rglob("*"))
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "masks: 12 of 12 to get" in result.output
    assert sorted(tiny_imapp.rglob("*")) == before


def test_dry_run_before_the_tables(masks, tiny_imapp):
    (tiny_imapp / imapp.MASKS).unlink()
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "tables: 1 to fetch" in result.output


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "nobody there"])
def test_nothing_without_a_yes(masks, tiny_imapp, answer):
    result = run(input=answer)
    assert result.exit_code == 1
    assert "stopped, nothing was downloaded; --yes goes on" in result.output
    assert not (tiny_imapp / "masks").exists()
    assert run(input="y\n").exit_code == 0


def test_only_missing_and_damaged_masks_are_unpacked(masks, tiny_imapp):
    fetch()
    lost, damaged = list(masks)[2:4]
    (tiny_imapp / "masks" / lost).unlink()
    (tiny_imapp / "masks" / damaged).write_bytes(b"half a ma")
    before = state(tiny_imapp / "masks")
    assert imapp_fetch.plan_masks().todo == 2
    assert fetch().complete
    after = state(tiny_imapp / "masks")
    assert {n for n in after if after[n] != before.get(n)} == {lost, damaged}


def test_a_mask_that_differs_is_left_out_and_named(masks, server, tiny_imapp):
    fresh, good, mine, absent = list(masks)[:4]
    (tiny_imapp / "masks").mkdir()
    (tiny_imapp / "masks" / good).write_bytes(masks[good])
    (tiny_imapp / "masks" / mine).write_bytes(b"edited by me")
    altered = masks | {fresh: png(90), good: png(91), mine: png(92)}
    del altered[absent]
    offer(server, zipped(altered))
    result = run("--yes")
    assert result.exit_code == 1
    assert "masks: 9 verified, 1 missing, 2 different" in result.output
    assert f"missing: {absent}" in result.output
    assert f"different: {fresh}, {mine}" in result.output
    assert "to fix it:" in result.output
    assert not (tiny_imapp / "masks" / fresh).exists()
    assert (tiny_imapp / "masks" / good).read_bytes() == masks[good]
    assert (tiny_imapp / "masks" / mine).read_bytes() == b"edited by me"
    # The archive was right by its own hash, and is not downloaded again.
    downloads = [path for path, _ in server.asked if path.endswith("content")]
    assert run("--yes").exit_code == 1
    assert [path for path, _ in server.asked if path.endswith("content")] == downloads
    assert run("--yes", "--optional").exit_code == 0


def test_fingerprint_sees_masks_but_not_what_is_being_fetched(masks, server, tiny_imapp):
    offer(server, zipped(masks | {"more.bin": np.random.default_rng(0).bytes(200_000)}))
    before = data.fingerprint("imapp")
    server.manners = ["hangs up", "503"]
    with pytest.raises(FetchError, match="Run the same command again"):
        fetch()
    assert any((tiny_imapp / "masks" / STAGING).glob("*.part"))
    assert data.fingerprint("imapp") == before
    assert "fetching the masks was interrupted" in CliRunner().invoke(app, ["status"]).output
    assert fetch().complete
    assert [r for p, r in server.asked if p.endswith("content")][-1].startswith("bytes=")
    assert data.fingerprint("imapp") != before


def test_an_unsafe_archive_is_refused_before_anything_is_written(masks, server, tiny_imapp):
    offer(server, zipped(masks | {"../../outside.png": b"x"}))
    result = run("--yes")
    assert result.exit_code == 1
    assert "leads outside the folder" in result.output
    assert state(tiny_imapp / "masks") == {}
    assert not list(tiny_imapp.parent.rglob("outside.png"))


def test_it_does_not_fit(masks, tiny_imapp, monkeypatch):
    monkeypatch.setattr(files, "free_space", lambda folder: 1000)
    for options in (["--yes"], ["--dry-run"]):
        result = run(*options)
        assert result.exit_code == 1
        assert "masks do not fit: they need about 0.1 MB, and 0.0 MB are free" in result.output
    assert not (tiny_imapp / "masks").exists()


def test_a_disk_that_fills_while_unpacking(masks, tiny_imapp, monkeypatch):
    class Filling(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(imapp_fetch, "open", lambda *args: Filling(), raising=False)
        result = run("--yes")
    assert result.exit_code == 1
    assert "the disk is full" in result.output
    assert len(result.output.splitlines()) == 3
    assert state(tiny_imapp / "masks") == {}
    assert fetch().complete


def test_a_read_only_data_home(masks, monkeypatch, tiny_imapp):
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "access", lambda *args: False)
        result = run("--yes")
    assert result.exit_code == 1
    assert "is read-only. Set IAV_DATA_HOME" in result.output
    assert not (tiny_imapp / "masks").exists()


def test_no_network(masks, server):
    server.shutdown()
    server.server_close()
    result = run("--yes", "--timeout", "0.5")
    assert result.exit_code == 1
    assert "not fetched: 10.5281/zenodo.14201693" in result.output
    assert "the server cannot be reached" in result.output
    assert "Traceback" not in result.output


def test_a_record_without_an_archive(masks, server):
    server.publish(RECORD, {"train.csv": b"x"}, {"train.csv": hashlib.md5(b"x").hexdigest()})
    with pytest.raises(FetchError, match=r"no archive of masks, only train\.csv"):
        imapp_fetch.plan_masks()


def test_one_fetch_at_a_time(masks, tiny_imapp):
    with files.only_one(tiny_imapp / f"{STAGING}.lock", "iav data fetch"):
        result = run("--yes")
    assert result.exit_code == 1
    assert "another 'iav data fetch' is at work" in result.output


def test_a_table_with_a_path_for_a_name(masks, tiny_imapp):
    path = tiny_imapp / imapp.MASKS
    path.write_text(path.read_text().replace("ISIC_0000000_A01", "../ISIC_0000000_A01"))
    with pytest.raises(data.DataError, match="is no plain file name"):
        imapp_fetch.plan_masks()


PROGRAM = """
import os, sys, time
from pooch.downloaders import ZenodoRepository
from iavlib.data import imapp_fetch
ZenodoRepository.base_api_url = sys.argv[1] + "/records"
real = os.replace
def slowly(source, target):
    time.sleep(0.05)
    real(source, target)
imapp_fetch.os.replace = slowly
imapp_fetch.fetch_masks(imapp_fetch.plan_masks())
"""


@pytest.mark.thorough
def test_killed_while_unpacking_and_run_again(masks, server, tiny_imapp):
    folder = tiny_imapp / "masks"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, server.address])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.png"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    before = state(folder)
    assert 4 <= len(before) < 12
    for name in before:
        assert (folder / name).read_bytes() == masks[name]
    downloads = len(server.asked)
    assert fetch().complete
    after = state(folder)
    assert {name: after[name] for name in before} == before
    # Only the record is asked for again: the archive is here and whole.
    assert [path for path, _ in server.asked[downloads:]] == [f"/records/{RECORD}"]
    with contextlib.suppress(FileNotFoundError):
        pytest.fail(f"left: {os.listdir(folder / STAGING)}")


def test_real_masks_are_verified_by_their_md5(imapp_home, monkeypatch):
    """Of the masks in the data home some are byte for byte the published ones, none is another."""
    hashes = imapp_fetch.mask_hashes(imapp_home / "imapp" / imapp.MASKS)
    assert (len(hashes), int(hashes.duplicated().sum())) == (22472, 1414)
    present = list((imapp_home / "imapp" / "masks").glob("*.png"))
    if not present:
        pytest.skip("needs masks in the data home")
    monkeypatch.setenv("IAV_DATA_HOME", str(imapp_home))
    verified = imapp_fetch._verified(imapp_home / "imapp" / "masks", hashes)
    assert 0 < len(verified) <= len(present)
