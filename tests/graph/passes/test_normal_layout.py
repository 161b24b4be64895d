"""Tests are named after the rules of passes/normal_layout.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_tools import assert_same, graph_of, node, numbers, only, ops
from secateur.graph.passes.normal_layout import normal_layout

X = {"x": (2, 3, 4, 5)}


def check(nodes, op: str, constants=None, opset: int = 17, x=X, outputs: str = "y"):
    graph = graph_of(nodes, x, {name: np.asarray(value) for name, value in (constants or {}).items()}, outputs, opset)
    after = normal_layout(graph)
    assert_same(graph, after)
    return only(after, op).attributes


def test_rule_1_reshapes():
    assert check([node("Reshape", "x s", "y")], "Reshape", {"s": [0, -1]})["shape"] == (2, 60)
    assert check([node("Flatten", "x", "y", axis=2)], "Reshape")["shape"] == (6, 20)
    assert check([node("Flatten", "x", "y", axis=0)], "Reshape")["shape"] == (1, 120)
    assert check([node("Unsqueeze", "x a", "y")], "Reshape", {"a": [0, -1]})["shape"] == (1, 2, 3, 4, 5, 1)
    assert check([node("Unsqueeze", "x", "y", axes=[1])], "Reshape", opset=11)["shape"] == (2, 1, 3, 4, 5)
    assert check([node("Squeeze", "x", "y")], "Reshape", x={"x": (1, 3, 1)})["shape"] == (3,)
    assert check([node("Squeeze", "x", "y", axes=[2])], "Reshape", x={"x": (1, 3, 1)}, opset=12)["shape"] == (1, 3)


def test_rule_2_transpose_concat_split():
    assert check([node("Transpose", "x", "y")], "Transpose")["perm"] == (3, 2, 1, 0)
    assert check([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], "Transpose")["perm"] == (0, 2, 3, 1)
    constants = {"c": numbers(2, 3, 4, 2)}
    assert check([node("Concat", "x c x", "y", axis=-1)], "Concat", constants) == {"axis": 3}
    split = [node("Split", "x s", "a b", axis=-2), node("Concat", "b a", "y", axis=2)]
    assert check(split, "Split", {"s": [1, 3]}) == {"axis": 2, "sizes": (1, 3)}
    split = [node("Split", "x", "a b", axis=2), node("Concat", "b a", "y", axis=2)]
    assert check(split, "Split", opset=12) == {"axis": 2, "sizes": (2, 2)}
    split = [node("Split", "x", "a b", axis=3, num_outputs=2), node("Concat", "b a", "y", axis=3)]
    assert check(split, "Split", opset=18) == {"axis": 3, "sizes": (3, 2)}


def test_rule_2_empty_parts_are_left_out():
    graph = graph_of([node("Concat", "x e", "y", axis=0)], {"x": (2, 3)}, {"e": np.zeros((0, 3), np.float32)})
    after = normal_layout(graph)
    assert only(after, "Concat").inputs == ("x",)
    assert_same(graph, after)


def test_rule_3_slices():
    parts = {"s": [1, -1], "e": [1 << 40, -(1 << 40)], "a": [1, -1], "t": [1, -2]}
    found = check([node("Slice", "x s e a t", "y")], "Slice", parts)
    assert found == {"starts": (1, 4), "ends": (3, -6), "axes": (1, 3), "steps": (1, -2)}
    found = check([node("Slice", "x s e", "y")], "Slice", {"s": [0, 1], "e": [1, 3]}, opset=11)
    assert found == {"starts": (0, 1), "ends": (1, 3), "axes": (0, 1), "steps": (1, 1)}


bounds = st.integers(-8, 8)


@settings(max_examples=60, deadline=None)
@given(bounds, bounds, st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_rule_3_any_slice(start: int, end: int, step: int):
    constants = {"s": np.array([start]), "e": np.array([end]), "a": np.array([1]), "t": np.array([step])}
    graph = graph_of([node("Slice", "x s e a t", "y")], {"x": (2, 6)}, constants)
    after = normal_layout(graph)
    (found,) = assert_same(graph, after)
    assert ops(after) == (["Slice"] if found.size else ["*Slice"])
    if found.size:
        attributes = only(after, "Slice").attributes
        assert 0 <= attributes["starts"][0] < 6 and (attributes["ends"][0] >= 0 or attributes["ends"] == (-7,))


@pytest.mark.parametrize(("mode", "value"), [("constant", 0.0), ("constant", 2.5), ("reflect", 0), ("edge", 0)])
def test_rule_4_pads(mode: str, value: float):
    constants = {"p": [0, 0, 1, 2, 0, 0, 3, 0], "v": np.float32(value)}
    operands = "x p v" if mode == "constant" else "x p"
    found = check([node("Pad", operands, "y", mode=mode)], "Pad", constants)
    assert found == {"pads": (0, 0, 1, 2, 0, 0, 3, 0), "mode": mode, "value": value}
    if mode == "constant":
        found = check([node("Pad", "x p v a", "y")], "Pad", {"p": [1, 2], "v": np.float32(1), "a": [-1]}, opset=18)
        assert found["pads"] == (0, 0, 0, 1, 0, 0, 0, 2)


def test_rule_4_negative_pads_stay():
    graph = graph_of([node("Pad", "x p", "y")], X, {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])})
    assert normal_layout(graph) is graph


def test_rule_5_depth_and_space():
    x = {"x": (2, 8, 4, 6)}
    assert check([node("DepthToSpace", "x", "y", blocksize=2)], "DepthToSpace", x=x)["mode"] == "DCR"
    assert check([node("DepthToSpace", "x", "y", blocksize=2, mode="CRD")], "DepthToSpace", x=x)["mode"] == "CRD"
    assert check([node("SpaceToDepth", "x", "y", blocksize=2)], "SpaceToDepth", x=x) == {"blocksize": 2}


def test_rule_6_variable_operands_stay():
    nodes = [node("Cast", "s", "i", to=7), node("Slice", "x i e", "y")]
    graph = graph_of(nodes, {**X, "s": (1,)}, {"e": np.array([1])})
    assert ops(normal_layout(graph)) == ["*Cast", "*Slice"]
