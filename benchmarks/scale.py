"""Memory and computing time at 1, 10 and 100 times the data.

The association with its bootstrap (IMA++ has 3,103 pairs of masks), and the table of all runs of a
folder. Each size runs in a process of its own; memory is what comes on top of the imports and of
what the data take. Writes ``benchmarks/results/scale.json``.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "scale.json"
SIZES = {"association": (3_103, 31_030, 310_300), "runs": (50, 500, 5_000)}


def association(n: int, _: Path) -> Callable:
    """Compare groups of n pairs, with the default number of replicates."""
    import numpy as np

    from iavlib import stats

    stats.association(np.arange(8) / 8, np.arange(8) % 2, n_boot=10)
    draw = np.random.default_rng(0)
    patients = draw.integers(0, n * 2 // 3, n)
    values, malignant = draw.beta(8, 2, n), patients % 3 == 0
    return lambda: stats.association(values, malignant, patients)


def runs(n: int, folder: Path) -> Callable:
    """List n finished runs, whose files are made here."""
    from iavlib import experiments
    from iavlib.core.files import write_json
    from iavlib.experiments.store import METRICS, RunStore
    from iavlib.experiments.table import run_table

    listed = experiments.Experiment(task="iaa", cohort="phantom", weights="none")
    first = experiments.resolve(listed)
    store = RunStore(folder)
    facts = {"schema_version": 1, "task": "iaa", "data": first.data, "cohort": "phantom"}
    facts |= {"metrics": {"test": {"mae": 0.1, "pearson": 0.2}}, "settings": {}, "hardware": {}}
    facts |= {"baselines": {"constant_median": {"mae": 0.2}}, "weights": {}, "n": {"test": 10}}
    facts |= {"weights_random": True, "synthetic": True, "seconds": 1.0}
    facts |= {"finished": "2026-01-01T00:00:00+00:00"}
    for seed in range(n):
        experiment = first.model_copy(update={"seed": seed})
        write_json(store.begin(experiment) / METRICS, facts | {"id": experiment.id})
    run_table(RunStore(folder / "none"))

    def all_of_them() -> None:
        assert (run_table(store)["status"] == "finished").sum() == n

    return all_of_them


def peak() -> float:
    """Return the most memory so far, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def measure(case: str, n: int) -> dict:
    """Measure one size in this process."""
    with tempfile.TemporaryDirectory() as folder:
        function = {"association": association, "runs": runs}[case](n, Path(folder))
        before, start = peak(), time.process_time()
        function()
        seconds = time.process_time() - start
    row = {"case": case, "n": n, "cpu_seconds": round(seconds, 2)}
    return row | {"peak_mb": round(peak() - before)}


def main() -> None:
    """Measure all sizes, print and keep the table."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    rows = []
    for case, sizes in SIZES.items():
        for n in sizes:
            command = [sys.executable, __file__, case, str(n)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout))
            print(*rows[-1].values(), flush=True)
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
