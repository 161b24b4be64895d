"""Tests are named after the rules of passes/drop_identity.py."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from graph_tools import assert_same, graph_of, node, normal, ops
from secateur.graph.passes.drop_identity import drop_identity
from secateur.graph.passes.fuse_activation import fuse_activation

X = {"x": (2, 3, 4, 5)}
INTEGERS = {"p": np.zeros(8, np.int64), "s": np.array([0, -1, 4, 5]), "z": np.array([0]), "n": np.array([1 << 40])}


def dropped(nodes, constants=None, outputs: str = "y", opset: int = 17, x=X):
    graph = normal(graph_of(nodes, x, {**INTEGERS, **(constants or {})}, outputs, opset))
    after = drop_identity(graph)
    assert_same(graph, after)
    return ops(after)


@pytest.mark.parametrize(
    "same",
    [
        node("Identity", "a", "b"),
        node("Dropout", "a", "b"),
        node("Dropout", "a - f", "b"),
        node("Cast", "a", "b", to=1),
        node("Expand", "a one", "b"),
        node("Reshape", "a s", "b"),
        node("Slice", "a z n", "b"),
        node("Pad", "a p", "b"),
        node("Concat", "a", "b", axis=1),
        node("Split", "a", "b", axis=1),
        node("Resize", "a - ones", "b"),
        node("MaxPool", "a", "b", kernel_shape=[1, 1]),
        node("Transpose", "a", "b", perm=[0, 1, 2, 3]),
        node("Add", "a zero", "b"),
        node("Add", "zero a", "b"),
        node("Sub", "a zero", "b"),
        node("Mul", "a unit", "b"),
        node("Div", "a unit", "b"),
        node("Pow", "a unit", "b"),
        node("Clip", "a", "b"),
    ],
    ids=lambda each: each.op_type,
)
def test_rules_1_to_4_what_computes_nothing(same):
    constants = {
        "f": np.array(False), "one": np.array([1]), "ones": np.ones(4, np.float32),
        "zero": np.zeros((3, 1, 1), np.float32),
        "unit": np.ones(1, np.float32),
    }  # fmt: skip
    assert dropped([node("Relu", "x", "a"), same, node("Neg", "b", "y")], constants) == ["Activate", "Activate"]


@pytest.mark.parametrize(
    "other",
    [
        node("Cast", "a", "b", to=TensorProto.FLOAT16),
        node("Slice", "a last before one back", "b"),
        node("Transpose", "a", "b", perm=[1, 0, 2, 3]),
        node("Sub", "zero a", "b"),
        node("Div", "unit a", "b"),
        node("Mul", "a zero", "b"),
        node("MaxPool", "a", "b", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ],
    ids=lambda each: each.op_type,
)
def test_what_computes_something_stays(other):
    constants = {"zero": np.float32(0), "unit": np.float32(1), "last": np.array([-1]), "before": np.array([-9]),
                 "one": np.array([1]), "back": np.array([-1])}  # fmt: skip
    found = dropped([node("Sigmoid", "x", "a"), other], constants, "b", x={"x": (3, 3, 4, 5)})
    assert len(found) == 2


def test_rule_1_a_mask_that_is_read_stays():
    nodes = [node("Dropout", "x", "y m")]
    graph = graph_of(nodes, X, outputs="y m")
    assert drop_identity(graph) is graph


def test_rule_4_an_activation_behind_is_kept():
    graph = normal(graph_of([node("Add", "x z", "a"), node("Relu", "a", "y")], X, {"z": np.zeros(5, np.float32)}))
    after = drop_identity(fuse_activation(graph))
    assert ops(after) == ["Activate"]
    assert_same(graph, after)


def test_rule_4_shapes_that_grow_stay():
    assert dropped([node("Add", "x z2", "y")], {"z2": np.zeros((2, 1, 1, 1, 1), np.float32)}) == ["Add"]


def test_rule_5_outputs_keep_their_names():
    graph = graph_of([node("Relu", "x", "a"), node("Identity", "a", "y"), node("Neg", "a", "z")], X, {}, "y z")
    after = drop_identity(graph)
    assert [each.outputs for each in after.nodes] == [("y",), ("z",)] and after.nodes[1].inputs == ("y",)
    assert_same(graph, after)


def test_rule_5_inputs_and_second_outputs_keep_their_node():
    for nodes, outputs in (
        ([node("Identity", "x", "y")], "y"),
        ([node("Relu", "x", "a"), node("Identity", "a", "y"), node("Identity", "a", "z")], "y z"),
        ([node("Relu", "x", "a"), node("Identity", "a", "y")], "y a"),
        (
            [node("Relu", "x", "a"), node("Identity", "a", "b"), node("Identity", "b", "y"), node("Neg", "b", "z")],
            "y z",
        ),
    ):
        graph = graph_of(nodes, X, {}, outputs)
        assert_same(graph, drop_identity(graph))
    assert ops(drop_identity(graph_of([node("Identity", "x", "y")], X))) == ["*Identity"]


def test_rule_6_captured_values_keep_their_names():
    bodies = [
        helper.make_graph([node(op, "a", f"{op}o")], op, [], [helper.make_tensor_value_info(f"{op}o", 1, (2,))])
        for op in ("Neg", "Exp")
    ]
    nodes = [
        node("Identity", "x", "a"),
        node("Cast", "s", "c", to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    graph = graph_of(nodes, {"x": (2,), "s": (1,)})
    after = drop_identity(graph)
    assert ops(after)[0] == "*Identity"
    assert_same(graph, after)
