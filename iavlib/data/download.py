"""Downloading one large file so that a broken line costs only what is still missing.

pooch, which fetches the tables, starts a broken download again from nothing; for a file of
hundreds of megabytes the rest is asked for instead (HTTP Range), and what came is believed only
when its length and MD5 are the stated ones.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from iavlib.data.disk import megabytes, writing
from iavlib.data.errors import FetchError

#: Small, because of a broken-off answer the chunk that was being read is lost.
CHUNK = 1 << 14
BUSY = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE = 60
REPORT_EVERY = 10
Tell = Callable[[str], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name, address, length in bytes and MD5 (hexadecimal)."""

    name: str
    url: str
    size: int
    md5: str


class _Broken(Exception):
    """One try failed in a way that another try may mend; no OSError, which is the disk's."""

    def __init__(self, reason: str, pause: float | None = None):
        self.pause = pause
        super().__init__(reason)


def download(
    file: RemoteFile,
    folder: Path,
    attempts: int = 5,
    timeout: float = 30,
    tell: Tell = lambda text: None,
) -> Path:
    """Download a file, going on from what an earlier run left in ``<name>.part``.

    Parameters
    ----------
    file : RemoteFile
    folder : pathlib.Path
        Exists and can be written.
    attempts : int
        Tries in a row that bring less than a hundredth of the file before giving up.
    timeout : float
        Seconds of silence after which a try is given up.
    tell : callable
        Takes a line now and then on how far it is.

    Returns
    -------
    pathlib.Path
        The file, with the stated length and MD5.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, keeps breaking off or sends something else, or
        the disk fails. What came stays in the ``.part`` file, unless it is known to be wrong.
    """
    target, part = folder / file.name, part_of(file, folder)
    if is_whole(file, target):
        return target
    best, failures = _size(part), 0
    while True:
        try:
            _continue(file, part, timeout, tell)
            _verify(file, part)
            break
        except _Broken as broken:
            reached = _size(part)
            # Measured against the furthest point ever reached: a server that starts anew each
            # time brings nothing, however much it sends, and the number of tries stays bounded.
            failures = 1 if reached - best >= max(1, file.size // 100) else failures + 1
            best = max(best, reached)
            if failures >= attempts:
                raise FetchError(_gave_up(file, broken, reached)) from broken
            _pause(broken.pause or min(2 ** (failures - 1), LONGEST_PAUSE))
    with writing(target):
        os.replace(part, target)
    return target


def part_of(file: RemoteFile, folder: Path) -> Path:
    """Name the file that holds what has come so far."""
    return folder / f"{file.name}.part"


def is_whole(file: RemoteFile, path: Path) -> bool:
    """Say whether a file on disk has the stated length and MD5."""
    return _size(path) == file.size and path.is_file() and md5_of(path) == file.md5


def md5_of(path: Path) -> str:
    """Return the MD5 of a file as 32 hexadecimal digits (published hashes are MD5)."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch_json(url: str, attempts: int = 5, timeout: float = 30) -> dict:
    """Get a JSON object, asking again when the server is busy or silent.

    Raises
    ------
    FetchError
        If the server cannot be reached, refuses, or answers with something else.
    """
    failures = 0
    while True:
        try:
            with _ask(url, {"Accept": "application/json"}, timeout) as response:
                answer = response.json()
            break
        except requests.JSONDecodeError:
            raise FetchError(f"{url} answered with something that is no JSON.") from None
        except (_Broken, requests.RequestException) as error:
            failures += 1
            broken = error if isinstance(error, _Broken) else _Broken(_reason(error))
            if failures >= attempts:
                raise FetchError(f"{url}: {broken}. Check the network and try again.") from None
            _pause(broken.pause or min(2 ** (failures - 1), LONGEST_PAUSE))
    if not isinstance(answer, dict):
        raise FetchError(f"{url} answered with JSON that is no object.")
    return answer


def _continue(file: RemoteFile, part: Path, timeout: float, tell: Tell) -> None:
    """Append what is missing; raise :class:`_Broken` when the part is still not full."""
    have = _size(part)
    if have > file.size:
        _discard(part)
        have = 0
    if have == file.size and have:
        return
    # Compressed in transit, neither the length nor the offset would be that of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _ask(file.url, headers, timeout) as response:
        start = _start(response, have, part)
        with writing(part), open(part, "ab") as stream:
            stream.truncate(start)
            for chunk in _chunks(response, file, start, part, tell):
                stream.write(chunk)
    if _size(part) < file.size:
        raise _Broken(f"the server ended after {_size(part):,} of {file.size:,} bytes")


def _ask(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    try:
        response = requests.get(url, headers=headers, timeout=timeout, stream=True)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Broken(_reason(error)) from None
    except requests.RequestException as error:
        raise FetchError(f"{url}: {error}") from None
    if response.status_code in BUSY:
        response.close()
        raise _Broken(_status(response), _retry_after(response))
    # 416: there is nothing after the bytes that we have; said by _start.
    if response.status_code not in (200, 206, 416):
        response.close()
        raise FetchError(f"{url}: {_status(response)}. Has it moved?")
    return response


def _start(response: requests.Response, have: int, part: Path) -> int:
    """Tell at which byte the answer begins; servers may ignore the range that was asked for."""
    if response.status_code == 200:
        return 0
    given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if response.status_code == 416 or given is None or int(given[1]) > have:
        _discard(part)
        raise _Broken(f"the server cannot go on from byte {have:,}")
    return int(given[1])


def _chunks(response, file: RemoteFile, start: int, part: Path, tell: Tell) -> Iterator[bytes]:
    done, told = start, time.monotonic()
    try:
        for chunk in response.iter_content(CHUNK):
            done += len(chunk)
            if done > file.size:
                _discard(part)
                raise _Broken(f"the server sends more than the {file.size:,} bytes stated")
            yield chunk
            if time.monotonic() - told > REPORT_EVERY:
                told = time.monotonic()
                tell(f"{file.name}: {megabytes(done)} of {megabytes(file.size)}")
    except requests.RequestException as error:
        raise _Broken(_reason(error)) from None


def _verify(file: RemoteFile, part: Path) -> None:
    if md5_of(part) != file.md5:
        _discard(part)
        raise _Broken("what was sent does not have the stated MD5")


def _discard(part: Path) -> None:
    with writing(part):
        part.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "the server fell silent"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return f"the server cannot be reached ({type(error).__name__})"


def _status(response: requests.Response) -> str:
    return f"the server answers {response.status_code} {response.reason}"


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a busy server asks for, within reason; None where it gives none, or a date."""
    text = response.headers.get("Retry-After", "")
    return float(min(int(text), LONGEST_PAUSE)) if text.isdigit() else None


def _gave_up(file: RemoteFile, broken: _Broken, reached: int) -> str:
    kept = f" The {megabytes(reached)} that came are kept." if reached else ""
    return f"{file.name} could not be downloaded: {broken}.{kept} Run the same command again later."


def _pause(seconds: float) -> None:
    time.sleep(seconds)
