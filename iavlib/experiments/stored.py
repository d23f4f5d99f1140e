"""Stored results of experiments: the tables in ``book/results/runs`` that travel with the book.

Per task, ``<task>.jsonl`` holds one run per line (``id``, ``spec``, and ``facts``, which is what
``metrics.json`` of the run held), and ``<task>.tar.xz`` the predictions of each run as
``<id>.csv``, the text unchanged: in one archive, because runs repeat ids and targets of the same
images. A stored run is addressed like a run directory, as ``book/results/runs/<task>.jsonl/<id>``:
:func:`iavlib.experiments.store.read_json` and
:func:`iavlib.experiments.store.read_prediction_file` accept files below such an address.
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from iavlib.core.errors import ExperimentError
from iavlib.core.files import replacing
from iavlib.core.project import Project

_KEYS = {"spec.json": "spec", "metrics.json": "facts"}
_HINT = "restore it from git, or export the runs again"


def stored_runs(project: Project) -> list[Path]:
    """List the addresses of the stored runs, by task and id.

    Raises
    ------
    ExperimentError
        If a table is damaged.
    """
    tables = sorted((project.book / "results" / "runs").glob("*.jsonl"))
    return [table / name for table in tables for name in sorted(_read_file(_parse_table, table))]


def is_stored(path: Path) -> bool:
    """Return whether a path is a file of a stored run (``<task>.jsonl/<id>/<file>``)."""
    return len(path.parents) > 1 and path.parents[1].suffix == ".jsonl"


def read_stored(path: Path) -> Any:
    """Return what ``spec.json`` or ``metrics.json`` of a stored run holds.

    Raises
    ------
    ExperimentError
        If the table is damaged, or has no such run.
    """
    try:
        return _read_file(_parse_table, path.parents[1])[path.parent.name][_KEYS[path.name]]
    except KeyError as error:
        raise ExperimentError(path, "is missing", _HINT) from error


def read_stored_predictions(folder: Path) -> bytes:
    """Return the predictions of a stored run as the bytes of a CSV file.

    Raises
    ------
    ExperimentError
        If they are missing or damaged.
    """
    archive = folder.parent.with_suffix(".tar.xz")
    try:
        return _read_file(_unpack, archive)[folder.name]
    except KeyError as error:
        raise ExperimentError(archive, f"has no predictions of {folder.name}", _HINT) from error


def write_stored(
    project: Project, task: str, runs: Mapping[str, tuple[dict, dict, bytes]], largest: int
) -> list[str]:
    """Add runs of one task to the stored ones, or replace those of the same id.

    Parameters
    ----------
    project : Project
    task : str
    runs : mapping of str to tuple
        By id: what ``spec.json`` and ``metrics.json`` hold, and the bytes of ``predictions.csv``.
    largest : int
        Bytes that neither file may exceed.

    Returns
    -------
    list of str
        Ids of the runs that are new or have changed; without any, no file is touched.

    Raises
    ------
    ExperimentError
        If a file would become too large, or one that is there is damaged.
    """
    table = project.book / "results" / "runs" / f"{task}.jsonl"
    archive = table.with_suffix(".tar.xz")
    rows = dict(_read_file(_parse_table, table)) if table.is_file() else {}
    predictions = dict(_read_file(_unpack, archive)) if archive.is_file() else {}
    changed = []
    for name, (spec, facts, content) in runs.items():
        row = {"id": name, "spec": spec, "facts": facts}
        if rows.get(name) != row or predictions.get(name) != content:
            rows[name], predictions[name] = row, content
            changed.append(name)
    if not changed:
        return []
    # the table comes last: what it lists is complete
    with replacing(archive) as temporary:
        with tarfile.open(temporary, "w:xz") as file:
            for name in sorted(predictions):
                # without a time, the same runs give the same bytes
                member = tarfile.TarInfo(f"{name}.csv")
                member.size = len(predictions[name])
                file.addfile(member, io.BytesIO(predictions[name]))
        _check_size(archive, temporary.stat().st_size, largest)
    lines = "".join(json.dumps(rows[name], separators=(",", ":")) + "\n" for name in sorted(rows))
    _check_size(table, len(lines), largest)
    with replacing(table) as temporary:
        temporary.write_text(lines, encoding="utf-8")
    return changed


def _check_size(path: Path, size: int, largest: int) -> None:
    if size > largest:
        raise ExperimentError(
            path, f"would have {size:,} bytes, more than {largest:,}", "export fewer runs"
        )


def _read_file(read: Callable[[Path, int, int], dict], path: Path) -> dict:
    """Read a file of a task by the ids of runs; `read` is cached while the file stays as it is."""
    try:
        status = path.stat()
    except OSError as error:
        raise ExperimentError(path, "is missing", _HINT) from error
    return read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _parse_table(path: Path, _time: int, _size: int) -> dict[str, dict[str, Any]]:
    rows = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ExperimentError(path, f"is damaged ({error})", _HINT) from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows[row["id"]] = {key: row[key] for key in ("id", "spec", "facts")}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ExperimentError(path, f"line {number} is damaged ({error})", _HINT) from error
    return rows


@lru_cache(maxsize=32)
def _unpack(path: Path, _time: int, _size: int) -> dict[str, bytes]:
    try:
        with tarfile.open(path, "r:xz") as file:
            return {Path(m.name).stem: file.extractfile(m).read() for m in file}
    except Exception as error:  # damaged archives raise errors of many kinds
        raise ExperimentError(path, f"is damaged ({error})", _HINT) from error
