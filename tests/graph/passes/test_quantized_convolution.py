"""Tests are named after the rules of passes/quantized_convolution.py and passes/quantized_epilogue.py."""

import numpy as np
import pytest
from onnx import helper

from graph_tools import only
from quantized_graphs import QdqFile, check_steps, integer_ops, read
from secateur.graph.quantized import Grid

X, Y = Grid(0.05, 120, "uint8"), Grid(0.3, 100, "uint8")
SIDES = {"x": (2, 4, 7, 6)}
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("axis", [None, 0])
def test_rule_1_convolution_between_q_and_dq(axis: int | None, signed: bool):
    x, y = (Grid(grid.scale, grid.zero - 128 * signed, "int8" if signed else "uint8") for grid in (X, Y))
    file = QdqFile()
    file.between(file.op("Conv", file.between("x", x), file.weight((5, 4, 3, 3), axis), **CONV), y, "y")
    graph = check_steps(file.model(SIDES), y.scale)
    assert integer_ops(graph) == ["Quantize", "QConv", "Dequantize"]
    node = only(graph, "QConv")
    assert node.attributes["w_scale"].shape == (5,) and graph.constants[node.inputs[1]].dtype == np.int8


def test_rule_1_unsigned_weights_around_128():
    file = QdqFile()
    weight = file.weight((5, 4, 3, 3), None, dtype="uint8", zero=128)
    file.between(file.op("Conv", file.between("x", X), weight, **CONV), Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QConv", "Dequantize"]


def test_rule_1_a_weight_that_has_more_than_8_bits_stays_float():
    file = QdqFile()
    scale, zero = file.constant(np.float32(0.01)), file.constant(np.array(0, np.uint8))
    weight = file.op("DequantizeLinear", file.constant(np.full((5, 4, 3, 3), 255, np.uint8)), scale, zero)
    name = file.op("Conv", file.between("x", X), weight, **CONV)
    file.between(name, Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "Conv" in integer_ops(graph) and "QConv" not in integer_ops(graph)
    assert next(iter(graph.notes.values())) == "its weight does not fit into 8 bits around its zero points"


def test_rule_1_a_float_weight_behind_q_and_dq_is_rounded_once():
    file = QdqFile()
    weights = np.random.default_rng(0).uniform(-1, 1, (5, 4, 3, 3)).astype(np.float32)
    weight = file.between(file.constant(weights), Grid(1 / 127, 0, "int8"))
    file.between(file.op("Conv", file.between("x", X), weight, **CONV), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QConv", "Dequantize"]
    stored = graph.constants[only(graph, "QConv").inputs[1]]
    assert np.array_equal(stored, np.rint(weights * np.float32(127)))


def test_rule_1_scales_behind_identity_and_cast():
    file = QdqFile()
    scale = file.op("Cast", file.constant(np.float64(X.scale)), to=1)
    zero = file.op("Identity", file.constant(np.array(X.zero, np.uint8)))
    x = file.op("DequantizeLinear", file.op("QuantizeLinear", "x", scale, zero), scale, zero)
    file.between(file.op("Conv", x, file.weight((5, 4, 3, 3)), **CONV), Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QConv", "Dequantize"]


def test_rule_1_a_scale_that_is_computed_while_the_network_runs():
    file = QdqFile()
    file.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    x = file.op("DequantizeLinear", "q", "s", "z")
    file.op("Conv", x, file.weight((5, 4, 3, 3)), out="y", **CONV)
    graph = read(file.model(SIDES))
    assert (
        "QConv" not in integer_ops(graph)
        and "its input is not quantized with one constant scale" in graph.notes.values()
    )


def test_rule_2_biases():
    unit = 0.05
    for kind in ("int32", "float", "other scale"):
        file = QdqFile()
        weight = file.weight((5, 4, 3, 3))
        if kind == "float":
            bias = file.constant(np.array([1.5, -2, 0.25, 0, 3], np.float32))
        else:
            bias = file.bias(unit if kind == "int32" else 0.02, weight)
        file.between(file.op("Conv", file.between("x", X), weight, bias, **CONV), Y, "y")
        graph = check_steps(file.model(SIDES), Y.scale)
        assert graph.constants[only(graph, "QConv").inputs[2]].dtype == np.int32


def test_rule_2_integers_of_a_bias_are_kept_exactly():
    file = QdqFile()
    weight = file.weight((5, 4, 3, 3))
    bias = file.bias(X.scale, weight)
    wanted = file.constants[file.nodes[-1].input[0]]
    file.between(file.op("Conv", file.between("x", X), weight, bias, **CONV), Y, "y")
    graph = read(file.model(SIDES))
    assert np.array_equal(graph.constants[only(graph, "QConv").inputs[2]], wanted)


def test_rule_2_a_bias_beyond_32_bits_stays_float():
    file = QdqFile()
    bias = file.constant(np.full(5, 1e12, np.float32))
    file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), bias, out="y", **CONV)
    graph = read(file.model(SIDES))
    assert "QConv" not in integer_ops(graph) and "its bias does not fit into 32 bits" in graph.notes.values()


def test_rule_3_other_dimensions_stay_float():
    file = QdqFile()
    file.between(file.op("Conv", file.between("x", X), file.weight((5, 4, 3)), kernel_shape=[3]), Y, "y")
    graph = check_steps(file.model({"x": (2, 4, 7)}), Y.scale)
    assert "QConv" not in integer_ops(graph) and "it has not two dimensions" in graph.notes.values()


def test_rule_3_transposed_convolutions_stay_float():
    file = QdqFile()
    file.between(
        file.op("ConvTranspose", file.between("x", X), file.weight((4, 5, 3, 3), None), kernel_shape=[3, 3]), Y, "y"
    )
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "ConvTranspose" in integer_ops(graph)
    assert "there is no ConvTranspose on integers" in graph.notes.values()


def by_channel(file: QdqFile, x: str, scales: np.ndarray, zero: int, pad: bool = False) -> str:
    scale, origin = file.constant(scales), file.constant(np.full(len(scales), zero, np.uint8))
    value = file.op("DequantizeLinear", file.op("QuantizeLinear", x, scale, origin, axis=1), scale, origin, axis=1)
    return file.op("Pad", value, file.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1]))) if pad else value


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_rule_4_a_scale_for_each_channel_of_a_depthwise_convolution(clip: bool, pad: bool):
    file = QdqFile()
    value = file.op("Conv", file.between("x", X), file.weight((6, 4, 1, 1)), kernel_shape=[1, 1])
    bounds = [file.constant(np.float32(bound)) for bound in (0, 6)]
    value = file.op("Clip", value, *bounds) if clip else file.op("Relu", value)
    scales = np.linspace(0.004, 6 / 255, 6).astype(np.float32)
    value = by_channel(file, value, scales, 0, pad)
    file.between(file.op("Conv", value, file.weight((6, 1, 3, 3)), group=6, **CONV), Grid(0.02, 100, "uint8"), "y")
    graph = check_steps(file.model(SIDES), 0.02, share=0.8)
    assert integer_ops(graph) == ["Quantize", "QConv", "QConv", "Dequantize"]


