"""Zero channels are found and taken out; the constants that they leave behind are folded, kept or dropped."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from channels.topologies import Lambda, conv, head, images, input_size, network, outputs, randomized
from secateur.channels.constants import read_constants
from secateur.channels.mask import mask_channels_
from secateur.channels.plan import RemovalPlan
from secateur.channels.planning import plan_channels
from secateur.channels.remove import remove_channels_
from secateur.channels.thin import thin_plan
from secateur.errors import SparsityError
from secateur.sparsity import attach_masks_, set_mask_, sparsify_


def pointwise(shift: float, activation: nn.Module | None = None, padding: int = 0) -> nn.Module:
    """A convolution whose filter 2 is zero, a norm that shifts it, and a consumer of 1x1 or 3x3."""
    torch.manual_seed(0)
    last = nn.Conv2d(5, 4, 3, padding=1, bias=False) if padding else nn.Conv2d(5, 4, 1, bias=False)
    net = nn.Sequential(conv(3, 5), nn.BatchNorm2d(5), activation or nn.ReLU(), last, nn.BatchNorm2d(4), head(4))
    randomized(net).double()
    with torch.no_grad():
        net[0].weight[2] = 0
        net[1].bias[2] = shift
    return net


def exact(model: nn.Module, plan: RemovalPlan, size=(3, 8, 8)) -> nn.Module:
    """The network thinned as planned, once it is known to compute what it did; masking must do so too."""
    x = images(size)
    thinned, masked = copy.deepcopy(model), copy.deepcopy(model)
    remove_channels_(thinned, plan)
    mask_channels_(masked, plan)
    for before, a, b in zip(outputs(model, x), outputs(thinned, x), outputs(masked, x), strict=True):
        torch.testing.assert_close(a, before, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(b, before, rtol=1e-11, atol=1e-11)
    assert sum(p.numel() for p in thinned.parameters()) == plan.parameters_after
    return thinned


def test_a_constant_that_the_activation_makes_zero_leaves_nothing():
    model = pointwise(-3.0, padding=1)
    with torch.no_grad():
        model[0].bias[2] = 0
    plan = thin_plan(model, (3, 8, 8))
    assert (plan.removed, plan.bias) == (1, {})
    assert exact(model, plan)[0].out_channels == 4


@pytest.mark.parametrize(("shift", "padding"), [(0.0, 1), (-1.0, 1), (1.5, 0)])
def test_a_norm_that_multiplies_by_zero_holds_its_shift(shift, padding):
    model = pointwise(shift, padding=padding)
    with torch.no_grad():
        nn.init.normal_(model[0].weight)  # no filter is zero, the norm hides it
        model[1].weight[2] = 0
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 1 and bool(plan.bias) == (shift > 0)
    assert exact(model, plan)[0].out_channels == 4


def test_a_norm_of_damaged_statistics_holds_nothing_known():
    model = pointwise(0.0)
    with torch.no_grad():
        nn.init.normal_(model[0].weight)
        model[1].weight[2], model[1].running_mean[2] = 0, torch.nan
    (reading,) = read_constants(model, (3, 8, 8))["3.weight"]
    assert not reading.known[2]


def test_an_instance_norm_that_multiplies_by_zero():
    net = nn.Sequential(conv(3, 5), nn.InstanceNorm2d(5, affine=True), nn.ReLU(), conv(5, 4, 1), head(4)).double()
    with torch.no_grad():
        net[1].weight[3], net[1].bias[3] = 0, 0.5
    (reading,) = read_constants(net, (3, 8, 8))["3.weight"]
    assert reading.values[3] == 0.5 and reading.known.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Hardswish(), nn.GELU(), nn.ReLU6()])
def test_a_constant_is_folded_into_the_bias_of_a_1x1_convolution(activation):
    model = pointwise(1.5, activation)
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 1 and set(plan.bias) == {"3.bias"}
    thinned = exact(model, plan)
    assert thinned[3].bias is not None and thinned[3].in_channels == 4


def test_a_constant_that_meets_zero_padding_stays_and_is_told():
    model = pointwise(1.5, padding=1)
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 0
    assert "1 hold a constant that meets zero padding in 3, and stay" in str(plan)


def test_a_dropped_constant_is_told():
    """shift="zero" computes what the network computes with the norm's scale and shift set to zero."""
    model = pointwise(1.5, padding=1)
    plan = thin_plan(model, (3, 8, 8), shift="zero")
    assert plan.removed == 1 and plan.bias == {}
    assert "the function changes: constants of 1 are dropped" in str(plan)
    thinned = copy.deepcopy(model)
    remove_channels_(thinned, plan)
    with torch.no_grad():
        model[1].weight[2] = model[1].bias[2] = 0
    x = images((3, 8, 8))
    torch.testing.assert_close(outputs(model, x)[0], outputs(thinned, x)[0], rtol=1e-11, atol=1e-11)


