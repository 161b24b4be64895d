"""A file as torch functions: what ONNX Runtime computes, gradients, and walks that forget what nobody reads."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from onnx_networks import images, network
from secateur.errors import QuantizationError
from secateur.quantization.answers import logits_of
from secateur.quantization.stretches import stretches_of
from secateur.quantization.torch_graph import Walk, torch_graph

RANDOM = np.random.default_rng(0)


def model_of(nodes, tensors=(), output="y"):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], f"{op}_{output}", **attributes)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


CASES = {
    "conv": (
        [node("Conv", ["x", "w", "b"], "y", pads=[0, 1, 2, 1], strides=[2, 1])],
        [("w", floats(3, 4, 3, 3)), ("b", floats(3))],
    ),
    "grouped": ([node("Conv", ["x", "w"], "y", group=2, auto_pad="SAME_UPPER")], [("w", floats(6, 2, 3, 3))]),
    "transposed": (
        [node("ConvTranspose", ["x", "w"], "y", strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 1])],
        [("w", floats(4, 3, 3, 3))],
    ),
    "max_pool": ([node("MaxPool", ["x"], "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])], []),
    "average_pool": ([node("AveragePool", ["x"], "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], []),
    "average_pool_with_pads": (
        [node("AveragePool", ["x"], "y", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)],
        [],
    ),
    "clip": ([node("Clip", ["x", "low", "high"], "y")], [("low", np.float32(-0.5)), ("high", np.float32(1))]),
    "leaky": ([node("LeakyRelu", ["x"], "y", alpha=0.3)], []),
    "prelu": ([node("PRelu", ["x", "s"], "y")], [("s", floats(4, 1, 1))]),
    "hard_swish": ([node("HardSwish", ["x"], "y")], []),
    "silu": ([node("Sigmoid", ["x"], "s"), node("Mul", ["x", "s"], "y")], []),
    "hard_sigmoid": ([node("HardSigmoid", ["x"], "y", alpha=0.3, beta=0.4)], []),
    "mean": ([node("ReduceMean", ["x"], "y", axes=[2, 3], keepdims=0)], []),
    "mean_of_columns": ([node("ReduceMean", ["x"], "y", axes=[3], keepdims=1)], []),
    "slice": (
        [node("Slice", ["x", "b", "e", "a", "s"], "y")],
        [("b", ints(3, 1)), ("e", ints(-9, 6)), ("a", ints(1, 2)), ("s", ints(-1, 2))],
    ),
    "pad": ([node("Pad", ["x", "p"], "y", mode="reflect")], [("p", ints(0, 0, 1, 2, 0, 0, 2, 1))]),
    "pad_with_numbers": (
        [node("Pad", ["x", "p", "v"], "y")],
        [("p", ints(0, 1, 1, 0, 0, 0, 2, 1)), ("v", np.float32(2))],
    ),
    "shuffle": (
        [
            node("Reshape", ["x", "to"], "r"),
            node("Transpose", ["r"], "t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["t", "back"], "y"),
        ],
        [("to", ints(-1, 2, 2, 6, 6)), ("back", ints(-1, 4, 6, 6))],
    ),
    "depth_to_space": ([node("DepthToSpace", ["x"], "y", blocksize=2)], []),
    "depth_to_space_crd": ([node("DepthToSpace", ["x"], "y", blocksize=2, mode="CRD")], []),
    "space_to_depth": ([node("SpaceToDepth", ["x"], "y", blocksize=2)], []),
    "softmax": ([node("Softmax", ["x"], "y", axis=1)], []),
    "arithmetic": (
        [
            node("Mul", ["x", "c"], "a"),
            node("Sub", ["a", "x"], "s"),
            node("Min", ["s", "c"], "m"),
            node("Div", ["m", "d"], "y"),
        ],
        [("c", floats(4, 1, 1)), ("d", np.float32(3))],
    ),
    "split": (
        [
            helper.make_node("Split", ["x", "sizes"], ["a", "b"], "split", axis=1),
            node("Concat", ["b", "a", "b"], "y", axis=1),
        ],
        [("sizes", ints(1, 3))],
    ),
    "matmul": ([node("MatMul", ["x", "w"], "y")], [("w", floats(6, 5))]),
    "gather": ([node("Gather", ["x", "i"], "y", axis=1)], [("i", ints(2, 0, -1))]),
    "layer_norm": (
        [node("LayerNormalization", ["x", "g", "b"], "y", axis=-1, epsilon=1e-3)],
        [("g", floats(6)), ("b", floats(6))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_operator_computes_what_onnx_runtime_computes(case):
    model = model_of(*CASES[case])
    pixels = floats(3, 4, 6, 6)
    graph = torch_graph(model)
    values = {graph.source: torch.from_numpy(pixels)}
    graph.run(graph.nodes, values)
    found = values[graph.result].reshape(3, -1).numpy()
    np.testing.assert_allclose(found, logits_of(model, lambda: [pixels]), atol=1e-5, rtol=1e-5)


def test_an_operator_without_a_function_is_named():
    with pytest.raises(QuantizationError, match="NonZero"):
        torch_graph(model_of([node("NonZero", ["x"], "i"), node("Cast", ["i"], "y", to=1)]))


def test_weights_can_be_replaced_and_gradients_reach_them():
    graph = torch_graph(network())
    (node_a,) = [each for each in graph.layers if each.name == "a"]
    weight = graph.weight(node_a).clone().requires_grad_(True)
    values = {graph.source: torch.from_numpy(images(4)()[0])}
    graph.run(graph.nodes, values, weights={"a": weight})
    values[graph.result].sum().backward()
    assert weight.grad is not None
    assert bool(weight.grad.any())


def test_what_is_read_is_what_the_rounding_gives():
    graph = torch_graph(network())
    seen: list[str] = []

    def read(name, x):
        seen.append(name)
        return torch.zeros_like(x) if name == "pooled" else x

    values = {graph.source: torch.from_numpy(images(4)()[0])}
    graph.run(graph.nodes, values, read=read)
    assert len(seen) == len(set(seen))
    assert not values[graph.result].any()


def test_a_walk_gives_the_same_and_forgets():
    graph = torch_graph(network())
    pixels = torch.from_numpy(np.concatenate(images(100)()))
    values = {graph.source: pixels}
    with torch.no_grad():
        graph.run(graph.nodes, values)
    walk = Walk(graph, {graph.source: pixels}, keep={"a.out"})
    walk.to(len(graph.nodes))
    torch.testing.assert_close(walk.values[graph.result], values[graph.result])
    assert walk.values.keys() == {graph.result, "a.out"}
    walk.release("a.out")
    assert walk.values.keys() == {graph.result}


def test_stretches_by_layer_and_by_block():
    graph = torch_graph(network())
    layers = stretches_of(graph, "layer")
    assert [(stretch.name, stretch.sources, stretch.result) for stretch in layers] == [
        ("a", ("x",), "a.out"),
        ("d", ("a.out",), "d.out"),
        ("b", ("d.out",), "b.pre"),
        ("fc", ("pooled",), "y"),
    ]
    blocks = stretches_of(graph, "block")
    assert [(stretch.name, stretch.sources) for stretch in blocks][:2] == [("a", ("x",)), ("d .. b", ("a.out",))]
    assert all(stretch.cut for stretch in blocks)
    assert [name for stretch in blocks for name in stretch.layers] == ["a", "d", "b", "fc"]
    # Run one after the other they are the whole network.
    pixels = torch.from_numpy(images(4)()[0])
    values = {graph.source: pixels}
    graph.run(graph.nodes, values)
    for stretch in (*layers, *blocks):
        own = {name: values[name] for name in stretch.sources}
        graph.run(stretch.nodes, own)
        torch.testing.assert_close(own[stretch.result], values[stretch.result])
