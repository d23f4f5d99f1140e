"""What a record of Zenodo may look like."""

import json

import pytest

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


def ask(server, files):
    server.files["/records/14201693"] = json.dumps({"files": files}).encode()
    return record_files("14201693", api=server.address)


def test_files_of_a_record(server):
    (file,) = ask(server, [entry()])
    assert (file.name, file.size, file.md5) == ("segs.zip", 12, MD5)
    assert file.url == "http://there/segs.zip"


@pytest.mark.parametrize(
    "files",
    [
        [entry(key=None, size=None, filename="segs.zip", filesize=12, checksum=MD5, links=None)],
        {"entries": [entry(links={})]},
        {"entries": {"segs.zip": entry(links={})}},
    ],
    ids=["October 2023", "list of entries", "entries by name"],
)
def test_other_forms_of_the_same(server, files):
    (file,) = ask(server, files)
    assert (file.name, file.size, file.md5) == ("segs.zip", 12, MD5)
    assert file.url == f"{server.address}/records/14201693/files/segs.zip/content"


def test_content_before_description(server):
    links = {"self": "http://there/about", "content": "http://there/itself"}
    assert ask(server, [entry(links=links)])[0].url == "http://there/itself"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "lists no files"),
        (None, "lists no files"),
        ([entry(key=None)], "no key or filename; Zenodo's answer has changed"),
        ([entry(checksum=None)], "no checksum"),
        ([entry(checksum="sha256:00")], "not an MD5"),
        ([entry(size="12")], "size '12'"),
        ([entry(key="../segs.zip")], "no plain name"),
        ([entry(key="/etc/passwd")], "no plain name"),
    ],
)
def test_what_cannot_be_used_is_said(server, files, message):
    with pytest.raises(FetchError, match=message):
        ask(server, files)
