"""Class activation maps: all backbones, the package's own results, memory."""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from torch import nn

from iavlib import explain
from iavlib.explain import attribution as layers
from iavlib.explain.attribution import CAM_METHODS, _first_component, capture, find_layer
from iavlib.models import HeadSpec, build_network

PACKAGE = {
    "Grad-CAM": pytorch_grad_cam.GradCAM,
    "Grad-CAM++": pytorch_grad_cam.GradCAMPlusPlus,
    "HiResCAM": pytorch_grad_cam.HiResCAM,
    "Layer-CAM": pytorch_grad_cam.LayerCAM,
    "EigenCAM": pytorch_grad_cam.EigenCAM,
}
#: The paper's thirteen backbones.
BACKBONES = ("vgg16", "resnet18", "resnet50", "densenet121", "mobilenetv2", "mobilenetv3l")
BACKBONES += ("efficientnetb0", "efficientnetb1", "convnext_tiny")
FIXED_SIZE = ("swin_t", "swin_v2_t", "vit_b_16", "vit_b_32")
BACKBONES += FIXED_SIZE
LAYOUTS = {"swin_t": layers.CHANNELS_LAST, "swin_v2_t": layers.CHANNELS_LAST}
LAYOUTS |= {"vit_b_16": layers.TOKENS, "vit_b_32": layers.TOKENS}


class OneOutput(nn.Module):
    def __init__(self, network, head):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images):
        return self.network(images)[self.head]


def packages_maps(network, images, method, sign):
    layer = find_layer(network)
    cam = PACKAGE[method](OneOutput(network, "iaa"), [layer.module], layer.maps)
    targets = [lambda output: sign * output[0]] * len(images)
    return cam(images, targets)


@pytest.mark.parametrize("method", ["Grad-CAM", "Grad-CAM++", "HiResCAM", "Layer-CAM"])
@pytest.mark.parametrize(("target", "sign"), [(explain.LOWERS, -1), (explain.RAISES, 1)])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_maps_are_those_of_the_package(images, backbone, method, target, sign):
    network = build_network(backbone, {"iaa": HeadSpec("paper")}, size=64, seed=3).eval()
    maps = explain.Explainer(network, [target], [method]).explain(images).maps[target, method]
    expected = packages_maps(network, images, method, sign)
    np.testing.assert_allclose(explain.displayed(maps), expected, atol=2e-3)


def test_eigencam_is_that_of_the_package_but_for_the_sign(network, images):
    layer = find_layer(network)
    captured = capture(network, layer, images, [])
    ours = _first_component(captured.activations)
    theirs = pytorch_grad_cam.utils.svd_on_activations.get_2d_projection(captured.activations)
    for mine, other in zip(ours, theirs, strict=True):
        assert min(np.abs(mine - other).max(), np.abs(mine + other).max()) < 1e-3
        assert mine.max() >= -mine.min()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_layers_of_every_backbone_are_maps_of_its_features(backbone):
    with torch.device("meta"):  # shapes only: no weights, no arithmetic
        network = build_network(backbone, {}, size=_side(backbone)).eval()
        side = network.weights.input_size
        outputs = []
        handles = [
            module.register_forward_hook(
                lambda module, _, output, name=name: outputs.append(
                    layers._as_layer(name, module, output, network, any_channels=False)
                )
            )
            for name, module in network.backbone.named_modules()
        ]
        network.features(torch.empty(1, 3, side, side))
    for handle in handles:
        handle.remove()
    last = [one for one in outputs if one is not None][-1]
    assert last.side == side // (16 if backbone == "vit_b_16" else 32)
    assert last.layout == LAYOUTS.get(backbone, layers.CHANNELS_FIRST)


def _side(backbone):
    return None if backbone in FIXED_SIZE else 64


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_explained_without_naming_a_layer(backbone):
    network = build_network(backbone, {"iaa": HeadSpec("linear")}, size=_side(backbone)).eval()
    side = network.weights.input_size
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, side, side), generator=generator)
    found = explain.Explainer(network, methods=CAM_METHODS[:-1]).explain(image)
    assert {maps.shape for maps in found.maps.values()} == {(1, side, side)}
    for key, signed in found.signed.items():
        assert np.isfinite(signed).all() and np.ptp(signed) > 0, key


