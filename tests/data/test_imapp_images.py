"""Images of IMA++ by a stand-in for the archive's client, which does what a test tells it."""

import json
import os
import stat
import sys

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from iavlib import data
from iavlib.cli.main import data_app as app
from iavlib.core import files
from iavlib.core.errors import FetchError
from iavlib.data import imapp_fetch
from iavlib.data.datasets import imapp
from iavlib.data.datasets.imapp import STAGING
from iavlib.data.download import digest

SIZE = (40, 30)
# Like the real one it writes under another name and renames, passes over what is there with the
# right length, and writes tables beside the images. What it does is read from manner.json.
CLIENT = f"""#!{sys.executable}
import json, os, shutil, sys, time
here = os.path.dirname(os.path.abspath(__file__))
manner = json.load(open(here + "/manner.json"))
with open(here + "/calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + chr(10))
out = sys.argv[-1]
os.makedirs(out, exist_ok=True)
passed = []
for name in manner["gives"]:
    source, target = here + "/archive/" + name, out + "/" + name
    if os.path.exists(target) and os.path.getsize(target) == os.path.getsize(source):
        passed.append(name)
        continue
    shutil.copy(source, out + "/.isic-partial.1.x")
    os.replace(out + "/.isic-partial.1.x", target)
json.dump(passed, open(here + "/passed.json", "w"))
open(out + "/metadata.csv", "w").write("isic_id" + chr(10))
os.makedirs(out + "/licenses", exist_ok=True)
open(out + "/licenses/CC-0.txt", "w").write("free")
print(manner.get("says", ""), file=sys.stderr, flush=True)
time.sleep(manner.get("sleeps", 0))
sys.exit(manner.get("ends", 0))
"""


