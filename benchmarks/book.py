"""Time and computing time of ``make book`` after its installation: cold, and with nothing changed.

``python benchmarks/book.py [DATA_HOME]`` copies the repository into a new folder, builds the book
there twice at the scale ``quick`` (without data unless a data home is given) and writes
``benchmarks/results/book.json``, from which the README's figures are taken.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(clone, environment):
    """Build the book; return seconds of wall time and of all processes' computing time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "iavlib", "book"]
    subprocess.run(command, cwd=clone, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "cpu_seconds": used}


def main(data_home=None):
    """Build twice, print and keep the times."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = os.environ | {
            "IAV_PROJECT": str(clone),
            "IAV_RUNS": str(clone / "runs"),
            "IAV_CACHE_HOME": str(Path(folder) / "cache"),
            "IAV_DATA_HOME": data_home or str(Path(folder) / "nothing"),
        }
        times = {"cold": build(clone, environment), "again": build(clone, environment)}
        manifests = sorted((clone / "book" / "executed").glob("*.json"))
        times["notebooks"] = {p.stem: json.loads(p.read_text())["seconds"] for p in manifests}
    times["cores"], times["data"] = os.cpu_count(), bool(data_home)
    name = "book_with_data.json" if data_home else "book.json"
    text = json.dumps(times, indent=1) + "\n"
    (ROOT / "benchmarks" / "results" / name).write_text(text)
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
