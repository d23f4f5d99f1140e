"""Building a backbone and reading pre-trained weights into it.

Whether tensors fit a network, said tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from iavlib.core.errors import DataError, ModelError, WeightsUnavailable
from iavlib.models import weights as hub
from iavlib.models.backbones import Backbone
from iavlib.models.weights import Weights, describe_file, short_hash, weights_file

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
    subsets = [("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)]
    return "; ".join(f"{len(names)} {word}: {_some(names)}" for word, names in subsets if names)


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


def create(
    backbone: Backbone,
    size: int | None = None,
    state: Mapping | None = None,
    padding: str = "",
) -> nn.Module:
    """Return timm's whole network, classifier included, random or with a state as timm names it.

    Parameters
    ----------
    backbone : Backbone
    size : int, optional
        Side of the input in pixels. Networks with positions for a fixed number of patches are
        built for it; the others take any.
    state : mapping of str to torch.Tensor, optional
        Tensors as timm publishes them; timm renames and resizes what must be.
    padding : {"", "same"}
        Of strided convolutions; see :class:`Weights`.

    Raises
    ------
    ModelError
        If this network has no choice of padding.
    """
    options = {} if backbone.drop_path is None else {"drop_path_rate": backbone.drop_path}
    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if size is not None and settings is not None and settings.fixed_input_size:
        options["img_size"] = size
    if state is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    if padding:
        options["pad_type"] = padding
    try:
        return timm.create_model(backbone.timm_name, **options)
    except TypeError as error:
        if "pad_type" not in str(error):
            raise
        raise ModelError(f"{backbone.timm_name} cannot be padded as {padding!r}") from error


def strip(network: nn.Module, backbone: Backbone) -> nn.Module:
    """Take the classifier, and what the paper's network lacks, out of timm's network."""
    network.reset_classifier(0)
    for name in backbone.bypassed:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def from_hub(backbone: Backbone, size: int | None = None) -> tuple[nn.Module, Weights]:
    """Return the network with timm's weights, from a cache or Hugging Face.

    Raises
    ------
    WeightsUnavailable
        If they are in no cache and cannot be downloaded.
    iavlib.core.DataError
        If the file is damaged or does not fit.
    """
    hint = f"put a file at {weights_file(backbone)}, or ask for weights 'none'"
    path = hub.fetch_weights(backbone, hint)
    settings = timm.get_pretrained_cfg(backbone.timm_name)
    try:
        network = create(backbone, size, as_float32(read_tensors(path)))
    except (RuntimeError, KeyError) as error:  # torch names the tensors
        problem = f"does not fit {backbone.timm_name}: {error}"
        raise DataError(path, problem, "remove it, so that it is downloaded again") from error
    place = settings.hf_hub_id if path.suffix == ".safetensors" else settings.url
    detail = f"{place}, sha256 {short_hash(path)}"
    mean, std = tuple(settings.mean), tuple(settings.std)
    return network, Weights("hub", detail, mean, std, size or backbone.size)


def from_file(
    backbone: Backbone, path: Path | None = None, size: int | None = None
) -> tuple[nn.Module, Weights]:
    """Return the network with the weights of a safetensors file.

    The file names tensors as timm does, in any floating point precision; its metadata say
    ``mean`` and ``std`` (three numbers, or one, separated by commas) and ``input_size``. They may
    name the network (``timm``), the ``padding`` of strided convolutions (``same`` as in
    TensorFlow, or ``symmetric``) and the ``source``: without a padding, that of a ``.tflite``
    file is taken to be TensorFlow's. The classifier may be missing.

    Parameters
    ----------
    backbone : Backbone
    path : Path, optional
        Default: its place in the data home; see :func:`iavlib.models.weights.weights_file`.
    size : int, optional
        Side of the input in pixels, where it is not to be the file's.

    Raises
    ------
    WeightsUnavailable
        If there is no such file.
    iavlib.core.DataError
        If it is damaged, of another network, or tensors are missing, unexpected or misshapen.
    """
    path = _existing(backbone, path)
    (mean, std, file_size, padding) = _metadata(path, backbone)
    state = as_float32(read_tensors(path))
    network = create(backbone, size, padding=padding)
    expected = network.state_dict()
    wrong = differences(expected, state, optional=_classifier(network, expected))
    if wrong:
        hint = f"give a file of {backbone.architecture} with timm's names, or another backbone"
        raise DataError(path, f"tensors do not fit {backbone.architecture}: {wrong}", hint)
    network.load_state_dict(state, strict=False)
    record = Weights("file", describe_file(path), mean, std, size or file_size, padding)
    return network, record


def padding_of_file(backbone: Backbone) -> str:
    """Return how the weights file of a backbone wants strided convolutions padded.

    Returns
    -------
    {"symmetric", "same"}

    Raises
    ------
    WeightsUnavailable, iavlib.core.DataError
        As :func:`from_file`.
    """
    return _metadata(_existing(backbone), backbone)[-1] or "symmetric"


def _existing(backbone: Backbone, path: Path | None = None) -> Path:
    path = weights_file(backbone) if path is None else Path(path)
    if not path.is_file():
        reason, hint = f"there is no file {path}", "put it there, or ask for 'hub' or 'none'"
        raise WeightsUnavailable(backbone.name, "file", reason, hint)
    return path


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, or of a PyTorch file with tensors only.

    Raises
    ------
    iavlib.core.DataError
        If the file is damaged, or holds more than tensors and so would have to run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # zip, pickle and safetensors each have errors of their own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        hint = "get the file again; nothing but tensors is read from it"
        raise DataError(path, f"cannot be read as weights ({said})", hint) from error


def _classifier(network: nn.Module, names: Mapping) -> list[str]:
    heads = network.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    return [name for name in names if name.rpartition(".")[0] in heads]


def _metadata(path: Path, backbone: Backbone):
    """Return mean, std, input size and padding of a weights file."""
    try:
        with safe_open(path, "pt") as file:
            content = file.metadata() or {}
    except SafetensorError as error:
        problem = f"cannot be read as weights ({error})"
        raise DataError(path, problem, "get the file again") from error
    hint = "write mean, std and input_size into its metadata, such as '0.5,0.5,0.5' and '224'"
    named = content.get("timm", backbone.architecture)
    if named.partition(".")[0] != backbone.architecture:
        problem = f"holds weights of {named}, not of {backbone.architecture}"
        raise DataError(path, problem, "give the file of this backbone")
    values = {}
    for key, counts in (("mean", (1, 3)), ("std", (1, 3)), ("input_size", (1,))):
        try:
            values[key] = tuple(float(item) for item in content[key].split(","))
        except (KeyError, ValueError) as error:
            said = repr(content[key]) if key in content else "missing"
            raise DataError(path, f"metadata {key} is {said}", hint) from error
        if len(values[key]) not in counts:
            raise DataError(path, f"metadata {key} is {content[key]!r}", hint)
    mean, std = (item * 3 if len(item) == 1 else item for item in (values["mean"], values["std"]))
    return mean, std, int(values["input_size"][0]), _padding(content, path)


def _padding(content: Mapping[str, str], path: Path) -> str:
    guessed = "same" if ".tflite" in content.get("source", "") else "symmetric"
    named = content.get("padding", guessed)
    if named not in ("same", "symmetric"):
        problem = f"metadata padding is {named!r}"
        raise DataError(path, problem, "write 'same' (TensorFlow's) or 'symmetric'")
    return "same" if named == "same" else ""
