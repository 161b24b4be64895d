"""Tests are named after the rules of passes/normal_resize.py."""

import itertools

import numpy as np
import pytest

from graph_tools import assert_same, graph_of, node, only
from secateur.graph.passes.normal_resize import normal_resize

X = {"x": (2, 3, 4, 6)}
SCALES = {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 1.7, 2], np.float32)}
MODES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
@pytest.mark.parametrize(("mode", "coordinate"), list(itertools.product(["nearest", "linear", "cubic"], MODES)))
def test_rule_2_scales(opset: int, mode: str, coordinate: str):
    resize = node("Resize", "x r s", "y", mode=mode, coordinate_transformation_mode=coordinate)
    graph = graph_of([resize], X, SCALES, opset=opset)
    after = normal_resize(graph)
    found = only(after, "Resize").attributes
    assert (found["mode"], found["coordinate"], found["by"]) == (mode, coordinate, "scales")
    assert found["sizes"] == after.shape("y") == (2, 3, 6, 12)
    assert_same(graph, after)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_rule_2_sizes(nearest: str):
    resize = node("Resize", "x - - s", "y", nearest_mode=nearest)
    graph = graph_of([resize], X, {"s": np.array([2, 3, 7, 4])})
    after = normal_resize(graph)
    found = only(after, "Resize").attributes
    assert found["by"] == "sizes" and found["nearest_mode"] == nearest
    assert found["scales"] == (1, 1, 7 / 4, 4 / 6)
    assert_same(graph, after)


def test_rule_3_axes():
    resize = node("Resize", "x - s", "y", axes=[-1, 2], mode="linear")
    graph = graph_of([resize], X, {"s": np.array([2, 3], np.float32)}, opset=18)
    after = normal_resize(graph)
    assert only(after, "Resize").attributes["scales"] == (1, 1, 3, 2)
    assert_same(graph, after)


def test_rule_1_variable_scales_stay():
    graph = graph_of([node("Resize", "x - s", "y")], {**X, "s": (4,)})
    assert normal_resize(graph) is graph


def test_rule_4_crops_and_policies_stay():
    constants = {"r": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), "s": np.array([1, 1, 2, 2], np.float32)}
    resize = node("Resize", "x r s", "y", coordinate_transformation_mode="tf_crop_and_resize", mode="linear")
    graph = graph_of([resize], X, constants)
    assert normal_resize(graph) is graph
    resize = node("Resize", "x - - s", "y", keep_aspect_ratio_policy="not_larger", axes=[2, 3])
    graph = graph_of([resize], X, {"s": np.array([9, 9])}, opset=18)
    assert normal_resize(graph) is graph
