"""Dice, Jaccard, HD, HD95 and ASSD of pairs of masks: this library and seven others.

All sides run in one process and on one core, one after the other, and are called as their
documentation shows. Each time is the least CPU time of several runs, so that the ratios hold on a
machine that has other work. Sides that are not installed are left out (``pip install monai``; the
package of google-deepmind's surface-distance is not in the package index, a copy of it is
``ctg-surface-distance``). Dice must agree exactly and HD within the two pixels by which their
definitions of a surface differ.

    python benchmarks/pair_metrics.py [--quick]

The times are written to ``results/pair_metrics.json``, and the table of ratios, which is made from
that file, into the page ``book/own_masks.md`` between two comments.
"""

import argparse
import io
import json
import platform
import re
import time
from collections.abc import Callable
from importlib import metadata
from itertools import combinations
from pathlib import Path

import numpy as np
from agreement import ragged, smooth
from PIL import Image
from scipy import ndimage
from scipy.spatial import KDTree

from iavlib.masks import image_pairs

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "pair_metrics.json"
PAGE = ROOT / "book" / "own_masks.md"
CASES = (
    ("a smooth pair", smooth, (2000, 3000), 2),
    ("a ragged pair", ragged, (1024, 1024), 2),
    ("ten ragged pairs", ragged, (1024, 1024), 5),
)
START, END = "<!-- benchmark of pairs -->", "<!-- end of the benchmark -->"
Row = tuple[float, ...]


def library(masks) -> list[Row]:
    named = {f"{number}": mask for number, mask in enumerate(masks)}
    names = ("dice", "jaccard", "hd", "hd95", "assd")
    return [tuple(pair[name] for name in names) for pair in image_pairs(named)]


def of_pairs(masks, distances: Callable) -> list[Row]:
    """Complete a function from two masks to the distances of both surfaces."""
    rows = []
    for a, b in combinations(masks, 2):
        common, areas = np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)
        there, back = distances(a, b)
        both = np.concatenate([there, back])
        overlap = (2 * common / areas, common / (areas - common))
        assd = (there.mean() + back.mean()) / 2
        rows.append((*overlap, both.max(), np.percentile(both, 95), assd))
    return rows


def medpy(masks) -> list[Row]:
    from medpy.metric.binary import assd, dc, hd, hd95, jc

    pairs = combinations(masks, 2)
    return [tuple(metric(a, b) for metric in (dc, jc, hd, hd95, assd)) for a, b in pairs]


def eroded(mask) -> np.ndarray:
    return mask ^ ndimage.binary_erosion(mask)


def scipy_edt(masks) -> list[Row]:
    def distances(a, b):
        surfaces = [eroded(mask) for mask in (a, b)]
        maps = [ndimage.distance_transform_edt(~surface) for surface in surfaces]
        return maps[1][surfaces[0]], maps[0][surfaces[1]]

    return of_pairs(masks, distances)


def opencv(masks) -> list[Row]:
    import cv2

    def distances(a, b):
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        edge = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
        images = [mask.view(np.uint8) for mask in (a, b)]
        surfaces = [image ^ cv2.erode(image, cross, **edge) for image in images]
        exact = (cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        maps = [cv2.distanceTransform(1 - surface, *exact) for surface in surfaces]
        return maps[1][surfaces[0] > 0], maps[0][surfaces[1] > 0]

    return of_pairs(masks, distances)


def simpleitk(masks) -> list[Row]:
    import SimpleITK as sitk

    def distances(a, b):
        images = [sitk.GetImageFromArray(mask.view(np.uint8)) for mask in (a, b)]
        maps = [
            np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(i, False, False)))
            for i in images
        ]
        surfaces = [sitk.GetArrayFromImage(sitk.LabelContour(image)) > 0 for image in images]
        return maps[1][surfaces[0]], maps[0][surfaces[1]]

    return of_pairs(masks, distances)


def monai(masks) -> list[Row]:
    import torch
    from monai.metrics import (
        compute_average_surface_distance as assd,
        compute_dice,
        compute_hausdorff_distance as hausdorff,
        compute_iou,
    )

    tensors = [torch.from_numpy(mask)[None, None] for mask in masks]
    options = {"include_background": True}
    return [
        (
            *(float(f(a, b, **options)) for f in (compute_dice, compute_iou, hausdorff)),
            float(hausdorff(a, b, percentile=95, **options)),
            float(assd(a, b, symmetric=True, **options)),
        )
        for a, b in combinations(tensors, 2)
    ]


