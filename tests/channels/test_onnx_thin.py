"""Channels of zeros: the thinned file computes what the file computed, constants that zero filters leave included."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from channels import onnx_topologies as topologies
from channels.onnx_topologies import TOPOLOGIES, conv, distance, fc, model, picked, run, tensors_of, zeroed
from secateur.channels.onnx_remove import remove_channels_onnx
from secateur.channels.onnx_thin import thin_plan_onnx
from secateur.channels.onnx_trace import groups_of_onnx, trace_onnx

TOLERANCE = 1e-5
FILTERS, ALL = ("producer", "depthwise"), ("producer", "depthwise", "parameter", "norm")


def thinned(file, folder):
    plan = thin_plan_onnx(file)
    return plan, onnx.load(remove_channels_onnx(file, folder / "thin.onnx", plan))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_planted_zero_goes(name, tmp_path):
    """Filters, biases and norms are zero: everything that was planted is found, through activations with f(0) = 0."""
    file = TOPOLOGIES[name]()
    groups = groups_of_onnx(file)
    units = picked(trace_onnx(file), 0.5)
    masked = zeroed(file, groups, units, ALL)
    plan, thin = thinned(masked, tmp_path)
    assert distance(run(masked), run(thin)) < TOLERANCE
    assert plan.removed >= sum(map(len, units.values()))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_zero_filters_whose_constants_stay(name, tmp_path):
    """Biases and norms are left: what remains of a channel is folded where that is exact, and stays elsewhere."""
    file = TOPOLOGIES[name]()
    masked = zeroed(file, groups_of_onnx(file), picked(trace_onnx(file), 0.5), FILTERS)
    _, thin = thinned(masked, tmp_path)
    assert distance(run(masked), run(thin)) < TOLERANCE


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_channels_that_nobody_reads_go(name, tmp_path):
    file = TOPOLOGIES[name]()
    units = picked(trace_onnx(file), 0.5)
    masked = zeroed(file, groups_of_onnx(file), units, ("consumer",))
    plan, thin = thinned(masked, tmp_path)
    assert distance(run(masked), run(thin)) < TOLERANCE
    assert plan.removed >= sum(map(len, units.values()))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_dense_files_stay_as_they_are(name):
    assert thin_plan_onnx(TOPOLOGIES[name]()).removed == 0


def pointwise(padding: str) -> onnx.ModelProto:
    nodes = f"""
        a = Conv(x, a.weight, a.bias) s = Sigmoid(a) b = Conv{padding}(s, b.weight) h = Relu(b)
        p = GlobalAveragePool(h) f = Flatten(p) y = Gemm<transB = 1>(f, fc.weight, fc.bias)
    """
    weights = {**conv("a", 5, 3, 1), "b.weight": (4, 5, 3, 3), **fc(4)}
    file = model(nodes, weights)
    tensor = tensors_of(file)["a.weight"]
    array = numpy_helper.to_array(tensor).copy()
    array[2] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return file


def test_constant_goes_into_a_bias_that_is_made(tmp_path):
    file = pointwise("")
    plan, thin = thinned(file, tmp_path)
    tensors = {name: numpy_helper.to_array(tensor) for name, tensor in tensors_of(file).items()}
    left = 1 / (1 + np.exp(-tensors["a.bias"][2]))
    expected = tensors["b.weight"][:, 2].sum((1, 2)) * left
    assert np.allclose(plan.bias["b.bias"], expected, atol=1e-6)
    assert np.allclose(numpy_helper.to_array(tensors_of(thin)["b.bias"]), expected, atol=1e-6)
    assert tensors_of(thin)["b.weight"].dims == [4, 4, 3, 3]
    assert distance(run(file), run(thin)) < TOLERANCE
    assert groups_of_onnx(thin).parameters == plan.parameters_after


def test_constant_that_meets_zero_padding_stays_and_is_told(tmp_path):
    file = pointwise(topologies.PADDED)
    plan, thin = thinned(file, tmp_path)
    assert plan.removed == 0 and thin.graph.node == file.graph.node
    assert "1 hold a constant that meets zero padding" in str(plan)


def test_what_only_dead_channels_read_goes_too(tmp_path):
    """Nothing reads b: then nothing needs what b reads, though no weight of a is zero."""
    file = topologies.residual()
    tensors = tensors_of(file)
    weight = numpy_helper.to_array(tensors["b.weight"]).copy()
    weight[:, 1:] = 0
    tensors["b.weight"].CopyFrom(numpy_helper.from_array(weight, "b.weight"))
    plan, thin = thinned(file, tmp_path)
    assert tensors_of(thin)["a.weight"].dims == [1, 8, 3, 3]
    assert plan.removed == 5
    assert distance(run(file), run(thin)) < TOLERANCE


def test_a_whole_branch_of_zeros_keeps_one_channel(tmp_path):
    file = topologies.residual()
    tensors = tensors_of(file)
    for name in ("a.weight", "a.bias", "b.weight"):
        zero = np.zeros_like(numpy_helper.to_array(tensors[name]))
        tensors[name].CopyFrom(numpy_helper.from_array(zero, name))
    plan, thin = thinned(file, tmp_path)
    assert plan.removed == 5 and "one must stay" in str(plan)
    assert distance(run(file), run(thin)) < TOLERANCE


def test_grouped_convolution_loses_equally_many_of_each_group(tmp_path):
    file = topologies.grouped()
    tensors = tensors_of(file)
    for name in ("a.weight", "a.bias"):
        array = numpy_helper.to_array(tensors[name]).copy()
        array[[0, 1, 3, 6, 9, 10]] = 0
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    plan, thin = thinned(file, tmp_path)
    assert plan.removed == 4
    assert distance(run(file), run(thin)) < TOLERANCE


def test_thinning_twice_finds_nothing_more(tmp_path):
    file = topologies.squeeze_excite()
    masked = zeroed(file, groups_of_onnx(file), picked(trace_onnx(file), 0.5), ALL)
    _, thin = thinned(masked, tmp_path)
    assert thin_plan_onnx(thin).removed == 0
