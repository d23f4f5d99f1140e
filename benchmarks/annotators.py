"""What each method for several annotators costs: parameters, memory and time, by their number.

One training step (forward, backward, optimiser) on a batch of invented pictures with dense labels.
AVAP's two steps are both measured, and their times added up: Guo et al. (2022) state that what AVAP
costs more with more annotators is negligible. Predicting is a picture's share of a batch, for all
annotators.

Each row is measured in a process of its own: time is the median of several steps after a first
one; memory is by how much the process grows at most from before the network is built (on a GPU,
the most that PyTorch holds there).

    python benchmarks/annotators.py [--quick] [--device cpu] [--methods avap mh-unet]

``--quick`` takes two methods, 2 and 5 annotators and smaller pictures, and writes nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "annotators.json"
ANNOTATORS = (2, 5, 15, 50)
METHODS = (
    "avap",
    "mh-unet",
    "cm",
    "cm-low-rank",
    "cm-global",
    "cm-two-stage",
    "separate",
    "wdnet",
    "aggnet",
    "maxmig",
    "mrnet",
    "padl",
    "mode-labels",
    "staple",
    "prob-unet",
    "phiseg",
)
SIDE, BATCH, STEPS = 64, 8, 3


def invented(annotators: int, side: int, batch: int):
    """Make pictures of noise on which everybody marks the same square."""
    import numpy as np
    import pandas as pd

    from iavlib.multiannotator import MultiAnnotatorSet

    generator = np.random.default_rng(0)
    labels = np.zeros((batch, annotators, side, side), np.int8)
    labels[:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
    return MultiAnnotatorSet(
        "invented",
        generator.integers(0, 255, (batch, side, side, 3), np.uint8),
        labels,
        tuple(f"annotator {number}" for number in range(annotators)),
        2,
        pd.Index([str(number) for number in range(batch)]),
        synthetic=True,
    )


def measure(name: str, annotators: int, side: int, batch: int, device: str) -> dict:
    """Build a method's network, train some steps of each stage, and predict."""
    import torch

    from iavlib.multiannotator import FittedMethod, Problem, make_method
    from iavlib.multiannotator.fitting import build_network
    from iavlib.training.recipe import get_recipe

    torch.set_num_threads(1)
    data = invented(annotators, side, batch)
    method = make_method(name)
    problem = Problem.of(data)
    before = peak(device)
    network = build_network(method, problem, 0).to(device, memory_format=torch.channels_last)
    method.start(network, data, get_recipe("annotators"))
    # What comes after the first step of training is measured where a stage needs no other's end.
    stages = method.stages if name in ("avap", "wdnet") else method.stages[:1]
    seconds = [time_steps(method, network, data, problem, stage, device) for stage in stages]
    used = peak(device) - before
    start = time.perf_counter()
    FittedMethod(method, network, problem).predict(data, n_samples=1)
    return {
        "method": name,
        "annotators": annotators,
        "parameters": sum(one.numel() for one in network.parameters()),
        "step_ms": 1000 * sum(seconds),
        "predict_ms": 1000 * (time.perf_counter() - start) / batch,
        "peak_mb": used,
    }


def time_steps(method, network, data, problem, stage: str, device: str) -> float:
    """Return the median duration of a training step of a stage, in seconds."""
    import torch

    from iavlib.training.batches import ImageBatches
    from iavlib.training.optimisation import build_optimizer
    from iavlib.training.recipe import get_recipe

    targets = method.targets(data, stage, network)
    method.begin(network, stage)
    batches = ImageBatches.from_arrays(
        data.images, data.ids, targets, problem.mean, problem.std, device
    )
    optimizer = build_optimizer(network, get_recipe("annotators"))
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        method.loss(network, batches.batch(range(len(data))), 9, stage).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def peak(device: str) -> float:
    """Return the most memory so far, in MB: of this process, or on the GPU."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def in_own_process(name: str, annotators: int, side: int, batch: int, device: str) -> dict:
    """Measure where nothing was allocated before."""
    told = ["--one", name, str(annotators), str(side), str(batch), "--device", device]
    command = [sys.executable, __file__, *told]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure, print a table, and write it unless it was quick."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="these only; not written")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        name, *numbers = chosen.one
        print(json.dumps(measure(name, *map(int, numbers), chosen.device)))
        return
    side = SIDE // 2 if chosen.quick else SIDE
    rows = []
    head = f"{'method':16}{'annotators':>11}{'parameters':>12}{'step, ms':>10}"
    print(f"{head}{'predict, ms':>13}{'MB':>8}")
    for name in chosen.methods or (METHODS[:2] if chosen.quick else METHODS):
        for annotators in ANNOTATORS[:2] if chosen.quick else ANNOTATORS:
            row = in_own_process(name, annotators, side, BATCH, chosen.device)
            rows.append(row)
            print(
                f"{name:16}{annotators:11}{row['parameters']:12,}{row['step_ms']:10.1f}"
                f"{row['predict_ms']:13.1f}{row['peak_mb']:8.0f}",
                flush=True,
            )
    if not (chosen.quick or chosen.methods):
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "threads": 1}
        content = {
            "machine": machine | {"system": platform.system(), "device": chosen.device},
            "python": platform.python_version(),
            "pictures": {"side": side, "batch": BATCH, "classes": 2},
            "rows": rows,
        }
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
