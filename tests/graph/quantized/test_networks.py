"""Whole small networks: what quantizers write, and random ones; ONNX Runtime, the definition and the engine agree."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

import secateur
from graph_tools import feeds_of, run_model
from quantized_graphs import QdqFile, integer_ops, outputs_in_numpy, read
from quantized_networks import NETWORKS, Images, agree, residual
from secateur.graph.ir import Graph
from secateur.graph.onnx_census import census_of_onnx
from secateur.graph.quantized import Grid
from secateur.graph.to_onnx import to_onnx

SAME = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
OPTIONS: dict[str, dict[str, Any]] = {
    "u8s8": {"per_channel": True},
    "s8s8": {"activation_type": QuantType.QInt8},
    "u8u8": {"weight_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}},
    "operators": {"quant_format": QuantFormat.QOperator, "per_channel": True},
    "symmetric": {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_files_of_onnx_runtimes_quantizer(network: str, options: str, tmp_path: Path):
    model = quantized(network, tmp_path, OPTIONS[options])
    graph = read(model)
    ops = integer_ops(graph)
    assert not {"Conv", "Linear", "Mul", "[QLinearConv]", "[Conv]", "[QGemm]"} & set(ops), ops
    assert sum(op in ("QConv", "QLinear") for op in ops) == sum(
        n.op_type in ("Conv", "Gemm") for n in NETWORKS[network]().graph.node
    )
    agree(model, graph, share=0.75)


def test_weights_around_any_other_zero_point_stay_float(tmp_path: Path):
    model = quantized("branches", tmp_path, {"weight_type": QuantType.QUInt8})
    graph = read(model)
    assert integer_ops(graph).count("Conv") >= 3
    assert set(graph.notes.values()) == {"its weight does not fit into 8 bits around its zero points"}
    agree(model, graph, share=0.75)


def quantized(network: str, folder: Path, options: dict[str, Any]) -> onnx.ModelProto:
    """A network as ONNX Runtime's static quantizer writes it."""
    onnx.save(NETWORKS[network](), folder / "float.onnx")
    given = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(folder / "float.onnx", folder / "int8.onnx", Images(), **given | options)
    return onnx.load(folder / "int8.onnx")


grids = st.one_of(
    st.builds(Grid, st.floats(0.0625, 0.25, width=32), st.integers(0, 255), st.just("uint8")),
    st.builds(Grid, st.floats(0.0625, 0.25, width=32), st.integers(-128, 127), st.just("int8")),
)
BLOCKS = (
    "conv",
    "pointwise",
    "depthwise",
    "residual",
    "inner residual",
    "pool",
    "mean",
    "concat",
    "function",
    "gate",
    "slice",
)


