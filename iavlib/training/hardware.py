"""The device that trains, its number formats, and its being told to compute the same twice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from iavlib.training.errors import TrainingError

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
    """Return the number format that is used: fp16 asks for a GPU, on a CPU it is fp32."""
    return "fp32" if precision == "fp16" and device.type != "cuda" else precision


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context in which the network and its loss compute in that format."""
    kind = effective_precision(precision, device)
    if kind == "fp32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=_TYPES[kind])


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let a GPU compute the same from the same, where its libraries can; CPUs do so anyway.

    Operations without a repeatable form compute on, and PyTorch warns of them by name.
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
