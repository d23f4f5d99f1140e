"""Results of single images kept in a file, so that a run that was stopped goes on."""

import json
import warnings
from pathlib import Path


class ImageStore:
    """One line of JSON an image, appended when the image is done; nothing is rewritten.

    A record is found by its key, which must say everything it depends on. A last line that was
    not written to its end is taken off the file; any other line that cannot be read is passed
    over with a warning, so that its image is done again. One process writes at a time.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; made, with its folder, if it is not there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._records: dict[str, dict] = {}
        self._file = self.path.open("a+b")
        self._read()

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: str) -> dict | None:
        """Return the record with this key, or None."""
        return self._records.get(key)

    def append(self, key: str, record: dict) -> None:
        """Write a record; once this returns it outlives the process."""
        line = json.dumps({"key": key, "record": record}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._records[key] = record

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                entry = json.loads(line)
                self._records[entry["key"]] = entry["record"]
            except (ValueError, KeyError, TypeError):
                warnings.warn(
                    f"{self.path}, line {number}: not as written; its image is done again",
                    stacklevel=3,
                )
        self._file.truncate(whole)
