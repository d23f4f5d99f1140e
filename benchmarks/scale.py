"""Memory and computing time of the association with its bootstrap, at 1, 10 and 100 times the data.

IMA++ has 3,103 pairs of masks. Each size runs in a process of its own; memory is what comes on top
of the imports. Writes ``benchmarks/results/scale.json``.
"""

import json
import subprocess
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "scale.json"
PROGRAM = """
import resource, sys, time
import numpy as np
from iavlib import stats

n = int(sys.argv[1])
stats.association(np.arange(8) / 8, np.arange(8) % 2, n_boot=10)
draw = np.random.default_rng(0)
patients = draw.integers(0, n * 2 // 3, n)
values, malignant = draw.beta(8, 2, n), patients % 3 == 0
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.process_time()
stats.association(values, malignant, patients)
print(time.process_time() - start, peak() - before)
"""


def measure(n: int) -> dict:
    """Compare groups of n pairs, with the default number of replicates."""
    command = [sys.executable, "-c", PROGRAM, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    return {"pairs": n, "cpu_seconds": round(seconds, 2), "peak_mb": round(megabytes)}


def main() -> None:
    """Measure all sizes, print and keep the table."""
    rows = [measure(n) for n in (3_103, 31_030, 310_300)]
    for row in rows:
        print(*row.values())
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
