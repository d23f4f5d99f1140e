"""Everything that is drawn in a training run, from one seed, and its state at any moment."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class Randomness:
    """The generators of a run.

    Parameters
    ----------
    seed : int
    device : torch.device

    Attributes
    ----------
    order : numpy.random.Generator
        Draws the order of the images.
    changes : torch.Generator
        Draws augmentations; of the CPU.
    """

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        order, changes = np.random.SeedSequence(seed).spawn(2)
        self.order = np.random.default_rng(order)
        self.changes = torch.Generator().manual_seed(int(changes.generate_state(1)[0]))

    def state(self) -> dict:
        """Return all states as tensors and text, those of the global generators included."""
        name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
        legacy = [name, keys.tolist(), position, has_gauss, gauss]
        state = {
            "order": json.dumps(self.order.bit_generator.state),
            "numpy": json.dumps(legacy),
            "python": json.dumps(random.getstate()),
            "changes": self.changes.get_state(),
            "torch": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: dict) -> None:
        """Continue from a state."""
        self.order.bit_generator.state = json.loads(state["order"])
        np.random.set_state(tuple(json.loads(state["numpy"])))  # noqa: NPY002
        version, keys, gauss = json.loads(state["python"])
        random.setstate((version, tuple(keys), gauss))
        self.changes.set_state(state["changes"])
        torch.set_rng_state(state["torch"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[Randomness]:
    """Seed the global generators too, from which dropout draws, and put them back at the end."""
    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield Randomness(seed, device)
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)
