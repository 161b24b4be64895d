"""A network comes to the device in the layout that it computes in, and goes home contiguous."""

import pytest
import torch
from torch import nn

from secateur.recipe import Distillation, Training
from secateur.sparsity import attach_masks_, masks, set_mask_
from secateur.sparsity.layers import weighted_modules
from secateur.training import evaluate, fit, gather_statistics
from secateur.training.placement import moved, placed
from secateur.training.regression import regress_
from tiny_networks import LeNet, Tiny, images

CPU, SIZE = torch.device("cpu"), (3, 16, 16)


def test_inside_channels_last_afterwards_contiguous():
    network = Tiny()
    with placed([network], CPU, SIZE) as layout:
        assert layout == torch.channels_last
        assert network.body.weight.is_contiguous(memory_format=torch.channels_last)
        pixels, _ = moved(torch.zeros(4, *SIZE), torch.zeros(4), CPU, layout)
        assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert all(value.is_contiguous() for value in network.state_dict().values())


def test_networks_that_meet_the_same_images_share_one_layout():
    student, teacher = Tiny(), LeNet()
    with placed([student, teacher], CPU, SIZE) as layout:
        assert layout == torch.contiguous_format
        assert student.body.weight.is_contiguous() and teacher.conv2.weight.is_contiguous()
        pixels, _ = moved(torch.zeros(4, *SIZE), torch.zeros(4), CPU, layout)
        assert pixels.is_contiguous()
        teacher(pixels)


def test_an_error_inside_brings_the_network_home_contiguous():
    network = Tiny()
    with pytest.raises(ZeroDivisionError), placed([network], CPU, SIZE):
        raise ZeroDivisionError
    assert network.body.weight.is_contiguous()


def trained(network: nn.Module, folder, epochs: int = 2, **others) -> nn.Module:
    settings = Training(epochs=epochs, batch_size=16, learning_rate=0.05, checkpoint_seconds=1e-9)
    fit(network, images(), settings, folder=folder, preprocessing=network.preprocessing, **others)
    return network


def test_a_network_that_flattens_by_view_trains(tmp_path):
    torch.manual_seed(0)
    network = trained(LeNet(), tmp_path, 5)
    assert evaluate(network, images(), network.preprocessing).top1 > 50
    assert all(value.is_contiguous() for value in network.state_dict().values())


@pytest.mark.parametrize("student, teacher", [(LeNet, LeNet), (LeNet, Tiny), (Tiny, LeNet)])
def test_it_learns_from_others_and_teaches_them(student, teacher, tmp_path):
    trained(student(), tmp_path, 1, teacher=teacher(), distillation=Distillation())


def test_it_trains_bit_for_bit_as_by_reshape(tmp_path, monkeypatch):
    """The contiguous layout is what it computes in, not one more way to compute."""
    torch.manual_seed(1)
    one, other = LeNet(), LeNet()
    other.load_state_dict(one.state_dict())
    trained(one, tmp_path / "one")
    monkeypatch.setattr("secateur.training.placement.layout_for", lambda *_: torch.contiguous_format)
    trained(other, tmp_path / "other")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_killed_run_of_it_goes_on_bit_for_bit(tmp_path):
    class KilledError(Exception):
        pass

    torch.manual_seed(2)
    whole, killed = LeNet(), LeNet()
    start = whole.state_dict()
    killed.load_state_dict(start)
    again = LeNet()
    again.load_state_dict(start)
    trained(whole, tmp_path / "whole")
    calls = 0

    def stop(module: nn.Module, *_: object) -> None:
        nonlocal calls
        calls += module.training
        if calls > 8:
            raise KilledError

    killed.register_forward_hook(stop)
    with pytest.raises(KilledError):
        trained(killed, tmp_path / "killed")
    trained(again, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_statistics_of_a_network_that_flattens_by_view():
    network = LeNet()
    found = gather_statistics(network, images(), network.preprocessing, ["activations", "gradients"], images=16)
    assert set(found) == {"conv1", "conv2", "fc1", "fc2"}
    assert found["fc1"].activations is not None and found["fc1"].gradients is not None


def test_regression_of_a_network_that_flattens_by_view():
    torch.manual_seed(3)
    dense = LeNet()
    sparse = LeNet()
    sparse.load_state_dict(dense.state_dict())
    attach_masks_(sparse, ["conv2", "fc1"])
    modules = weighted_modules(sparse)
    for name, mask in masks(sparse).items():
        set_mask_(modules[name], torch.rand(mask.shape) > 0.5)
    rows = regress_(sparse, dense, [(torch.randn(8, *SIZE), torch.zeros(8))])
    assert [row.layer for row in rows] == ["conv2", "fc1"]
    assert all(row.after < row.before for row in rows)


def test_an_evaluation_of_others_is_bit_for_bit_that_of_channels_last():
    torch.manual_seed(4)
    network = Tiny().eval()
    pixels = torch.randn(4, *SIZE)
    with placed([network], CPU, SIZE) as layout, torch.no_grad():
        found = network(moved(pixels, torch.zeros(4), CPU, layout)[0])
    with torch.no_grad():
        wanted = network.to(memory_format=torch.channels_last)(pixels.to(memory_format=torch.channels_last))
    assert torch.equal(found, wanted)
