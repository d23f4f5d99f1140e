"""Dice, Jaccard, HD, HD95 and ASSD of every pair of an image's masks: this library and medpy.

Both sides run here, one after the other, in one process and on one core. medpy is called as the
authors of IMA++ call it, five functions a pair (dc, jc, hd, hd95, assd); this library's time
includes the preparation of the masks. Each side's time is the least of several runs, and both
must agree within 1e-9. Memory is the highest resident size that a process of its own reaches
beyond what it had with the masks loaded (Linux only), which leaves out what importing takes.

    python benchmarks/agreement.py [--quick]

Real masks are read from IAV_DATA_HOME/imapp/masks; without them only phantoms are measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from iavlib.core.project import data_home
from iavlib.data.images import read_mask
from iavlib.masks import image_pairs

RESULTS = Path(__file__).parent / "results" / "agreement.json"
SIZES = ((1024, 1024), (2000, 3000))
METRICS = ("dice", "jaccard", "hd", "hd95", "assd")
N_REAL = 20
TARGETS = {"one pair, median": 25, "one pair, least": 18, "ten pairs, least": 50}


def smooth(shape, annotator: int) -> np.ndarray:
    """Draw a star-shaped lesion as one annotator sees it."""
    rng = np.random.default_rng([1, annotator])
    y, x = (np.arange(n, dtype=np.float32) - n / 2 for n in shape)
    angle, radius = np.arctan2(y[:, None], x), np.hypot(y[:, None], x)
    edge = np.full(shape, 1 + rng.normal() * 0.05, np.float32)
    for k in range(2, 8):
        edge += rng.normal() * 0.03 * np.cos(k * angle + rng.uniform(0, 6))
    return radius < edge * 0.32 * min(shape)


def ragged(shape, annotator: int) -> np.ndarray:
    """Draw a lesion with a frayed outline, islands and holes."""
    rng = np.random.default_rng([2, annotator])
    y, x = (np.arange(n, dtype=np.float32) - n / 2 for n in shape)
    radius = np.hypot(y[:, None], x)
    for width, height in ((4, 0.05), (40, 0.08)):
        rough = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), width)
        radius += rough * (height * min(shape) / rough.std())
    return radius < 0.32 * min(shape)


def shifted(mask: np.ndarray) -> np.ndarray:
    """Move a mask by a fiftieth of the image, down and to the right."""
    down, right = (n // 50 for n in mask.shape)
    moved = np.zeros_like(mask)
    moved[down:, right:] = mask[:-down, :-right]
    return moved


def real_files(folder: Path) -> list[Path]:
    """Choose masks evenly over the files of each tool."""
    chosen = []
    for tool, n in (("T1", 7), ("T2", 7), ("T3", 6)):
        files = sorted(folder.glob(f"*_{tool}_*.png"))
        ranks = np.linspace(0, len(files) - 1, min(n, len(files))).round().astype(int)
        chosen += [files[rank] for rank in ranks]
    return chosen


def by_library(masks) -> list[tuple]:
    """Compute the five metrics of every pair with this library."""
    named = {f"{number:03d}": mask for number, mask in enumerate(masks)}
    return [tuple(pair[metric] for metric in METRICS) for pair in image_pairs(named)]


def by_medpy(masks) -> list[tuple]:
    """Compute the five metrics of every pair with medpy."""
    from medpy.metric.binary import assd, dc, hd, hd95, jc

    return [
        tuple(metric(a, b) for metric in (dc, jc, hd, hd95, assd))
        for a, b in combinations(masks, 2)
    ]


SIDES = {"library": by_library, "medpy": by_medpy}


def least_seconds(function, repeats: int, together: float = 0.0):
    """Return the least time of so many calls (and until so many seconds), and what comes back."""
    times = []
    while len(times) < repeats or sum(times) < together:
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def peak_mb(masks, side: str) -> float | None:
    """Measure the memory of one side in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npy"
        np.save(path, np.array(masks))
        command = [sys.executable, __file__, "--peak", side, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def tell_peak(side: str, path: str) -> None:
    """Print by how many MB this process grows, at most, while one side works."""
    masks = list(np.load(path))
    SIDES[side]([smooth((64, 64), annotator) for annotator in range(2)])
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    SIDES[side](masks)
    print((_status("VmHWM") - before) / 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(case: str, masks) -> dict:
    """Time both sides on the masks of one image and compare what they find."""
    height, width = masks[0].shape
    seconds_medpy, expected = least_seconds(lambda: by_medpy(masks), 2, together=2.0)
    seconds, found = least_seconds(lambda: by_library(masks), 2, together=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    row = {
        "case": case,
        "size": f"{width}x{height}",
        "masks": len(masks),
        "seconds": seconds,
        "seconds_medpy": seconds_medpy,
        "ratio": seconds_medpy / seconds,
        "peak_mb": peak_mb(masks, "library"),
        "peak_mb_medpy": peak_mb(masks, "medpy"),
    }
    memory = [row["peak_mb"] or np.nan, row["peak_mb_medpy"] or np.nan]
    print(
        f"{case:24}{row['size']:>10}{len(masks):6}{seconds:9.4f}{seconds_medpy:9.3f}"
        f"{row['ratio']:8.0f}{memory[0]:9.1f}{memory[1]:9.1f}",
        flush=True,
    )
    return row


def reading(files: list[Path]) -> dict:
    """Tell where the time of a real run goes: two masks an image, from file to metrics."""
    seconds = dict.fromkeys(("decoding", "reading", "comparing"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            copy = Path(folder) / file.name
            Image.fromarray(shifted(read_mask(file)).astype(np.uint8) * 255).save(copy)
            for path in (file, copy):
                seconds["decoding"] += least_seconds(lambda path=path: _decode(path), 3)[0]
                seconds["reading"] += least_seconds(lambda path=path: read_mask(path), 3)[0]
            masks = [read_mask(path) for path in (file, copy)]
            seconds["comparing"] += least_seconds(lambda masks=masks: by_library(masks), 3)[0]
    whole = seconds["reading"] + seconds["comparing"]
    return {
        "images": len(files),
        "seconds_an_image": whole / len(files),
        "share_decoding": seconds["decoding"] / whole,
        "share_reading": seconds["reading"] / whole,
    }


def _decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def cases(files: list[Path], quick: bool):
    """Yield the name and the masks of each case."""
    for file in files[:: 7 if quick else 1]:
        mask = read_mask(file)
        yield f"real {' '.join(file.stem.split('_')[1:4:2])}", [mask, shifted(mask)]
    for shape in SIZES[:1] if quick else SIZES:
        for kind in (smooth, ragged):
            drawn = [kind(shape, annotator) for annotator in range(5)]
            for n in (2, 3, 5):
                yield kind.__name__, drawn[:n]


def judge(rows: list[dict]) -> dict:
    """Compare the rows with the targets and say it."""
    one = [row["ratio"] for row in rows if row["masks"] == 2]
    ten = [row["ratio"] for row in rows if row["masks"] == 5]
    found = dict(zip(TARGETS, (np.median(one), min(one), min(ten)), strict=True))
    for name, target in TARGETS.items():
        met = "met" if found[name] >= target else "MISSED"
        print(f"{name}: {found[name]:.0f} times faster (target {target}: {met})")
    measured = [row for row in rows if row["peak_mb"] is not None]
    if measured:
        shares = [row["peak_mb"] / row["peak_mb_medpy"] for row in measured]
        print(f"peak memory: {min(shares):.0%} to {max(shares):.0%} of medpy's")
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few cases; nothing is written")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        tell_peak(*options.peak)
        return
    files = real_files(data_home() / "imapp" / "masks")
    if len(files) < N_REAL:
        print(f"{len(files)} real masks found under {data_home()}; {N_REAL} are wanted")
    print("case                          size masks        s  s medpy   ratio       MB MB medpy")
    rows = [measure(case, masks) for case, masks in cases(files, options.quick)]
    report = {
        "rows": rows,
        "summary": judge(rows),
        "machine": platform.processor() or platform.machine(),
    }
    if files:
        report["run"] = reading(files)
        print(
            "a real run, two masks an image: {seconds_an_image:.3f} s an image, of which "
            "{share_reading:.0%} is reading the PNG ({share_decoding:.0%} decoding)".format(
                **report["run"]
            )
        )
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        unfinished = RESULTS.with_suffix(".tmp")
        unfinished.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(unfinished, RESULTS)
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