def test_channels_that_nobody_reads_go():
    model = pointwise(1.5, padding=1)
    with torch.no_grad():
        model[3].weight[:, [1, 3]] = 0
    assert thin_plan(model, (3, 8, 8)).removed == 2
    exact(model, thin_plan(model, (3, 8, 8)))


def test_one_zero_filter_of_a_residual_group_is_not_enough():
    model = network("residual")
    with torch.no_grad():
        model.b.weight[1], model.b.bias[1] = 0, 0
        model.a[0].weight[[0, 3]] = 0
        model.a[1].bias[[0, 3]] = -5
    plan = thin_plan(model, (3, 8, 8))
    assert {group.name: group.before - group.after for group in plan.groups if group.before > group.after} == {"a.0": 2}
    exact(model, plan)
    with torch.no_grad():  # and now all of them
        model.stem[0].weight[1], model.stem[1].bias[1] = 0, -5
        model.d.weight[1], model.d.bias[1] = 0, 0
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 3
    exact(model, plan)


def test_a_constant_runs_through_depthwise_layers():
    """A depthwise filter with zero padding over a constant is none at the borders; over zero it is one."""
    model = network("depthwise")
    with torch.no_grad():
        model[0][0].weight[[1, 4]] = 0
        model[0][1].bias[1], model[0][1].bias[4] = -5, 5
        model[1][1].bias[1] = 0.7
    plan = thin_plan(model, (3, 8, 8))
    assert {cut.tensor: set(cut.removed) for cut in plan.cuts}["1.0.weight"] == {1}
    assert plan.bias
    exact(model, plan)


def test_a_constant_runs_through_squeeze_and_excite():
    model = network("squeeze_excite")
    with torch.no_grad():
        model.stem[0].weight[2], model.stem[1].bias[2] = 0, -5
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 1  # 0 times whatever the gate says
    exact(model, plan)


def test_equal_numbers_of_each_segment_go():
    model = network("grouped")
    with torch.no_grad():
        model[0][0].weight[[0, 1, 3, 6, 7, 9]] = 0
        model[0][1].bias[[0, 1, 3, 6, 7, 9]] = -5
    plan = thin_plan(model, (3, 8, 8))
    assert next(set(cut.removed) for cut in plan.cuts if cut.tensor == "0.0.weight") == {0, 3, 6, 9}
    exact(model, plan)


def test_a_layer_that_is_all_zero_keeps_one_channel():
    model = network("chain")
    with torch.no_grad():
        model[1][0].weight.zero_()
        model[1][1].bias.fill_(-1)
    plan = thin_plan(model, (3, 8, 8))
    assert next(group.after for group in plan.groups if group.name == "1.0") == 1
    exact(model, plan)


def test_a_flattened_constant_is_folded_position_by_position():
    model = network("flatten")
    with torch.no_grad():
        model[0][0].weight[[0, 5]] = 0
        model[0][1].bias[[0, 5]] = 1.0
    plan = thin_plan(model, (3, 8, 8))
    assert plan.removed == 2 and set(plan.bias) == {"3.bias"}
    exact(model, plan)


def test_layers_that_share_a_weight_get_their_constant_each():
    def forward(m, x):
        x = F.relu(m.norm(m.stem(x)))
        return m.head(m.one(x) - m.two(x).square())

    layers = {"one": conv(5, 4, 1), "two": conv(5, 4, 1, bias=False)}
    model = Lambda(forward, stem=conv(3, 5), norm=nn.BatchNorm2d(5), **layers, head=head(4))
    randomized(model).double()
    model.two.weight = model.one.weight
    with torch.no_grad():
        model.stem.weight[0], model.norm.bias[0] = 0, 2
    plan = thin_plan(model, (3, 8, 8))
    assert set(plan.bias) == {"one.bias", "two.bias"}
    exact(model, plan)


def test_masked_weights_are_thinned_as_they_compute():
    model = pointwise(-5.0)
    with torch.no_grad():
        torch.nn.init.normal_(model[0].weight)
    attach_masks_(model, ["0"])
    mask = torch.ones(5, 3, 3, 3, dtype=torch.bool)
    mask[1] = False
    set_mask_(model[0], mask)
    with torch.no_grad():
        model[1].bias[1] = -5
    plan = thin_plan(model, (3, 8, 8))
    assert next(set(cut.removed) for cut in plan.cuts if cut.tensor == "0.weight") == {1}
    exact(model, plan)


