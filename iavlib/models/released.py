"""The checkpoints that the authors of the paper released, in timm's names.

They published, at https://huggingface.co/kabhishe/skin-IAV, the best of three runs of three
backbones. Each file is the state of their wrapper around a torchvision model:
``backbone.<torchvision's name>``, and ``regression_head.<n>`` or ``classification_head.<n>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from iavlib.core.errors import DataError, WeightsUnavailable
from iavlib.core.home import data_home
from iavlib.models import weights as hub
from iavlib.models.backbones import Backbone
from iavlib.models.loading import as_float32, read_tensors
from iavlib.models.weights import Weights, describe_file

REPOSITORY = "kabhishe/skin-IAV"
FOLDER = "predict_IAA/saved_models"  # the models that predict agreement
BACKBONES = ("resnet18", "mobilenetv2", "efficientnetb1")
# With which the authors normalised the images of IMA++ (their predict_IAA/dataloader.py).
MEAN, STD = (0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)
# What may stand before torchvision's names, longest first: parallel training and torch.compile
# put their own word before the attribute of the wrapper.
PREFIXES = (
    "module.backbone.",
    "_orig_mod.backbone.",
    "backbone.",
    "model.",
    "base_model.",
    "net.",
    "module.",
    "",
)
FIRST = {"resnet18": "conv1.weight", "mobilenetv2": "features.0.0.weight"}
FIRST["efficientnetb1"] = FIRST["mobilenetv2"]
# The wrapper's heads, and the names of heads here that they are given to.
HEADS = {
    "regression_head": ("iaa", "regression", "agreement"),
    "classification_head": ("diagnosis", "classification", "malignancy"),
}
_CLASSIFIERS = ("fc.", "classifier.")  # of torchvision, where a file has it
_MOBILENET_STAGES = (1, 2, 3, 4, 3, 3, 1)
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Released:
    """A released checkpoint, taken apart.

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
        One of :data:`BACKBONES`.
    path : Path, optional
        Default: the model that predicts agreement, from ``weights/skin-IAV`` in the data home
        (laid out as the repository), else from Hugging Face's cache, else from there.
    size : int, optional
        Side of the input in pixels, where it is not to be the paper's.

    Raises
    ------
    WeightsUnavailable
        If none was released for this backbone, or it cannot be had.
    iavlib.core.DataError
        If the file is damaged or holds other tensors than this backbone's.
    """
    if backbone.name not in BACKBONES:
        reason = "the authors released " + ", ".join(BACKBONES)
        raise WeightsUnavailable(backbone.name, "released", reason, "choose one of these")
    path = _find(backbone.name) if path is None else Path(path)
    if not path.is_file():
        reason = f"there is no file {path}"
        raise WeightsUnavailable(backbone.name, "released", reason, "correct the path")
    state = read_tensors(path)
    state = state.get("state_dict", state)
    odd = [str(name) for name, item in state.items() if not isinstance(item, torch.Tensor)]
    if odd:
        problem = f"{odd[0]} is no tensor"
        raise DataError(path, problem, "give the state of a network, not a whole checkpoint")
    torchvision, heads = _take_apart(backbone.name, as_float32(state), path)
    mapped = _rename(backbone.name, torchvision, path)
    weights = Weights("released", describe_file(path), MEAN, STD, size or backbone.size)
    return Released(mapped, heads, weights)


def timm_names(name: str) -> dict[str, str]:
    """Return timm's name of every tensor of a torchvision model, by torchvision's name.

    Parameters
    ----------
    name : {"resnet18", "mobilenetv2", "efficientnetb1"}

    Returns
    -------
    dict of str to str
        Without the classifier. ResNet-18 has the same names in both: an empty dict.
    """
    if name == "mobilenetv2":
        return _mobilenet_names()
    return _efficientnet_names() if name == "efficientnetb1" else {}


def _mobilenet_names() -> dict[str, str]:
    names = _conv_norm("features.0.0", "features.0.1", "conv_stem", "bn1")
    position = 1
    for stage, blocks in enumerate(_MOBILENET_STAGES):
        for block in range(blocks):
            old, new = f"features.{position}.conv", f"blocks.{stage}.{block}"
            if stage == 0:  # does not expand
                subsets = (("0.0", "0.1", "conv_dw", "bn1"), ("1", "2", "conv_pw", "bn2"))
            else:
                subsets = (
                    ("0.0", "0.1", "conv_pw", "bn1"),
                    ("1.0", "1.1", "conv_dw", "bn2"),
                    ("2", "3", "conv_pwl", "bn3"),
                )
            for a, b, conv, norm in subsets:
                names |= _conv_norm(f"{old}.{a}", f"{old}.{b}", f"{new}.{conv}", f"{new}.{norm}")
            position += 1
    return names | _conv_norm("features.18.0", "features.18.1", "conv_head", "bn2")


def _efficientnet_names(stages: tuple[int, ...] = (2, 3, 3, 4, 4, 5, 2)) -> dict[str, str]:
    names = _conv_norm("features.0.0", "features.0.1", "conv_stem", "bn1")
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            old, new = f"features.{stage + 1}.{block}.block", f"blocks.{stage}.{block}"
            convs = ("conv_dw", "conv_pw") if stage == 0 else ("conv_pw", "conv_dw", "conv_pwl")
            squeeze = convs.index("conv_dw") + 1  # the attention comes after the depth-wise one
            for i, conv in enumerate(convs):
                at = f"{old}.{i if i < squeeze else i + 1}"
                names |= _conv_norm(f"{at}.0", f"{at}.1", f"{new}.{conv}", f"{new}.bn{i + 1}")
            for a, b in (("fc1", "conv_reduce"), ("fc2", "conv_expand")):
                for tensor in ("weight", "bias"):
                    names[f"{old}.{squeeze}.{a}.{tensor}"] = f"{new}.se.{b}.{tensor}"
    return names | _conv_norm("features.8.0", "features.8.1", "conv_head", "bn2")


def _conv_norm(old_conv: str, old_norm: str, new_conv: str, new_norm: str) -> dict[str, str]:
    names = {f"{old_conv}.weight": f"{new_conv}.weight"}
    return names | {f"{old_norm}.{item}": f"{new_norm}.{item}" for item in _NORM}


def _take_apart(name: str, state: Mapping[str, torch.Tensor], path: Path):
    """Return the tensors of the torchvision model, and those of each head."""
    prefix = next((item for item in PREFIXES if item + FIRST[name] in state), None)
    if prefix is None:
        found = ", ".join(list(state)[:5])
        problem = (
            f"no tensor {FIRST[name]} of torchvision's {name} after any of the prefixes "
            f"{', '.join(repr(item) for item in PREFIXES)}; it begins with {found}"
        )
        raise DataError(path, problem, f"give a released checkpoint of {name}")
    outer = prefix.removesuffix("backbone.") if prefix.endswith("backbone.") else ""
    heads: dict[str, dict[str, torch.Tensor]] = {}
    body, left = {}, []
    for key, tensor in state.items():
        inner = key.removeprefix(outer)
        head = inner.partition(".")[0]
        if head in HEADS:
            heads.setdefault(head, {})[inner.partition(".")[2]] = tensor
        elif not key.startswith(prefix):
            left.append(key)
        elif not key.removeprefix(prefix).startswith(_CLASSIFIERS):
            body[key.removeprefix(prefix)] = tensor
    if left:
        problem = f"{len(left)} tensors belong to no part of the network: {', '.join(left[:5])}"
        raise DataError(path, problem, f"give a released checkpoint of {name}")
    return body, heads


def _rename(name: str, state: Mapping[str, torch.Tensor], path: Path):
    names = timm_names(name)
    if not names:
        return dict(state)
    unknown = [item for item in state if item not in names]
    if unknown:
        problem = f"{len(unknown)} tensors are not of {name}: {', '.join(unknown[:5])}"
        raise DataError(path, problem, f"give a released checkpoint of {name}")
    return {names[item]: tensor for item, tensor in state.items()}


def _find(name: str) -> Path:
    """Return the released file of a backbone, from this machine if it is there."""
    import huggingface_hub

    local = data_home() / "weights" / REPOSITORY.partition("/")[2]
    hint = f"put the repository's {FOLDER}/{name} under {local}, or choose other weights"

    def snapshot(**options) -> str:
        pattern = f"{FOLDER}/{name}/*"
        return huggingface_hub.snapshot_download(REPOSITORY, allow_patterns=pattern, **options)

    found = _candidates(local, name)
    if not found:
        try:
            found = _candidates(Path(snapshot(local_files_only=True)), name)
        except FileNotFoundError:
            found = []
    if not found:
        folder = hub.download(snapshot, (name, "released"), REPOSITORY, hint)
        found = _candidates(Path(folder), name)
    if len(found) != 1:
        reason = f"{REPOSITORY} has {len(found)} files for it: {', '.join(map(str, found))}"
        raise WeightsUnavailable(name, "released", reason, "give the path of one as the weights")
    return found[0]


def _candidates(root: Path, name: str) -> list[Path]:
    folder = root / FOLDER / name
    suffixes = (".pth", ".pt", ".bin", ".safetensors")
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
