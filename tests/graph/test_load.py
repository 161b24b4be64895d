"""ONNX models become typed graphs, or one sentence. Tests are named after the rules of graph/load.py."""

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graph_tools import assert_same, graph_of, model_of, node, numbers
from secateur.errors import ModelError
from secateur.graph.ir import TensorType
from secateur.graph.load import load_graph
from secateur.graph.passes import simplify
from secateur.graph.passes.fold_constants import fold_constants


def refuses(model: onnx.ModelProto, words: str, **options) -> None:
    with pytest.raises(ModelError, match=words) as error:
        load_graph(model, **options)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and not re.search("Traceback|0x", text)


def conv_model(side: int | str = 8, batch: int | str = "n", opset: int = 17) -> onnx.ModelProto:
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "y")]
    return model_of(nodes, {"x": (batch, 3, side, side)}, {"w": numbers(4, 3, 3, 3)}, opset=opset)


@pytest.mark.parametrize("opset", range(11, onnx.defs.onnx_opset_version() + 1))
def test_rule_1_every_opset_from_11(opset: int):
    graph = load_graph(conv_model(opset=opset))
    assert graph.opset == opset
    assert [each.op for each in graph.nodes] == ["Conv", "Relu"]
    assert graph.type("y") == TensorType((1, 4, 6, 6), "float32")


def test_rule_1_older_opsets_are_converted():
    nodes = [node("Conv", "x w", "h"), node("Clip", "h", "y", min=0.0, max=6.0)]
    model = model_of(nodes, {"x": (1, 3, 8, 8)}, {"w": numbers(4, 3, 3, 3)}, opset=8)
    graph = load_graph(model)
    assert graph.opset == 11
    assert_same(model, graph)


def test_rule_1_what_cannot_be_converted_is_a_sentence():
    unknown = model_of([node("Nothing", "x", "y")], {"x": (2, 2)}, opset=7)
    refuses(unknown, "operator Nothing, which opset 7 does not have, cannot be converted to opset 11")


def test_rule_1_newer_opsets_are_a_sentence():
    model = conv_model()
    model.opset_import[0].version = 1000
    refuses(model, "opset 1000.*Update onnx")
    model.opset_import[0].version = 0
    refuses(model, "opset 0")


def test_rule_1_files_are_named_in_errors(tmp_path: Path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(conv_model().SerializeToString()[:-50])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        load_graph(path)


def test_rule_2_local_functions_are_unfolded():
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="own")], {"x": (2, 3)})
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    graph = load_graph(model)
    assert [each.op for each in graph.nodes] == ["Add"]
    assert_same(model, graph)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int64", "bool"])
def test_rule_3_constants_keep_their_type(dtype: str):
    array = np.array([[0, 1], [1, 0]], dtype)
    graph = graph_of(
        [node("Cast", "c", "d", to=TensorProto.FLOAT), node("Add", "x d", "y")], {"x": (2, 2)}, {"c": array}
    )
    assert graph.type("c") == TensorType((2, 2), dtype)
    np.testing.assert_array_equal(graph.constants["c"], array)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.INT4, ml_dtypes.int4),
    ],
)
def test_rule_3_types_that_numpy_lacks(element: int, dtype: type):
    tensor = helper.make_tensor("c", element, (3,), np.array([1, -2, 3], dtype))
    model = model_of([node("Cast", "c", "d", to=TensorProto.FLOAT), node("Add", "x d", "y")], {"x": (3,)}, opset=21)
    model.graph.initializer.append(tensor)
    graph = load_graph(model)
    assert graph.constants["c"].astype(np.float32).tolist() == [1, -2, 3]
    assert graph.type("c").numpy == np.dtype(dtype)
    assert graph.type("y").dtype == "float32"


def test_rule_3_constant_operators_become_constants():
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(numbers(2))),
        node("Add", "a b", "c"),
        node("Add", "x c", "y"),
    ]
    graph = graph_of(nodes, {"x": (2,)})
    assert [each.op for each in graph.nodes] == ["Add"]
    assert graph.constants["a"].dtype == np.float32


def test_rule_3_a_sparse_initializer_becomes_dense():
    model = model_of([node("Add", "x s", "y")], {"x": (2, 3)})
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "s")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 5])), [2, 3])
    )
    assert load_graph(model).constants["s"].tolist() == [[0, 5, 0], [0, 0, 7]]
    model.graph.sparse_initializer[0].indices.CopyFrom(numpy_helper.from_array(np.array([1, 6])))
    refuses(model, "outside its shape")
    model.graph.sparse_initializer[0].dims[:] = [1 << 40, 1 << 40]
    refuses(model, "not allowed")


