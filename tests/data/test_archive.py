"""Archives that want more than to be unpacked."""

import io
import stat
import tarfile
import zipfile

import pytest

from iavlib.core.errors import FetchError
from iavlib.data.download import open_archive

GOOD = {"segs/a.png": b"first", "segs/b.png": b"second", "readme.txt": b""}


def zipped(path, members, **facts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in facts.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def tarred(path, members, **facts):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def content(path):
    with open_archive(path) as members:
        return {member.name: b"".join(member.chunks()) for member in members}


@pytest.mark.parametrize(
    ("make", "name"), [(zipped, "s.zip"), (tarred, "s.tar"), (tarred, "s.tar.gz")]
)
def test_members_by_base_name(tmp_path, make, name):
    expected = {"a.png": b"first", "b.png": b"second", "readme.txt": b""}
    assert content(make(tmp_path / name, GOOD)) == expected


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.png", "leads outside"),
        ("segs/../../a.png", "leads outside"),
        ("..\\a.png", "leads outside"),
        ("/etc/a.png", "absolute"),
        ("\\\\server\\a.png", "absolute"),
        ("C:\\a.png", "absolute"),
    ],
)
def test_names_that_lead_elsewhere(tmp_path, make, name, message):
    path = make(tmp_path / "bad", {"good.png": b"x", name: b"x"})
    with pytest.raises(FetchError, match=f"{message}.*Nothing was extracted"):
        content(path)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (stat.S_IFLNK, "is a link"),
        (stat.S_IFCHR, "no ordinary file"),
        (stat.S_IFIFO, "no ordinary"),
    ],
)
def test_special_members_of_a_zip(tmp_path, mode, message):
    path = zipped(tmp_path / "bad", {"a.png": b"/etc/passwd"}, external_attr=(mode | 0o777) << 16)
    with pytest.raises(FetchError, match=message):
        content(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "no ordinary file"),
        (tarfile.FIFOTYPE, "no ordinary file"),
    ],
)
def test_special_members_of_a_tar(tmp_path, kind, message):
    path = tarred(tmp_path / "bad.tar", {"a.png": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(FetchError, match=message):
        content(path)


@pytest.mark.parametrize(("make", "name"), [(zipped, "bomb.zip"), (tarred, "bomb.tar.gz")])
def test_a_bomb_is_refused_before_it_is_opened(tmp_path, make, name):
    path = make(tmp_path / name, {"a.png": bytes(30_000_000)})
    with pytest.raises(FetchError, match=r"would unpack to 30,000,000"):
        content(path)


def test_a_member_that_understates_its_size(tmp_path):
    path = zipped(tmp_path / "bad.zip", {"a.png": b"abc" * 1000})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((3000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(FetchError, match=r"a\.png: damaged"):
        content(path)


def test_damaged_archives(tmp_path):
    path = zipped(tmp_path / "s.zip", {"a.png": bytes(range(256)) * 40})
    raw = bytearray(path.read_bytes())
    raw[60:70] = b"0123456789"
    path.write_bytes(raw)
    with pytest.raises(FetchError, match=r"a\.png: damaged"):
        content(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(FetchError, match="no readable zip or tar"):
        content(path)


def test_an_encrypted_member(tmp_path):
    path = zipped(tmp_path / "s.zip", {"a.png": b"x"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(FetchError, match="is encrypted"):
        content(path)
