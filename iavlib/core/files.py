"""Writing files atomically, one process at a time; what the disk refuses; pages of HTML.

A reader sees a file as it was or as it will be, never half of it. A lock is released by the system
when the last process that holds it ends, however it ends, so that none is ever left behind.

An HTML page is made from a Jinja template and is one file that needs no network. A template extends
``page.html``, which sets a Content-Security-Policy that permits only the page's own style, the
script of its block ``script``, named by its digest, and embedded pictures. Values in HTML are
escaped unless they are :class:`markupsafe.Markup`.

Digests name files by their content, each computed once while the file stays as it is. Names, sizes
and times do not tell files apart: two folders of uncompressed photographs may agree in all of them.
"""

import base64
import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from iavlib.core.errors import FetchError
from iavlib.core.project import cache_home

_OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary name beside `path` to write to, and move it into place at the end.

    Parameters
    ----------
    path : Path
        File to write; its folder is created if needed. It stays as it was if anything fails.

    Yields
    ------
    Path
        What is to be written.

    Raises
    ------
    OSError
        If the disk is full or not writable; its ``filename`` is `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names of files have at most 255 bytes.
    name = path.name if len(os.fsencode(path.name)) <= 200 else _digest(path.name)
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk is reported without it
        raise


def _digest(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=6).hexdigest()


def safe_name(text: str, limit: int = 200) -> str:
    """Make a text the name of a file or folder on any system.

    Parameters
    ----------
    text : str
    limit : int
        Largest number of bytes. A longer text is cut and ends in a digest of the whole.

    Examples
    --------
    >>> safe_name("a/b: 10 $"), safe_name("..")
    ('a_b_ 10 $', '_')
    """
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", text).rstrip(". ") or "_"
    if len(name.encode()) > limit:
        name = f"{name.encode()[: limit - 13].decode(errors='ignore')}~{_digest(text)}"
    return name


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is one that systems leave beside a user's.

    Examples
    --------
    >>> [is_hidden(name) for name in ("._a.jpg", "Thumbs.db", "__MACOSX", "a.jpg")]
    [True, True, True, False]
    """
    return name.startswith((".", "~$")) or name.lower() in _OF_SYSTEMS


def walk_files(folder: Path) -> Iterator[Path]:
    """List the files below a folder by name, without hidden ones; none where there is no folder."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(parent, name) for name in sorted(names) if not is_hidden(name))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a file atomically; when this returns it would survive a power cut."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the entries of a folder (files moved into place or removed) to the disk."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write `text` to a file as UTF-8 with Unix line ends, atomically.

    With `durable` it would survive a power cut when this returns, which takes some milliseconds.
    """
    if durable:
        write_bytes(path, text.encode())
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any, durable: bool = False) -> None:
    """Write `content` as strict JSON (no NaN, no infinity), atomically; see :func:`write_text`.

    Raises
    ------
    ValueError
        If `content` holds a number that JSON cannot hold.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text, durable)


#: What spreadsheets take as the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: Any, **options: Any) -> str:
    """Write a table as CSV that a spreadsheet may open: no text in it becomes a formula.

    Parameters
    ----------
    table : pandas.DataFrame
        A named index becomes the first column, any other is left out.
    **options
        Of :meth:`pandas.DataFrame.to_csv`.

    Returns
    -------
    str
        Texts that begin as a formula does, and are no number, have an apostrophe before them.

    Examples
    --------
    >>> import pandas as pd
    >>> print(csv_text(pd.DataFrame({"annotator": ["=1+1", "-2", "ann"], "bias": [-1, 0, 1]})))
    annotator,bias
    '=1+1,-1
    -2,0
    ann,1
    <BLANKLINE>
    """
    table = table.reset_index() if table.index.name is not None else table
    texts = {name: table[name].map(_harmless) for name in table if table[name].dtype.kind == "O"}
    return table.assign(**texts).to_csv(index=False, **options)


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        mark = "'" * value.startswith(_FORMULA)
        return mark + value.replace("\r", "\n")  # an unquoted return would begin a new row
    return value


def load_json(path: Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not UTF-8 or not JSON, or nested more deeply than Python reads.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def only_one(
    lock: Path, task: str, log: Callable[[str], None] = _to_stderr, wait: bool = True
) -> Iterator[IO[str]]:
    """Do something while no other process does it.

    Parameters
    ----------
    lock : Path
        File that stands for the right to do it; it is created and stays.
    task : str
        What is done, reported to those who have to wait.
    log : callable, optional
        Receives one line, if this process has to wait.
    wait : bool
        Whether to wait for the other process.

    Yields
    ------
    file object
        The locked file. A child that inherits its descriptor holds the lock too.

    Raises
    ------
    BlockingIOError
        If another process holds the lock and we do not wait.
    OSError
        If the file cannot be written, or its file system has no locks.
    """
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            stream.seek(0)
            log(f"waiting for {stream.read() or 'another process'} to end; Ctrl-C stops waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        owner = f"process {os.getpid()} on {platform.node()}, since {datetime.now():%H:%M:%S}"
        try:
            stream.write(f"{task} ({owner})")
            stream.flush()
        except OSError as error:
            error.filename = stream.name  # a full disk is reported without it
            raise
        yield stream


def is_held(lock: Path) -> bool:
    """Return whether a process holds the lock of :func:`only_one`, without waiting for it."""
    import fcntl

    if not lock.exists():
        return False
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


_OTHER_HOME = "Set IAV_DATA_HOME to a writable folder"


def megabytes(size: int) -> str:
    """Write a number of bytes as megabytes (of a million bytes)."""
    return f"{size / 1e6:,.1f} MB"


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def free_space(folder: Path) -> int:
    """Return the bytes free on the disk that holds (or would hold) a folder."""
    return shutil.disk_usage(existing(folder)).free


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`FetchError` when a folder's disk has fewer than `needed` bytes free."""
    free = free_space(folder)
    if needed > free:
        raise FetchError(
            f"{what} do not fit: they need about {megabytes(needed)}, and {megabytes(free)} are "
            f"free in {folder}. Free some space, or set IAV_DATA_HOME to a folder of another disk."
        )


def check_writable(folder: Path) -> None:
    """Create a folder, and raise :class:`FetchError` when nothing can be written into it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise FetchError(f"{folder} is read-only. {_OTHER_HOME}.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into the data home into a :class:`FetchError`."""
    try:
        yield
    except FetchError:
        raise
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> FetchError:
    """Describe a failure of the disk in one sentence: full, read-only, or as the system does."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"{path}: the disk is full. Free some space, or set IAV_DATA_HOME to a folder of "
            "another disk; the next run continues with what is here."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return FetchError(f"{path}: read-only or not yours ({error.strerror}). {_OTHER_HOME}.")
    return FetchError(f"{path}: could not be written ({error.strerror or error}). {_OTHER_HOME}.")


def load_template(package: str, name: str, **shared: Any):
    """Load a template of a package.

    Parameters
    ----------
    package : str
        Name of the package, whose folder ``templates`` holds the file.
    name : str
        File name, such as ``"report.html"``.
    **shared
        Variables of every rendering of the template, and of the macros in it.

    Returns
    -------
    jinja2.Template
        It escapes values in HTML, and refuses variables that are not defined.
    """
    environment = _environment(package)
    if shared:  # which the templates that are kept would keep too
        environment = environment.overlay(cache_size=0)
    return environment.get_template(name, globals={"digest_of": _digest_of, **shared})


@functools.cache
def _environment(package: str) -> Any:
    """Return what compiles the templates of a package, each once in a process."""
    import jinja2  # here, because most users of this module write no page

    loaders = [jinja2.PackageLoader(package), jinja2.PackageLoader("iavlib.core")]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _digest_of(script: str) -> str:
    """Name a script in a Content-Security-Policy by its content."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def data_uri(content: bytes, kind: str = "jpeg") -> str:
    """Encode a picture as an address that contains the picture itself.

    Parameters
    ----------
    content : bytes
        The encoded picture.
    kind : str
        ``"jpeg"`` or ``"png"``.

    Examples
    --------
    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


_DIGITS = 32
_WAIT_SECONDS = 60
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, digest TEXT) "
    "WITHOUT ROWID"
)


def content_digests(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Hash the content of files.

    A digest is remembered in the cache home for as long as the file's size, inode and times (of
    its content and of its entry, which programs cannot set back) stay the same.

    Parameters
    ----------
    paths : iterable of path
        Files.

    Returns
    -------
    list of str
        32 hexadecimal digits of SHA-256 per file, in the order of `paths`.

    Raises
    ------
    OSError
        If a file is missing or cannot be read; its ``filename`` is the path.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b"x"), (folder / "b").write_bytes(b"x")
    >>> a, b = content_digests([folder / "a", folder / "b"])
    >>> a == b
    True
    """
    files = [os.path.abspath(path) for path in paths]
    states = [_state(path) for path in files]
    with _database() as database:
        known = _read(database, files)
        new = {}
        for path, state in zip(files, states, strict=True):
            if known.get(path, ("", ""))[0] != state:
                known[path] = new[path] = state, digest(path)[:_DIGITS]
        if database is not None and new:
            rows = [(path, *entry) for path, entry in new.items() if _state(path) == entry[0]]
            with suppress(sqlite3.Error), database:  # a full disk: hashed again next time
                database.executemany("REPLACE INTO digests VALUES (?, ?, ?)", rows)
    return [known[path][1] for path in files]


def _state(path: str) -> str:
    facts = os.stat(path)
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_dev} {facts.st_ino}"


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    """Open the table of digests; None where the cache cannot be used."""
    path: Path = cache_home() / "digests.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
        connection.execute(_TABLE)
    except (OSError, sqlite3.Error):
        yield None
        return
    with closing(connection):
        yield connection


def _read(database: sqlite3.Connection | None, files: list[str]) -> dict[str, tuple[str, str]]:
    known: dict[str, tuple[str, str]] = {}
    if database is None:
        return known
    with suppress(sqlite3.Error):
        for start in range(0, len(files), 500):
            some = files[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"SELECT path, state, digest FROM digests WHERE path IN ({marks})"
            known |= {
                path: (state, digest) for path, state, digest in database.execute(query, some)
            }
    return known
