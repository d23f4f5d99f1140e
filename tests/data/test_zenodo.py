"""The files of a Zenodo record, by pooch; what cannot be used is refused."""

import json

import pytest
from pooch.downloaders import ZenodoRepository

from iavlib.core.errors import FetchError
from iavlib.data.download import record_files

MD5 = "0123456789abcdef0123456789abcdef"


def entry(**changes):
    full = {
        "key": "segs.zip",
        "size": 12,
        "checksum": f"md5:{MD5}",
        "links": {"self": "http://there/segs.zip"},
    }
    return {k: v for k, v in (full | changes).items() if v is not None}


@pytest.fixture
def ask(server, monkeypatch):
    monkeypatch.setattr(ZenodoRepository, "base_api_url", f"{server.address}/records")

    def files_of(files):
        content = json.dumps({"id": 14201693, "files": files}).encode()
        server.files["/records/14201693"] = content
        return record_files("14201693")

    return files_of


def test_files_of_a_record(ask):
    (file,) = ask([entry()])
    assert (file.name, file.size, file.md5) == ("segs.zip", 12, MD5)
    assert file.url == "http://there/segs.zip"


def test_the_other_api_of_zenodo(ask):
    other = {"filename": "segs.zip", "filesize": 12, "checksum": MD5}
    (file,) = ask([other])
    assert (file.name, file.size, file.md5) == ("segs.zip", 12, MD5)
    assert file.url == "https://zenodo.org/records/14201693/files/segs.zip?download=1"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "lists no files"),
        (None, "lists no files"),
        ([entry(key=None)], "lists no files as expected.*by hand"),
        ([entry(checksum=None)], "checksum"),
        ([entry(checksum="sha256:00")], "checksum 'sha256:00'"),
        ([entry(size="12")], "size '12'"),
        ([entry(key="../segs.zip")], "file name"),
        ([entry(key="/etc/passwd")], "file name"),
        ([entry(checksum=3)], "as expected"),
        ([entry(key=["segs.zip"])], "as expected"),
        (["segs.zip"], "as expected"),
        (3, "as expected"),
    ],
)
def test_what_cannot_be_used_is_reported(ask, files, message):
    with pytest.raises(FetchError, match=message):
        ask(files)


def test_a_busy_or_silent_zenodo(server, monkeypatch):
    monkeypatch.setattr(ZenodoRepository, "base_api_url", f"{server.address}/records")
    with pytest.raises(FetchError, match="as expected"):
        record_files("14201693")
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match=r"cannot be reached.*Check the network"):
        record_files("14201693", timeout=0.5)
