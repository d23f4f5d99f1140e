"""Images a second of training: a loader in the paper's way, this library, and the model alone.

(a) reads every JPEG anew (Pillow), scales and changes it image by image with torchvision's
transforms in worker processes, and trains in single precision. (b) is this library: pixels
decoded once, batches augmented whole. (c) is the same model stepping on one batch that is held in
memory, as fast as training could be. All three take turns in one process, each from its second
epoch on; the best of several rounds counts. What (b) takes beyond (c) is the part of a step that
is spent outside the model. How far (b) is ahead of (a) is bounded by how long the model itself
takes, which is why a small and a larger one are measured.

    python benchmarks/training.py [--quick] [--models ...] [--precision bf16]

The JPEGs are made from images of IAV_DATA_HOME, or else from the phantom's.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from iavlib.core.project import data_home
from iavlib.data import load
from iavlib.models import HeadSpec, build_network
from iavlib.training.batches import ImageBatches
from iavlib.training.hardware import autocast, choose_device
from iavlib.training.image_cache import cache_images
from iavlib.training.loop import fit
from iavlib.training.objectives import Objective
from iavlib.training.recipe import get_recipe

RESULTS = Path(__file__).parent / "results" / "training.json"
FILES = ((1022, 767), (256, 256))
MODELS = ("mobilenetv3_small_100", "mobilenetv2_100")
SIZE = 224
TARGETS = {"library of model alone, least": 0.95, "library beside loader, least": 2.0}
HALF = (0.5, 0.5, 0.5)


class Only(Objective):
    """Trains without measuring."""

    def loss(self, model, batch, epoch):
        return error(model, batch["images"], batch["iaa"])

    def evaluate(self, model):
        return {}


class Files(Dataset):
    """Images as the paper reads them: a file and all of its transforms each time."""

    def __init__(self, paths: pd.Series, targets: pd.DataFrame):
        from torchvision import transforms

        self.paths, self.targets = list(paths), targets["iaa"].to_numpy(np.float32)
        self.change = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE), transforms.InterpolationMode.BICUBIC),
                QuarterTurn(),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomAutocontrast(),
                transforms.GaussianBlur(5, (0.1, 0.1)),
                transforms.RandomAdjustSharpness(2),
                transforms.ToTensor(),
                transforms.Normalize(HALF, HALF),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        with Image.open(self.paths[index]) as image:
            return self.change(image.convert("RGB")), self.targets[index]


class QuarterTurn:
    """Rotates by a random multiple of 90 degrees."""

    def __call__(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import functional

        return functional.rotate(image, random.choice((0, 90, 180, 270)))


def network(name: str) -> nn.Module:
    return build_network(name, {"iaa": HeadSpec("linear")})


def error(model: nn.Module, images, target):
    return nn.functional.smooth_l1_loss(model(images)["iaa"][:, 0].float(), target)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    recipe = get_recipe("paper")
    return torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, 0, recipe.weight_decay, recipe.nesterov
    )


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Loader:
    """(a): files and transforms in worker processes, single precision."""

    def __init__(self, paths, targets, options):
        self.device, self.steps = options.device, len(paths) // options.batch
        workers = min(4, os.cpu_count() or 1)
        self.loader = DataLoader(
            Files(paths, targets),
            options.batch,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
        )
        self.model = network(options.model).to(self.device).train()
        self.optimizer = sgd(self.model)

    def epoch(self) -> float:
        """Train an epoch and return seconds a step."""
        start = time.perf_counter()
        for images, target in self.loader:
            loss = error(self.model, images.to(self.device), target.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        wait_for(self.device)
        return (time.perf_counter() - start) / self.steps


class Library:
    """(b): this library."""

    def __init__(self, paths, targets, options, folder: Path):
        start = time.perf_counter()
        cache = cache_images(paths, SIZE, folder)
        self.seconds_decoding = time.perf_counter() - start
        self.batches = ImageBatches.from_cache(cache, targets, HALF, HALF, None, options.device)
        self.options = options

    def epoch(self) -> float:
        """Train two epochs and return seconds a step of the second."""
        settings = {"epochs": 2, "num_aug": 1, "batch_size": self.options.batch, "select": None}
        recipe = get_recipe("paper", precision=self.options.precision, **settings)
        history = fit(network(self.options.model), self.batches, Only(), recipe)
        return self.options.batch / history["images_per_second"].iloc[1]


class Alone:
    """(c): the model on one batch in memory, as this library trains it."""

    def __init__(self, batches: ImageBatches, options):
        self.batch = batches.batch(np.arange(options.batch))
        self.device, self.precision = options.device, options.precision
        self.steps = len(batches) // options.batch
        self.model = network(options.model).train()
        self.model.to(self.device, memory_format=torch.channels_last)
        self.optimizer = sgd(self.model)

    def epoch(self) -> float:
        """Step as often as in an epoch and return seconds a step."""
        start = time.perf_counter()
        for _ in range(self.steps):
            with autocast(self.precision, self.device):
                loss = error(self.model, self.batch["images"], self.batch["iaa"])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        wait_for(self.device)
        return (time.perf_counter() - start) / self.steps


def make_files(folder: Path, size: tuple[int, int], n: int) -> tuple[pd.Series, pd.DataFrame]:
    """Write JPEGs of a size, with targets."""
    sources = sorted((data_home() / "imapp" / "images").glob("*.jpg"))[:n]
    if len(sources) < n:
        sources = list(load("phantom", n_images=n).images["path"])
    paths = {}
    for i, source in enumerate(sources):
        path = folder / f"{size[0]}_{i:04d}.jpg"
        with Image.open(source) as image:
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
        paths[f"image_{i:04d}"] = str(path)
    paths = pd.Series(paths)
    targets = np.random.default_rng(0).uniform(0, 1, len(paths))
    return paths, pd.DataFrame({"iaa": targets}, index=paths.index)


def measure(size: tuple[int, int], folder: Path, options) -> dict:
    """Let the three take turns on the same files."""
    paths, targets = make_files(folder, size, options.images)
    library = Library(paths, targets, options, folder / "cache")
    sides = {
        "loader": Loader(paths, targets, options),
        "library": library,
        "model": Alone(library.batches, options),
    }
    for side in ("loader", "model"):
        sides[side].epoch()  # starts workers, takes memory
    rounds = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, trains in sides.items():
            rounds[side].append(trains.epoch())
    seconds = {side: min(found) for side, found in rounds.items()}
    speed = {side: options.batch / found for side, found in seconds.items()}
    row = {
        "case": options.model,
        "size": f"{size[0]}x{size[1]}",
        "images_per_second": speed["library"],
        "images_per_second_loader": speed["loader"],
        "images_per_second_model": speed["model"],
        "ratio": speed["library"] / speed["loader"],
        "ratio_model": speed["library"] / speed["model"],
        "share_outside_model": max(0.0, 1 - seconds["model"] / seconds["library"]),
        "share_outside_model_loader": max(0.0, 1 - seconds["model"] / seconds["loader"]),
        "seconds_decoding": library.seconds_decoding,
    }
    print(
        "{case:24}{size:>10}{images_per_second_loader:10.1f}{images_per_second:10.1f}"
        "{images_per_second_model:10.1f}{ratio:9.2f}{ratio_model:9.1%}"
        "{share_outside_model:10.1%}".format(**row),
        flush=True,
    )
    return row


def judge(rows: list[dict]) -> dict:
    """Compare the rows with the targets and say it."""
    found = (min(row["ratio_model"] for row in rows), min(row["ratio"] for row in rows))
    summary = dict(zip(TARGETS, found, strict=True))
    for name, target in TARGETS.items():
        met = "met" if summary[name] >= target else "MISSED"
        print(f"{name}: {summary[name]:.2f} (target {target}: {met})")
    return summary


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of it; nothing is written")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of timm")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="of (b) and (c)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, help="files of each size")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch on a CPU")
    options = parser.parse_args()
    options.device = choose_device(options.device)
    on_gpu = options.device.type == "cuda"
    options.precision = options.precision or ("bf16" if on_gpu else "fp32")
    options.batch, options.rounds = (16, 1) if options.quick else (32, 3)
    options.images = options.images or (48 if options.quick else 1024 if on_gpu else 192)
    if options.quick:
        options.models = options.models[:1]
    return options


def main() -> None:
    options = settings()
    torch.set_num_threads(options.threads)
    print("images a second:             files    loader   library     model", end="")
    print("   beside  of model   outside")
    rows = []
    for name in options.models:
        options.model = name
        for size in FILES:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(size, Path(folder), options))
    gpu = options.device.type == "cuda"
    report = {
        "rows": rows,
        "summary": judge(rows),
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(options.device) if gpu else "cpu",
        "threads": options.threads,
        "precision": options.precision,
        "batch": options.batch,
        "images": options.images,
    }
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        unfinished = RESULTS.with_suffix(".tmp")
        unfinished.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(unfinished, RESULTS)
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