def test_rule_4_only_depthwise():
    file = QdqFile()
    value = by_channel(file, "x", np.linspace(0.01, 0.05, 4).astype(np.float32), 128)
    file.between(file.op("Conv", value, file.weight((6, 4, 3, 3)), **CONV), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert "its input has a scale for each channel, and it sums over channels" in graph.notes.values()


# Epilogue


def test_epilogue_rule_1_a_sum_with_constants_joins_the_bias():
    file = QdqFile()
    value = file.op(
        "Conv", file.between("x", X), file.weight((5, 4, 3, 3)), file.constant(np.ones(5, np.float32)), **CONV
    )
    value = file.op("Add", value, file.constant(np.linspace(-2, 2, 5).astype(np.float32).reshape(1, 5, 1, 1)))
    file.between(value, Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QConv", "Dequantize"]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("inner", [None, Grid(0.2, 90, "uint8")])
def test_epilogue_rule_2_residuals(inner: Grid | None, swapped: bool):
    file = QdqFile()
    x = file.between("x", X)
    value = file.op("Conv", x, file.weight((4, 4, 3, 3)), **CONV)
    value = value if inner is None else file.between(value, inner)
    value = file.op("Relu", file.op("Add", *((x, value) if swapped else (value, x))))
    file.between(value, Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QConv", "Dequantize"]
    node = only(graph, "QConv")
    assert node.attributes["inner"] == (None if inner is None else (float(np.float32(0.2)), 90, "uint8"))
    assert (node.attributes["r_scale"], node.attributes["r_zero"]) == (float(np.float32(X.scale)), X.zero)
    assert str(node.attributes["activation"]) == "relu"


def test_epilogue_rule_2_two_convolutions_meet():
    file = QdqFile()
    x = file.between("x", X)
    branches = [file.between(file.op("Conv", x, file.weight((4, 4, 3, 3), seed=seed), **CONV), Y) for seed in (0, 1)]
    file.between(file.op("Add", *branches), Y, "y")
    graph = check_steps(file.model(SIDES), Y.scale)
    assert integer_ops(graph) == ["Quantize", "QConv", "QConv", "Dequantize"]


def test_epilogue_rule_2_broadcasting_is_no_residual():
    file = QdqFile()
    value = file.between(file.op("Conv", file.between("x", X), file.weight((4, 4, 3, 3)), **CONV), Y)
    file.between(file.op("Add", value, file.between("r", X)), Y, "y")
    graph = check_steps(file.model({**SIDES, "r": (1, 4, 1, 1)}), Y.scale)
    assert "QAdd" in integer_ops(graph)


@pytest.mark.parametrize("op", ["Relu", "HardSwish", "Sigmoid", "LeakyRelu", "Tanh"])
def test_epilogue_rule_3_activations(op: str):
    file = QdqFile()
    value = file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), **CONV)
    y = Grid(1 / 127 if op in ("Sigmoid", "Tanh") else 0.3, 100, "uint8")
    file.between(file.op(op, value), y, "y")
    assert integer_ops(check_steps(file.model(SIDES), y.scale)) == ["Quantize", "QConv", "Dequantize"]


def test_epilogue_rule_3_slopes():
    file = QdqFile()
    value = file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), **CONV)
    slopes = file.constant(np.linspace(0, 1, 5).astype(np.float32).reshape(5, 1, 1))
    file.between(file.op("PRelu", value, slopes), Y, "y")
    assert integer_ops(check_steps(file.model(SIDES), Y.scale)) == ["Quantize", "QConv", "Dequantize"]


