"""A network saved is the network read back, or an error that says why not."""

import errno
import json
import os

import pytest
import torch
from shaken import shake

from iavlib import models
from iavlib.core.errors import DataError
from iavlib.models import HeadSpec, build_network, load_network, save_network

HEADS = {"iaa": HeadSpec("beta", start=0.8), "diagnosis": HeadSpec("paper", 2)}


@pytest.fixture
def network():
    network = shake(build_network("test_vit", HEADS, seed=4, size=64))
    network.weights = network.weights.with_normalisation((0.7, 0.6, 0.5), (0.1, 0.2, 0.3))
    return network


def equal(one, two):
    ours, theirs = one.state_dict(), two.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_round_trip_bit_by_bit(network, tmp_path):
    path = save_network(network, tmp_path / "run")
    assert path == tmp_path / "run" / "model.safetensors"
    assert sorted(os.listdir(path.parent)) == ["model.json", "model.safetensors"]
    back = load_network(path.parent)
    assert equal(network, back) and not back.training
    assert back.weights == network.weights and back.specs == HEADS
    assert back.backbone_name == "test_vit" and back.n_features == network.n_features
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, found = network(images), back(images)
    assert all(torch.equal(expected[key], found[key]) for key in HEADS)


@pytest.mark.parametrize("name", ["mobilenetv3l", "test_resnet"])
def test_round_trip_of_other_networks(name, tmp_path):
    network = shake(build_network(name, {"iaa": HeadSpec("paper")}, seed=1))
    save_network(network.to(memory_format=torch.channels_last), tmp_path)
    back = load_network(tmp_path)
    assert equal(network, back)
    for ours, theirs in zip(network.parameters(), back.parameters(), strict=True):
        assert ours.stride() == theirs.stride()


def test_sidecar_says_what_it_is(network, tmp_path):
    save_network(network, tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    assert content["weights"]["source"] == "none" and content["size"] == 64
    assert content["heads"]["iaa"]["kind"] == "beta"
    assert content["weights"]["mean"] == [0.7, 0.6, 0.5]
    assert {"iavlib", "torch", "timm"} <= set(content["versions"])


def test_equal_networks_have_equal_files(network, tmp_path):
    contents = {save_network(network, tmp_path / str(n)).read_bytes() for n in range(6)}
    assert len(contents) == 1


def test_files_of_two_savings_are_refused(network, tmp_path):
    save_network(network, tmp_path)
    sidecar = (tmp_path / "model.json").read_bytes()
    save_network(shake(network, seed=8), tmp_path)
    (tmp_path / "model.json").write_bytes(sidecar)
    with pytest.raises(DataError, match=r"not the file that model.json was written for"):
        load_network(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "test_vitt"}, "unknown backbone"),
        ({"heads": {"iaa": {"kind": "x"}}}, "head kind 'x'"),
        ({"heads": {"iaa": {"kind": "beta"}}}, "9 unexpected: heads.diagnosis"),
        ({"weights": {}}, "does not describe"),
        ({"weights": {"input_size": -1}}, "does not describe"),
        ({"weights": "x"}, "does not describe"),
        ({"heads": {"iaa": {"kind": "beta", "outputs": -5}}}, "model.json"),
        ({"heads": []}, "does not describe"),
    ],
)
def test_a_wrong_sidecar(network, tmp_path, change, said):
    save_network(network, tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=said):
        load_network(tmp_path)


def test_a_damaged_sidecar(network, tmp_path):
    save_network(network, tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(DataError, match=r"model.json: is no JSON"):
        load_network(tmp_path)


def test_nothing_saved(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.json"):
        load_network(tmp_path)


def test_a_full_disk_loses_nothing(network, tmp_path, monkeypatch):
    save_network(network, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*model.safetensors"):
        save_network(shake(network, seed=8), tmp_path)
    assert before == {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    assert load_network(tmp_path).backbone_name == "test_vit"


def test_folded_batch_norms_are_restored():
    network = build_network("test_resnet", {}).eval()
    images = torch.randn(64, 3, 32, 32) * 0.5
    assert not models.has_folded_batchnorm(network)
    norms = [item for item in network.modules() if isinstance(item, torch.nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # what folding leaves: a bias and nothing else
        for norm in norms:
            norm.bias.copy_(torch.randn(norm.num_features, generator=generator) * 0.5)
    assert models.has_folded_batchnorm(network)
    with torch.no_grad():
        expected = network.features(images)
        naive = network.train().features(images)
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
    assert models.restore_batchnorm(network, images.split(16)) == len(norms)
    assert not network.training and not models.has_folded_batchnorm(network)
    with torch.no_grad():
        torch.testing.assert_close(network.features(images), expected, rtol=1e-4, atol=1e-4)
        trained = network.train().features(images)
    torch.testing.assert_close(trained, expected, rtol=1e-2, atol=1e-2)
    assert (naive - expected).abs().max() > 10 * (trained - expected).abs().max()


def test_batch_norms_need_images():
    with pytest.raises(models.ModelError, match="without images"):
        models.restore_batchnorm(build_network("test_resnet", {}), [])
