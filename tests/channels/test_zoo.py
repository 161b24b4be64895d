"""Networks of the zoo: masked equals thinned, whatever their channels depend on."""

import copy

import pytest
import torch

import secateur
from channels.topologies import outputs, randomized
from secateur.channels.mask import mask_channels_
from secateur.channels.plan import RemovalPlan
from secateur.channels.planning import plan_channels
from secateur.channels.remove import remove_channels_
from secateur.errors import SparsityError
from secateur.sparsity import census

# name -> share of the MACs that is left at most when 30 % of the channels of every group that may shrink are gone
QUICK = {
    "resnet20_cifar10": 0.65,
    "shufflenetv2_x0_5_cifar10": 0.75,
    "mobilenet_v3_small": 0.6,
}
WIDE = {
    "resnet56_cifar10": 0.65,
    "resnet56b_cifar10": 0.65,
    "mobilenet_v1_cifar10": 0.55,
    "mobilenet_v2_cifar10": 0.55,
    "vgg16_cifar10": 0.55,
    "resnet50": 0.55,
    "resnext50_32x4d": 0.55,
    "efficientnet_b0": 0.55,
    "mobilenet_v3_large": 0.6,
    "densenet121": 0.55,
    "shufflenet_v2_x1_0": 0.75,
    "squeezenet1_1": 0.6,
    "regnet_y_400mf": 0.6,
    "mnasnet0_5": 0.6,
    "googlenet": 0.55,
    "ghostnet_100": 0.6,
    "hrnet_w18_small": 0.55,
    "dla34": 0.55,
    "res2net50_14w_8s": 0.75,  # splits stay whole
    "resnest14d": 0.7,
    "convmixer_768_32": 0.55,
    "repvgg_a0": 0.55,
    "convnext_tiny": 0.75,  # layer norm over channels
    "vit_tiny_patch16_224": 0.85,
}
WHOLE_IMAGES = ("vit_tiny_patch16_224",)


def check(name: str, most: float) -> RemovalPlan:
    model = randomized(secateur.model(name))
    side = min(model.preprocessing.input_size[-1], 224 if name in WHOLE_IMAGES else 64)
    size = (3, side, side)
    plan = plan_channels(model, 0.3, size, base="channels")
    assert plan.macs_after <= most * plan.macs_before
    masked, thinned = copy.deepcopy(model), model
    mask_channels_(masked, plan)
    remove_channels_(thinned, plan)
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    for a, b in zip(outputs(masked, x), outputs(thinned, x), strict=True):
        assert a.isfinite().all() and a.abs().max() > 0
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()
    assert sum(p.numel() for p in thinned.parameters()) == plan.parameters_after
    return plan


@pytest.mark.parametrize("name", QUICK)
def test_thinned_equals_masked(name):
    check(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_thinned_equals_masked_wide(name):
    check(name, WIDE[name])


@pytest.mark.slow
def test_network_of_standardised_weights_is_refused_with_the_reason():
    with pytest.raises(SparsityError, match=r"no channel may go .*a convolution whose weight is computed"):
        plan_channels(secateur.model("nf_resnet50"), 0.3, (3, 64, 64), base="channels")


@pytest.mark.parametrize(
    ("name", "base"),
    [("resnet20_cifar10", "macs"), ("shufflenetv2_x0_5_cifar10", "macs"), ("mobilenet_v2_cifar10", "parameters")],
)
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_half_of_the_network_goes(name, base, scope):
    """The goal is met as the census counts it, within one channel of each group."""
    model = secateur.model(name)
    plan = plan_channels(model, 0.5, base=base, scope=scope, round_to=4)
    remove_channels_(model, plan)
    counted = census(model)
    left = counted.macs / plan.macs_before if base == "macs" else counted.parameters / plan.parameters_before
    assert 0.4 < left <= 0.5
    assert all(group.after % 4 == 0 for group in plan.groups if group.after < group.before)