@pytest.fixture
def client(tiny_imapp, server, tmp_path, monkeypatch, pauses):
    """The client's folder; it gives the six images of the table and two that are not of it."""
    folder = tmp_path / "bin"
    (folder / "archive").mkdir(parents=True)
    program = folder / "isic"
    program.write_text(CLIENT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    names = [f"ISIC_{i:07d}.jpg" for i in range(6)] + ["ISIC_9999999.jpg", "other.png"]
    for i, name in enumerate(names):
        Image.new("RGB", SIZE, (i, 0, 0)).save(folder / "archive" / name)
    manner(folder, gives=names)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IAV_DATA_HOME", str(tiny_imapp.parent))
    monkeypatch.setattr(imapp_fetch, "API", server.address)
    monkeypatch.setattr(imapp_fetch, "LOOK_EVERY", 0.05)
    tables = {n: digest(tiny_imapp / n) for n in imapp.REQUIRED}
    monkeypatch.setattr(imapp, "IMAPP_TABLES", tables)
    server.files["/images/search/size/?query=&collections=482"] = b'{"size": 12000000}'
    return folder


def manner(folder, **facts):
    (folder / "manner.json").write_text(json.dumps(facts))


def run(*options):
    return CliRunner().invoke(app, ["fetch", "imapp", "--images", "--yes", *options])


def fetch(**options):
    return imapp_fetch.fetch_images(imapp_fetch.plan_images(), **options)


def calls(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_command_gets_what_is_missing(client, tiny_imapp):
    result = run()
    assert result.exit_code == 0, result.output
    assert "images: 5 of 6 to get, 10.0 MB to download, needs about 10.0 MB" in result.output
    assert "images: 6 verified, 0 missing, 0 different" in result.output
    staging = str(tiny_imapp / "images" / STAGING)
    assert calls(client) == [["image", "download", "--collections", "482", staging]]
    names = sorted(path.name for path in (tiny_imapp / "images").iterdir())
    assert names == [f"ISIC_{i:07d}.jpg" for i in range(6)]
    assert data.load("imapp").images["path"].notna().all()


def test_what_is_here_is_not_got_again(client, tiny_imapp, server):
    here = tiny_imapp / "images" / "ISIC_0000001.jpg"
    (client / "archive" / here.name).write_bytes(here.read_bytes())
    before = here.stat()
    assert fetch().complete
    assert json.loads((client / "passed.json").read_text()) == [here.name]
    assert here.stat().st_mtime_ns == before.st_mtime_ns
    asked = len(server.asked)
    assert "images: all 6 are here" in run().output
    assert len(server.asked) == asked
    assert len(calls(client)) == 1


def test_a_run_that_was_killed_is_gone_on_with(client, tiny_imapp):
    staging = tiny_imapp / "images" / STAGING
    staging.mkdir()
    (staging / "ISIC_0000003.jpg").write_bytes((client / "archive/ISIC_0000003.jpg").read_bytes())
    (staging / ".isic-partial.77.abc").write_bytes(b"half")
    assert fetch().complete
    assert json.loads((client / "passed.json").read_text())[-1] == "ISIC_0000003.jpg"
    assert not staging.exists()


def test_what_the_client_left_out_is_asked_for_once_more(client, tiny_imapp):
    manner(client, gives=["ISIC_0000000.jpg", "ISIC_0000002.jpg"])
    result = run()
    assert result.exit_code == 1
    assert "images: 3 verified, 3 missing, 0 different" in result.output
    assert "missing: ISIC_0000003, ISIC_0000004, ISIC_0000005" in result.output
    assert len(calls(client)) == 2


def test_images_that_are_not_as_published_stay_out(client, tiny_imapp):
    Image.new("RGB", (20, 15)).save(client / "archive" / "ISIC_0000002.jpg")
    whole = Image.effect_noise(SIZE, 90).convert("RGB")
    whole.save(client / "archive" / "ISIC_0000003.jpg")
    raw = (client / "archive" / "ISIC_0000003.jpg").read_bytes()
    (client / "archive" / "ISIC_0000003.jpg").write_bytes(raw[: len(raw) // 2])
    result = run()
    assert result.exit_code == 1
    assert "4 verified, 0 missing, 2 different" in result.output
    assert "ISIC_0000002 (is 20x15, not 40x30)" in result.output.replace("\n", " ")
    assert "ISIC_0000003 (no readable image" in result.output
    assert not (tiny_imapp / "images" / "ISIC_0000002.jpg").exists()


def test_a_client_that_fails(client, tiny_imapp):
    says = "Traceback\nrequests.exceptions.HTTPError: 500 from the archive\nisic-cli: v12\nAborted!"
    manner(client, gives=["ISIC_0000000.jpg"], says=says, ends=1)
    result = run("--attempts", "2")
    assert result.exit_code == 1
    output = result.output.replace("\n", " ")
    assert "the ISIC client failed: requests.exceptions.HTTPError: 500 from the archive" in output
    assert "1 images came and are kept, 4 are missing; run the same command again" in output
    assert (tiny_imapp / "images" / STAGING / imapp_fetch.LOG).read_text().startswith("Traceback")
    assert len(calls(client)) == 3
    manner(client, gives=[f"ISIC_{i:07d}.jpg" for i in range(6)])
    assert fetch().complete
    assert not (tiny_imapp / "images" / STAGING).exists()


def test_a_client_that_falls_silent_is_stopped(client):
    manner(client, gives=["ISIC_0000000.jpg"], sleeps=60)
    with pytest.raises(FetchError, match=r"brought nothing for .* 1 images came and are kept"):
        fetch(attempts=1, timeout=0.02)


def test_images_move_while_the_client_runs(client, tiny_imapp):
    """What came is in place although the client never ended."""
    manner(client, gives=["ISIC_0000000.jpg"], sleeps=60)
    with pytest.raises(FetchError):
        fetch(attempts=1, timeout=0.02)
    assert (tiny_imapp / "images" / "ISIC_0000000.jpg").exists()


def test_no_client(client, monkeypatch, tmp_path):
    (client / "isic").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(imapp_fetch.sys, "executable", str(tmp_path / "python"))
    result = run()
    assert result.exit_code == 1
    assert "is not installed here; install it with pip install isic-cli" in result.output


def test_the_client_beside_python_is_found(client, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(imapp_fetch.sys, "executable", str(client / "python"))
    assert imapp_fetch.find_client() == str(client / "isic")


def test_no_network(client, server):
    server.shutdown()
    server.server_close()
    result = run("--timeout", "0.5")
    assert result.exit_code == 1
    assert "the server cannot be reached" in result.output
    assert not (client / "calls.jsonl").exists()


def test_a_size_that_is_not_stated_is_said(client, server):
    server.files["/images/search/size/?query=&collections=482"] = b"{}"
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "5 of 6 to get, of unknown size to download" in result.output


def test_it_does_not_fit(client, monkeypatch):
    monkeypatch.setattr(files, "free_space", lambda folder: 9_000_000)
    result = run()
    assert result.exit_code == 1
    assert "images do not fit: they need about 10.0 MB" in result.output
    assert not (client / "calls.jsonl").exists()


def test_resized_copies_stay_and_make_way_when_they_are_gone(client, tiny_imapp):
    small = tiny_imapp / "images" / "ISIC_0000001.jpg"
    Image.new("RGB", (20, 20)).save(small)
    rows = {"isic_id": ["ISIC_0000001", "ISIC_0000002"], "geometry": ["squashed to 20x20"] * 2}
    pd.DataFrame(rows).to_csv(tiny_imapp / imapp.RESIZED, index=False)
    assert fetch().complete
    assert Image.open(small).size == (20, 20)
    assert imapp.resized_images(tiny_imapp).index.tolist() == ["ISIC_0000001"]
    small.unlink()
    assert fetch().complete
    assert set(data.load("imapp").images["geometry"]) == {"original"}


def test_an_image_of_the_wrong_size_is_replaced(client, tiny_imapp):
    Image.new("RGB", (20, 20)).save(tiny_imapp / "images" / "ISIC_0000001.jpg")
    (tiny_imapp / "images" / "ISIC_0000004.jpg").write_text("no image")
    assert fetch().complete
    assert Image.open(tiny_imapp / "images" / "ISIC_0000001.jpg").size == SIZE


def test_a_disk_without_links(client, monkeypatch):
    def no_links(*args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(imapp_fetch.os, "link", no_links)
    lines = []
    assert fetch(log=lines.append).complete
    assert "no links on this disk" in lines[0]