def test_rule_3_an_output_that_is_a_constant_is_written_by_a_node():
    model = model_of([node("Add", "x c", "y")], {"x": (2,)}, {"c": numbers(2)}, outputs="y c")
    graph = load_graph(model)
    assert graph.producer()["c"].op == "Identity"
    assert_same(graph, simplify(graph))


def test_rule_4_values_are_written_once():
    twice = [node("Relu", "x", "h"), node("Neg", "x", "h"), node("Relu", "h", "y")]
    refuses(model_of(twice, {"x": (2,)}), "writes 'h', which exists already")
    refuses(model_of([node("Relu", "x", "y")], {"x": (2,)}, {"y": numbers(2)}), "exists already")


def test_rule_4_names_are_unique():
    nodes = [node("Relu", "x", "a", name="same"), node("Neg", "a", "b", name="same"), node("Abs", "b", "y")]
    names = [each.name for each in graph_of(nodes, {"x": (2,)}).nodes]
    assert len(set(names)) == 3 and all(names)


def test_rule_5_batch_and_shapes():
    assert load_graph(conv_model(), batch=4).shape("y") == (4, 4, 6, 6)
    assert load_graph(conv_model(batch=2), batch=4).shape("y") == (2, 4, 6, 6)
    assert load_graph(conv_model("side"), input_shapes={"x": (2, 3, 9, 9)}).shape("y") == (2, 4, 7, 7)
    refuses(conv_model("side"), "input 'x' leaves its side 2 \\('side'\\), 3 \\('side'\\) open")
    refuses(conv_model(), "leaves its side 0 \\('n'\\) open", batch=None)
    refuses(conv_model("side"), "side 3 of input 'x' is 9", input_shapes={"x": (1, 3, 9, 8)})
    refuses(conv_model(), "side 2 of input 'x' is 8", input_shapes={"x": (1, 3, 9, 9)})
    refuses(conv_model(), "has 4 sides", input_shapes={"x": (1, 3)})
    refuses(conv_model(), "no input 'z'", input_shapes={"z": (1, 3)})
    refuses(conv_model(), "at least 1", batch=0)


def test_rule_5_one_symbol_has_one_size():
    graph = graph_of([node("Add", "a b", "y")], {"a": ("n", 3), "b": ("n", 3)})
    assert graph.shape("y") == (1, 3)
    model = model_of([node("MatMul", "a b", "y")], {"a": ("n", "k"), "b": ("k", "m")})
    refuses(model, "input 'a' leaves its side 1 \\('k'\\) open")
    assert load_graph(model, input_shapes={"b": (5, 2)}).shape("y") == (1, 2)


def test_rule_5_shapes_that_depend_on_shapes_are_known():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n zeros", "n1"),
        node("Concat", "n1 rest", "shape", axis=0),
        node("Reshape", "x shape", "y"),
    ]
    constants = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1])}
    graph = graph_of(nodes, {"x": ("n", 3, 4)}, constants)
    assert graph.shape("y") == (1, 12)
    assert [each.op for each in graph.nodes] == ["Reshape"]


def test_rule_5_values_that_depend_on_data_have_no_type():
    graph = graph_of([node("NonZero", "x", "i"), node("Relu", "x", "y")], {"x": (2, 3)}, outputs="y i")
    assert "i" not in graph.types and graph.loose["i"].tensor_type.elem_type == TensorProto.INT64
    assert "i" in graph.outputs


def test_rule_5_recorded_shapes_are_not_believed():
    model = conv_model()
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, 99, 1, 1)))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (7,)))
    assert load_graph(model).shape("h") == (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Conv", "x w", "y")], {"w": numbers(4, 5, 3, 3)}),
        ([node("Conv", "x w", "y", strides=[0, 0])], {"w": numbers(4, 3, 3, 3)}),
        ([node("Add", "x w", "y")], {"w": numbers(5)}),
        ([node("MatMul", "x w", "y")], {"w": numbers(5, 5)}),
        ([node("Reshape", "x w", "y")], {"w": np.array([7, 7])}),
        ([node("Concat", "x w", "y", axis=0)], {"w": numbers(2, 2)}),
        ([node("MaxPool", "x", "y", kernel_shape=[2])], {}),
        ([node("Transpose", "x", "y", perm=[0, 0, 1, 2])], {}),
    ],
)
def test_rule_5_operators_that_do_not_fit_are_sentences(nodes, constants):
    refuses(model_of(nodes, {"x": (1, 3, 8, 8)}, constants), "fit|negative|carried out|cannot make")


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "huge", "h"), node("ReduceSum", "h", "s", keepdims=0), node("Add", "x s", "y")],
        [node("Expand", "one huge", "h"), node("ReduceSum", "h", "s", keepdims=0), node("Add", "x s", "y")],
        [node("Expand", "x huge", "y")],
        [node("Tile", "x many", "y")],
    ],
)
def test_huge_values_are_refused_before_they_exist(nodes):
    constants = {"huge": np.array([1 << 20, 1 << 20]), "one": numbers(1), "many": np.array([1 << 40])}
    refuses(model_of(nodes, {"x": (1,)}, constants), "elements, more than")