def test_epilogue_rule_4_without_quantize_the_result_is_float():
    file = QdqFile()
    value = file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), **CONV)
    file.op("Relu", value, out="y")
    graph = check_steps(file.model(SIDES), 1e-2)
    assert integer_ops(graph) == ["Quantize", "QConv"] and only(graph, "QConv").attributes["y_scale"] is None


def test_epilogue_rule_5_other_readers_keep_the_float_value():
    file = QdqFile()
    value = file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), out="z", **CONV)
    file.between(value, Y, "y")
    graph = read(file.model(SIDES, "y z"))
    assert integer_ops(graph) == ["Quantize", "QConv", "Quantize", "Dequantize"]


def test_epilogue_rule_7_bounds_that_the_output_has_anyway():
    for zero, kept in ((0, False), (10, True)):
        file = QdqFile()
        value = file.op("Conv", file.between("x", X), file.weight((5, 4, 3, 3)), **CONV)
        file.between(file.op("Relu", value), Grid(0.1, zero, "uint8"), "y")
        graph = check_steps(file.model(SIDES), 0.1)
        assert (only(graph, "QConv").attributes["activation"] is not None) == kept


def test_q_and_dq_shared_by_readers():
    file = QdqFile()
    q = file.quantize("x", X)
    first, second = (file.dequantize(q, X) for _ in range(2))
    a = file.quantize(file.op("Conv", first, file.weight((4, 4, 3, 3)), **CONV), Y)
    b = file.between(file.op("Conv", second, file.weight((4, 4, 3, 3), seed=1), **CONV), Y)
    total = file.op("Add", file.dequantize(a, Y), b)
    product = file.op("Mul", file.dequantize(a, Y), second)
    file.between(total, Y, "y"), file.between(product, Grid(0.4, 128, "uint8"), "z")
    graph = check_steps(file.model(SIDES, "y z"), 0.4)
    assert sorted(integer_ops(graph)) == ["Dequantize", "Dequantize", "QConv", "QConv", "QMul", "Quantize"]
