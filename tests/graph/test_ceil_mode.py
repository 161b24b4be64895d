"""Shapes of pools with ceil_mode are those that ONNX Runtime computes, in every opset."""

import itertools

import pytest
from onnx import ModelProto

from graph_tools import assert_same, feeds_of, graph_of, model_of, node, run_model

CASES = list(itertools.product(["MaxPool", "AveragePool"], [5, 6, 7, 8, 9], [2, 3], [2, 3], [0, 1]))


@pytest.mark.parametrize("opset", [11, 19, 22])
def test_every_window(opset: int):
    for op, side, kernel, stride, pad in CASES:
        pool = node(op, "x", "y", kernel_shape=[kernel] * 2, strides=[stride, 2], pads=[pad] * 4, ceil_mode=1)
        model: ModelProto = model_of([pool], {"x": (1, 1, side, side + 1)}, opset=opset)
        graph = graph_of([pool], {"x": (1, 1, side, side + 1)}, opset=opset)
        (wanted,) = run_model(model, feeds_of(graph))
        assert graph.shape("y") == wanted.shape, (op, side, kernel, stride, pad)
        assert_same(model, graph)


@pytest.mark.parametrize("opset", [11, 19, 22])
def test_every_window_that_counts_padding(opset: int):
    """In one axis a window is too many, in the other it ends in padding that ceil_mode adds."""
    for height, width, kernel, stride, pad in itertools.product([5, 6, 7], [5, 6, 7, 8], [2, 3], [2, 3], [0, 1]):
        options = {"kernel_shape": [kernel] * 2, "strides": [stride, 3], "pads": [pad] * 4, "ceil_mode": 1}
        nodes = [node("AveragePool", "x", "a", count_include_pad=1, **options), node("Flatten", "a", "y")]
        model = model_of(nodes, {"x": (1, 2, height, width)}, opset=opset)
        graph = graph_of(nodes, {"x": (1, 2, height, width)}, opset=opset)
        (wanted,) = run_model(model, feeds_of(graph))
        assert graph.shape("y") == wanted.shape, options
        assert_same(model, graph)


def test_shapes_behind_are_right_too():
    options = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
    nodes = [node("MaxPool", "x", "a", **options), node("AveragePool", "a", "b", **options), node("Flatten", "b", "y")]
    model = model_of(nodes, {"x": (1, 2, 7, 7)}, opset=13)
    graph = graph_of(nodes, {"x": (1, 2, 7, 7)}, opset=13)
    (wanted,) = run_model(model, feeds_of(graph))
    assert graph.shape("y") == wanted.shape
    assert_same(model, graph)
