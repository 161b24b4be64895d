"""Tests are named after the rules of passes/fold_constants.py."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from graph_tools import assert_same, graph_of, node, normal, numbers, ops
from secateur.graph.ir import Node
from secateur.graph.load import load_graph
from secateur.graph.passes.fold_constants import fold_constants
from secateur.graph.passes.remove_dead import remove_dead

BIG = numbers(64, 64)


def test_rule_1_chains_of_constants():
    nodes = [node("Transpose", "c", "t"), node("Exp", "t", "e"), node("MatMul", "t e", "m"), node("MatMul", "x m", "y")]
    graph = graph_of(nodes, {"x": (2, 64)}, {"c": BIG})
    after = fold_constants(graph)
    assert ops(after) == ["*MatMul"]
    assert_same(graph, after)
    np.testing.assert_allclose(after.constants["m"], BIG.T @ np.exp(BIG.T), rtol=1e-3, atol=1e-5)


def test_rule_1_nodes_of_the_normal_form():
    graph = graph_of([node("Relu", "c", "h"), node("Add", "x h", "y")], {"x": (64,)}, {"c": BIG})
    after = fold_constants(normal(graph))
    assert ops(after) == ["Add"]
    assert_same(graph, after)


def test_rule_1_dequantized_weights():
    weight = np.arange(-60, 60, dtype=np.int8).reshape(6, 20)
    constants = {"q": weight, "s": numbers(6, low=0.1), "z": np.zeros(6, np.int8), "p": BIG[:20, :4]}
    nodes = [node("DequantizeLinear", "q s z", "w", axis=0), node("MatMul", "x w", "h"), node("MatMul", "h p", "y")]
    graph = graph_of(nodes, {"x": (2, 6)}, constants)
    after = fold_constants(graph)
    assert ops(after) == ["*MatMul", "*MatMul"]
    np.testing.assert_array_equal(after.constants["w"] == 0, weight == 0)
    assert_same(graph, after)


def test_rule_1_random_nodes_stay():
    graph = graph_of([node("RandomNormalLike", "c", "r"), node("Add", "x r", "y")], {"x": (64,)}, {"c": BIG})
    assert fold_constants(graph) is graph


def test_rule_2_outputs_are_written_by_nodes():
    graph = graph_of([node("Exp", "c", "y"), node("Neg", "x", "z")], {"x": (2,)}, {"c": BIG}, "y z")
    assert fold_constants(graph) is graph


def test_rule_3_a_small_file_cannot_ask_for_much():
    constants = {"c": numbers(4096, 1), "s": np.array([4096, 8192])}
    nodes = [node("Expand", "c s", "e"), node("ReduceMean", "e", "m", keepdims=0), node("Add", "x m", "y")]
    graph = graph_of(nodes, {"x": (2,)}, constants)
    assert fold_constants(graph) is graph
    constants["s"] = np.array([4096, 64])
    after = fold_constants(graph_of(nodes, {"x": (2,)}, constants))
    assert ops(after) == ["*Add"]


def test_rule_3_many_results_together():
    nodes = [node("Expand", "c s", f"e{index}") for index in range(5)]
    nodes += [node("Sum", "x e0 e1 e2 e3 e4", "y")]
    constants = {"c": numbers(1024, 1), "s": np.array([1024, 5000])}
    after = fold_constants(graph_of(nodes, {"x": (1,)}, constants))
    assert ops(after).count("*Expand") == 2


def test_rule_4_what_the_runtime_refuses_stays():
    nodes = [node("Expand", "c s", "e"), node("Sum", "x e", "y")]
    graph = graph_of(nodes, {"x": (1,)}, {"c": BIG[:1], "s": np.array([300, 64])})
    broken = graph.with_nodes([*graph.nodes[:1], Node("odd", "Unknown", ("c",), ("u",)), *graph.nodes[1:]])
    broken = broken.with_nodes(broken.nodes, types={**graph.types, "u": graph.types["c"]})
    after = fold_constants(broken)
    assert ops(after) == ["*Unknown", "*Sum"]
    assert_same(graph, remove_dead(after))


def test_rule_2_bfloat16_weights_become_float32():
    tensor = helper.make_tensor("c", TensorProto.BFLOAT16, (3,), np.array([1, -2, 3], ml_dtypes.bfloat16))
    model = helper.make_model(
        helper.make_graph(
            [node("Cast", "c", "f", to=TensorProto.FLOAT), node("Add", "x f", "y")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3,))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3,))],
            [tensor],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    after = fold_constants(load_graph(model))
    assert ops(after) == ["*Add"] and after.constants["f"].tolist() == [1, -2, 3]
