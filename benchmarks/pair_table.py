"""A cohort of 250 images with two masks each at 3000 x 2000, from PNG files to the table of pairs.

    python benchmarks/pair_table.py [--processes 2] [--images 250]

Four of five images have smooth outlines, as the masks of IMA++ have; the others are frayed. The
time of all 14,967 images of IMA++ is extrapolated, not measured: once from the time this run
took by the clock, once from the processor time it used, which is what as many idle cores would
take. Both count the start of the processes.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from agreement import ragged, smooth
from PIL import Image

from iavlib.agreement import pair_table

RESULTS = Path(__file__).parent / "results" / "pair_table.json"
SHAPE = (2000, 3000)
IMAPP_IMAGES = 14_967


def write_masks(folder: Path, n_images: int) -> pd.DataFrame:
    """Write masks that are shifted and turned versions of ten drawn ones; return their table."""
    rng = np.random.default_rng(0)
    drawn = [smooth(SHAPE, annotator) for annotator in range(8)]
    drawn += [ragged(SHAPE, annotator) for annotator in range(2)]
    rows = []
    for image in range(n_images):
        kinds = (8, 9) if image % 5 == 4 else rng.choice(8, 2, replace=False)
        offset, turn = rng.integers(-200, 200, 2), rng.choice([-1, 1], 2)
        for number, kind in enumerate(kinds):
            mask = np.roll(drawn[kind], offset + rng.integers(-20, 20, 2), (0, 1))
            path = folder / f"{image:04d}_{number}.png"
            Image.fromarray(mask[:: turn[0], :: turn[1]].astype(np.uint8) * 255).save(path)
            rows.append((path.stem, f"{image:04d}", str(path)))
    return pd.DataFrame(rows, columns=["mask_id", "image_id", "path"]).set_index("mask_id")


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--images", type=int, default=250)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        masks = write_masks(Path(folder), options.images)
        start, used = time.perf_counter(), processor_seconds()
        table = pair_table(masks, processes=options.processes, out=Path(folder) / "out")
        seconds, used = time.perf_counter() - start, processor_seconds() - used
        start = time.perf_counter()
        pair_table(masks, processes=options.processes, out=Path(folder) / "out")
        resumed = time.perf_counter() - start
    assert len(table.pairs) == options.images
    scale = IMAPP_IMAGES / options.images / 60
    report = {
        "masks": len(masks),
        "images": options.images,
        "size": "3000x2000",
        "processes": options.processes,
        "seconds": seconds,
        "seconds_resumed": resumed,
        "processor_seconds": used,
        "extrapolated_minutes": seconds * scale,
        "extrapolated_minutes_idle_cores": used / options.processes * scale,
    }
    print(
        f"{len(masks)} masks of {options.images} images with {options.processes} processes: "
        f"{seconds:.1f} s by the clock, {used:.1f} s of processor (read again from what was kept: "
        f"{resumed:.2f} s). Extrapolated to {IMAPP_IMAGES:,} images with two masks each: "
        f"{report['extrapolated_minutes']:.1f} minutes, on {options.processes} idle cores "
        f"{report['extrapolated_minutes_idle_cores']:.1f}"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    unfinished = RESULTS.with_suffix(".tmp")
    unfinished.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(unfinished, RESULTS)


if __name__ == "__main__":
    main()
