"""The thirteen backbones: names, shapes, and what of timm's networks is the paper's."""

import subprocess
import sys
from functools import cache

import pytest
import torch
import torchvision

from iavlib import models
from iavlib.models import HeadSpec, build_network, find_backbone
from iavlib.models.network import Network
from iavlib.models.weights import random_weights

# Without torchvision's classifier, as the paper's code takes it off.
TORCHVISION = {
    "vgg16": ("vgg16_bn", "classifier"),
    "resnet18": ("resnet18", "fc"),
    "resnet50": ("resnet50", "fc"),
    "densenet121": ("densenet121", "classifier"),
    "mobilenetv2": ("mobilenet_v2", "classifier"),
    "mobilenetv3l": ("mobilenet_v3_large", "classifier"),
    "efficientnetb0": ("efficientnet_b0", "classifier"),
    "efficientnetb1": ("efficientnet_b1", "classifier"),
    "convnext_tiny": ("convnext_tiny", "classifier"),
    "swin_t": ("swin_t", "head"),
    "swin_v2_t": ("swin_v2_t", "head"),
    "vit_b_16": ("vit_b_16", "heads"),
    "vit_b_32": ("vit_b_32", "heads"),
}
MODES = {
    "classification": {"diagnosis": HeadSpec("paper", 2)},
    "regression": {"iaa": HeadSpec("paper")},
    "multitask": {"diagnosis": HeadSpec("paper", 2), "iaa": HeadSpec("paper")},
}


@cache
def on_meta(name):
    """Build without memory or arithmetic: shapes only."""
    with torch.device("meta"):
        return build_network(name, {}).eval()


def parameters(module):
    return sum(item.numel() for item in module.parameters())


def test_names_and_order():
    assert list(models.PAPER_BACKBONES) == list(TORCHVISION)
    sizes = {name: item.size for name, item in models.PAPER_BACKBONES.items()}
    assert sizes.pop("swin_v2_t") == 256 and set(sizes.values()) == {224}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("mode", MODES)
def test_shapes(name, mode):
    spec, base = find_backbone(name), on_meta(name)
    with torch.device("meta"):
        weights = random_weights(spec, 0)
        network = Network(base.backbone, MODES[mode], spec, weights, base.n_features).eval()
        images = torch.empty(2, 3, spec.size, spec.size)
        outputs = network(images)
    assert network.n_features == spec.features
    assert {key: tuple(item.shape) for key, item in outputs.items()} == {
        key: (2, head.outputs) for key, head in MODES[mode].items()
    }


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_of_the_papers_network(name):
    builder, classifier = TORCHVISION[name]
    with torch.device("meta"):
        theirs = getattr(torchvision.models, builder)(weights=None)
    setattr(theirs, classifier, torch.nn.Identity())
    # torchvision keeps the biases of Swin V2's keys, and sets them to zero at each step.
    unused = sum(2 * width if width != 384 else 6 * width for width in (96, 192, 384, 768))
    expected = parameters(theirs) - (unused if name == "swin_v2_t" else 0)
    assert parameters(on_meta(name).backbone) == expected


@pytest.mark.parametrize("name", ["mobilenetv3l", "convnext_tiny"])
def test_features_are_the_mean_of_the_last_map(name):
    network = build_network(name, {}).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = network.features(images)
        maps = network.backbone.forward_features(images)
    torch.testing.assert_close(features, maps.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_vgg16_equals_torchvisions_blocks_and_average_pool():
    network = build_network("vgg16", {}).eval()
    images = torch.randn(1, 3, 96, 96)
    plan = torchvision.models.vgg.cfgs["D"]
    theirs = torchvision.models.vgg.make_layers(plan, batch_norm=True).eval()
    theirs.load_state_dict(network.backbone.features.state_dict())
    with torch.inference_mode():
        expected = torch.nn.functional.avg_pool2d(theirs(images), 3, 1).flatten(1)
        torch.testing.assert_close(network.features(images), expected)


def test_stochastic_depth_is_torchvisions_default():
    rates = {
        name: max(
            (item.drop_prob or 0.0)
            for item in on_meta(name).modules()
            if type(item).__name__ == "DropPath"
        )
        for name in ("convnext_tiny", "swin_t", "swin_v2_t", "efficientnetb0")
    }
    assert rates["convnext_tiny"] == pytest.approx(0.1)
    assert rates["swin_t"] == rates["swin_v2_t"] == pytest.approx(0.2)
    assert rates["efficientnetb0"] == pytest.approx(0.2 * 15 / 16)  # index by number of blocks


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_any_timm_network_with_gradients(name):
    network = build_network(name, MODES["multitask"], size=32)
    assert network.weights.input_size == 32
    outputs = network.train()(torch.randn(4, 3, 32, 32))
    sum(item.square().mean() for item in outputs.values()).backward()
    without = [key for key, item in network.named_parameters() if item.grad is None]
    assert not without
    assert network.n_features == network.eval().features(torch.randn(1, 3, 32, 32)).shape[1]


def test_input_is_checked():
    network = build_network("test_resnet", {})
    with pytest.raises(models.ModelError, match=r"not torch.uint8 \(2, 3, 32, 32\)"):
        network.features(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(models.ModelError, match=r"\(2, 1, 32, 32\)"):
        network.features(torch.zeros(2, 1, 32, 32))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnt18", "'resnet18'"),
        ("EfficientNetB1", "'efficientnetb1'"),
        ("mobilenetv2_10", "'mobilenetv2_100'"),
        ("resnet18.tv_in2k", "resnet18.tv_in1k"),
        ("qqqq", "the paper's are vgg16, resnet18"),
    ],
)
def test_unknown_backbone_suggests(name, near):
    with pytest.raises(models.UnknownBackboneError) as caught:
        find_backbone(name)
    assert name in str(caught.value) and near in str(caught.value)


def test_list_of_backbones_needs_no_torch():
    code = (
        "import sys, iavlib.models as m; m.find_backbone('swin_t'); m.Weights; "
        "assert not {'torch', 'timm'} & set(sys.modules), 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert all(hasattr(models, name) for name in models.__all__)
    with pytest.raises(AttributeError, match="attribute nothing"):
        models.nothing  # noqa: B018
