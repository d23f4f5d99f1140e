"""The authors' checkpoints, made here in their form from torchvision's own networks."""

import pytest
import torch
import torchvision
from shaken import shake
from torch import nn

from iavlib import models
from iavlib.core.errors import DataError
from iavlib.models import HeadSpec, build_network

BUILDERS = {
    "resnet18": (torchvision.models.resnet18, "fc"),
    "mobilenetv2": (torchvision.models.mobilenet_v2, "classifier"),
    "efficientnetb1": (torchvision.models.efficientnet_b1, "classifier"),
}


class Wrapper(nn.Module):
    """A torchvision network under the attribute names of the authors' files."""

    def __init__(self, name, features):
        super().__init__()
        builder, classifier = BUILDERS[name]
        self.backbone = builder(weights=None)
        setattr(self.backbone, classifier, nn.Identity())
        self.regression_head = nn.Sequential(
            nn.Linear(features, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(256, 1),
        )

    def forward(self, images):
        return self.regression_head(self.backbone(images).flatten(1))


def wrapped(name):
    torch.manual_seed(2)
    return shake(Wrapper(name, models.find_backbone(name).features))


@pytest.mark.parametrize("name", BUILDERS)
def test_equal_outputs(name, tmp_path):
    theirs, path = wrapped(name), tmp_path / "best_model.pth"
    torch.save(theirs.state_dict(), path)
    network = build_network(name, {"iaa": HeadSpec("paper")}, path, seed=9).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected = theirs.backbone(images).flatten(1)
        torch.testing.assert_close(network.features(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(images)["iaa"], theirs(images), rtol=1e-4, atol=1e-4)
    assert network.weights.source == "released"
    assert network.weights.detail.endswith("with head iaa")
    assert network.weights.mean == (0.7079, 0.5688, 0.5130)
    counters = [item for key, item in network.backbone.state_dict().items() if "num_b" in key]
    assert all(item == 7 for item in counters)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_words_of_parallel_training(prefix, tmp_path):
    path = tmp_path / "best_model.pth"
    state = wrapped("resnet18").state_dict()
    torch.save({prefix + key: item for key, item in state.items()}, path)
    released = models.read_released(models.find_backbone("resnet18"), path)
    assert torch.equal(released.backbone["conv1.weight"], state["backbone.conv1.weight"])
    assert (
        set(released.heads) == {"regression_head"} and len(released.heads["regression_head"]) == 9
    )


def test_a_plain_torchvision_state(tmp_path):
    path, theirs = tmp_path / "plain.pth", torchvision.models.mobilenet_v2(weights=None)
    torch.save({"state_dict": theirs.state_dict()}, path)
    network = build_network("mobilenetv2", {"other": HeadSpec("linear")}, path)
    assert network.weights.detail.endswith("backbone only")


def test_mobilenet_map_covers_every_tensor_once():
    from iavlib.models.loading import timm_names

    for name in ("mobilenetv2", "efficientnetb1"):
        builder, classifier = BUILDERS[name]
        with torch.device("meta"):
            theirs = builder(weights=None)
            ours = build_network(name, {}).backbone.state_dict()
        setattr(theirs, classifier, nn.Identity())
        names, state = timm_names(name), theirs.state_dict()
        assert set(names) == set(state)
        assert sorted(names.values()) == sorted(ours)
        assert all(ours[names[key]].shape == state[key].shape for key in state)


def spoil(state, how):
    if how == "prefix":
        return {f"strange.{key}": item for key, item in state.items()}
    if how == "extra":
        return state | {"backbone.layer9.weight": torch.zeros(1)}
    if how == "outside":
        return state | {"third_head.weight": torch.zeros(1)}
    if how == "missing":
        return {key: item for key, item in state.items() if key != "backbone.layer4.1.conv2.weight"}
    return state | {"backbone.layer4.1.conv2.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("prefix", "begins with strange.backbone.conv1.weight"),
        ("extra", "1 unexpected: layer9.weight"),
        ("outside", "belong to no part of the network: third_head.weight"),
        ("missing", "1 missing: layer4.1.conv2.weight"),
        ("shape", r"1 misshapen: layer4.1.conv2.weight \(2, 2\) instead of"),
    ],
)
def test_what_does_not_fit_is_named(how, said, tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save(spoil(dict(wrapped("resnet18").state_dict()), how), path)
    with pytest.raises(DataError, match=said) as caught:
        build_network("resnet18", {}, path)
    assert "best_model.pth" in str(caught.value)


def test_another_networks_checkpoint(tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save(wrapped("efficientnetb1").state_dict(), path)
    with pytest.raises(
        DataError, match=r"do not fit mobilenetv2_100: \d+ missing: .*; \d+ unexpected"
    ):
        build_network("mobilenetv2", {}, path)


class Sly:
    def __reduce__(self):
        return print, ("this must not run",)


def test_nothing_but_tensors_is_unpickled(tmp_path, capsys):
    path = tmp_path / "best_model.pth"
    torch.save({"backbone.conv1.weight": Sly()}, path)
    with pytest.raises(DataError, match="cannot be read as weights"):
        build_network("resnet18", {}, path)
    assert "must not run" not in capsys.readouterr().out


def test_from_the_data_home(home):
    folder = home / "data" / "weights" / "skin-IAV" / "predict_IAA" / "saved_models" / "resnet18"
    (folder / "run").mkdir(parents=True)
    torch.save(wrapped("resnet18").state_dict(), folder / "run" / "best_model.pth")
    network = build_network("resnet18", {"iaa": HeadSpec("paper")}, "released")
    assert "skin-IAV/predict_IAA/saved_models/resnet18/run/best_model.pth" in network.weights.detail
    torch.save({}, folder / "other.pth")
    with pytest.raises(models.WeightsUnavailable, match="2 files"):
        build_network("resnet18", {}, "released")


def test_only_three_were_released():
    with pytest.raises(models.WeightsUnavailable, match="released resnet18, mobilenetv2"):
        build_network("swin_t", {}, "released")
