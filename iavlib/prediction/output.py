"""The folder of results: made whole or not at all, and nobody's files are lost."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iavlib.prediction.errors import PredictionError

TABLE, REPORT, ABOUT, HEAT_MAPS = "predictions.csv", "report.html", "about.json", "heat_maps"
_OURS = (TABLE, REPORT, HEAT_MAPS, ABOUT)  # the last says that the rest is there
_UNFINISHED = ".unfinished-"


@contextmanager
def output_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write into, inside the output, and move what is in it up at the end.

    Everything is written below `out`: what is unfinished, temporary or a cache as well. After an
    error nothing of it is left.

    Parameters
    ----------
    out : Path
        New or empty, or with `overwrite` one that an earlier call filled.
    overwrite : bool
        Replace the results of that call; other files stay.

    Yields
    ------
    Path

    Raises
    ------
    PredictionError
        If the folder holds something and is not to be overwritten, or is not ours.
    """
    _check(out, overwrite)
    made = not out.exists()
    work = out / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        work.mkdir(parents=True)
    except OSError as error:
        told = f"cannot be made ({error.strerror})"
        raise PredictionError(out, told, "choose another folder") from None
    try:
        yield work
        _move_up(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
    shutil.rmtree(work)


def _check(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise PredictionError(out, "is there and no folder", "choose another name")
    # a killed call may have left its unfinished work, which is nobody's result
    held = [path.name for path in out.iterdir() if not path.name.startswith(_UNFINISHED)]
    if held and not overwrite:
        mend = "choose a new folder, or add --overwrite to replace the results in it"
        raise PredictionError(out, "is there and not empty", mend)
    if held and ABOUT not in held:
        raise PredictionError(out, "holds what is no report of ours", "choose a new folder")


def _move_up(work: Path, out: Path) -> None:
    for name in _OURS:
        target = out / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        if (work / name).exists():
            os.replace(work / name, target)
        else:
            target.unlink(missing_ok=True)
    for left in out.glob(f"{_UNFINISHED}*"):
        if left != work:
            shutil.rmtree(left, ignore_errors=True)
