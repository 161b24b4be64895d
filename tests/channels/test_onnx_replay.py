"""Plans of torch networks replayed on the files that were exported from them, and the networks of the zoo."""

import copy

import numpy as np
import onnx
import pytest
import torch

from channels import onnx_topologies, topologies
from channels.onnx_topologies import distance, outputs_of, run
from secateur import zoo
from secateur.channels import (
    mask_channels_,
    plan_channels,
    plan_channels_onnx,
    remove_channels_,
    remove_channels_onnx,
    thin_plan,
    thin_plan_onnx,
)
from secateur.channels.onnx_trace import groups_of_onnx
from secateur.export import export_onnx
from secateur.graph.onnx_census import census_of_onnx

TOLERANCE = 1e-5
SIZE = (3, 64, 64)


def replay(network, size, plan, folder):
    """Export, remove in both, compare."""
    full = export_onnx(network, folder / "full.onnx", size)
    thin = remove_channels_onnx(full, folder / "thin.onnx", plan)
    smaller = copy.deepcopy(network)
    remove_channels_(smaller, plan)
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = smaller.eval()(images).numpy()
    assert distance([expected], outputs_of(thin, images.numpy())) < 1e-4
    return full, thin


@pytest.mark.parametrize(
    "name",
    [
        "residual_with_downsample",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("chain", "dense_concat", "squeeze_excite", "grouped")
        ),
    ],
)
def test_plan_of_the_torch_network_replays(name, tmp_path):
    """Norms are folded into convolutions by the export, and convolutions gain biases; behind a concat they stay."""
    network = topologies.network(name, torch.float32).eval()
    size = topologies.input_size(name)
    replay(network, size, plan_channels(network, 0.4, size), tmp_path)


def test_plan_that_folds_constants_replays_with_the_weights_of_the_file(tmp_path):
    """The norm behind the consumer is folded into it: what is added to the bias is scaled in the file."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 1, bias=False), torch.nn.BatchNorm2d(6), torch.nn.Sigmoid(),
        torch.nn.Conv2d(6, 5, 1, bias=False), torch.nn.BatchNorm2d(5), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(5, 4),
    ).eval()  # fmt: skip
    for norm in (network[1], network[4]):
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        network[0].weight[[1, 4]] = 0
    plan = thin_plan(network, (3, 8, 8))
    assert plan.bias and plan.removed == 2
    full, thin = replay(network, (3, 8, 8), plan, tmp_path)
    images = torch.randn(2, 3, 8, 8)
    assert distance(outputs_of(full, images.numpy()), outputs_of(thin, images.numpy())) < TOLERANCE


# ------------------------------------------------------------------------------------------------ networks of the zoo

NETWORKS = [
    "resnet20_cifar10",
    "mobilenet_v2",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    network = zoo.model(request.param).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    size = (3, 32, 32) if "cifar" in request.param else SIZE
    return network, size, export_onnx(network, tmp_path_factory.mktemp("zoo") / "full.onnx", size)


def test_network_loses_half_its_macs(exported, tmp_path):
    _, size, full = exported
    plan = plan_channels_onnx(full, 0.5, size)
    thin = remove_channels_onnx(full, tmp_path / "thin.onnx", plan)
    assert census_of_onnx(thin).macs == plan.macs_after
    assert 0.45 * plan.macs_before < plan.macs_after <= 0.5 * plan.macs_before
    assert (
        outputs_of(thin, torch.randn(2, *size).numpy())[0].shape
        == outputs_of(full, torch.randn(2, *size).numpy())[0].shape
    )


def test_network_with_zeros_is_thinned_to_the_same_function(exported, tmp_path):
    _, size, full = exported
    file = onnx.load(full)
    groups = groups_of_onnx(file)
    plan = plan_channels_onnx(full, 0.5, size, base="channels")
    units = {group.name: np.arange(0, group.size, 2)[: group.size // 2] for group in groups.free if group.size > 3}
    masked = onnx_topologies.zeroed(file, groups, units, ("producer", "depthwise", "parameter", "norm"))
    found = thin_plan_onnx(masked)
    thin = onnx.load(remove_channels_onnx(masked, tmp_path / "thin.onnx", found))
    assert found.removed >= sum(map(len, units.values())) and found.macs_after < 0.6 * plan.macs_before
    assert distance(run(masked), run(thin)) < TOLERANCE


def test_network_pruned_in_torch_and_in_the_file(exported, tmp_path):
    network, size, full = exported
    plan = plan_channels(network, 0.4, size)
    thin = remove_channels_onnx(full, tmp_path / "thin.onnx", plan)
    masked = copy.deepcopy(network)
    mask_channels_(masked, plan)
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert distance([masked.eval()(images).numpy()], outputs_of(thin, images.numpy())) < 1e-4
