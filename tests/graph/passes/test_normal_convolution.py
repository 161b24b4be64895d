"""Tests are named after the rules of passes/normal_convolution.py."""

import itertools

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, numbers, only, ops
from secateur.graph.passes.normal_convolution import normal_convolution


def check(graph, op: str = "Conv"):
    after = normal_convolution(graph)
    assert_same(graph, after)
    return only(after, op)


def test_rule_1_weights_and_bias_are_constants():
    x = {"x": (1, 4, 8, 8)}
    constants = {"w": numbers(6, 4, 3, 3), "b": numbers(6)}
    found = check(graph_of([node("Conv", "x w b", "y")], x, constants))
    assert found.inputs == ("x", "w", "b")
    assert found.attributes == {
        "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1, "activation": None,
    }  # fmt: skip
    variable = graph_of([node("Conv", "x w", "y")], {**x, "w": (6, 4, 3, 3)})
    assert normal_convolution(variable) is variable
    bias = graph_of([node("Conv", "x w b", "y")], {**x, "b": (6,)}, {"w": constants["w"]})
    assert normal_convolution(bias) is bias


@pytest.mark.parametrize(
    ("auto", "side", "kernel", "stride"),
    list(itertools.product(["SAME_UPPER", "SAME_LOWER", "VALID"], [7, 8], [2, 3], [1, 2, 3])),
)
def test_rule_2_auto_pad_becomes_pads(auto: str, side: int, kernel: int, stride: int):
    shape = (kernel, kernel)
    conv = node("Conv", "x w", "y", auto_pad=auto, strides=[stride, stride], kernel_shape=shape)
    check(graph_of([conv], {"x": (2, 3, side, side + 1)}, {"w": numbers(4, 3, *shape)}))


@pytest.mark.parametrize(("dilation", "group"), [(1, 1), (2, 1), (1, 2), (3, 4)])
def test_rule_2_pads_are_kept(dilation: int, group: int):
    conv = node("Conv", "x w", "y", pads=[1, 2, 3, 0], dilations=[dilation, 1], group=group, strides=[2, 1])
    found = check(graph_of([conv], {"x": (1, 4, 9, 9)}, {"w": numbers(8, 4 // group, 3, 2)}))
    assert found.attributes["pads"] == (1, 2, 3, 0) and found.attributes["group"] == group


@pytest.mark.parametrize(
    "options", [{}, {"pads": [1, 0, 0, 1]}, {"group": 2, "output_padding": [1, 0]}, {"dilations": [2, 1]}]
)
def test_rule_2_transposed(options):
    conv = node("ConvTranspose", "x w b", "y", strides=[2, 2], **options)
    group = options.get("group", 1)
    weights = {"w": numbers(4, 6 // group, 3, 3), "b": numbers(6)}
    check(graph_of([conv], {"x": (2, 4, 5, 6)}, weights), "ConvTranspose")


@pytest.mark.parametrize(
    "options", [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"output_shape": [10, 12]}]
)
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_rule_2_output_shape_of_transposed(options, kernel: int):
    conv = node("ConvTranspose", "x w", "y", strides=[2, 2], kernel_shape=[kernel, kernel], **options)
    graph = graph_of([conv], {"x": (1, 2, 5, 6)}, {"w": numbers(2, 3, kernel, kernel)})
    assert_same(graph, normal_convolution(graph))


def test_rule_3_one_dimension_becomes_two():
    conv = node("Conv", "x w b", "y", pads=[2, 1], strides=[2], dilations=[2], group=2)
    graph = graph_of([conv], {"x": (2, 4, 11)}, {"w": numbers(6, 2, 3), "b": numbers(6)})
    after = normal_convolution(graph)
    assert ops(after) == ["Reshape", "Conv", "Reshape"]
    assert only(after, "Conv").attributes["pads"] == (0, 2, 0, 1)
    assert_same(graph, after)


def test_rule_4_three_dimensions_and_contradictions_stay():
    graph = graph_of([node("Conv", "x w", "y")], {"x": (1, 2, 4, 4, 4)}, {"w": numbers(3, 2, 2, 2, 2)})
    assert normal_convolution(graph) is graph
    wrong = graph_of([node("Conv", "x w b", "y")], {"x": (1, 2, 4, 4)}, {"w": numbers(3, 2, 2, 2), "b": numbers(5)})
    assert normal_convolution(wrong) is wrong
    double = {"w": numbers(3, 2, 2, 2).astype(np.float64)}
    other = graph_of([node("Cast", "x", "d", to=11), node("Conv", "d w", "y")], {"x": (1, 2, 4, 4)}, double)
    assert normal_convolution(other) is other
