"""A batch of 40 notebooks, killed at three random moments and resumed each time.

Makes a project of small phantom notebooks in a temporary folder, runs it with two jobs at a time,
kills the whole process group by SIGKILL, and looks after each kill whether anything finished was
done again, lost, or taken for whole when it was not. Prints seconds.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

REPOSITORY = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "resume.json"
COMMAND = [sys.executable, "-m", "iavlib", "run", "--jobs", "2"]
LOAD = (
    "from iavlib import data\ncohort = data.load('phantom', n_images=2, size=(32, 32), seed=seed)"
)
#: For tests: the same without loading anything, as starting a kernel takes long enough.
QUICK = """
from types import SimpleNamespace
cohort = SimpleNamespace(
    name="toy", synthetic=True, fingerprint="abc", images=[1], masks=[1], citation=""
)
"""
#: The line tells that the notebook was finished; no interrupt comes between it and the manifest.
END = """
import os, signal
from iavlib.book import manifest
signal.signal(signal.SIGINT, signal.SIG_IGN)
manifest.finish(cohorts=[cohort])
with open("../finished.txt", "a") as file:
    file.write("{stem}\\n")
"""


def make_project(root: Path, n_notebooks: int, load: str = LOAD) -> None:
    """Write a project of notebooks that differ in their seed."""
    for folder in ("notebooks/profiles", "book"):
        (root / folder).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "workflow", root / "workflow")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (root / "book" / "claims.yml").write_text("[]\n")
    (root / "notebooks" / "profiles" / "quick.yaml").write_text("{}\n")
    v4 = nbformat.v4
    for seed in range(n_notebooks):
        stem = f"{seed:02d}_phantom"
        cells = [
            v4.new_code_cell(f"seed = {seed}", metadata={"tags": ["parameters"]}),
            v4.new_code_cell(load.strip()),
            v4.new_code_cell(END.format(stem=stem).strip()),
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, root / "notebooks" / f"{stem}.ipynb")


def finished(root: Path) -> dict[str, str]:
    """Map the notebooks that are finished to their runs, reading every file they left."""
    runs = {}
    for path in sorted((root / "book" / "executed").glob("[0-9]*.json")):
        nbformat.read(path.with_suffix(".ipynb"), as_version=4)
        runs[path.stem] = json.loads(path.read_text())["run_id"]
    return runs


def kill_at(root: Path, n_finished: int, delay: float) -> dict[str, str]:
    """Start the batch, kill it `delay` seconds after `n_finished` were finished; return those."""
    process = subprocess.Popen(COMMAND, cwd=root, start_new_session=True, stdout=subprocess.PIPE)
    end = time.monotonic() + 600
    while len(finished(root)) < n_finished:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return finished(root)


def resume(
    root: Path, n_notebooks: int, rng: random.Random, n_kills: int = 3, max_delay: float = 3
) -> dict[str, float]:
    """Run the batch, killed at random moments; check it; return the seconds taken."""
    before: dict[str, str] = {}
    started = time.monotonic()
    for n_finished in sorted(rng.choices(range(n_notebooks - 1), k=n_kills)):
        now = kill_at(root, n_finished, rng.uniform(0, max_delay))
        print(f"killed with {len(now)} of {n_notebooks} finished", flush=True)
        assert before.items() <= now.items(), "something finished was repeated or lost"
        before = now
    subprocess.run(COMMAND, cwd=root, check=True)
    total = time.monotonic() - started
    after = finished(root)
    assert before.items() <= after.items(), "something finished was repeated or lost"
    assert len(after) == n_notebooks
    lines = (root / "finished.txt").read_text().split()
    assert sorted(lines) == sorted(after), "a notebook was finished other than once"
    left = [path.name for path in (root / "book" / "executed").glob(".*") if path.suffix != ".lock"]
    assert not left, left
    started = time.monotonic()
    again = subprocess.run(COMMAND, cwd=root, check=True, capture_output=True, text=True)
    assert again.stdout.startswith("nothing to do"), again.stdout
    return {"killed and resumed": total, "nothing to do": time.monotonic() - started}


def main(n_notebooks: int = 40) -> None:
    seed = random.randrange(1000)
    print(f"seed {seed}")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "uninterrupted"
        make_project(root, n_notebooks)
        started = time.monotonic()
        subprocess.run(COMMAND, cwd=root, check=True)
        seconds["uninterrupted"] = time.monotonic() - started
        root = Path(folder) / "killed"
        make_project(root, n_notebooks)
        seconds |= resume(root, n_notebooks, random.Random(seed))
    rows = [{"case": case, "seconds": round(value, 1)} for case, value in seconds.items()]
    for row in rows:
        print(f"{row['case']:<14} {row['seconds']:6.1f} s")
    result = {"notebooks": n_notebooks, "jobs": 2, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
