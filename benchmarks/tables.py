"""Loading the IMA++ tables, checked, beside merely parsing the same files.

Prints seconds and peak memory of whole processes, imports included, and their ratio. Needs the
tables: ``iav data fetch imapp``.
"""

import json
import subprocess
import sys
from pathlib import Path

from iavlib.core.project import data_home
from iavlib.data import available
from iavlib.data.datasets.imapp import IMAPP_TABLES

RESULT = Path(__file__).parent / "results" / "tables.json"
PEAK = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
PROGRAMS = {
    "checked cohort": "from iavlib import data; data.load('imapp')",
    "pandas alone": "import pandas as pd; [pd.read_csv(f, low_memory=False) for f in {files}]",
}


def measure(program: str, repeats: int = 5) -> tuple[float, float]:
    """Return the fastest run's seconds and the largest peak in MB."""
    timed = (
        f"import time; t = time.perf_counter(); {program}; print(time.perf_counter() - t); {PEAK}"
    )
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", timed], capture_output=True, text=True, check=True
        )
        runs.append([float(value) for value in done.stdout.split()])
    return min(seconds for seconds, _ in runs), max(peak for _, peak in runs) / 1024


def main() -> None:
    if "imapp" not in available():
        sys.exit("the IMA++ tables are not here: run 'iav data fetch imapp' first")
    files = [str(data_home() / "imapp" / name) for name in IMAPP_TABLES]
    rows = []
    for case, program in PROGRAMS.items():
        seconds, peak = measure(program.format(files=files))
        rows.append({"case": case, "seconds": round(seconds, 3), "peak_mb": round(peak)})
    for row in rows:
        row["ratio"] = round(row["seconds"] / rows[1]["seconds"], 2)
        print(f"{row['case']:<16} {row['seconds']:.2f} s  {row['peak_mb']} MB  x{row['ratio']}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
