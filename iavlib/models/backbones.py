"""The thirteen backbones of the paper by their timm names, and any other network of timm.

Nothing here imports torch for one of the paper's names; other names are looked up in timm.
"""

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
        Length of the feature vector; None where it is determined by building the network.
    size : int
        Side of the square input in pixels.
    bypassed : tuple of str
        Modules of timm's network between its last feature map and the classifier that the paper's
        network lacks; they are removed after weights are loaded.
    drop_path : float or None
        Largest stochastic depth rate while training, torchvision's default for the paper's
        networks; None leaves timm's.
    """

    name: str
    timm_name: str
    features: int | None
    size: int = 224
    bypassed: tuple[str, ...] = ()
    drop_path: float | None = None

    @property
    def architecture(self) -> str:
        """The timm name without the tag of its weights."""
        return self.timm_name.partition(".")[0]


# Order and names of the paper's code. timm's tags tv_in1k are torchvision's own weights, which the
# paper used; torchvision re-published timm's EfficientNet-B0 and B1 under its own tensor names.
# What differs from timm's own pooled features:
# VGG-16 pools its last 512 maps and has no fully connected layers; MobileNet-V3 pools the 960
# maps before its head convolution; ConvNeXt pools without the layer norm of its classifier.
_MOBILENET_V3 = ("conv_head", "norm_head", "act2")
PAPER_BACKBONES: dict[str, Backbone] = {
    item.name: item
    for item in (
        Backbone("vgg16", "vgg16_bn.tv_in1k", 512, bypassed=("pre_logits",)),
        Backbone("resnet18", "resnet18.tv_in1k", 512),
        Backbone("resnet50", "resnet50.tv_in1k", 2048),
        Backbone("densenet121", "densenet121.tv_in1k", 1024),
        Backbone("mobilenetv2", "mobilenetv2_100.ra_in1k", 1280),
        Backbone("mobilenetv3l", "mobilenetv3_large_100.ra_in1k", 960, bypassed=_MOBILENET_V3),
        Backbone("efficientnetb0", "efficientnet_b0.ra_in1k", 1280, drop_path=0.2),
        Backbone("efficientnetb1", "efficientnet_b1.ft_in1k", 1280, drop_path=0.2),
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
    tagged = [item for item in timm.list_pretrained(architecture) if "." in item]
    if not timm.is_model(architecture) or (tag and name not in tagged):
        known = tagged or [*PAPER_BACKBONES, *timm.list_models()]
        near = " or ".join(map(repr, difflib.get_close_matches(name.lower(), known)))
        paper = f"the paper's are {', '.join(PAPER_BACKBONES)}; timm.list_models() lists the others"
        hint = f"did you mean {near}?" if near else paper
        raise UnknownBackboneError(f"unknown backbone {name!r}; {hint}")
    settings = timm.get_pretrained_cfg(name) if tagged else None
    return Backbone(name, name, None, size=settings.input_size[-1] if settings else 224)
