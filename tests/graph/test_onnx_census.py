"""Counting ONNX files: every way a weight can be stored, positions by closed form, batches, attention."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from secateur.errors import ModelError
from secateur.graph import census_of_onnx

RANDOM = np.random.default_rng(0)


def weight(*shape: int, zeros: int = 0) -> np.ndarray:
    values = RANDOM.random(shape, np.float32) + 1
    values.reshape(-1)[:zeros] = 0
    return values


def model(nodes, tensors, inputs=("x", (1, 3, 8, 8)), output="y", opset=18) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, list(inputs[1]))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def conv(*inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    return helper.make_node("Conv", list(inputs), [output], name=output, **attributes)


def test_a_convolution_and_its_bias():
    found = census_of_onnx(
        model([conv("x", "c.weight", "c.bias", pads=[1] * 4, strides=[2, 2])],
              {"c.weight": weight(4, 3, 3, 3, zeros=10), "c.bias": weight(4, zeros=1)})
    )  # fmt: skip
    (layer,) = found.layers
    assert (layer.name, layer.kind, layer.shape) == ("c", "conv", (4, 3, 3, 3))
    assert (layer.positions, layer.weights, layer.nonzeros) == (16, 108, 98)
    assert (layer.input_shape, layer.output_shape) == ((3, 8, 8), (4, 4, 4))
    assert layer.attributes == "k=3×3 s=2×2 p=1×1"
    assert (found.parameters, found.other_zeros, found.input_shape) == (112, 1, (3, 8, 8))


@pytest.mark.parametrize("batch", [1, 4, "batch", None])
def test_positions_are_those_of_one_image(batch):
    found = census_of_onnx(model([conv("x", "w")], {"w": weight(4, 3, 3, 3)}, ("x", (batch, 3, 8, 8))))
    assert found.layers[0].positions == 36 and found.input_shape == (3, 8, 8)


def test_depthwise_grouped_and_transposed():
    found = census_of_onnx(
        model(
            [
                conv("x", "d", output="a", group=4, pads=[1] * 4),
                conv("a", "g", output="b", group=2, pads=[1] * 4),
                helper.make_node("ConvTranspose", ["b", "t"], ["y"], strides=[2, 2]),
            ],
            {"d": weight(4, 1, 3, 3), "g": weight(6, 2, 3, 3), "t": weight(6, 5, 2, 2)},
            ("x", (1, 4, 8, 8)),
        )
    )
    assert [layer.kind for layer in found.layers] == ["depthwise", "conv", "conv_transpose"]
    assert [layer.macs for layer in found.layers] == [36 * 64, 108 * 64, 120 * 64]
    assert [layer.channels for layer in found.layers] == [4, 6, 5]


@pytest.mark.parametrize("swap", [0, 1])
def test_gemm_and_matmul_give_outputs_by_inputs(swap: int):
    stored = weight(5, 6, zeros=6)  # the first output is dead
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], transB=swap)
    found = census_of_onnx(model([gemm], {"w": stored if swap else stored.T.copy()}, ("x", ("n", 6))))
    (layer,) = found.layers
    assert (layer.kind, layer.shape, layer.positions, layer.nonzeros) == ("linear", (5, 6), 1, 24)
    assert (layer.channels, layer.zero_channels) == (5, 1)


def test_a_linear_layer_on_tokens_counts_every_token():
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    found = census_of_onnx(model([product], {"w": weight(6, 5)}, ("x", (2, 7, 6))))
    assert (found.layers[0].shape, found.layers[0].positions) == ((5, 6), 7)


def test_a_weight_on_the_left():
    product = helper.make_node("MatMul", ["w", "x"], ["y"])
    found = census_of_onnx(model([product], {"w": weight(5, 6)}, ("x", (1, 6, 7))))
    assert (found.layers[0].shape, found.layers[0].positions) == ((5, 6), 7)


def test_weights_behind_identity_transpose_and_constant_nodes():
    stored = numpy_helper.from_array(weight(5, 6, zeros=3))
    found = census_of_onnx(
        model(
            [
                helper.make_node("Constant", [], ["c"], value=stored),
                helper.make_node("Identity", ["c"], ["i"]),
                helper.make_node("Transpose", ["i"], ["t"], perm=[1, 0]),
                helper.make_node("MatMul", ["x", "t"], ["y"], name="/head/fc/MatMul"),
            ],
            {},
            ("x", (1, 6)),
        )
    )
    (layer,) = found.layers
    assert (layer.name, layer.shape, layer.nonzeros) == ("head.fc", (5, 6), 27)


@pytest.mark.parametrize("axis", [0, 1])
def test_quantized_weights_are_zero_where_they_equal_their_zero_point(axis: int):
    quantized = RANDOM.integers(10, 100, (4, 3, 1, 1)).astype(np.int8)
    points = np.arange(1, 1 + quantized.shape[axis]).astype(np.int8)
    spread = points.reshape([-1 if i == axis else 1 for i in range(4)])
    quantized = np.where(np.arange(12).reshape(4, 3, 1, 1) % 3 == 0, spread, quantized).astype(np.int8)
    found = census_of_onnx(
        model(
            [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis), conv("x", "w")],
            {"q": quantized, "s": np.ones(len(points), np.float32), "z": points},
        )
    )
    assert (found.layers[0].weights, found.layers[0].nonzeros) == (12, 8)


def test_weights_that_quantization_rounds_to_zero_are_zero():
    stored = np.array([0.1, 0.6, 1.0, -0.2], np.float32).reshape(4, 1)
    scale = np.array(1.0, np.float32)
    point = np.array(0, np.int8)
    found = census_of_onnx(
        model(
            [
                helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                helper.make_node("MatMul", ["x", "d"], ["y"]),
            ],
            {"w": stored, "s": scale, "z": point},
            ("x", (1, 4)),
        )
    )
    assert found.layers[0].nonzeros == 2


def test_a_shared_weight_counts_once_and_works_for_both():
    found = census_of_onnx(
        model(
            [
                helper.make_node("MatMul", ["x", "w"], ["a"]),
                helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
                helper.make_node("MatMul", ["a", "t"], ["y"]),
            ],
            {"w": weight(6, 5)},
            ("x", (1, 7, 6)),
        )
    )
    (layer,) = found.layers
    assert (found.weights, found.macs, layer.positions) == (30, 2 * 7 * 30, 14)
    assert "applied 2 times" in layer.note


def test_products_of_activations_are_dynamic():
    found = census_of_onnx(
        model(
            [
                helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
                helper.make_node("MatMul", ["x", "t"], ["a"]),
                helper.make_node("MatMul", ["a", "x"], ["y"]),
            ],
            {},
            ("x", ("n", 5, 8)),
        )
    )
    assert found.layers == () and found.dynamic_macs == 2 * 5 * 5 * 8


def test_open_sides_need_an_input_shape():
    open_sides = model([conv("x", "w")], {"w": weight(4, 3, 3, 3)}, ("x", ("n", 3, "h", "w_")))
    with pytest.raises(ModelError, match=r"leaves its side 'h' open; give input_shape"):
        census_of_onnx(open_sides)
    assert census_of_onnx(open_sides, input_shape=(3, 10, 6)).layers[0].positions == 32
    with pytest.raises(ModelError, match="fixed side of 3"):
        census_of_onnx(open_sides, input_shape=(1, 10, 6))
    with pytest.raises(ModelError, match="3 sides besides the batch"):
        census_of_onnx(open_sides, input_shape=(10, 6))


def test_recorded_shapes_of_another_batch_do_not_mislead():
    made = model([conv("x", "v", output="a"), conv("a", "w")], {"v": weight(4, 3, 3, 3), "w": weight(4, 4, 3, 3)},
                 ("x", ("n", 3, 8, 8)))  # fmt: skip
    made.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 4, "p", "q"]))
    assert [layer.positions for layer in census_of_onnx(made).layers] == [36, 16]


def test_what_is_not_counted_is_named():
    made = model([helper.make_node("Einsum", ["x", "x"], ["y"], equation="nchw,nchw->n")], {})
    assert census_of_onnx(made).notes == ("not counted: 1 operator Einsum",)


def test_large_constants_do_not_reach_shape_inference():
    found = census_of_onnx(model([conv("x", "w", pads=[1] * 4)], {"w": weight(200, 3, 3, 3)}))
    assert found.layers[0].weights == 5400


def test_functions_are_unfolded():
    body = helper.make_function(
        "own",
        "Half",
        ["a", "b"],
        ["c"],
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        [helper.make_opsetid("", 18)],
    )
    made = model([helper.make_node("Half", ["x", "w"], ["y"], domain="own")], {"w": weight(6, 5)}, ("x", (1, 6)))
    made.functions.append(body)
    made.opset_import.append(helper.make_opsetid("own", 1))
    assert census_of_onnx(made).weights == 30


def test_a_file_and_a_model_in_memory_count_alike(tmp_path: Path):
    made = model([conv("x", "w")], {"w": weight(4, 3, 3, 3)})
    onnx.save(made, tmp_path / "m.onnx")
    assert census_of_onnx(tmp_path / "m.onnx") == census_of_onnx(made)


@pytest.mark.parametrize(
    ("nodes", "tensors", "words"),
    [
        ([helper.make_node("Conv", ["x"], ["y"])], {}, "lacks operands"),
        ([conv("x", "w")], {"w": weight(4, 3)}, "weight of shape 4×3"),
        ([helper.make_node("Transpose", ["w"], ["t"], perm=[0, 5]), helper.make_node("MatMul", ["x", "t"], ["y"])],
         {"w": weight(8, 5)}, r"\.$"),
        ([helper.make_node("Mystery", ["x"], ["a"], domain="own"), conv("a", "w")], {"w": weight(4, 3, 3, 3)},
         "shape of 'a' is not known"),
    ],
)  # fmt: skip
def test_contradictions_are_sentences(nodes, tensors, words):
    made = model(nodes, tensors)
    made.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(ModelError, match=words):
        census_of_onnx(made)
