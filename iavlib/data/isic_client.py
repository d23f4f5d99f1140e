"""Running the ISIC archive's own client, the program ``isic`` of the package isic-cli.

It is run as a program and not imported: it brings its own dependencies, stops when a newer major
version of itself exists, and is free to change. It was read, and its options were tried, in
version 12.4; the archive itself could not be reached while this was written.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iavlib.data.disk import writing
from iavlib.data.errors import FetchError

CLIENT = "isic"
INSTALL = "pip install isic-cli (or pip install -c constraints.txt -e '.[fetch]')"
LOOK_EVERY = 5
_ERROR = re.compile(r"[\w.]*(Error|Exception|Timeout)\b")


def find_client() -> str:
    """Find the client on the path, or beside the Python that runs.

    Raises
    ------
    FetchError
        If it is not installed.
    """
    # An environment that was not activated has its programs beside its Python.
    found = shutil.which(CLIENT) or shutil.which(CLIENT, path=str(Path(sys.executable).parent))
    if found is None:
        raise FetchError(
            "the images come by the ISIC archive's own client, which is not installed here; "
            f"install it with {INSTALL} and run the same command again."
        )
    return found


def download_collection(
    client: str,
    collection: str,
    folder: Path,
    log: Path,
    look: Callable[[], bool],
    patience: float,
) -> str | None:
    """Let the client download a collection into a folder.

    Parameters
    ----------
    client : str
        Its path, from :func:`find_client`.
    collection : str
        Number of the collection.
    folder : pathlib.Path
        Where it writes. An image that is there with the right length is passed over.
    log : pathlib.Path
        Where everything it says is kept.
    look : callable
        Called every few seconds; returns whether something new came.
    patience : float
        Seconds without anything new after which the client is stopped. Without a network it
        tries for hours and says nothing.

    Returns
    -------
    str or None
        What went wrong, as a sentence; None when it ended well, which does not mean that every
        image came: it passes over single failures.
    """
    command = [client, "image", "download", "--collections", collection, str(folder)]
    news = time.monotonic()
    with _started(command, log) as process:
        while process.poll() is None:
            try:
                process.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                news = now if look() else news
                if now - news > patience:
                    return f"the ISIC client brought nothing for {now - news:.0f} s."
    if process.returncode == 0:
        return None
    return (
        f"the ISIC client failed: {_last_words(log)} (all it said is in {log}). If it asks for a "
        "newer version of itself: pip install --upgrade isic-cli."
    )


@contextmanager
def _started(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    """Start the client, and stop it whatever happens here."""
    with writing(log):
        output = open(log, "wb")  # noqa: SIM115
    with output:
        try:
            # Without input its questions (go on though the disk is full?) are answered by no.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise FetchError(f"{command[0]} could not be started ({error.strerror}).") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(log: Path) -> str:
    """Find the line of the client's output that says most: its last error, else its last line."""
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        text = stream.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["it said nothing"])[-1][:200]
