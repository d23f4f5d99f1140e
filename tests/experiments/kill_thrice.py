"""Run an experiment undisturbed and again, killed at three random moments; print both results.

A program of its own, which forks: whoever kills must not share threads with what is killed.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from iavlib.experiments import Experiment, RunStore, run
from iavlib.models import build_network  # noqa: F401 (imported once, before any fork)

torch.set_num_threads(1)
EXPERIMENT = Experiment(
    cohort="phantom",
    cohort_options={"n_images": 20, "size": [64, 64]},
    backbone="test_resnet",
    weights="none",
    recipe={
        "name": "smoke",
        "epochs": 25,
        "ema": 0.9,
        "optimizer": "adamw",
        "schedule": "cosine",
    },
    size=32,
    settings={"tta": 2},
)


def start(root: Path) -> int:
    pid = os.fork()
    if pid == 0:
        run(EXPERIMENT, RunStore(root))
        os._exit(0)
    return pid


def digests(root: Path) -> dict[str, str]:
    (folder,) = RunStore(root).finished()
    names = ("model.safetensors", "predictions.csv")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def epochs_told(root: Path) -> int:
    logs = [folder / "log.txt" for folder in RunStore(root).folders()]
    return sum(log.read_text().count("  epoch ") for log in logs if log.exists())


def kill_at_random(root: Path) -> int:
    """Let it train for one to six epochs and a part of one, kill it; give the epochs told of."""
    enough, pid = epochs_told(root) + random.randint(1, 6), start(root)
    while epochs_told(root) < enough:
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.15))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it ended before it was killed"
    return epochs_told(root)


def main(root: Path) -> None:
    os.waitpid(start(root / "undisturbed"), 0)
    kills = [kill_at_random(root / "killed") for _ in range(3)]
    _, status = os.waitpid(start(root / "killed"), 0)
    assert status == 0
    results = [digests(root / name) for name in ("undisturbed", "killed")]
    print(json.dumps({"results": results, "kills": kills, "told": epochs_told(root / "killed")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
