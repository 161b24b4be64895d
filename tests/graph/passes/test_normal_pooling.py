"""Tests are named after the rules of passes/normal_pooling.py."""

import itertools

import pytest

from graph_tools import assert_same, graph_of, node, only
from secateur.graph.passes.normal_pooling import normal_pooling

X = {"x": (2, 3, 11, 8)}


@pytest.mark.parametrize(("op", "kind"), [("MaxPool", "max"), ("AveragePool", "average")])
def test_rule_1_pools(op: str, kind: str):
    graph = graph_of([node(op, "x", "y", kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 2, 1])], X)
    after = normal_pooling(graph)
    assert only(after, "Pool").attributes == {
        "kind": kind, "kernel": (3, 2), "strides": (2, 3), "pads": (1, 0, 2, 1), "dilations": (1, 1),
        "count_include_pad": False,
        "uncounted": (0, 0),
    }  # fmt: skip
    assert_same(graph, after)


@pytest.mark.parametrize(("op", "kind"), [("GlobalMaxPool", "max"), ("GlobalAveragePool", "average")])
def test_rule_1_global_pools(op: str, kind: str):
    graph = graph_of([node(op, "x", "y")], X)
    after = normal_pooling(graph)
    assert only(after, "GlobalPool").attributes == {"kind": kind}
    assert_same(graph, after)


def test_rule_1_indices_and_other_dimensions_stay():
    graph = graph_of([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], X, outputs="y i")
    assert normal_pooling(graph) is graph
    unread = graph_of([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], X)
    assert only(normal_pooling(unread), "Pool").outputs == ("y",)
    flat = graph_of([node("MaxPool", "x", "y", kernel_shape=[2])], {"x": (1, 2, 9)})
    assert normal_pooling(flat) is flat


def test_rule_1_dilations():
    graph = graph_of([node("MaxPool", "x", "y", kernel_shape=[3, 2], dilations=[2, 3], pads=[1, 1, 1, 1])], X)
    after = normal_pooling(graph)
    assert only(after, "Pool").attributes["dilations"] == (2, 3)
    assert_same(graph, after)


@pytest.mark.parametrize(
    ("op", "auto", "kernel", "stride"),
    list(itertools.product(["MaxPool", "AveragePool"], ["SAME_UPPER", "SAME_LOWER", "VALID"], [2, 3], [1, 2, 3])),
)
def test_rule_2_auto_pad(op: str, auto: str, kernel: int, stride: int):
    pool = node(op, "x", "y", kernel_shape=[kernel, kernel], strides=[stride, stride], auto_pad=auto)
    graph = graph_of([pool], X)
    after = normal_pooling(graph)
    only(after, "Pool")
    assert_same(graph, after)


@pytest.mark.parametrize(
    ("op", "side", "kernel", "stride", "pad"),
    list(itertools.product(["MaxPool", "AveragePool"], [5, 6, 7, 8], [2, 3], [2, 3], [0, 1])),
)
def test_rule_2_ceil_mode_becomes_padding(op: str, side: int, kernel: int, stride: int, pad: int):
    options = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [pad] * 4, "ceil_mode": 1}
    graph = graph_of([node(op, "x", "y", **options)], {"x": (1, 2, side, side + 1)}, opset=19)
    after = normal_pooling(graph)
    assert len(only(after, "Pool").attributes["pads"]) == 4
    assert_same(graph, after)


def test_rule_3_counted_padding_with_ceil_mode():
    options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "count_include_pad": 1}
    graph = graph_of([node("AveragePool", "x", "y", **options)], {"x": (1, 2, 8, 8)})
    after = normal_pooling(graph)
    assert only(after, "Pool").attributes["count_include_pad"]
    assert_same(graph, after)
    more = graph_of([node("AveragePool", "x", "y", ceil_mode=1, **options)], {"x": (1, 2, 8, 7)})
    found = only(normal_pooling(more), "Pool").attributes
    assert (found["pads"], found["uncounted"]) == ((1, 1, 2, 1), (1, 0)) and found["count_include_pad"]
    assert_same(more, normal_pooling(more))
    exact = graph_of([node("AveragePool", "x", "y", ceil_mode=1, **options)], {"x": (1, 2, 7, 7)})
    assert_same(exact, normal_pooling(exact))
    only(normal_pooling(exact), "Pool")


@pytest.mark.parametrize("opset", [13, 19, 22])
@pytest.mark.parametrize("pad", [0, 1])
def test_rule_3_windows_of_any_size(opset: int, pad: int):
    for height, width, kernel, stride in itertools.product([5, 6, 7, 8], [1, 5, 6], [2, 3], [2, 3]):
        if width + 2 * pad < kernel or pad >= kernel:
            continue
        options = {"kernel_shape": [kernel, kernel], "strides": [stride, 2], "pads": [pad, pad, pad, 0]}
        pool = node("AveragePool", "x", "y", ceil_mode=1, count_include_pad=1, **options)
        graph = graph_of([pool], {"x": (1, 1, height, width)}, opset=opset)
        after = normal_pooling(graph)
        only(after, "Pool")
        assert_same(graph, after)


@pytest.mark.parametrize("opset", [13, 17, 19, 22])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
def test_rule_5_windows_larger_than_the_map(opset: int, counted: int, ceil: int):
    for sides, kernel, pads in (((1, 6), [2, 3], [0, 1, 0, 0]), ((7, 2), [3, 3], [0] * 4), ((8, 2), [3, 3], [0] * 4)):
        options = {"kernel_shape": kernel, "strides": [2, 2], "pads": pads, "ceil_mode": ceil}
        pool = node("AveragePool", "x", "y", count_include_pad=counted, **options)
        graph = graph_of([pool], {"x": (1, 2, *sides)}, opset=opset)
        after = normal_pooling(graph)
        only(after, "Pool")
        assert_same(graph, after)


def test_rule_4_windows_hold_an_element():
    graph = graph_of([node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[2, 0, 0, 0])], X)
    assert normal_pooling(graph) is graph
