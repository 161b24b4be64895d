"""Tests are named after the rules of passes/normal_linear.py."""

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, numbers, only, ops
from secateur.graph.passes.normal_linear import normal_linear

X = {"x": (3, 5)}


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(4,), (1, 4), (1,), (), (1, 1)])
def test_rule_2_alpha_and_beta_are_folded(transposed: int, bias):
    gemm = node("Gemm", "x w b", "y", alpha=0.5, beta=-2.0, transB=transposed)
    weight = numbers(4, 5) if transposed else numbers(5, 4)
    graph = graph_of([gemm], X, {"w": weight, "b": numbers(*bias)})
    after = normal_linear(graph)
    found = only(after, "Linear")
    assert after.shape(found.inputs[1]) == (4, 5) and after.shape(found.inputs[2]) == (4,)
    assert_same(graph, after)


def test_rule_2_zeros_stay_zero():
    weight = numbers(4, 5)
    weight[1] = 0
    graph = graph_of([node("Gemm", "x w", "y", alpha=0.3, transB=1)], X, {"w": weight})
    after = normal_linear(graph)
    np.testing.assert_array_equal(after.constants[only(after, "Linear").inputs[1]] == 0, weight == 0)


def test_rule_2_infinite_weights_stay():
    graph = graph_of([node("Gemm", "x w", "y", alpha=3e38)], X, {"w": 100 * numbers(5, 4)})
    assert normal_linear(graph) is graph


def test_rule_3_the_third_operand_can_be_the_residual():
    graph = graph_of([node("Gemm", "x w r", "y")], {**X, "r": (3, 4)}, {"w": numbers(5, 4)})
    after = normal_linear(graph)
    assert only(after, "Linear").input(3) == "r"
    assert_same(graph, after)
    scaled = graph_of([node("Gemm", "x w r", "y", beta=2.0)], {**X, "r": (3, 4)}, {"w": numbers(5, 4)})
    assert normal_linear(scaled) is scaled


def test_rule_4_other_gemms_stay():
    across = graph_of([node("Gemm", "x w", "y", transA=1)], X, {"w": numbers(3, 4)})
    assert normal_linear(across) is across
    variable = graph_of([node("Gemm", "x w", "y")], {**X, "w": (5, 4)})
    assert normal_linear(variable) is variable


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("weight", [(5, 4), (1, 5, 4)])
def test_rule_5_matmul_with_a_constant_matrix(shape, weight):
    graph = graph_of([node("MatMul", "x w", "y")], {"x": shape}, {"w": numbers(*weight)})
    after = normal_linear(graph)
    assert ops(after) == (["Linear"] if len(shape) >= len(weight) else ["MatMul"])
    assert_same(graph, after)


def test_rule_5_other_matmuls():
    for left, right in (((2, 3, 5), (2, 5, 4)), ((3, 5), (2, 5, 4))):
        graph = graph_of([node("MatMul", "a b", "y")], {"a": left, "b": right})
        after = normal_linear(graph)
        assert ops(after) == ["MatMul"]
        assert_same(graph, after)
    first = graph_of([node("MatMul", "w x", "y")], X, {"w": numbers(4, 3)})
    assert ops(normal_linear(first)) == ["MatMul"]
    vector = graph_of([node("MatMul", "x w", "y")], X, {"w": numbers(5)})
    assert normal_linear(vector) is vector