@settings(max_examples=30)
@given(data=st.data())
def test_random_networks(data: st.DataObject):
    file = QdqFile()
    channels, side = data.draw(st.integers(1, 9)), data.draw(st.integers(3, 8))
    sides = {"x": (1, channels, side, side)}
    value = file.between("x", data.draw(grids))
    for index, block in enumerate(data.draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4))):
        grid = data.draw(grids)
        if block in ("conv", "pointwise"):
            outputs, kernel = data.draw(st.integers(1, 9)), 3 if block == "conv" else 1
            weight = file.weight((outputs, channels, kernel, kernel), data.draw(st.sampled_from([None, 0])), index)
            pads, strides = data.draw(st.integers(0, 1)) if kernel == 3 else 0, data.draw(st.integers(1, 2))
            pads = 1 if side < 3 else pads
            value = file.op("Conv", value, weight, kernel_shape=[kernel] * 2, pads=[pads] * 4, strides=[strides] * 2)
            value = file.op("Relu", value) if data.draw(st.booleans()) else value
            channels, side = outputs, (side + 2 * pads - kernel) // strides + 1
        elif block == "depthwise":
            value = file.op("Conv", value, file.weight((channels, 1, 3, 3), 0, index), group=channels, **SAME)
        elif "residual" in block:
            other = file.op("Conv", value, file.weight((channels, channels, 3, 3), 0, index), **SAME)
            other = file.between(other, data.draw(grids)) if block == "inner residual" else other
            value = file.op("Add", *data.draw(st.permutations([value, other])))
            value = file.op("Relu", value) if data.draw(st.booleans()) else value
        elif block in ("pool", "mean"):
            kernel = min(side, 2)
            op = "MaxPool" if block == "pool" else "AveragePool"
            value = file.op(op, value, kernel_shape=[kernel] * 2)
            side -= kernel - 1
        elif block == "concat":
            value = file.op("Concat", value, file.between(file.op("Tanh", value), data.draw(grids)), axis=1)
            channels *= 2
        elif block == "function":
            value = file.op(data.draw(st.sampled_from(["HardSwish", "Sigmoid", "Relu"])), value)
        elif block == "gate":
            mean = file.between(file.op("GlobalAveragePool", value), data.draw(grids))
            value = file.op("Mul", value, mean)
        elif channels > 1:
            bounds = [file.constant(np.array([bound], np.int64)) for bound in (1, channels, 1)]
            value = file.op("Slice", value, *bounds)
            channels -= 1
        value = file.between(value, grid)
    file.op("Identity", value, out="y")
    model = file.model(sides)
    graph = read(model)
    assert not {"Conv", "Add", "Mul", "Activate", "Pool", "GlobalPool"} & set(integer_ops(graph))
    agree_with_itself(model, graph)


def agree_with_itself(model: onnx.ModelProto, graph: Graph) -> None:
    """The expansion and the engine compute the bits of the definition."""
    feeds = feeds_of(graph)
    (found,) = outputs_in_numpy(graph, feeds)
    assert np.array_equal(run_model(to_onnx(graph), feeds)[0], found)
    with secateur.compile(model, threads=1) as compiled:
        ours = next(iter(compiled.run(feeds).values()))
    step = next(n for n in reversed(graph.nodes) if n.op == "Dequantize").attributes["scale"]
    distance = np.abs(ours - found) / step
    assert distance.max() <= 1 + 1e-3 and np.mean(distance < 1e-3) >= 0.95


@pytest.mark.parametrize("zero", [0, 127])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 2, 0, 0, 0, 0], [0, 2, 1, 0, 0, 1, 0, 1]])
def test_a_pad_of_integers_in_front_of_floats(pads: list[int], zero: int):
    """The convolution stays float for its weight, so that the padding stays where it is."""
    file = QdqFile()
    value = file.op("Pad", file.between("x", Grid(0.05, zero, "uint8")), file.constant(np.array(pads)))
    channels = 3 + pads[1] + pads[5]
    integers = 148 + np.arange(4 * channels * 9).reshape(4, channels, 3, 3) % 108
    scale, point = file.constant(np.float32(1 / 255)), file.constant(np.array(0, np.uint8))
    weight = file.op("DequantizeLinear", file.constant(integers.astype(np.uint8)), scale, point)
    file.op("Conv", value, weight, kernel_shape=[3, 3], out="y")
    model = file.model({"x": (1, 3, 8, 7)})
    graph = read(model)
    assert integer_ops(graph) == ["Quantize", "Pad", "Dequantize", "Conv"]
    agree(model, graph, share=1.0)


def test_dynamic_quantization_runs_and_is_counted(tmp_path: Path):
    """Scales that are computed while the network runs: ONNX Runtime runs these operators, and the reason is said."""
    onnx.save(residual(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QUInt8)
    model = onnx.load(tmp_path / "int8.onnx")
    graph = read(model)
    assert "[ConvInteger]" in integer_ops(graph)
    assert all("computed while it runs" in reason for reason in graph.notes.values())
    feeds = feeds_of(graph)
    with secateur.compile(model, threads=1) as compiled:
        assert np.allclose(compiled.run(feeds)["y"], run_model(model, feeds)[0], rtol=1e-3, atol=1e-3)
    counts, floats = census_of_onnx(model), census_of_onnx(residual())
    assert counts.macs == floats.macs and counts.weights == floats.weights
    assert {layer.bits for layer in counts.layers} == {8}
