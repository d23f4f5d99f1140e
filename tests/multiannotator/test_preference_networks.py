"""AVAP's heads, the levels of agreement behind its loss, and encoders under a U-Net."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from iavlib.core.errors import ModelError
from iavlib.models.annotator_heads import (
    AgreementHead,
    PreferenceHead,
    convolve_each,
)
from iavlib.multiannotator.losses import dice_loss, overlap_loss
from iavlib.multiannotator.methods.avap import (
    class_shares,
    count_marks,
    level_likelihood,
    level_losses,
    level_table,
    membership,
    shares,
)


def test_every_picture_is_convolved_by_its_own_kernels():
    torch.manual_seed(0)
    maps, weights, biases = torch.rand(3, 4, 6, 5), torch.rand(3, 2, 4, 3, 3), torch.rand(3, 2)
    found = convolve_each(maps, weights, biases)
    for one in range(3):
        wanted = F.conv2d(maps[one : one + 1], weights[one], biases[one], padding=1)
        torch.testing.assert_close(found[one : one + 1], wanted)


def test_the_controller_writes_as_many_numbers_as_the_layers_take():
    head = PreferenceHead(5, 3, 2)
    assert head.controller.weight.shape[:2] == (584 + 584 + 18, 5 + 3)
    assert PreferenceHead(5, 3, 2, condition="code").controller.in_channels == 3
    with pytest.raises(ModelError, match="no condition 'codes'"):
        PreferenceHead(5, 3, 2, condition="codes")


def test_gradients_flow_to_the_controller_and_codes_tell_annotators_apart():
    torch.manual_seed(0)
    head, features = PreferenceHead(5, 3, 2), torch.rand(2, 5, 8, 8)
    first = head(features, torch.tensor([0, 1]))
    second = head(features, torch.tensor([2, 1]))
    first.square().mean().backward()
    assert float(head.controller.weight.grad[:, :5].abs().sum()) > 0
    assert head.controller.weight.grad[:, 5:7].abs().sum(0).min() > 0
    assert not head.controller.weight.grad[:, 7].any()  # nobody asked for the third annotator
    head.eval()
    first, second = (head(features, torch.tensor([k, 1])) for k in (0, 2))
    assert not torch.allclose(first[0], second[0])
    torch.testing.assert_close(first[1], second[1])


def test_normalisation_comes_after_the_relu():
    torch.manual_seed(0)
    head, features = PreferenceHead(5, 2, 2), torch.rand(2, 5, 8, 8)
    seen = []
    for norm in head.norms:
        norm.register_forward_pre_hook(lambda _, given: seen.append(float(given[0].detach().min())))
    head(features, torch.tensor([0, 1]))
    assert seen == [0.0, 0.0]


def test_the_levels_of_a_complete_picture_are_its_counts():
    labels = torch.tensor([[[[0, 1]], [[1, 1]], [[0, 2]]], [[[-1, -1]], [[1, 0]], [[0, 0]]]])
    member = membership({"disc": (1, 2), "cup": (2,)}, 3)
    marks, there = count_marks(labels, member)
    assert marks[0].tolist() == [[[1, 3]], [[0, 1]]] and there.tolist() == [3, 2]
    likelihood = level_likelihood(marks, there, level_table(3))
    assert likelihood[0].argmax(1).tolist() == marks[0].tolist()
    assert likelihood[0].sum(1).unique().tolist() == [1.0]
    # one of two marks: of three annotators one or two do, with chances 2/3 each
    one_of_two = likelihood[1, 0, :, 0, 0]
    torch.testing.assert_close(one_of_two, torch.tensor([0.0, 2 / 3, 2 / 3, 0.0]))


def test_losses_of_levels_are_least_where_the_levels_are_right():
    marks, there = torch.tensor([[[[0, 2], [1, 2]]]]), torch.tensor([2])
    likelihood = level_likelihood(marks, there, level_table(2))
    right = 20 * (likelihood - 0.5)
    assert sum(map(float, level_losses(right, likelihood))) < 1e-3
    assert min(map(float, level_losses(-right, likelihood))) > 0.5


def test_shares_of_levels_and_of_nested_structures():
    levels = torch.tensor([0.2, 0.5, 0.3])[None, None, :, None, None]
    assert float(shares(levels)) == pytest.approx(0.55)
    assert float(shares(levels, "argmax")) == 0.5
    member = membership({"disc": (1, 2), "cup": (2,)}, 3)
    found = class_shares(torch.tensor([0.9, 0.3])[None, :, None, None], member)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.1, 0.6, 0.3]))
    crossed = class_shares(torch.tensor([0.2, 0.6])[None, :, None, None], member)
    assert float(crossed.min()) >= 0 and float(crossed.sum()) == pytest.approx(1)


def test_overlap_leaves_out_who_is_missing():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 2, 4, 4).softmax(2).requires_grad_()
    labels = torch.randint(0, 2, (2, 3, 4, 4))
    labels[0, 1] = labels[:, 2] = -1
    loss = overlap_loss(maps, labels)
    loss.sum().backward()
    assert not maps.grad[0, 1].any() and not maps.grad[:, 2].any() and float(loss[2].detach()) == 0
    target = F.one_hot(labels[:, 0], 2).movedim(-1, 1).float()
    torch.testing.assert_close(loss[0], dice_loss(maps[:, 0], target))


def test_agreement_has_a_class_more_than_annotators():
    assert AgreementHead(4, 2, 6)(torch.rand(1, 4, 8, 8)).shape == (1, 2, 7, 8, 8)


def test_an_encoder_of_timm_under_a_unet():
    from iavlib.models.unet import EncoderUNet

    torch.manual_seed(0)
    network = EncoderUNet(3, "test_resnet", (4, 8, 8)).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 20, 28)).shape == (1, 4, 20, 28)
    with pytest.raises(ModelError, match="1 to 5 stages"):
        EncoderUNet(3, "test_resnet", (4,) * 6)
    with pytest.raises(ModelError, match="maps of five resolutions"):
        EncoderUNet(3, "vit_tiny_patch16_224")
    with pytest.raises(ModelError, match="colour images; these have 1"):
        EncoderUNet(1, "test_resnet", (4, 8)).load("file")


def test_weights_of_a_file_reach_the_encoder(tmp_path, monkeypatch):
    import timm
    from safetensors.torch import save_file

    from iavlib.models.unet import EncoderUNet, load_encoders, padding_for

    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    (tmp_path / "weights").mkdir()
    facts = {"mean": "0.5", "std": "0.5", "input_size": "64", "padding": "symmetric"}
    save_file(state, tmp_path / "weights" / "test_resnet.imagenet.safetensors", facts)
    network = torch.nn.ModuleList(EncoderUNet(3, "test_resnet", (4, 8)) for _ in range(2))
    record = load_encoders(network, "file")
    assert not record.is_random and "test_resnet.imagenet" in record.detail
    assert padding_for("test_resnet", "file") == "symmetric"
    there = {name.replace(".", "_"): values for name, values in state.items()}
    for each in network:
        for name, values in each.encoder.model.state_dict().items():
            torch.testing.assert_close(values, there[name.replace(".", "_")])
    with pytest.raises(ModelError, match="the network has none"):
        load_encoders(torch.nn.Conv2d(1, 1, 1), "file")


def test_the_file_at_hand_fits_its_encoder():
    home = Path(os.environ.get("IAV_DATA_HOME", ""))
    if not (home / "weights" / "mobilenetv2_100.imagenet.safetensors").is_file():
        pytest.skip("needs weights/mobilenetv2_100.imagenet.safetensors under IAV_DATA_HOME")
    from iavlib.models.unet import EncoderUNet, padding_for

    assert padding_for("mobilenetv2_100", "file") == "same"
    network = EncoderUNet(3, "mobilenetv2_100", padding="same").eval()
    before = network.encoder.model.conv_stem.weight.clone()
    network.load("file")
    assert not torch.allclose(before, network.encoder.model.conv_stem.weight)
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 32, 32))
    assert found.shape == (1, 16, 32, 32) and np.isfinite(found.numpy()).all()
