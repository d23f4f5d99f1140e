"""The thirteen backbones of the paper by their timm names, and any other network of timm.

Nothing here imports torch for one of the paper's names; other names are looked up in timm.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from iavlib.core.errors import UnknownBackboneError


@dataclass(frozen=True)
class Backbone:
    """A network that turns an image into one vector of features.

    Attributes
    ----------
    name : str
        The paper's name, or timm's for any other network.
    timm_name : str
        Architecture and, after a dot, the tag of its pre-trained weights.
    features : int or None
        Length of the feature vector; None where it is found out by building the network.
    size : int
        Side of the square input in pixels.
    same_weights : bool
        True where timm's tag holds the very weights of the torchvision model of the paper.
        torchvision re-published two of timm's files, EfficientNet-B0 and B1, under its own
        tensor names; they count as the same.
    bypassed : tuple of str
        Parts of timm's network between its last feature map and the classifier that the paper's
        network lacks; they are taken out after weights are loaded.
    drop_path : float or None
        Largest stochastic depth rate while training, torchvision's default for the paper's
        networks; None leaves timm's.
    """

    name: str
    timm_name: str
    features: int | None
    size: int = 224
    same_weights: bool = False
    bypassed: tuple[str, ...] = ()
    drop_path: float | None = None

    @property
    def architecture(self) -> str:
        """The timm name without the tag of its weights."""
        return self.timm_name.partition(".")[0]

    @property
    def in_paper(self) -> bool:
        """True for one of the paper's thirteen, asked for by the paper's name."""
        return self.name in PAPER_BACKBONES


# Order and names of the paper's code. What differs from timm's own pooled features:
# VGG-16 pools its last 512 maps and has no fully connected layers; MobileNet-V3 pools the 960
# maps before its head convolution; ConvNeXt pools without the layer norm of its classifier.
PAPER_BACKBONES: dict[str, Backbone] = {
    item.name: item
    for item in (
        Backbone("vgg16", "vgg16_bn.tv_in1k", 512, same_weights=True, bypassed=("pre_logits",)),
        Backbone("resnet18", "resnet18.tv_in1k", 512, same_weights=True),
        Backbone("resnet50", "resnet50.tv_in1k", 2048, same_weights=True),
        Backbone("densenet121", "densenet121.tv_in1k", 1024, same_weights=True),
        Backbone("mobilenetv2", "mobilenetv2_100.ra_in1k", 1280),
        Backbone(
            "mobilenetv3l",
            "mobilenetv3_large_100.ra_in1k",
            960,
            bypassed=("conv_head", "norm_head", "act2"),
        ),
        Backbone(
            "efficientnetb0", "efficientnet_b0.ra_in1k", 1280, same_weights=True, drop_path=0.2
        ),
        Backbone(
            "efficientnetb1", "efficientnet_b1.ft_in1k", 1280, same_weights=True, drop_path=0.2
        ),
        Backbone(
            "convnext_tiny", "convnext_tiny.fb_in1k", 768, bypassed=("head.norm",), drop_path=0.1
        ),
        Backbone("swin_t", "swin_tiny_patch4_window7_224.ms_in1k", 768, drop_path=0.2),
        Backbone("swin_v2_t", "swinv2_tiny_window8_256.ms_in1k", 768, size=256, drop_path=0.2),
        Backbone("vit_b_16", "vit_base_patch16_224.augreg_in1k", 768),
        Backbone("vit_b_32", "vit_base_patch32_224.augreg_in1k", 768),
    )
}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of this name.

    Parameters
    ----------
    name : str
        A name of :data:`PAPER_BACKBONES`, which gives the features that the paper's network
        pools, or any name of timm, with or without the tag of its weights, which gives timm's.

    Raises
    ------
    UnknownBackboneError
        If there is none; the message names the near ones.
    """
    if name in PAPER_BACKBONES:
        return PAPER_BACKBONES[name]
    import timm  # slow, and it brings torch: only for names that are not the paper's

    architecture, _, tag = name.partition(".")
    tags = {item.partition(".")[2] for item in timm.list_pretrained(architecture)}
    if not timm.is_model(architecture) or (tag and tag not in tags):
        raise UnknownBackboneError(f"unknown backbone {name!r}; {_near(name, tags)}")
    settings = timm.get_pretrained_cfg(name) if tags else None
    size = settings.input_size[-1] if settings is not None else 224
    return Backbone(name, name, None, size=size)


def _near(name: str, tags: set[str]) -> str:
    import timm

    architecture, _, tag = name.partition(".")
    if tags:
        near = difflib.get_close_matches(tag, sorted(tags), n=3) or sorted(tags)[:5]
        return "its weights are tagged " + ", ".join(f"{architecture}.{item}" for item in near)
    ours = difflib.get_close_matches(name.lower(), PAPER_BACKBONES, n=3, cutoff=0.6)
    others = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=3, cutoff=0.6)
    near = list(dict.fromkeys([*ours, *others]))
    if near:
        return "did you mean " + " or ".join(repr(item) for item in near) + "?"
    return "the paper's are " + ", ".join(PAPER_BACKBONES) + "; timm.list_models() lists the others"