def test_channels_masked_by_a_plan_are_those_that_thinning_finds():
    model = network("residual_with_downsample")
    plan = plan_channels(model, 0.4, (3, 8, 8), base="channels")
    mask_channels_(model, plan)
    found = thin_plan(model, (3, 8, 8))
    assert {(cut.tensor, cut.axis, cut.kept) for cut in found.cuts} == {
        (cut.tensor, cut.axis, cut.kept) for cut in plan.cuts
    }


def test_a_network_without_zeros_stays_whole():
    model = network("dense_concat")
    assert thin_plan(model, (3, 8, 8)).cuts == ()
    with pytest.raises(SparsityError, match="unknown shift 'none'"):
        thin_plan(model, (3, 8, 8), shift="none")


def test_a_pruned_checkpoint_is_thinned():
    model = network("chain", torch.float32)
    sparsify_(model, 0.9, "unstructured", base="selected", exclude=["0.0"])
    plan = thin_plan(model, (3, 8, 8))
    again = RemovalPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan


def test_what_depends_on_the_image_is_not_known():
    model = network("chain")
    with torch.no_grad():
        model[0][0].weight[3] = 0
    (reading,) = read_constants(model, (3, 8, 8))["1.0.weight"]
    assert reading.known.tolist() == [False, False, False, True, False, False, False, False]
    norm = model[0][1]
    constant = (0 - norm.running_mean[3]) / (norm.running_var[3] + norm.eps).sqrt() * norm.weight[3] + norm.bias[3]
    np.testing.assert_allclose(reading.values[3], max(constant.item(), 0.0), rtol=1e-12)
    assert reading.padded


def test_comparisons_with_what_is_not_known_are_refused():
    def forward(m, x):
        x = m.stem(x)
        return m.head(torch.where(x > 0, x, x * 0.1))

    model = Lambda(forward, stem=conv(3, 5), head=head(5)).double()
    with pytest.raises(SparsityError, match="through the operator gt"):
        thin_plan(model, (3, 8, 8))


@pytest.mark.parametrize("name", ["concat", "upsampled", "parameters", "conv1d", "mlp", "transposed", "layer_norm"])
def test_zeros_at_random_places(name):
    """Half of all filters zero, shifts as they are: whatever goes, the function stays."""
    model = network(name)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1 and min(p.shape[:2]) > 1:
                p[torch.rand(len(p), generator=generator) < 0.5] = 0
    exact(model, thin_plan(model, input_size(name)), input_size(name))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.AdamW])
def test_a_bias_that_a_layer_gains_is_trained_as_its_weight_is(make, masked):
    model = pointwise(1.5)
    if masked:
        attach_masks_(model, {"3": torch.ones(4, 5, 1, 1, dtype=torch.bool)})
    last = list(model[3].parameters())
    rest = [p for p in model.parameters() if all(p is not own for own in last)]
    optimizer = make([{"params": rest}, {"params": last, "lr": 0.01}])

    def step():
        optimizer.zero_grad()
        model(images((3, 8, 8))).square().sum().backward()
        optimizer.step()

    step()
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2], model[1].weight[2], model[1].bias[2] = 0, 0, 0, 1.5
    model.eval()
    remove_channels_(model, thin_plan(model, (3, 8, 8)), optimizer)
    bias = model[3].bias
    assert any(p is bias for p in optimizer.param_groups[1]["params"])
    assert all(p is not bias for p in optimizer.param_groups[0]["params"])
    before = bias.detach().clone()
    step()
    assert not torch.equal(before, bias)


def test_a_bias_beside_a_weight_that_is_not_trained_is_not_trained():
    model = pointwise(1.5)
    model[3].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([("0.weight", model[0].weight), ("0.bias", model[0].bias)], 0.1)
    remove_channels_(model, thin_plan(model, (3, 8, 8)), optimizer)
    assert not model[3].bias.requires_grad and len(optimizer.param_groups[0]["params"]) == 2


def test_a_bias_that_a_layer_gains_has_its_name():
    model = pointwise(1.5)
    optimizer = torch.optim.SGD(model.named_parameters(), 0.1)
    remove_channels_(model, thin_plan(model, (3, 8, 8)), optimizer)
    (group,) = optimizer.param_groups
    assert group["param_names"][-1] == "3.bias" and group["params"][-1] is model[3].bias