def surface_distance(masks) -> list[Row]:
    import surface_distance as peer

    rows = []
    for a, b in combinations(masks, 2):
        common, areas = np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)
        found = peer.compute_surface_distances(a, b, (1, 1))
        robust = [peer.compute_robust_hausdorff(found, share) for share in (100, 95)]
        assd = np.mean(peer.compute_average_surface_distance(found))
        rows.append((2 * common / areas, common / (areas - common), *robust, assd))
    return rows


def kd_tree(masks) -> list[Row]:
    """Find each surface within the box of all masks, and search in a tree of its pixels."""
    union = np.any(masks, axis=0)
    rows, columns = (np.flatnonzero(union.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    points = {}
    for mask in masks:
        padded = np.pad(mask[box], 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        points[id(mask)] = np.argwhere(mask[box] & ~inner)
    trees = {name: KDTree(each) for name, each in points.items()}

    def distances(a, b):
        a, b = id(a), id(b)
        return trees[b].query(points[a])[0], trees[a].query(points[b])[0]

    return of_pairs(masks, distances)


SIDES = {
    "this library": library,
    "KD-tree": kd_tree,
    "OpenCV": opencv,
    "surface-distance": surface_distance,
    "MONAI": monai,
    "SimpleITK": simpleitk,
    "SciPy EDT": scipy_edt,
    "medpy": medpy,
}
PACKAGES = ("monai", "opencv-python-headless", "medpy", "SimpleITK", "scipy", "numpy")


def decode(masks) -> Callable:
    """Return a function that decodes each mask from PNG once."""
    files = []
    for mask in masks:
        files.append(io.BytesIO())
        Image.fromarray(mask.astype(np.uint8) * 255).save(files[-1], "PNG")

    def decoded():
        for file in files:
            with Image.open(file) as image:
                image.load()

    return decoded


def least_seconds(function, at_least: float):
    """Return the least CPU time of two calls or more, and what comes back."""
    times = []
    while len(times) < 2 or sum(times) < at_least:
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def measure(case: str, kind, shape, n: int) -> dict:
    masks = [kind(shape, annotator) for annotator in range(n)]
    seconds, found = {}, {}
    for name, side in SIDES.items():
        try:
            seconds[name], found[name] = least_seconds(lambda side=side: side(masks), 1.0)
        except ImportError as error:
            print(f"{name}: not installed ({error})")
            continue
        rows, ours = np.array(found[name]), np.array(found["this library"])
        np.testing.assert_allclose(rows[:, 0], ours[:, 0], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(rows[:, 2], ours[:, 2], atol=2, err_msg=name)
        print(f"{case}: {name} {1e3 * seconds[name]:.1f} ms", flush=True)
    peer, best = min((value, name) for name, value in seconds.items() if name != "this library")
    own = seconds["this library"]
    return {
        "case": case,
        "size": f"{shape[1]} x {shape[0]}",
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "seconds_decoding": round(least_seconds(decode(masks), 0.5)[0], 5),
        "best_peer": best,
        "ratio_to_best_peer": round(peer / own, 2),
    }


def markdown(report: dict) -> str:
    """Write the ratios as a table."""
    names = [name for name in SIDES if any(name in row["seconds"] for row in report["rows"])]
    peers = [name for name in names if name != "this library"]
    lines = [
        f"| Masks | This library | {' | '.join(peers)} | Decoding the PNGs |",
        f"| :-- | --: |{' --: |' * (len(peers) + 1)}",
    ]
    for row in report["rows"]:
        own = row["seconds"]["this library"]
        times = [row["seconds"].get(name) for name in peers] + [row["seconds_decoding"]]
        ratios = [value / own if value else None for value in times]
        cells = [f"{x:.{0 if x >= 10 else 1}f} x" if x else "–" for x in ratios]
        case = f"{row['case']}, {row['size']}"
        lines.append(f"| {case} | {1e3 * own:.0f} ms | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(report: dict) -> None:
    text = PAGE.read_text(encoding="utf-8")
    place = re.compile(f"(?s)(?<={START}\n).*(?={END})")
    PAGE.write_text(place.sub(lambda _: f"\n{markdown(report)}\n\n", text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one case; nothing is written")
    quick = parser.parse_args().quick
    rows = [measure(*case) for case in (CASES[1:2] if quick else CASES)]
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    report = {"rows": rows, "versions": versions, "machine": platform.machine()}
    print(markdown(report))
    for row in rows:
        print(f"{row['case']}: {row['ratio_to_best_peer']} times the best, {row['best_peer']}")
    if not quick:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_page(report)


if __name__ == "__main__":
    main()
