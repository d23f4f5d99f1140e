"""A training run in a process of its own, to be killed; it writes result.pt when it has ended."""

from pathlib import Path

import pandas as pd
import torch
from tiny_network import TinyNetwork

from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import cache_images
from iavlib.training.loop import fit
from iavlib.training.objectives import ImageObjective
from iavlib.training.predict import predict
from iavlib.training.recipe import get_recipe

#: With all that has a state.
OVERRIDES = {
    "epochs": 12,
    "batch_size": 4,
    "num_aug": 2,
    "warmup_epochs": 2,
    "ema": 0.9,
    "clip_norm": 1.0,
    "backbone_lr_factor": 0.1,
    "patience": None,
}
TIMES = ["seconds", "images_per_second"]


def main(recipe: str, table: str, images: str, folder: str) -> None:
    torch.set_num_threads(1)
    pictures = pd.read_csv(table, index_col="image_id")
    cache = cache_images(pictures["path"], 24, Path(images), processes=1)
    ids = pictures.index
    batches = ImageBatches.from_cache(cache, pictures[["iaa"]], train=ids[:17], device="cpu")
    chosen = get_recipe(recipe, **OVERRIDES)
    objective = ImageObjective(batches.select(ids[17:]), "iaa", chosen.loss)
    model = TinyNetwork(outputs=2 if chosen.head == "beta" else 1)
    history = fit(model, batches.select(ids[:17]), objective, chosen, Path(folder), seed=5)
    result = {
        "weights": model.state_dict(),
        "predictions": torch.from_numpy(predict(model, batches)["iaa"]),
        "history": history.drop(columns=TIMES).to_json(double_precision=15),
    }
    torch.save(result, Path(folder) / "result.pt")
