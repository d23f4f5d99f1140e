"""A large file over a bad line: nothing lost, nothing wrong believed, an end to every try."""

import errno
import hashlib
import io

import numpy as np
import pytest

from iavlib.core.errors import FetchError
from iavlib.data import download as module
from iavlib.data.download import RemoteFile, download, part_of

CONTENT = np.random.default_rng(0).bytes(700_000)


@pytest.fixture
def file(server):
    server.files["/big.zip"] = CONTENT
    md5 = hashlib.md5(CONTENT).hexdigest()
    return RemoteFile("big.zip", f"{server.address}/big.zip", len(CONTENT), md5)


def ranges(server):
    return [asked for _, asked in server.asked]


def test_whole_at_once_and_never_again(server, file, tmp_path, pauses):
    for _ in range(2):
        assert download(file, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["big.zip"]
    assert pauses == []


def test_goes_on_where_an_earlier_run_stopped(server, file, tmp_path):
    part_of(file, tmp_path).write_bytes(CONTENT[:123_456])
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=123456-"]


@pytest.mark.parametrize("manner", ["hangs up", "stalls", "understates length"])
def test_a_broken_line_costs_only_what_is_missing(server, file, tmp_path, pauses, manner):
    server.manners = [manner] * 3
    assert download(file, tmp_path, attempts=2, timeout=0.3).read_bytes() == CONTENT
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in ranges(server)[1:]]
    assert starts == sorted(starts)
    assert starts[0] >= 200_000
    assert len(starts) == 3


def test_more_announced_than_sent_is_no_harm(server, file, tmp_path, pauses):
    server.manners = ["overstates length"]
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server, file, tmp_path, pauses):
    server.manners = ["hangs up", "ignores range"]
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_without_ranges_that_hangs_up_is_given_up(server, file, tmp_path, pauses):
    """It brings half the file each time, and never more than half."""
    part_of(file, tmp_path).write_bytes(CONTENT[:350_000])
    server.manner = "ignores range"
    server.files["/big.zip"] = CONTENT[:349_000]
    with pytest.raises(FetchError, match=r"ended after 349,000 of 700,000"):
        download(file, tmp_path, attempts=3)
    assert len(server.asked) == 3


@pytest.mark.parametrize("manner", ["wrong range", "416"])
def test_a_range_that_cannot_be_used(server, file, tmp_path, pauses, manner):
    part_of(file, tmp_path).write_bytes(CONTENT[:1000])
    server.manners = [manner]
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000-", None]


def test_part_longer_than_the_file(server, file, tmp_path):
    part_of(file, tmp_path).write_bytes(CONTENT + b"more")
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_part_of_something_else_is_found_out(server, file, tmp_path, pauses):
    part_of(file, tmp_path).write_bytes(bytes(1000))
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000-", None]


def test_other_content_never_takes_the_place(server, file, tmp_path, pauses):
    (tmp_path / "big.zip").write_text("my own")
    server.manner = "lies"
    with pytest.raises(FetchError, match="does not have the stated MD5"):
        download(file, tmp_path, attempts=3)
    assert (tmp_path / "big.zip").read_text() == "my own"
    assert [path.name for path in tmp_path.iterdir()] == ["big.zip"]
    assert len(server.asked) == 3


def test_more_than_stated_is_not_kept(server, file, tmp_path, pauses):
    server.manner = "sends more"
    with pytest.raises(FetchError, match="more than the 700,000 bytes stated"):
        download(file, tmp_path, attempts=2)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_when_it_says(server, file, tmp_path, pauses):
    server.manners = ["503", "429"]
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert pauses == [7, 7]


def test_tries_are_bounded_and_wait_longer_each_time(server, file, tmp_path, pauses):
    server.manner = "stalls"
    server.files["/big.zip"] = b""
    with pytest.raises(FetchError, match=r"ended after 0 of 700,000 bytes"):
        download(file, tmp_path, attempts=4, timeout=2)
    assert pauses == [1, 2, 4]


def test_a_missing_file_is_not_asked_for_again(server, file, tmp_path, pauses):
    del server.files["/big.zip"]
    with pytest.raises(FetchError, match=r"404 Not Found. Has it moved"):
        download(file, tmp_path)
    assert len(server.asked) == 1


def test_no_network(server, file, tmp_path, pauses):
    server.shutdown()
    server.server_close()
    part_of(file, tmp_path).write_bytes(CONTENT[:1_000])
    with pytest.raises(FetchError, match=r"cannot be reached .* that came are kept\. Run the same"):
        download(file, tmp_path, attempts=2, timeout=0.5)
    assert part_of(file, tmp_path).stat().st_size == 1000


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only")]
)
def test_a_failing_disk_is_said_in_a_sentence(server, file, tmp_path, monkeypatch, code, message):
    class Failing(io.BytesIO):
        def write(self, data):
            raise OSError(code, "as the system says")

    monkeypatch.setattr(module, "open", lambda *args: Failing(), raising=False)
    with pytest.raises(FetchError, match=rf"big\.zip\.part: {message}.*IAV_DATA_HOME"):
        download(file, tmp_path)
