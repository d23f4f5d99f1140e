"""Class activation maps of many images: whole batches at once, beside grad-cam once an image.

Both explain the same images by one network with the same methods, in both directions of the
regression; what differs is how. grad-cam is called as its documentation shows, for one image,
method and direction at a time. Times are the processor time of one thread, decoding not included.

    python benchmarks/explain.py [--quick]

``grown_mb`` is by how much the peak of memory grows over all batches after the first one.

``--quick`` takes a tiny network and few images, and writes nothing. Weights are random: the time
does not depend on them.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "explain.json"
#: Backbone, side of images, images for the engine, images for grad-cam.
CASES = (("mobilenetv2_100", 224, 112, 8), ("resnet18", 224, 112, 4), ("vit_b_32", 224, 112, 2))
QUICK = (("test_resnet", 64, 32, 4),)
_BATCH = 16
WHOLE = 1053  # images of IMA++'s multi-annotator subset at hand


def measure(backbone: str, side: int, many: int, few: int, methods) -> list[dict]:
    """Time both ways on one network, each for the methods together."""
    import torch

    from iavlib import explain
    from iavlib.models import HeadSpec, build_network

    torch.set_num_threads(1)
    network = build_network(backbone, {"iaa": HeadSpec("linear")}, size=side).eval()
    images = torch.randn((many, 3, side, side), generator=torch.Generator().manual_seed(0))
    explainer = explain.Explainer(network, None, methods)
    explainer.explain(images[:_BATCH])  # the first time is slower, and takes the memory of a batch
    before = _peak()
    start = time.process_time()
    for first in range(0, many, _BATCH):
        explainer.explain(images[first : first + _BATCH])
    ours = (time.process_time() - start) / many
    grown = _peak() - before
    theirs = _with_package(network, explainer, images[:few], methods)
    rows = []
    for way, seconds in (("batches", ours), ("grad-cam, one image at a time", theirs)):
        row = {"backbone": backbone, "side": side, "methods": len(methods), "directions": 2}
        row |= {"way": way, "ms_per_image": round(1000 * seconds, 2)}
        row |= {f"minutes_for_{WHOLE}": round(WHOLE * seconds / 60, 2)}
        rows.append(row | {"ratio": round(seconds / ours, 1)})
    rows[0] |= {"images": many, "grown_mb": round(grown)}
    return rows


def _with_package(network, explainer, images, methods) -> float:
    """Return seconds an image with grad-cam for each method and direction."""
    import pytorch_grad_cam
    from torch import nn

    class Prediction(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, inputs):
            return self.network(inputs)["iaa"]

    names = {
        "Grad-CAM": "GradCAM",
        "Grad-CAM++": "GradCAMPlusPlus",
        "EigenCAM": "EigenCAM",
        "HiResCAM": "HiResCAM",
        "Layer-CAM": "LayerCAM",
    }
    layer = explainer.layer
    start = time.process_time()
    for method in methods:
        of = getattr(pytorch_grad_cam, names[method])
        with of(Prediction(), [layer.module], layer.maps) as cam:
            for sign in (-1, 1):
                for image in images:
                    cam(image[None], [lambda output, sign=sign: sign * output[0]])
    return (time.process_time() - start) / len(images)


def _peak() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Measure, print a table, and write it unless it was quick."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    from iavlib.explain import CAM_METHODS

    rows = []
    print(f"{'backbone':18}{'methods':>8}  {'way':32}{'ms/image':>10}{'ratio':>7}")
    for case in QUICK if chosen.quick else CASES:
        for methods in (CAM_METHODS[:1], CAM_METHODS[:5]):
            for row in measure(*case, methods):
                rows.append(row)
                told = f"{row['backbone']:18}{row['methods']:8}  {row['way']:32}"
                print(f"{told}{row['ms_per_image']:10.1f}{row['ratio']:7.1f}", flush=True)
    if not chosen.quick:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "threads": 1}
        content = {
            "machine": machine | {"system": platform.system()},
            "python": platform.python_version(),
            "rows": rows,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
