"""Device, number formats and reproducibility: all random generators of a run, from one seed."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from iavlib.core.errors import TrainingError

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device by name; "auto" is a GPU if there is one, else the CPU.

    Raises
    ------
    TrainingError
        If there is no such device here.
    """
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise TrainingError(f"there is no device {device!r}; use auto, cpu or cuda") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError("PyTorch finds no GPU here; use device auto or cpu")
        chosen = torch.device("cuda", chosen.index or 0)
    return chosen


def effective_precision(precision: str, device: torch.device) -> str:
    """Return the number format that is used: fp16 needs a GPU.

    On a CPU it is bf16 where the processor has instructions for it, else fp32.
    """
    if precision != "fp16" or device.type == "cuda":
        return precision
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which the network and its loss compute in that format."""
    kind = _TYPES.get(effective_precision(precision, device))
    return torch.autocast(device.type, dtype=kind, enabled=kind is not None)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make computations on a GPU deterministic where its libraries can; those on CPUs are.

    PyTorch warns of operations without a deterministic form by name, and runs them.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warn)


class Randomness:
    """Random generators of a run.

    Parameters
    ----------
    seed : int
    device : torch.device

    Attributes
    ----------
    order : numpy.random.Generator
        Draws the order of the images.
    changes : torch.Generator
        Draws augmentations, on the CPU.
    """

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        order, changes = np.random.SeedSequence(seed).spawn(2)
        self.order = np.random.default_rng(order)
        self.changes = torch.Generator().manual_seed(int(changes.generate_state(1)[0]))

    def state(self) -> dict:
        """Return all states as tensors and text, those of the global generators included."""
        name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
        state = {
            "order": json.dumps(self.order.bit_generator.state),
            "numpy": json.dumps([name, keys.tolist(), position, has_gauss, gauss]),
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
    """Also seed the global generators, from which dropout draws, and restore them at the end."""
    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield Randomness(seed, device)
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)
