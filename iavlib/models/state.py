"""Whether tensors fit a network, said tensor by tensor."""

from collections.abc import Iterable, Mapping

import torch

SHOWN = 5  # tensors named in a message
COUNTER = "num_batches_tracked"  # of a batch norm; many files leave it out, and zero does


def differences(
    expected: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    optional: Iterable[str] = (),
) -> str:
    """Name the tensors that are missing, unexpected or of another shape.

    Parameters
    ----------
    expected, given : mapping of str to torch.Tensor
        States of two networks.
    optional : iterable of str
        Tensors that may be missing; counters of batch norms always may.

    Returns
    -------
    str
        A half-sentence for an error message, empty where the tensors fit.
    """
    optional = set(optional)
    may_miss = {name for name in expected if name in optional or name.endswith(COUNTER)}
    missing = [name for name in expected if name not in given and name not in may_miss]
    unexpected = [name for name in given if name not in expected]
    misshapen = [
        f"{name} {_shape(given[name])} instead of {_shape(expected[name])}"
        for name in expected
        if name in given and given[name].shape != expected[name].shape
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)]
    return "; ".join(f"{len(names)} {word}: {_some(names)}" for word, names in parts if names)


def as_float32(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state with floating point tensors in single precision, others as they are."""
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _shape(tensor: torch.Tensor) -> str:
    return "(" + ", ".join(map(str, tensor.shape)) + ")"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