def test_patches_that_a_class_token_no_longer_reads_are_not_taken():
    network = build_network("test_vit", {"iaa": HeadSpec("linear")}, size=64).eval()
    network.backbone.global_pool = "token"
    layer = find_layer(network)
    assert layer.name.endswith("norm1") and layer.side == 4 and layer.prefix == 1


def test_finer_maps_are_found_by_stride(network):
    assert find_layer(network, stride=8).side == 8
    with pytest.raises(explain.ExplainError, match="stride 5: test_resnet has no stage"):
        find_layer(network, stride=5)
    small = build_network("test_resnet", {}, size=16)
    with pytest.raises(explain.ExplainError, match="no map of more than one place at 16 pixels"):
        find_layer(small)


def test_all_of_a_network_stays_as_it_was(network, images):
    before = {name: item.clone() for name, item in network.state_dict().items()}
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    network.train()
    explain.Explainer(network).explain(images)
    assert all(module.training for module in network.modules())
    network.eval()
    assert all(item.requires_grad and item.grad is None for item in network.parameters())
    assert sum(len(module._forward_hooks) for module in network.modules()) == hooks
    assert all(torch.equal(before[name], item) for name, item in network.state_dict().items())


def test_batches_change_nothing(network, images):
    methods = (*CAM_METHODS[:-1],)
    whole = explain.Explainer(network, methods=methods).explain(images)
    alone = explain.Explainer(network, methods=methods).explain(images[1:2])
    for key, maps in whole.maps.items():
        np.testing.assert_allclose(maps[1], alone.maps[key][0], rtol=1e-3, atol=1e-5)
        assert np.allclose(whole.levels[key[0]][1], alone.levels[key[0]][0], atol=1e-5)


def test_opposite_directions_and_the_centred_zero(network, images):
    explainer = explain.Explainer(network, methods=["Grad-CAM", explain.CENTRED])
    with pytest.raises(explain.ExplainError, match=r"call centre_on"):
        explainer.explain(images)
    found = explainer.centre_on([images]).explain(images)
    lowers, raises = (found.signed[name, "Grad-CAM"] for name in (explain.LOWERS, explain.RAISES))
    np.testing.assert_allclose(lowers, -raises)
    # less the reference, what remains is the difference to the mean prediction
    level = found.levels[explain.RAISES]
    total = found.signed[explain.RAISES, explain.CENTRED].sum(axis=(1, 2))
    np.testing.assert_allclose(total, level - level.mean(), atol=1e-4)


def test_what_is_asked_for_must_be_there(network):
    with pytest.raises(explain.ExplainError, match="use lowers agreement, raises"):
        explain.Explainer(network, ["raises doubts"])
    with pytest.raises(explain.ExplainError, match=r"method 'Grad-CAN'.*use Grad-CAM"):
        explain.Explainer(network, methods=["Grad-CAN"]).explain(torch.randn(1, 3, 64, 64))
    wide = build_network("test_resnet", {"lesion_type": HeadSpec("linear", 3)}, size=64)
    with pytest.raises(explain.ExplainError, match=r"head .lesion_type.: has 3 outputs"):
        explain.find_targets(wide)


def test_every_kind_of_head_has_both_directions(images):
    for kind, outputs in (("paper", 1), ("beta", 1), ("quantile", 3)):
        specs = {"iaa": HeadSpec(kind, outputs, hidden=8)}
        network = build_network("test_resnet", specs, size=64, seed=5).eval()
        found = explain.Explainer(network).explain(images)
        assert set(found.levels) == {explain.LOWERS, explain.RAISES}
        assert found.maps[explain.LOWERS, "Grad-CAM++"].shape == (3, 64, 64)


def test_memory_stays_flat_over_a_hundred_images(network):
    import gc

    explainer = explain.Explainer(network, [explain.LOWERS])

    def alive() -> int:
        gc.collect()
        return sum(type(one) in (torch.Tensor, np.ndarray) for one in gc.get_objects())

    counts = []
    for start in range(0, 100, 10):
        images = torch.randn((10, 3, 64, 64), generator=torch.Generator().manual_seed(start))
        explainer.explain(images)
        if start in (10, 50, 90):
            counts.append(alive())
    assert len(set(counts)) == 1