def test_large_results_are_not_folded():
    nodes = [node("Expand", "one large", "h"), node("ReduceMean", "h", "s", keepdims=0), node("Add", "x s", "y")]
    graph = graph_of(nodes, {"x": (1,)}, {"large": np.array([1 << 15, 1 << 12]), "one": numbers(1)})
    assert [each.op for each in fold_constants(graph).nodes] == ["Expand", "ReduceMean", "Add"]


def test_cycles_are_a_sentence():
    cycle = [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "x b", "y")]
    refuses(model_of(cycle, {"x": (2,)}), "nothing before it produces")


def test_empty_tensors_are_legal():
    graph = graph_of([node("Relu", "x", "h"), node("Concat", "h w", "y", axis=0)], {"x": (0, 3)}, {"w": numbers(2, 3)})
    assert graph.shape("y") == (2, 3)
    assert_same(graph, simplify(graph))


def test_text_has_no_type():
    model = model_of([node("StringNormalizer", "s", "t")], {}, outputs="t")
    model.graph.input.append(helper.make_tensor_value_info("s", TensorProto.STRING, (2,)))
    graph = load_graph(model)
    assert not graph.types and set(graph.loose) == {"s", "t"}


def test_control_flow_keeps_what_it_captures():
    body = helper.make_graph(
        [node("Add", "h c", "inner")], "then", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, (2,))]
    )
    other = helper.make_graph(
        [node("Neg", "h", "outer")], "else", [], [helper.make_tensor_value_info("outer", TensorProto.FLOAT, (2,))]
    )
    nodes = [
        node("Relu", "x", "h"),
        node("ReduceSum", "h", "s", keepdims=0),
        node("Cast", "s", "b", to=TensorProto.BOOL),
        helper.make_node("If", ["b"], ["y"], then_branch=body, else_branch=other),
    ]
    graph = graph_of(nodes, {"x": (2,)}, {"c": numbers(2)})
    assert set(graph.nodes[-1].captured()) == {"h", "c"}
    assert_same(graph, simplify(graph))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_bytes_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    content = bytearray(conv_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        simplify(load_graph(path))
    except ModelError as error:
        assert "\n" not in str(error)


def _large(element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network with a constant of more than 16 KiB."""
    values = np.random.default_rng(0).integers(0, 2, (100, 400))
    model = model_of([node("Cast", "c", "d", to=TensorProto.FLOAT), node("Add", "x d", "y")], {"x": (400,)}, opset=21)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "unused"))
    tensor = helper.make_tensor("c", element, values.shape, values, raw=False)
    array = numpy_helper.to_array(tensor)
    if element != TensorProto.INT4:
        tensor = numpy_helper.from_array(array, "c")
    else:
        tensor.raw_data = bytes(tensor.int32_data)
        tensor.ClearField("int32_data")
    model.graph.initializer.append(tensor)
    return model


@pytest.mark.parametrize("name", ["FLOAT", "FLOAT16", "BOOL", "INT64", "DOUBLE", "BFLOAT16", "FLOAT8E4M3FN", "INT4"])
@pytest.mark.parametrize("external", [False, True])
def test_rule_3_large_constants_come_from_the_file_itself(tmp_path: Path, name: str, external: bool):
    model = _large(TensorProto.DataType.Value(name))
    wanted = numpy_helper.to_array(model.graph.initializer[1])
    path = tmp_path / "net.onnx"
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    onnx.save(copied, path, save_as_external_data=external, location="data.bin", size_threshold=0)
    for source in (path, model):
        got = load_graph(source).constants["c"]
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_rule_3_a_large_constant_that_lies_about_its_shape(tmp_path: Path):
    model = _large()
    model.graph.initializer[1].dims[0] = 99
    onnx.save(model, tmp_path / "net.onnx")
    for source in (model, tmp_path / "net.onnx"):
        refuses(source, r"'c' of shape \[99, 400\] needs 158,400 bytes and has 160,000")


def test_rules_1_and_2_with_large_constants(tmp_path: Path):
    old = model_of([node("Add", "x w", "y")], {"x": (100, 100)}, {"w": numbers(100, 100)}, opset=8)
    onnx.save(old, tmp_path / "old.onnx")
    assert_same(old, load_graph(tmp_path / "old.onnx"))
    nodes = [helper.make_node("Twice", ["x"], ["h"], domain="own"), node("Add", "h w", "y")]
    model = model_of(nodes, {"x": (100, 100)}, {"w": numbers(100, 100)})
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    onnx.save(model, tmp_path / "functions.onnx")
    assert_same(model, load_graph(tmp_path / "functions.onnx"))
