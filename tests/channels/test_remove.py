"""The thinned network computes what the masked one does, on every topology; what holds its tensors still holds them."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from channels.topologies import TOPOLOGIES, images, input_size, network, outputs
from secateur.channels.mask import mask_channels_
from secateur.channels.plan import RemovalPlan
from secateur.channels.planning import plan_channels
from secateur.channels.remove import remove_channels_
from secateur.errors import SparsityError
from secateur.export import export_onnx
from secateur.sparsity import attach_masks_, census, masks, set_mask_


def thinned_equals_masked(model, plan, x, tolerance):
    masked, thinned = copy.deepcopy(model), copy.deepcopy(model)
    mask_channels_(masked, plan)
    remove_channels_(thinned, plan)
    for a, b in zip(outputs(masked, x), outputs(thinned, x), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    return masked, thinned


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_thinned_equals_masked(name):
    model = network(name)
    plan = plan_channels(model, 0.4, input_size(name), base="channels")
    assert plan.removed > 0
    masked, thinned = thinned_equals_masked(model, plan, images(input_size(name)), 1e-12)
    for tensor, shape in plan.shapes.items():
        assert tuple(thinned.get_parameter(tensor).shape if "running" not in tensor else shape) == shape
    assert sum(p.numel() for p in thinned.parameters()) == plan.parameters_after
    assert sum(p.numel() for p in masked.parameters()) == plan.parameters_before


@pytest.mark.parametrize("name", ["chain", "grouped", "residual_padded", "shared_layers", "two_concats_added"])
def test_in_single_precision(name):
    model = network(name, torch.float32)
    plan = plan_channels(model, 0.4, input_size(name), base="channels")
    thinned_equals_masked(model, plan, images(input_size(name), torch.float32), 1e-5)


@pytest.mark.parametrize("name", ["depthwise", "grouped", "concat", "squeeze_excite", "transposed", "split_halves"])
def test_planned_counts_are_those_of_the_census(name):
    model = network(name, torch.float32)
    plan = plan_channels(model, 0.4, input_size(name), base="channels")
    assert census(model, input_size(name)).macs == plan.macs_before
    remove_channels_(model, plan)
    assert census(model, input_size(name)).macs == plan.macs_after


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_plan_replays_from_json_on_a_fresh_network(name):
    model = network(name)
    plan = plan_channels(model, 0.4, input_size(name), base="channels")
    again = RemovalPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    fresh = network(name)
    remove_channels_(model, plan)
    remove_channels_(fresh, again)
    x = images(input_size(name))
    for a, b in zip(outputs(model, x), outputs(fresh, x), strict=True):
        assert torch.equal(a, b)


def test_modules_say_their_new_sizes():
    model = network("depthwise")
    remove_channels_(model, plan_channels(model, 0.5, (3, 8, 8), base="channels"))
    first, dw, point, twice = model[0][0], model[1][0], model[2][0], model[3][0]
    assert (first.in_channels, first.out_channels) == (3, 4)
    assert (dw.in_channels, dw.out_channels, dw.groups) == (4, 4, 4)
    assert (point.in_channels, point.out_channels, point.groups) == (4, 6, 1)
    assert (twice.in_channels, twice.out_channels, twice.groups) == (6, 12, 6)
    assert model[3][1].num_features == 12 and model[4][2].in_features == 12 and model[4][2].out_features == 4


def test_grouped_layers_keep_their_groups():
    model = network("grouped")
    remove_channels_(model, plan_channels(model, 0.34, (3, 8, 8), base="channels", ratios={"1.0": 0.5}))
    layer = model[1][0]
    assert (layer.in_channels, layer.out_channels, layer.groups) == (8, 4, 4)
    assert layer.weight.shape == (4, 2, 3, 3)


def test_shared_parameters_stay_shared():
    model = network("shared_layers")
    remove_channels_(model, plan_channels(model, 0.4, (3, 8, 8), base="channels"))
    assert model.same.weight is model.last.weight
    assert model.same.weight.shape == (3, 4, 3, 3)


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), ["momentum_buffer"]),
        (lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True), ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
    ],
)
def test_the_optimiser_goes_on(make, keys):
    """After the removal a step equals the step of the masked network, entry by entry."""
    model = network("residual_with_downsample")
    x = images((3, 8, 8))
    optimizer = make(model.parameters())

    def step(net, opt):
        opt.zero_grad()
        net(x).square().sum().backward()
        opt.step()

    step(model, optimizer)
    plan = plan_channels(model, 0.4, (3, 8, 8), base="channels")
    before = {name: {key: optimizer.state[p][key].clone() for key in keys} for name, p in model.named_parameters()}
    remove_channels_(model, plan, optimizer)
    for name, p in model.named_parameters():
        for key in keys:
            expected = before[name][key]
            for cut in plan.cuts:
                if cut.tensor == name:
                    expected = expected.index_select(cut.axis, torch.tensor(cut.kept))
            assert torch.equal(optimizer.state[p][key], expected)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    loss = model(x).square().sum().item()
    for _ in range(3):
        step(model, optimizer)
    assert model(x).square().sum().item() < loss


def test_masks_are_cut_with_their_weights():
    model = network("chain")
    attach_masks_(model, ["1.0", "3"])
    mask = torch.rand(6, 8, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    set_mask_(model[1][0], mask)
    plan = plan_channels(model, 0.4, (3, 8, 8), base="channels")
    thinned_equals_masked(model, plan, images((3, 8, 8)), 1e-12)
    remove_channels_(model, plan)
    kept = {cut.axis: torch.tensor(cut.kept) for cut in plan.cuts if cut.tensor == "1.0.weight"}
    assert torch.equal(masks(model)["1.0"], mask.index_select(0, kept[0]).index_select(1, kept[1]))


def test_masking_keeps_the_masks_that_were_there():
    model = network("chain")
    attach_masks_(model, ["1.0"])
    mask = torch.rand(6, 8, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    set_mask_(model[1][0], mask)
    mask_channels_(model, plan_channels(model, 0.4, (3, 8, 8), base="channels"))
    assert not (masks(model)["1.0"] & ~mask).any()
    assert (masks(model)["1.0"].sum((1, 2, 3)) == 0).sum() == 2


def test_a_masked_network_stays_masked_while_it_is_trained():
    model = network("residual")
    x = images((3, 8, 8))
    plan = plan_channels(model, 0.4, (3, 8, 8), base="channels")
    mask_channels_(model, plan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        model(x).sum().backward()
        optimizer.step()
    before = outputs(model, x)[0]
    remove_channels_(model, plan, optimizer)
    torch.testing.assert_close(outputs(model, x)[0], before, rtol=1e-12, atol=1e-12)


def test_a_plan_of_another_network_changes_nothing():
    plan = plan_channels(network("chain"), 0.4, (3, 8, 8), base="channels")
    wider = nn.Sequential(*network("chain"))
    wider[1][0] = nn.Conv2d(8, 7, 3)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    for verb in (remove_channels_, mask_channels_):
        with pytest.raises(SparsityError, match=r"1\.0\.weight: the plan was made for 6 channels along axis 0"):
            verb(wider, plan)
        with pytest.raises(SparsityError, match="unknown tensor of this network"):
            verb(network("residual"), plan)
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())


def test_the_thinned_network_is_exported(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    model = network("split_halves", torch.float32)
    remove_channels_(model, plan_channels(model, 0.5, (3, 8, 8), base="channels"))
    x = images((3, 8, 8), torch.float32)
    session = ort.InferenceSession(str(export_onnx(model, tmp_path / "thin.onnx", (3, 8, 8))))
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], outputs(model, x)[0], rtol=1e-4, atol=1e-5)
