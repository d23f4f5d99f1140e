"""Building a backbone of timm and reading pre-trained weights into it.

The authors of the paper released, at https://huggingface.co/kabhishe/skin-IAV, the best of three
runs of three backbones. Each file is the state of their wrapper around a torchvision model:
``backbone.<torchvision's name>``, and ``regression_head.<n>`` or ``classification_head.<n>``.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from iavlib.core.errors import DataError, FileGone, ModelError, WeightsUnavailable
from iavlib.core.files import digest
from iavlib.core.project import data_home
from iavlib.models import weights as files
from iavlib.models.backbones import PAPER_BACKBONES, Backbone
from iavlib.models.weights import Weights

_SHOWN = 5  # tensors named in a message
_LARGEST_INPUT = 8192  # pixels
_COUNTER = "num_batches_tracked"  # of a batch norm; many files leave it out, and zero does

REPOSITORY = "kabhishe/skin-IAV"
FOLDER = "predict_IAA/saved_models"  # the models that predict agreement
# With which the authors normalised the images of IMA++ (their predict_IAA/dataloader.py).
MEAN, STD = (0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)
#: The wrapper's heads, and the names of heads here that they are given to.
HEADS = {
    "regression_head": ("iaa", "regression", "agreement"),
    "classification_head": ("diagnosis", "classification", "malignancy"),
}
#: The released backbones: torchvision's name and its first tensor.
_TORCHVISION = {
    "resnet18": ("resnet18", "conv1.weight"),
    "mobilenetv2": ("mobilenet_v2", "features.0.0.weight"),
    "efficientnetb1": ("efficientnet_b1", "features.0.0.weight"),
}
_CLASSIFIERS = ("fc.", "classifier.")  # of torchvision
# What may stand before torchvision's names, longest first: parallel training and torch.compile
# prepend their own word to the attribute of the wrapper.
_PREFIXES = ("module.backbone.", "_orig_mod.backbone.", "backbone.", "model.", "base_model.")
_PREFIXES += ("net.", "module.", "")


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
    absent = expected.keys() - given.keys() - set(optional)
    wrong = {
        "missing": [name for name in expected if name in absent and not name.endswith(_COUNTER)],
        "unexpected": [name for name in given if name not in expected],
        "misshapen": [
            f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in given and given[name].shape != expected[name].shape
        ],
    }
    return "; ".join(
        f"{len(names)} {word}: {_some(names)}" for word, names in wrong.items() if names
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


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
    except FileNotFoundError:
        raise FileGone(path, "is missing", "get the file again") from None
    except Exception as error:  # zip, pickle and safetensors each have errors of their own
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        hint = "get the file again; nothing but tensors is read from it"
        raise DataError(path, f"cannot be read as weights ({problem})", hint) from error


def _as_float32(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x.float() if x.is_floating_point() else x for name, x in state.items()}


def create(
    backbone: Backbone, size: int | None = None, state: Mapping | None = None, padding: str = ""
) -> nn.Module:
    """Return timm's whole network, classifier included, random or with a state as timm names it.

    Parameters
    ----------
    backbone : Backbone
    size : int, optional
        Side of the input in pixels. Networks with positions for a fixed number of patches are
        built for it; the others take any.
    state : mapping of str to torch.Tensor, optional
        Tensors as timm publishes them; timm renames and resizes where needed.
    padding : {"", "same"}
        Of strided convolutions; see :class:`Weights`.

    Raises
    ------
    ModelError
        If this network has no choice of padding.
    """
    import timm

    options = {} if backbone.drop_path is None else {"drop_path_rate": backbone.drop_path}
    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if size is not None and settings is not None and settings.fixed_input_size:
        options["img_size"] = size
    if state is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    options |= {"pad_type": padding} if padding else {}
    try:
        return timm.create_model(backbone.timm_name, **options)
    except TypeError as error:
        if "pad_type" not in str(error):
            raise
        raise ModelError(f"{backbone.timm_name} cannot be padded as {padding!r}") from error


def strip(network: nn.Module, backbone: Backbone) -> nn.Module:
    """Remove the classifier, and what the paper's network lacks, from timm's network."""
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
    import timm

    path = files.fetch_weights(backbone)
    settings = timm.get_pretrained_cfg(backbone.timm_name)
    try:
        network = create(backbone, size, _as_float32(read_tensors(path)))
    except (RuntimeError, KeyError) as error:  # torch names the tensors
        problem = f"does not fit {backbone.timm_name}: {error}"
        raise DataError(path, problem, "remove it, so that it is downloaded again") from error
    origin = settings.hf_hub_id if path.suffix == ".safetensors" else settings.url
    mean, std, digits = tuple(settings.mean), tuple(settings.std), digest(path)[:12]
    return network, Weights("hub", f"{origin}, sha256 {digits}", mean, std, size or backbone.size)


def from_file(
    backbone: Backbone, path: Path | None = None, size: int | None = None
) -> tuple[nn.Module, Weights]:
    """Return the network with the weights of a safetensors file.

    The file names tensors as timm does, in any floating point precision; its metadata contain
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
        Side of the input in pixels; that of the file unless given.

    Raises
    ------
    WeightsUnavailable
        If there is no such file.
    iavlib.core.DataError
        If it is damaged, of another network, or tensors are missing, unexpected or misshapen.
    """
    path = files.weights_file(backbone) if path is None else path
    mean, std, file_size, padding = _metadata(path, backbone)
    state = _as_float32(read_tensors(path))
    network = create(backbone, size, padding=padding)
    classifiers = network.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    optional = [name for name in network.state_dict() if name.rpartition(".")[0] in classifiers]
    if wrong := differences(network.state_dict(), state, optional):
        hint = f"give a file of {backbone.architecture} with timm's names, or another backbone"
        raise DataError(path, f"tensors do not fit {backbone.architecture}: {wrong}", hint)
    network.load_state_dict(state, strict=False)
    given = (files.describe_file(path), mean, std, size or file_size, padding)
    return network, Weights("file", *given)


def from_package(backbone: Backbone, size: int | None = None) -> tuple[nn.Module, Weights]:
    """Return the network with the weights of an installed package (:data:`weights.PACKAGES`).

    The package names tensors otherwise than timm, and lists them in the same order.

    Raises
    ------
    WeightsUnavailable
        If there is no such package, or it is not installed.
    iavlib.core.DataError
        If its file is damaged or does not fit.
    """
    path = files.package_file(backbone)
    if path is None:
        reason = "its package is not installed"
        if backbone.architecture not in files.PACKAGES:
            reason = "no package has them"
        raise WeightsUnavailable(backbone.name, "package", reason, files.EXTRA)
    network, state = create(backbone, size), read_tensors(path)
    state = dict(zip(network.state_dict(), state.values(), strict=False))
    if wrong := differences(network.state_dict(), state):
        problem = f"tensors do not fit {backbone.architecture}: {wrong}"
        raise DataError(path, problem, "install the package again")
    network.load_state_dict(state)
    settings = network.pretrained_cfg
    detail = f"{files.PACKAGES[backbone.architecture]}, sha256 {digest(path)[:12]}"
    moments = tuple(settings["mean"]), tuple(settings["std"])
    return network, Weights("package", detail, *moments, size or backbone.size)


#: Pre-trained weights of a whole network by their source.
LOADERS = {"hub": from_hub, "file": from_file, "package": from_package}


def padding_of_file(backbone: Backbone) -> str:
    """Return how the weights file of a backbone requires strided convolutions to be padded.

    Returns
    -------
    {"symmetric", "same"}

    Raises
    ------
    WeightsUnavailable, iavlib.core.DataError
        As :func:`from_file`.
    """
    return _metadata(files.weights_file(backbone), backbone)[-1] or "symmetric"


def _metadata(path: Path, backbone: Backbone):
    """Return mean, std, input size and padding of a weights file."""
    if not path.is_file():
        reason, hint = f"there is no file {path}", f"put it there, or {files.EXTRA}"
        raise WeightsUnavailable(backbone.name, "file", reason, hint)
    try:
        with safe_open(path, "pt") as file:
            content = file.metadata() or {}
    except SafetensorError as error:
        problem = f"cannot be read as weights ({error})"
        raise DataError(path, problem, "get the file again") from error
    named = content.get("timm", backbone.architecture)
    if named.partition(".")[0] != backbone.architecture:
        problem = f"holds weights of {named}, not of {backbone.architecture}"
        raise DataError(path, problem, "give the file of this backbone")

    def numbers(key: str, *counts: int) -> tuple[float, ...]:
        try:
            values = tuple(map(float, content[key].split(",")))
        except (KeyError, ValueError):
            values = ()
        sensible = all(map(math.isfinite, values)) and (key == "mean" or min(values, default=0) > 0)
        whole = key != "input_size" or all(v.is_integer() and v <= _LARGEST_INPUT for v in values)
        if len(values) not in counts or not (sensible and whole):
            problem = f"metadata {key} is {repr(content[key]) if key in content else 'missing'}"
            hint = "write mean, std and input_size into them, such as '0.5,0.5,0.5' and '224'"
            raise DataError(path, problem, hint)
        return values * 3 if counts != (1,) and len(values) == 1 else values

    mean, std, size = numbers("mean", 1, 3), numbers("std", 1, 3), numbers("input_size", 1)
    guess = "same" if ".tflite" in content.get("source", "") else "symmetric"
    padding = content.get("padding", guess)
    if padding not in ("same", "symmetric"):
        hint = "write 'same' (TensorFlow's) or 'symmetric'"
        raise DataError(path, f"metadata padding is {padding!r}", hint)
    return mean, std, int(size[0]), "same" if padding == "same" else ""


@dataclass(frozen=True)
class Released:
    """A checkpoint that the authors released, taken apart.

    Attributes
    ----------
    backbone : dict of str to torch.Tensor
        In timm's names, without a classifier.
    heads : dict of str to dict of str to torch.Tensor
        State of each head of the wrapper, by the wrapper's name.
    weights : Weights
        With the authors' normalisation.
    """

    backbone: dict[str, torch.Tensor]
    heads: dict[str, dict[str, torch.Tensor]]
    weights: Weights


def read_released(
    backbone: Backbone, path: Path | None = None, size: int | None = None
) -> Released:
    """Return a checkpoint of the authors.

    Parameters
    ----------
    backbone : Backbone
        ResNet-18, MobileNet-V2 or EfficientNet-B1.
    path : Path, optional
        Default: the model that predicts agreement, from ``weights/skin-IAV`` in the data home
        (laid out as the repository), else from Hugging Face's cache, else from there.
    size : int, optional
        Side of the input in pixels; that of the paper unless given.

    Raises
    ------
    WeightsUnavailable
        If none was released for this backbone, or it cannot be had.
    iavlib.core.DataError
        If the file is damaged or holds other tensors than this backbone's.
    """
    if backbone.name not in _TORCHVISION:
        reason = "the authors released " + ", ".join(_TORCHVISION)
        raise WeightsUnavailable(backbone.name, "released", reason, "choose one of these")
    path = path or _find_released(backbone)
    if not path.is_file():
        reason = f"there is no file {path}"
        raise WeightsUnavailable(backbone.name, "released", reason, "correct the path")
    state = read_tensors(path)
    state = state.get("state_dict", state)
    odd = [str(name) for name, item in state.items() if not isinstance(item, torch.Tensor)]
    if odd:
        hint = "give the state of a network, not a whole checkpoint"
        raise DataError(path, f"{odd[0]} is no tensor", hint)
    body, heads = _take_apart(backbone.name, _as_float32(state), path)
    names = timm_names(backbone.name)
    weights = Weights("released", files.describe_file(path), MEAN, STD, size or backbone.size)
    return Released({names.get(name, name): x for name, x in body.items()}, heads, weights)


def timm_names(name: str) -> dict[str, str]:
    """Return timm's name of every tensor of a torchvision model, by torchvision's name.

    Both define the same layers in the same order.

    Parameters
    ----------
    name : {"resnet18", "mobilenetv2", "efficientnetb1"}

    Returns
    -------
    dict of str to str
        Without the classifier.
    """
    import torchvision

    backbone = PAPER_BACKBONES[name]
    with torch.device("meta"):  # names only: no memory, no random numbers
        theirs = getattr(torchvision.models, _TORCHVISION[name][0])().state_dict()
        ours = strip(create(backbone), backbone).state_dict()
    body = [item for item in theirs if not item.startswith(_CLASSIFIERS)]
    return dict(zip(body, ours, strict=True))


def _take_apart(name: str, state: Mapping[str, torch.Tensor], path: Path):
    """Return the tensors of the torchvision model, and those of each head."""
    first, hint = _TORCHVISION[name][1], f"give a released checkpoint of {name}"
    prefix = next((item for item in _PREFIXES if item + first in state), None)
    if prefix is None:
        problem = f"no tensor {first} of torchvision's {name} after any of the prefixes {_PREFIXES}"
        raise DataError(path, f"{problem}; it begins with {', '.join([*state][:_SHOWN])}", hint)
    outer = prefix.removesuffix("backbone.") if prefix.endswith("backbone.") else ""
    heads: dict[str, dict[str, torch.Tensor]] = {}
    body, left = {}, []
    for key, tensor in state.items():
        head, _, name_in_head = key.removeprefix(outer).partition(".")
        if head in HEADS:
            heads.setdefault(head, {})[name_in_head] = tensor
        elif not key.startswith(prefix):
            left.append(key)
        elif not key.removeprefix(prefix).startswith(_CLASSIFIERS):
            body[key.removeprefix(prefix)] = tensor
    if left:
        problem = f"{len(left)} tensors belong to no part of the network: {_some(left)}"
        raise DataError(path, problem, hint)
    return body, heads


def _find_released(backbone: Backbone) -> Path:
    """Return the released file of a backbone, from this machine if it is there."""
    import huggingface_hub

    name, local = backbone.name, data_home() / "weights" / REPOSITORY.partition("/")[2]
    hint = f"put the repository's {FOLDER}/{name} under {local}, or choose other weights"

    def candidates(root: Path) -> list[Path]:
        suffixes = (".pth", ".pt", ".bin", ".safetensors")
        return sorted(path for path in (root / FOLDER / name).rglob("*") if path.suffix in suffixes)

    def snapshot(**options) -> str:
        pattern = f"{FOLDER}/{name}/*"
        return huggingface_hub.snapshot_download(REPOSITORY, allow_patterns=pattern, **options)

    paths = candidates(local)
    if not paths:
        with suppress(FileNotFoundError):
            paths = candidates(Path(snapshot(local_files_only=True)))
    paths = paths or candidates(files.download(snapshot, backbone, "released", REPOSITORY, hint))
    if len(paths) != 1:
        reason = f"{REPOSITORY} has {len(paths)} files for it: {', '.join(map(str, paths))}"
        raise WeightsUnavailable(name, "released", reason, "give the path of one as the weights")
    return paths[0]
